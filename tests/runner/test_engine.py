"""A session over an engine: the library and the GPU are fakes of the protocols that the session names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vitprof.runner import loop
from vitprof.runner.backends import BackendError
from vitprof.runner.engine import EngineSession, logger_of, refusal
from vitprof.runner.wire import OUT_OF_MEMORY, Plan

SHAPE = (1, 2, 2, 1)


class FakeGpu:
    """A `Memory` and a `Stream` in this process; `done` lists what happened in order."""

    handle = 77

    def __init__(self) -> None:
        self.memory: dict[int, bytes] = {}
        self.done: list[str] = []

    def allocate(self, size_bytes: int) -> int:
        address = 1000 * (len(self.memory) + 1)
        self.memory[address] = bytes(size_bytes)
        return address

    def write(self, address: int, data: bytearray) -> None:
        self.memory[address] = bytes(data)
        self.done.append("write")

    def read(self, address: int, data: bytearray) -> None:
        assert len(self.memory[address]) == len(data)
        data[:] = self.memory[address]
        self.done.append("read")

    def used_bytes(self) -> int:
        return sum(map(len, self.memory.values()))

    def wait(self) -> None:
        self.done.append("wait")

    def captured(self, submit: Callable[[], None]) -> Callable[[], None]:
        def launch() -> None:
            self.done.append("graph")
            submit()

        return launch

    def elapsed_ns(self, submit: Callable[[], None]) -> int:
        submit()
        return 5_000


class FakeEngine:
    """Doubles its image; as `ICudaEngine` describes its tensors."""

    num_io_tensors = 2

    def __init__(self, kind: str = "FLOAT") -> None:
        self._kind = kind

    def get_tensor_name(self, index: int) -> str:
        return ("image", "logits")[index]

    def get_tensor_mode(self, name: str) -> Any:
        return SimpleNamespace(name="INPUT" if name == "image" else "OUTPUT")

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self._kind)


class FakeContext:
    def __init__(self, gpu: FakeGpu, shape: tuple[int, ...] = SHAPE, takes: bool = True) -> None:
        self._gpu, self._shape, self._takes = gpu, shape, takes
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return shape == self._shape

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shape

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == FakeGpu.handle
        image = np.frombuffer(self._gpu.memory[self._addresses["image"]], "float32")
        self._gpu.memory[self._addresses["logits"]] = (image * 2).tobytes()
        self._gpu.done.append("submit")
        return self._takes


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    images = np.arange(8, dtype="float32")
    images.tofile(tmp_path / "images.bin")
    return Plan("trt", inputs=str(tmp_path / "images.bin"), input_name="image", input_shape=SHAPE, input_count=2)


def _session(plan: Plan, gpu: FakeGpu, **context: Any) -> EngineSession:
    session = EngineSession(None, plan, FakeEngine(), FakeContext(gpu, **context), gpu)
    # The image is there before anything is timed.
    assert gpu.done == ["write", "wait"]
    gpu.done.clear()
    return session


def test_a_call_submits_and_then_waits(plan: Plan) -> None:
    gpu = FakeGpu()
    session = _session(plan, gpu)
    session.call()
    session.call()
    assert gpu.done == ["submit", "wait"] * 2


def test_outputs_are_those_of_the_input_that_was_asked_for(plan: Plan) -> None:
    gpu = FakeGpu()
    session = _session(plan, gpu)
    [(name, dtype, shape, data)] = session.outputs(1)
    assert (name, dtype, shape) == ("logits", "float32", SHAPE)
    # The second image is 4, 5, 6, 7.
    assert np.frombuffer(data, "float32").tolist() == [8, 10, 12, 14]
    session.call()
    [(*_, again)] = session.outputs(0)
    assert np.frombuffer(again, "float32").tolist() == [0, 2, 4, 6]


def test_image_0_is_timed_also_after_outputs_were_asked_for(plan: Plan) -> None:
    gpu = FakeGpu()
    session = _session(plan, gpu)
    session.outputs(1)
    session.call()
    # The engine's memory is the image's, then the output's.
    image, logits = gpu.memory.values()
    assert np.frombuffer(image, "float32").tolist() == [0, 1, 2, 3]
    assert np.frombuffer(logits, "float32").tolist() == [0, 2, 4, 6]


def test_from_memory_to_memory_the_copies_are_inside_and_waited_for_once(plan: Plan) -> None:
    gpu = FakeGpu()
    session = _session(plan, gpu)
    session.host_call()
    assert gpu.done == ["write", "submit", "read", "wait"]


def test_a_graph_beside_the_eager_calls_tells_what_launching_costs(plan: Plan) -> None:
    gpu = FakeGpu()
    session = _session(plan, gpu)
    timer = session.graph_timer()
    assert timer and timer() == 5_000 and gpu.done == ["graph", "submit"]
    session.call()
    # Calls go on as they were.
    assert gpu.done[2:] == ["submit", "wait"]
    session.use_graph()
    assert session.graph_timer() is None


def test_with_a_graph_every_call_is_one_launch(plan: Plan) -> None:
    gpu = FakeGpu()
    session = _session(plan, gpu)
    session.use_graph()
    session.call()
    assert gpu.done == ["graph", "submit", "wait"]
    assert session.device_ns() == 5_000 and gpu.done[3:] == ["graph", "submit"]


@pytest.mark.parametrize(
    ("context", "said"),
    [({"shape": (4, 2, 2, 1)}, r"takes \(4, 2, 2, 1\) and not \(1, 2, 2, 1\)"), ({"takes": False}, "could not submit")],
)
def test_an_engine_that_does_not_fit_is_refused(plan: Plan, context: dict[str, Any], said: str) -> None:
    with pytest.raises(BackendError, match=said) as caught:
        _session(plan, FakeGpu(), **context).call()
    assert caught.value.remedy


def test_images_of_another_type_are_not_reinterpreted(plan: Plan) -> None:
    gpu = FakeGpu()
    with pytest.raises(BackendError, match="takes float16 images and not float32"):
        EngineSession(None, plan, FakeEngine("HALF"), FakeContext(gpu), gpu)
    with pytest.raises(BackendError, match="takes bfloat16 images and not float32"):
        EngineSession(None, plan, FakeEngine("BF16"), FakeContext(gpu), gpu)


def test_a_type_without_a_name_in_numpy_is_refused_before_it_is_run(plan: Plan) -> None:
    gpu = FakeGpu()
    with pytest.raises(BackendError, match="is FP8 of shape"):
        EngineSession(None, plan, FakeEngine("FP8"), FakeContext(gpu), gpu)


def test_the_logger_keeps_errors_only() -> None:
    library = SimpleNamespace(ILogger=type("ILogger", (), {}))
    logger = logger_of(library)
    for severity, text in (("INFO", "building"), ("ERROR", "  first\nmore"), ("INTERNAL_ERROR", "last\nmore")):
        logger.log(SimpleNamespace(name=severity), text)
    assert len(logger.errors) == 2
    refused = refusal("load", "TensorRT cannot", logger, "try another")
    assert (str(refused), refused.remedy, refused.kind) == ("TensorRT cannot: first", "try another", None)


def test_an_engine_that_memory_was_too_short_for_says_so_whatever_else_was_said() -> None:
    said = [
        "Could not find any implementation for node",
        "[virtualMemoryBuffer.cpp] Error Code 2: OutOfMemory (no more)",
    ]
    refused = refusal("build", "TensorRT cannot build", SimpleNamespace(errors=said), "try another")
    assert refused.kind == OUT_OF_MEMORY and "OutOfMemory" in str(refused) and "--batch" in refused.remedy


class _Timed:
    """An accelerator whose clock gives 1, 2, 3, … ns, or none."""

    def __init__(self, has_clock: bool) -> None:
        self.calls = 0
        self._has_clock = has_clock

    def environment(self) -> dict[str, Any]:
        return {"gpu": "fake"}

    def sensors(self) -> dict[str, Any]:
        return {"gpu_clock_hz": 1}

    def peak_bytes(self) -> int:
        return 9

    def call_ns(self) -> int | None:
        self.calls += 1
        return self.calls if self._has_clock else None

    def driver_peak_bytes(self) -> int:
        return 12


@pytest.mark.parametrize(("has_clock", "device_ns"), [(True, (1, 2, 3)), (False, None)])
def test_the_device_s_times_are_of_further_calls_after_the_counted_ones(
    plan: Plan, has_clock: bool, device_ns: tuple[int, ...] | None
) -> None:
    session = _session(plan, FakeGpu())
    session.accelerator = _Timed(has_clock)
    ticks = iter(range(0, 10**12, 10_000_000))
    block = loop.run_block(plan, session, lambda: next(ticks), 1, index=0)
    assert block.device_ns == device_ns
    assert block.samples_ns == (10_000_000,) * len(block.samples_ns)
    assert block.sensors["gpu_clock_hz"] == 1
