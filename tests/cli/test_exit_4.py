"""Without an NVIDIA GPU each way to one ends in one line with a remedy, exit 4, and nothing heavy is loaded for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitprof.devices.profiles import reference_model
from vitprof.places import Places

MODEL = str(reference_model("cpu-ref-1"))
# What takes seconds to import, or is there only to measure with.
_HEAVY = ("torch", "timm", "onnx", "onnxruntime", "openvino", "tensorrt_rtx", "coremltools", "matplotlib", "sqlalchemy")
_CODE = f"""
import sys
from vitprof.cli import main
try:
    main(sys.argv[1:])
finally:
    print([name for name in {_HEAVY!r} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has an NVIDIA GPU")
@pytest.mark.parametrize(
    "arguments",
    [
        ["latency", MODEL, "--backend", "trt"],
        ["latency", MODEL, "--backend", "trt-rtx"],
        ["latency", MODEL, "--backend", "torch", "--device", "a100"],
        ["latency", MODEL, "--backend", "compile", "--device", "a100"],
        ["latency", MODEL, "--backend", "ort", "--device", "a100"],
        ["latency", MODEL, "--device", "a100", "--lock-clocks", "1410"],
        ["latency", MODEL, "--device", "a100", "--region", "e2e"],
        ["layers", MODEL, "--backend", "trt"],
        ["layers", MODEL, "--backend", "ort", "--device", "a100"],
    ],
    ids=lambda arguments: " ".join(arguments[:1] + arguments[2:]),
)
def test_a_way_to_a_gpu_that_is_not_here_is_one_line_with_a_remedy(here: Places, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *arguments], capture_output=True, text=True, env=os.environ, check=False
    )
    said, remedy, loaded = done.stderr.splitlines()
    assert done.returncode == 4 and done.stdout == ""
    assert said.startswith("vitprof: ") and remedy.startswith("  → ")
    assert loaded == "[]"
