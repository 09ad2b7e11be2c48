"""A GPU's rows from the name of the device to the runner: what is asked for, what is told, what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vitprof import pipeline, protocols
from vitprof.devices import profiles, reach
from vitprof.errors import ExitCode
from vitprof.places import Places
from vitprof.protocols import Effort
from vitprof.records import ModelSpec, Precision, Source


@pytest.fixture
def a40(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """nvidia-smi lists an A40; there is no driver behind it."""
    if torch.cuda.is_available():
        pytest.skip("this machine has an NVIDIA GPU")
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA A40'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    reach.accelerators.cache_clear()
    yield
    reach.accelerators.cache_clear()


def test_a_gpu_s_runner_is_told_to_run_there_and_not_on_the_processor(a40: None, here: Places) -> None:
    request = pipeline.Request(
        models=(str(profiles.reference_model("cpu-ref-1")),),
        protocol=protocols.protocol(Effort.QUICK),
        like=ModelSpec("", Source.TIMM),
        device="a40",
        backends=("ort", "torch"),
    )
    run = pipeline.measure(request, here)
    on_ort, on_torch = run.results
    assert on_ort.failure and "no NVIDIA GPU here" in on_ort.failure.error
    assert on_torch.failure and "cannot become" in on_torch.failure.error
    assert run.exit_codes == {ExitCode.FAILED, ExitCode.USAGE}
    assert [row.protocol.reference for row in run.results] == ["", ""]


def test_rows_of_a_gpu_have_no_reference_and_another_protocol() -> None:
    protocol = protocols.protocol()
    on_gpu = pipeline.protocol_on(profiles.device("a100"), protocol)
    assert on_gpu.reference == "" and on_gpu.hash != protocol.hash
    assert pipeline.protocol_on(profiles.device("local"), protocol) == protocol


@pytest.mark.parametrize(
    ("backend", "precision", "format"),
    [
        ("ort", Precision.INT8, "onnx"),
        ("trt", Precision.INT8, "onnx-qdq"),
        ("trt", Precision.FP16, "onnx"),
        ("trt-rtx", Precision.INT8, "trt-rtx"),
        ("fake", Precision.FP32, ""),
    ],
)
def test_what_each_backend_is_given_to_load(backend: str, precision: Precision, format: str) -> None:
    assert pipeline.format_of(backend, precision) == format
