"""`vitprof cache` as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.export import made
from vitprof.export import cache, locks
from vitprof.records import ANY_BATCH, Source


def vitprof(root: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vitprof", "cache", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "VITPROF_CACHE_DIR": str(root), **environment},
        timeout=180,
        check=False,
    )


def rows_of(root: Path) -> list[dict[str, object]]:
    done = vitprof(root, "list", "--json", "-")
    assert (done.returncode, done.stderr) == (0, "")
    rows: list[dict[str, object]] = json.loads(done.stdout)["artifacts"]
    return rows


def test_an_empty_cache_lists_nothing_and_is_not_made(tmp_path: Path) -> None:
    done = vitprof(tmp_path / "cache", "list")
    assert done.returncode == 0
    assert done.stdout.startswith("no artifacts  0 B of at most 20.00 GB")
    assert not (tmp_path / "cache").exists()


def test_the_list_has_a_line_for_each_artifact_and_the_one_used_last_first(tmp_path: Path) -> None:
    for age_s, name in ((60, "resnet18"), (7200, "lowformer_b1")):
        folder = made.publish(tmp_path, name=name).folder
        then = time.time() - age_s
        os.utime(folder / cache.RECORD, (then, then))
    done = vitprof(tmp_path, "list", VITPROF_CACHE_MAX_BYTES="5GB", TZ="UTC")
    head, first, second, total = done.stdout.splitlines()
    assert head.split() == ["model", "format", "precision", "batch", "size", "bytes", "last", "used"]
    assert first.split()[:5] == ["resnet18", "onnx", "fp32", "1", "224x224"]
    assert second.split()[0] == "lowformer_b1"
    assert datetime.fromtimestamp(then, UTC).strftime("%Y-%m-%d %H:%M") in second
    assert total.startswith("2 artifacts") and "of at most 5.000 GB" in total and total.endswith(str(tmp_path))


def test_the_json_has_sizes_use_and_the_cap(tmp_path: Path) -> None:
    folder = made.publish(tmp_path).folder
    with locks.InUse(tmp_path) as in_use:
        in_use.add(folder.name)
        document = json.loads(vitprof(tmp_path, "list", "--json", "-", VITPROF_CACHE_MAX_BYTES="1MB").stdout)
    taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert document["cache"] == {"folder": str(tmp_path), "bytes": taken, "cap_bytes": 1_000_000}
    [row] = document["artifacts"]
    assert abs(datetime.fromisoformat(row.pop("last_used_at")).timestamp() - time.time()) < 180
    assert row == {
        "model": "resnet18",
        "source": "timm",
        "size": [224, 224],
        "format": "onnx",
        "precision": "fp32",
        "batch": 1,
        "bytes": taken,
        "sha256": "ab",
        "in_use": True,
        "damaged": False,
    }
    assert rows_of(tmp_path)[0]["in_use"] is False


def test_a_damaged_artifact_is_listed_as_such_with_what_it_takes(tmp_path: Path) -> None:
    folder = made.publish(tmp_path, "x" * 5000).folder
    (folder / cache.RECORD).write_text("{")
    [row] = rows_of(tmp_path)
    assert row["damaged"] is True and row["model"] is None and row["bytes"] == 5002
    line = vitprof(tmp_path, "list").stdout.splitlines()[1]
    assert line.startswith("n/a") and line.endswith("damaged")


def test_a_name_from_outside_cannot_run_anything_on_the_terminal(tmp_path: Path) -> None:
    made.publish(tmp_path, name="\x1b[31m[red]x\nlowformer_b1")
    listed = vitprof(tmp_path, "list").stdout
    assert "\x1b" not in listed and "[red]x lowformer_b1" in listed
    assert "\x1b" not in vitprof(tmp_path, "clear", "*").stdout


def test_clear_removes_everything_and_says_how_much(tmp_path: Path) -> None:
    for name in ("resnet18", "resnet34"):
        made.publish(tmp_path, "x" * 500_000, name)
    (tmp_path / "catalogue").mkdir()
    done = vitprof(tmp_path, "clear")
    assert done.returncode == 0
    assert done.stdout.startswith("removed 2 artifacts, 1.0") and done.stdout.endswith("MB freed\n")
    assert rows_of(tmp_path) == []
    assert not (tmp_path / "catalogue").exists()


@pytest.mark.parametrize(
    ("patterns", "left"),
    [(["resnet*"], ["lowformer_b1"]), (["timm:resnet18"], ["lowformer_b1", "resnet34"]), (["*"], [])],
)
def test_clear_with_names_removes_those_and_leaves_the_rest(
    tmp_path: Path, patterns: list[str], left: list[str]
) -> None:
    for name in ("resnet18", "resnet34", "lowformer_b1"):
        made.publish(tmp_path, name=name)
    (tmp_path / "catalogue").mkdir()
    done = vitprof(tmp_path, "clear", *patterns)
    assert done.returncode == 0, done.stderr
    assert sorted(str(row["model"]) for row in rows_of(tmp_path)) == left
    assert (tmp_path / "catalogue").exists()


def test_a_file_is_listed_with_the_size_of_its_input_and_cleared_by_its_name(tmp_path: Path) -> None:
    for name in ("net", "other"):
        made.publish(tmp_path, name=f"./{name}.onnx", source=Source.ONNX, path=f"/there/{name}.onnx", size=None)
    assert [row["size"] for row in rows_of(tmp_path)] == [[224, 224]] * 2
    assert vitprof(tmp_path, "clear", "net.onnx").returncode == 0
    assert [row["model"] for row in rows_of(tmp_path)] == ["./other.onnx"]


def test_a_file_for_any_number_of_images_has_no_batch(tmp_path: Path) -> None:
    made.publish(tmp_path, batch=ANY_BATCH)
    assert rows_of(tmp_path)[0]["batch"] is None
    assert vitprof(tmp_path, "list").stdout.splitlines()[1].split()[3] == "any"


def test_a_name_that_nothing_matches_is_told_and_nothing_is_removed(tmp_path: Path) -> None:
    made.publish(tmp_path)
    done = vitprof(tmp_path, "clear", "resnet18", "resent*")
    assert done.returncode == 2
    assert "nothing in the cache matches 'resent*'" in done.stderr and "vitprof cache list" in done.stderr
    assert len(rows_of(tmp_path)) == 1


def test_clear_says_what_is_in_use_and_keeps_it(tmp_path: Path) -> None:
    folder = made.publish(tmp_path).folder
    made.publish(tmp_path, name="resnet34")
    (tmp_path / "runner").mkdir()
    with locks.InUse(tmp_path) as in_use:
        in_use.add(folder.name)
        done = vitprof(tmp_path, "clear")
    assert done.returncode == 0
    assert "removed 1 artifact," in done.stdout
    assert "kept, in use by a running vitprof: resnet18  onnx  fp32  batch 1" in done.stdout
    assert "kept the runner" in done.stdout
    assert [row["model"] for row in rows_of(tmp_path)] == ["resnet18"]


def test_a_read_only_cache_is_listed_and_says_why_it_cannot_be_cleared(
    disk: Callable[[str], Path], remounted: Callable[[Path, str], None]
) -> None:
    root = disk("1m") / "cache"
    made.publish(root)
    remounted(root.parent, "ro")
    assert len(rows_of(root)) == 1
    done = vitprof(root, "clear")
    assert done.returncode == 3
    assert "Read-only file system" in done.stderr and "VITPROF_CACHE_DIR" in done.stderr
    assert len(rows_of(root)) == 1


def test_a_limit_that_cannot_be_meant_is_told(tmp_path: Path) -> None:
    done = vitprof(tmp_path, "list", VITPROF_CACHE_MAX_BYTES="lots")
    assert done.returncode == 2
    assert "VITPROF_CACHE_MAX_BYTES: 'lots'" in done.stderr and "20GB" in done.stderr
