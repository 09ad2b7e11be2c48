"""`--to trt`: built on a device, brought here; without a device the ONNX file is what is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from vitprof import engines, exporting
from vitprof.devices import profiles
from vitprof.devices.transports import Link, RunnerFailed
from vitprof.errors import ExitCode, UnreachableError, UsageError
from vitprof.export.locks import InUse
from vitprof.places import Places
from vitprof.records import ModelSpec, ParityVerdict, Precision, Source
from vitprof.report.progress import NoProgress
from vitprof.runner.wire import Failure, Message, Outputs, OutputsRequest, Plan, Ready, Task, Tensor
from vitprof.workshop import Workshop

MODEL = str(profiles.reference_model("cpu-ref-1"))
LIKE = ModelSpec("", Source.TIMM)
READY = Ready(0, 1, 0, "host", 1, 1, 0, 1, "10.9", environment={"gpu": "NVIDIA A40"})


class Gpu:
    """A device with TensorRT, and what its runner answers a Plan with. No real one is at hand."""

    def __init__(self, answer: Message = READY) -> None:
        self.plans: list[Plan] = []
        self._answer = answer
        self._answers: list[Message] = []
        self._asked: set[str] = set()

    def place(self, path: str) -> str:
        return path

    def scratch(self, name: str, folder: Path) -> str:
        (folder / "there").mkdir(exist_ok=True)
        self._asked.add(str(folder / "there" / name))
        return str(folder / "there" / name)

    def fetch(self, path: str, folder: Path) -> Path:
        # As the transport over SSH has it: nothing but what a runner was told to write leaves a device.
        assert path in self._asked
        return Path(path)

    def start(self, task: Task) -> Link:
        assert isinstance(task, Plan)
        self.plans.append(task)
        self._answers = [self._answer]
        if task.engine_path:
            Path(task.engine_path).write_bytes(b"an engine")
        return self

    def send(self, message: Message) -> None:
        assert isinstance(message, OutputsRequest)
        Path(message.path).write_bytes(bytes(8))
        self._answers.append(Outputs(message.path, (Tensor("output", "float32", (1, 2), 0),)))

    def receive(self, timeout_s: float) -> Message:
        answer = self._answers.pop(0)
        if isinstance(answer, Failure):
            raise RunnerFailed(answer)
        return answer

    def close(self) -> None:
        pass


def test_an_engine_is_built_there_and_is_a_file_here(tmp_path: Path, here: Places) -> None:
    gpu = Gpu()
    a40 = profiles.device("a40")
    with InUse(here.cache_root) as in_use, Workshop(here.cache_root, NoProgress()) as workshop:
        [spec] = workshop.specs((MODEL,), LIKE)
        one = engines.Builder(a40, gpu).exported(spec, tmp_path, workshop, in_use)
    assert one.failure is None and one.exit_code is ExitCode.OK and one.artifact and one.parity
    assert one.path == tmp_path / "cpu-ref-1.trt" and one.path.read_bytes() == b"an engine"
    assert one.artifact.exporter.startswith("TensorRT 10.9 on NVIDIA A40, from ")
    assert one.artifact.bytes == 9 and one.parity.verdict is ParityVerdict.NOT_CHECKED
    [plan] = gpu.plans
    assert (plan.backend, plan.options["device"]) == ("trt", "cuda:0") and plan.artifact.endswith(".onnx")
    # Beside the engine lies what it was built from.
    assert (tmp_path / "cpu-ref-1.onnx").exists()


def test_an_engine_that_cannot_be_built_is_told_beside_the_file_that_it_would_be_of(
    tmp_path: Path, here: Places
) -> None:
    gpu = Gpu(Failure("build", "TensorRT cannot build an engine", "measure it with --backend ort"))
    with InUse(here.cache_root) as in_use, Workshop(here.cache_root, NoProgress()) as workshop:
        [spec] = workshop.specs((MODEL,), LIKE)
        one = engines.Builder(profiles.device("a40"), gpu).exported(spec, tmp_path, workshop, in_use)
    assert one.failure and one.exit_code is ExitCode.FAILED and not (tmp_path / "cpu-ref-1.trt").exists()
    assert one.failure.error.startswith("TensorRT cannot build an engine; ") and "is kept: " in one.failure.error


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an NVIDIA GPU")
@pytest.mark.parametrize(("device", "said"), [(None, "no reachable device"), ("a100", "no NVIDIA A100")])
def test_without_a_device_the_onnx_file_is_kept_and_the_row_says_where(
    tmp_path: Path, here: Places, device: str | None, said: str
) -> None:
    [one] = exporting.export((MODEL,), ("trt",), tmp_path, LIKE, here, progress=NoProgress(), device=device)
    assert one.exit_code is ExitCode.UNREACHABLE and one.failure and said in one.failure.error
    assert one.failure.error.endswith(f"is kept: {tmp_path / 'cpu-ref-1.onnx'}") and one.failure.remedy
    assert (tmp_path / "cpu-ref-1.onnx").read_bytes() == Path(MODEL).read_bytes()


def test_a_device_that_has_no_tensorrt_is_a_mistake_and_not_a_failed_row(tmp_path: Path, here: Places) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text('kind = "x86-cpu"\nchip = "X"\ntransport = "local"\nbackends = ["ort"]\n')
    with (
        pytest.raises(UsageError, match="has no backend 'trt'"),
        engines.builder("mine", profile, here, NoProgress()),
    ):
        pass


def test_a_file_that_cannot_be_made_leaves_nothing_in_the_folder(tmp_path: Path, here: Places) -> None:
    lacking = UnreachableError("no GPU", remedy="get one")
    with InUse(here.cache_root) as in_use, Workshop(here.cache_root, NoProgress()) as workshop:
        [spec] = workshop.specs((MODEL,), dataclasses.replace(LIKE, precision=Precision.BF16))
        one = engines.Builder(None, None, lacking).exported(spec, tmp_path, workshop, in_use)
    # TensorRT has bf16, but no .onnx file becomes one in it.
    assert one.failure and "cannot become bf16" in one.failure.error and one.exit_code is ExitCode.USAGE
    assert not list(tmp_path.glob("*.onnx"))
