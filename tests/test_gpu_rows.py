"""A GPU's rows from the name of the device to the runner: what is asked for, what is told, what is left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vitprof import pipeline, protocols
from vitprof.devices import profiles, reach
from vitprof.errors import ExitCode, UsageError
from vitprof.measurements import Order, Region
from vitprof.places import Places
from vitprof.placing import format_of
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
    on_gpu = protocols.protocol_on(profiles.device("a100"), protocol)
    assert on_gpu.reference == "" and on_gpu.hash != protocol.hash
    assert protocols.protocol_on(profiles.device("local"), protocol) == protocol
    # A phone's native tool runs by itself: there is nothing to take turns with.
    phone = dataclasses.replace(profiles.device("a100"), kind="mobile-gpu", transport="adb")
    of_tool = protocols.protocol_on(phone, protocol)
    assert (of_tool.reference, of_tool.sets) == ("", 1)


def test_fields_that_came_later_leave_the_hash_of_older_protocols_as_it_was() -> None:
    protocol = protocols.protocol(Effort.QUICK)
    # Of the first release: stored results of that protocol may be compared with new ones.
    assert protocol.hash == "7a383aa73f40"
    hashes = {
        protocol.hash,
        protocols.protocol(Effort.QUICK, region=Region.E2E).hash,
        dataclasses.replace(protocol, order=Order.ABBA).hash,
        dataclasses.replace(protocol, rewarm_ns=1).hash,
    }
    assert len(hashes) == 4


def test_a_backend_without_the_precision_is_a_row_that_says_what_it_has(here: Places) -> None:
    request = pipeline.Request(
        models=(str(profiles.reference_model("cpu-ref-1")),),
        protocol=protocols.protocol(Effort.QUICK),
        like=ModelSpec("", Source.TIMM, precision=Precision.BF16),
        backends=("ort", "torch"),
    )
    run = pipeline.measure(request, here)
    on_ort, on_torch = run.results
    assert on_ort.failure and on_ort.failure.error.endswith("does not compute in bf16; it has fp32, fp16, int8")
    # What torch lacks is not the precision: an ONNX file has no module.
    assert on_torch.failure and "cannot become" in on_torch.failure.error
    assert run.exit_codes == {ExitCode.USAGE}


@pytest.mark.parametrize(("backend", "transport"), [("litert-gpu", "local"), ("ort", "adb")])
def test_a_region_that_cannot_be_timed_is_refused_before_anything_is_made(backend: str, transport: str) -> None:
    device = dataclasses.replace(profiles.device("local"), transport=transport)
    with pytest.raises(UsageError, match="from host memory to host memory"):
        reach.check_region(backend, device, Region.E2E)
    reach.check_region(backend, device, Region.CALL)
    reach.check_region("ort", profiles.device("local"), Region.E2E)
    with pytest.raises(UsageError, match="'iphone15' cannot be timed"):
        reach.check_region("coreml", profiles.device("iphone15"), Region.E2E)


@pytest.mark.parametrize(
    ("backend", "precision", "format"),
    [
        ("ort", Precision.INT8, "onnx"),
        ("trt", Precision.INT8, "onnx-qdq"),
        ("trt", Precision.FP16, "onnx"),
        ("trt-rtx", Precision.INT8, "trt-rtx"),
        ("fake", Precision.FP32, "onnx"),
    ],
)
def test_what_each_backend_is_given_to_load(backend: str, precision: Precision, format: str) -> None:
    assert format_of(backend, precision) == format
