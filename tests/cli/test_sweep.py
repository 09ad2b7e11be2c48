"""`vitprof sweep` as it is typed: what a dry run lists, and how a bad plan is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vitprof.devices.profiles import reference_model

_LOADED = """
import sys
from vitprof.cli import main
try:
    main({words!r})
except SystemExit:
    print(*sorted(sys.modules))
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    shutil.copy(reference_model("cpu-ref-1"), tmp_path / "tiny.onnx")
    file = tmp_path / "plan.toml"
    file.write_text('models = ["tiny.onnx"]\nbatches = [1, 2, 4]\nthreads = [1, 2, 3, 4]\neffort = "quick"\n')
    return file


def _vitprof(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "vitprof", *words], capture_output=True, text=True, check=False)


def test_a_dry_run_lists_the_cells_and_makes_no_store(plan: Path) -> None:
    store = plan.parent / "results.sqlite"
    done = _vitprof("sweep", str(plan), "--dry-run", "--store", str(store))
    assert done.returncode == 0, done.stderr
    head, *rows, total = done.stdout.splitlines()
    assert " ".join(head.split()) == "cell group model size batch precision device backend threads"
    assert [row.split()[0] for row in rows] == [str(number) for number in range(12)]
    assert total.startswith("12 cells in 2 groups, ") and "about" in total
    assert not store.exists()


def test_a_dry_run_as_json(plan: Path) -> None:
    document = json.loads(_vitprof("sweep", str(plan), "--dry-run", "--resume", "--json", "-").stdout)
    assert document["groups"] == 2 and len(document["cells"]) == 12 and document["estimated_s"] > 0
    assert document["cells"][4] | {"group": 0} == {
        **{"number": 4, "group": 0, "model": "tiny.onnx", "source": "onnx", "size": None, "batch": 2},
        **{"precision": "fp32", "device": "local", "backend": "ort", "threads": 1, "metric": "latency"},
    }


def test_a_dry_run_has_no_rows_for_a_table(plan: Path) -> None:
    done = _vitprof("sweep", str(plan), "--dry-run", "--csv", "-")
    assert done.returncode == 2 and "--csv" in done.stderr


def test_a_bad_plan_is_exit_2_with_its_lines(plan: Path) -> None:
    plan.write_text('models = ["tiny.onnx"]\nbatches = [0]\nspeed = 1\n')
    done = _vitprof("sweep", str(plan))
    assert done.returncode == 2 and done.stdout == ""
    assert "line 2: key 'batches': 0" in done.stderr and "line 3: unknown key 'speed'" in done.stderr


def test_a_dry_run_loads_neither_torch_nor_a_database(plan: Path) -> None:
    program = _LOADED.format(words=["sweep", str(plan), "--dry-run", "--json", str(plan.parent / "x.json")])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "vitprof.sweeping.run" in loaded and not loaded & {"torch", "timm", "onnxruntime", "sqlalchemy", "scipy"}
