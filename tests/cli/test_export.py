"""`vitprof export` as a command: what is missing is one line with a remedy, and a Core ML package needs no Mac."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_WITHOUT = "import sys; sys.modules[{package!r}] = None; from vitprof.cli import main; main({words!r})"


@pytest.mark.parametrize(("format", "package", "remedy"), [("coreml", "coremltools", "pip install 'vitprof[coreml]'")])
def test_a_format_whose_package_is_missing_is_one_line_with_a_remedy(format: str, package: str, remedy: str) -> None:
    code = _WITHOUT.format(package=package, words=["export", "resnet18", "--to", format])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    said, remedied = done.stderr.splitlines()
    assert package in said and "not installed" in said
    assert remedy in remedied


def test_an_unknown_format_names_those_there_are() -> None:
    words = [sys.executable, "-m", "vitprof", "export", "resnet18", "--to", "mlmodel"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown format 'mlmodel'" in done.stderr and "coreml" in done.stderr and "onnx" in done.stderr


@pytest.mark.slow
def test_a_core_ml_package_is_written_checked_and_told_about_without_a_mac(tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    (tmp_path / "net.py").write_text(
        "import torch\n\n\ndef net():\n    return torch.nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 16, 16)\n"
    )
    words = [sys.executable, "-m", "vitprof", "export", "net.py:net", "--to", "coreml", "-o", "out", "--json", "-"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)["artifacts"]
    assert (row["parity"]["verdict"], row["parity"]["where"]) == ("match", "reference evaluator")
    # 8 x 14 x 14 outputs of 3 x 3 x 3.
    assert row["program"]["macs"] == 8 * 196 * 27
    assert [doubt["code"] for doubt in row["lint"]] == ["fp32"]
    assert (tmp_path / row["path"] / "Manifest.json").is_file()


@pytest.mark.parametrize("to", ["onnx", "coreml,onnx"])
def test_an_image_input_is_of_core_ml_alone(to: str) -> None:
    words = [sys.executable, "-m", "vitprof", "export", "resnet18", "--to", to, "--image-input"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"not of {to}" in done.stderr and "--to coreml" in done.stderr
