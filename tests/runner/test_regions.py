"""What is timed: `call`, or the whole way from host memory to host memory, on every backend that has both."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vitprof.devices import profiles
from vitprof.devices.transports.fake import VirtualClock
from vitprof.runner import loop
from vitprof.runner.backends import BACKENDS, BackendError, Session, backend_module, fake, timed_call
from vitprof.runner.serve import Server
from vitprof.runner.wire import Block, BlockRequest, Plan

MS = 1_000_000
SHAPE = (1, 3, 224, 224)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images.bin"
    values = [float(one % 7) for one in range(3 * 224 * 224)]
    path.write_bytes(struct.pack(f"<{2 * len(values)}f", *values, *(value + 1 for value in values)))
    return path


@pytest.fixture
def script(tmp_path: Path) -> Path:
    import torch

    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=16), torch.nn.Flatten(), torch.nn.Linear(784, 5)).eval()
    torch.jit.trace(net, torch.zeros(SHAPE)).save(str(tmp_path / "net.pt"))
    return tmp_path / "net.pt"


def _plan(backend: str, artifact: Path, images: Path, **more: object) -> Plan:
    plan = Plan(backend, artifact=str(artifact), inputs=str(images), input_name="image", input_shape=SHAPE)
    return replace(plan, input_count=2, **more)  # type: ignore[arg-type]


def _check_both_regions(session: Session) -> None:
    before = session.outputs(0)
    session.call()
    timed_call(session, "e2e")()
    timed_call(session, "e2e")()
    session.call()
    # Neither way of calling leaves anything behind that the other would find.
    assert session.outputs(0) == before
    assert session.outputs(1) != before


@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_a_session_of_an_onnx_file_runs_from_memory_to_memory(backend: str, images: Path) -> None:
    pytest.importorskip(str(BACKENDS[backend].requires))
    model = profiles.reference_model("cpu-ref-1")
    _check_both_regions(backend_module(backend).load(_plan(backend, model, images)))


@pytest.mark.parametrize("options", [{}, {"channels_last": True}], ids=["plain", "channels_last"])
def test_torch_runs_from_memory_to_memory(script: Path, images: Path, options: dict[str, bool]) -> None:
    _check_both_regions(backend_module("torch").load(_plan("torch", script, images, options=options)))


@pytest.mark.skipif(importlib.util.find_spec("ai_edge_litert") is None, reason="ai-edge-litert is not installed")
def test_litert_runs_from_memory_to_memory(tmp_path: Path) -> None:
    path = tmp_path / "images.bin"
    model = Path(__file__).parents[1] / "data" / "net.tflite"
    from ai_edge_litert.interpreter import Interpreter

    shape = tuple(int(side) for side in Interpreter(model_path=str(model)).get_input_details()[0]["shape"])
    count = shape[0] * shape[1] * shape[2] * shape[3]
    values = [one % period for period in (5, 3) for one in range(count)]
    path.write_bytes(struct.pack(f"<{2 * count}f", *values))
    plan = replace(_plan("litert", model, path), input_shape=shape)
    _check_both_regions(backend_module("litert").load(plan))


def test_the_table_says_which_backends_have_e2e() -> None:
    runner = Path(fake.__file__).parents[1]
    # `compile` loads torch's session, both TensorRTs the engine's.
    borrowed = {"compile": "backends/torch.py", "trt": "engine.py", "trt-rtx": "engine.py"}
    own = {name: f"backends/{entry.module.rpartition('.')[2]}.py" for name, entry in BACKENDS.items()}
    texts = {name: (runner / borrowed.get(name, path)).read_text() for name, path in own.items()}
    assert {name for name, text in texts.items() if "host_call" in text} == {
        name for name, entry in BACKENDS.items() if entry.has_e2e
    }


def _blocks(plan: Plan) -> tuple[Server, Block]:
    clock = VirtualClock()
    server = Server(plan, lambda one: fake.FakeSession(one, clock.wait), fake.version(), clock)
    block = server.answer(BlockRequest(0))
    assert isinstance(block, Block)
    return server, block


@pytest.mark.parametrize(("region", "call_ns"), [("call", 5 * MS), ("e2e", 7 * MS)])
def test_the_region_that_was_asked_for_is_timed(region: str, call_ns: int) -> None:
    server, block = _blocks(Plan("fake", {"call_ns": 5 * MS, "copy_ns": 2 * MS}, region=region))
    assert set(block.samples_ns) == {call_ns} == set(block.set_aside_ns)
    assert server.ready.first_call_ns == call_ns


def test_a_backend_without_the_region_says_so_and_is_not_timed_in_another() -> None:
    class CallAlone:
        def call(self) -> None: ...

    alone: Callable[[str], object] = lambda region: timed_call(CallAlone(), region)  # type: ignore[arg-type] # noqa: E731
    assert alone("call")
    with pytest.raises(BackendError, match="from host memory to host memory") as caught:
        alone("e2e")
    assert caught.value.remedy == "leave out --region"
    with pytest.raises(BackendError, match="'nope'"):
        timed_call(fake.FakeSession(Plan("fake"), lambda _: None), "nope")


def test_a_block_begins_with_a_stretch_that_is_set_aside() -> None:
    _, block = _blocks(Plan("fake", {"call_ns": 20 * MS}, rewarm_ns=300 * MS, block_ns=1000 * MS))
    assert (len(block.set_aside_ns), len(block.samples_ns)) == (15, 50)


def test_a_call_longer_than_the_stretch_is_set_aside_once_or_counts() -> None:
    _, block = _blocks(Plan("fake", {"call_ns": 400 * MS}, rewarm_ns=300 * MS, block_ns=1000 * MS))
    assert (len(block.set_aside_ns), len(block.samples_ns)) == (1, 3)
    _, slow = _blocks(Plan("fake", {"call_ns": 600 * MS}, rewarm_ns=300 * MS, block_ns=1000 * MS))
    assert (slow.set_aside_ns, slow.samples_ns) == ((), (600 * MS,))


def test_launching_is_what_a_graph_of_the_same_call_does_not_take() -> None:
    # The first pairs find the graph's memory: they are as slow as may be, and count for nothing.
    eager = iter([900] * 3 + [100] * 20)
    graph = iter([5_000] * 3 + [75] * 20)
    assert loop.launch_share(lambda: next(eager), lambda: next(graph)) == 0.25
    assert loop.launch_share(lambda: 100, lambda: 104) == 0.0
    assert loop.launch_share(lambda: None, lambda: 75) is None
