"""`vitprof layers --static` and `vitprof export --to trt-rtx` as a user types them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_cli import TINY, vitprof

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="the extra trt-rtx is not installed"
)


@needs_library
def test_the_kernels_are_shown_and_written(tmp_path: Path) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("json", "md")}
    words = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    done = vitprof("layers", TINY, "--backend", "trt-rtx", "--static", "--compute-capability", "8.9", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "for compute capability 8.9, built and not run" in done.stdout and "depthwise_conv" in done.stdout
    read = json.loads(files["json"].read_text())
    assert read["attributed_macs_share"] > 0.99 and len(read["kernels"]) > 10
    assert sum(one["kernels"] for one in read["by_kind"]) == len(read["kernels"])
    assert "## Kernels" in files["md"].read_text() or "### Kernels" in files["md"].read_text()


@needs_library
def test_an_engine_is_exported_and_says_what_was_checked(tmp_path: Path) -> None:
    words = ("--to", "trt-rtx", "--compute-capability", "8.6", "-o", str(tmp_path), "--json", "-")
    done = vitprof("export", TINY, *words)
    assert (done.returncode, done.stderr) == (0, "")
    [row] = json.loads(done.stdout)["artifacts"]
    assert row["outcome"] == "ok" and row["parity"]["verdict"] == "not-checked"
    assert "runs on its GPU only; the ONNX file that it was built from: not-checked" in row["parity"]["reason"]
    assert Path(row["path"]).stat().st_size == row["bytes"] and row["exporter"].startswith("TensorRT-RTX")


@needs_library
def test_a_gpu_that_the_library_does_not_know_is_a_failed_row(tmp_path: Path) -> None:
    done = vitprof("export", TINY, "--to", "trt-rtx", "--compute-capability", "3.5", "-o", str(tmp_path))
    assert done.returncode == 2 and "it knows 7.5, 8.0" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said", "remedy"),
    [
        (("layers", TINY, "--static", "--backend", "ort"), 2, "does not tell its kernels", "--backend trt-rtx"),
        (("layers", TINY, "--static", "--threads", "2"), 2, "so --threads has no meaning", "leave out --threads"),
        (("layers", TINY, "--static", "--device", "a100"), 2, "--device has no meaning", "leave out --device"),
        (("layers", TINY, "--compute-capability", "8.6"), 2, "without running", "add --static"),
        (
            ("layers", TINY, "--static", "--compute-capability", "8.6,8.9"),
            2,
            "for one compute",
            "--compute-capability 8.6",
        ),
        (("layers", TINY, "--static", "--compute-capability", "ampere"), 2, "'ampere' is no compute", "8.6,8.9"),
        (("export", TINY, "--compute-capability", "8.6"), 2, "none is asked for", "--to trt-rtx"),
        (("export", TINY, "--to", "trt-rtx", "--compute-capability", ""), 2, "'' is no compute capability", "8.6"),
    ],
)
def test_a_mistake_is_told_with_what_to_type(words: tuple[str, ...], code: int, said: str, remedy: str) -> None:
    done = vitprof(*words)
    assert done.returncode == code and "Traceback" not in done.stderr
    assert said in done.stderr and remedy in done.stderr


@pytest.mark.parametrize("words", [("export", TINY, "--to", "onnx,trt-rtx"), ("layers", TINY, "--static")])
def test_without_the_library_one_line_says_what_to_install(words: tuple[str, ...], tmp_path: Path) -> None:
    """The library is hidden from this process only, as if it were not there."""
    program = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'tensorrt_rtx' else find(name, *rest)\n"
        f"from vitprof.cli import main; main({list(words)!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 4 and done.stdout == ""
    assert "need the package tensorrt_rtx, which is not installed" in done.stderr
    assert "pip install 'vitprof[trt-rtx]'" in done.stderr and len(done.stderr.splitlines()) == 2
