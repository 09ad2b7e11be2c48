from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vitprof.devices.profiles import reference_model
from vitprof.devices.transports.fake import VirtualClock
from vitprof.export.inputs import seeded_inputs, write_tensors
from vitprof.runner.backends import BackendError, backend_module, fake
from vitprof.runner.profiles import middle_half, ort, profiled_runs
from vitprof.runner.profiles import torch as torch_profiles
from vitprof.runner.wire import Plan, ProfileRequest

RECORDED = Path(__file__).parent / "recorded" / "ort_profile.json"
REQUEST = ProfileRequest(runs=8)


def _plan(image_file: Path, backend: str, **changes: object) -> Plan:
    fields: dict[str, object] = {
        "backend": backend,
        "artifact": str(reference_model("cpu-ref-1")),
        "inputs": str(image_file),
        "input_name": "image",
        "input_shape": (1, 3, 224, 224),
        "profile_path": str(image_file.parent / "profile"),
    }
    return Plan(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_recorded_trace_gives_the_mean_time_of_each_node() -> None:
    runs = ort.runs_from_trace(json.loads(RECORDED.read_text()))
    assert [len(run) for run in runs] == [3, 3]
    ops = ort.ops_from_runs(runs)
    # (1322 + 1374) / 2, (1485 + 1326) / 2, (469 + 70) / 2 microseconds.
    assert [(op.name, op.op, op.ns) for op in ops] == [
        ("relu_1_nchwc", "Conv", 1_348_000.0),
        ("relu_3_nchwc", "Conv", 1_405_500.0),
        ("conv_4_nchwc", "Conv", 269_500.0),
    ]


def test_runs_with_different_nodes_are_refused_and_not_added_up() -> None:
    first, second = ort.runs_from_trace(json.loads(RECORDED.read_text()))
    with pytest.raises(BackendError, match=r"\[2, 3\] node events"):
        ort.ops_from_runs([first, second[:2]])
    with pytest.raises(BackendError, match="no node events"):
        ort.ops_from_runs([])


def _event(category: str, name: str, duration_us: int, **facts: str) -> dict[str, object]:
    return {"cat": category, "name": name, "dur": duration_us, "args": {"op_name": "Conv", **facts}}


def test_on_a_gpu_a_node_takes_what_its_kernels_take_and_not_their_launching() -> None:
    """In the form that ONNX Runtime's page on profiling shows for builds with `--enable_cuda_profiling`."""
    gpu, cpu = {"provider": "CUDAExecutionProvider"}, {"provider": "CPUExecutionProvider"}
    one_run = [
        _event("Node", "a_kernel_time", 900, **gpu),
        _event("Kernel", "implicit_gemm", 30, stream="13"),
        _event("Kernel", "splitk_reduce", 3, stream="13"),
        _event("Node", "shape_kernel_time", 2, **cpu),
        _event("Node", "b_kernel_time", 700, **gpu),
        _event("Kernel", "relu", 5, stream="13"),
        # Re-shapes launch nothing.
        _event("Node", "c_kernel_time", 10, **gpu),
        _event("Session", "model_run", 2000),
    ]
    runs = ort.runs_from_trace(ort.with_kernel_times([_event("Session", "session_init", 9), *one_run, *one_run]))
    times = [(op.name, op.ns) for op in ort.ops_from_runs(runs)]
    assert times == [("a", 33_000.0), ("shape", 2_000.0), ("b", 5_000.0), ("c", 0.0)] and len(runs) == 2


def test_a_trace_without_kernels_is_no_profile_of_a_gpu() -> None:
    trace = json.loads(RECORDED.read_text())
    with pytest.raises(BackendError, match="only how long its kernels take to launch") as caught:
        ort.with_kernel_times(trace)
    assert "--backend trt or torch" in caught.value.remedy


@pytest.mark.parametrize(
    ("options", "said"), [({"provider": "tensorrt"}, "runs as one node"), ({"device": "mps"}, "runs on mps")]
)
def test_what_onnx_runtime_cannot_profile_is_refused_with_the_way_round(
    tmp_path: Path, options: dict[str, str], said: str
) -> None:
    plan = Plan("ort", {"device": "cuda", **options}, profile_path=str(tmp_path / "profile"))
    with pytest.raises(BackendError, match=said):
        backend_module("ort").load(plan)


def test_means_are_taken_of_the_runs_between_the_quartiles() -> None:
    # In order of time: 1 at 3, 2 at 0, 3 at 4, 4 at 1, 5 at 6, 6 at 2, 7 at 7, 90 at 5; two go at each end.
    assert middle_half([2, 4, 6, 1, 3, 90, 5, 7]) == [1, 2, 4, 6]
    assert middle_half([5]) == [0]


def test_a_slow_model_is_run_less_often_than_asked() -> None:
    clock = VirtualClock()
    request = ProfileRequest(runs=100, longest_ns=3_000_000_000)
    # 3 s / 0.4 s = 7 runs; and five where even one is longer than that.
    assert profiled_runs(lambda: clock.wait(400_000_000), request, clock) == [400_000_000] * 7
    assert len(profiled_runs(lambda: clock.wait(4_000_000_000), request, clock)) == 5
    assert len(profiled_runs(lambda: clock.wait(1_000_000), request, clock)) == 100


def test_onnx_runtime_tells_the_time_of_each_node_and_keeps_its_graph(image_file: Path) -> None:
    import onnx

    session = backend_module("ort").load(_plan(image_file, "ort"))
    session.call()
    profile = session.profile(REQUEST, time.perf_counter_ns)
    assert profile.graph
    nodes = onnx.load(profile.graph, load_external_data=False).graph.node
    assert [op.op for op in profile.ops] == [node.op_type for node in nodes]
    # The four runs between the quartiles of eight.
    assert profile.runs == 4 and 0 < sum(op.ns for op in profile.ops) <= profile.total_ns
    # The trace and the weights are gone; the graph is fetched by the host.
    assert [path.name for path in image_file.parent.glob("profile*")] == ["profile.onnx"]


def test_openvino_tells_the_time_of_what_it_ran_and_what_that_feeds(image_file: Path) -> None:
    pytest.importorskip("openvino")
    session = backend_module("openvino").load(_plan(image_file, "openvino"))
    session.call()
    profile = session.profile(REQUEST, time.perf_counter_ns)
    names = {op.name for op in profile.ops}
    assert {"Convolution", "FullyConnected"} <= {op.op for op in profile.ops}
    assert profile.runs == 8 and sum(op.ns for op in profile.ops) > 0
    assert all(set(op.feeds) <= names for op in profile.ops) and any(op.feeds for op in profile.ops)
    assert any(op.members for op in profile.ops)


def test_events_of_torch_go_to_the_innermost_module_and_the_outermost_operator() -> None:
    events = [
        ("vitprof run", 0, 100),
        ("vitprof module:", 1, 95),
        ("vitprof module:head", 10, 60),
        ("aten::linear", 12, 50),
        ("aten::t", 13, 15),
        ("aten::addmm", 16, 48),
        ("vitprof module:head.act", 52, 58),
        ("aten::relu_", 53, 57),
        ("aten::add", 70, 80),
        ("aten::add", 80, 86),
        # After the run: of nobody.
        ("aten::add", 101, 999),
    ]
    [run] = torch_profiles.runs_from_events(events[::-1])
    ops = torch_profiles.ops_from_runs([run, run])
    assert [(op.module, op.op, op.calls, op.ns, op.members) for op in ops] == [
        ("head", "linear", 1, 38.0, ("addmm", "t")),
        ("head.act", "relu_", 1, 4.0, ()),
        # 10 + 6 in two calls.
        ("", "add", 2, 16.0, ()),
    ]


def test_on_a_gpu_an_operator_s_time_is_that_of_the_kernels_launched_inside_it() -> None:
    run = [
        ("vitprof module:head", 10, 60),
        ("aten::linear", 12, 30),
        ("aten::addmm", 16, 28),
        ("aten::relu_", 30, 40),
    ]
    # Linear launches nothing itself, addmm two kernels of 500 and 200 ns, which run after it has returned.
    work_ns = torch_profiles.inclusive_ns([(run[1], 0), (run[2], 700), (run[3], 90)])
    assert work_ns == {run[1]: 700, run[2]: 700, run[3]: 90}
    ops = torch_profiles.ops_from_runs([run], work_ns)
    assert [(op.module, op.op, op.ns, op.members) for op in ops] == [
        ("head", "linear", 700.0, ("addmm",)),
        ("head", "relu_", 90.0, ()),
    ]


def test_kernels_are_found_by_the_number_of_the_operator_that_launched_them() -> None:
    """Of the form of torch's raw events on a GPU, as its own profiler reads them; not recorded."""
    from torch.autograd import DeviceType

    def event(name: str, start: int, ns: int, number: int, linked: int = 0, **changes: object) -> SimpleNamespace:
        facts = {"device_type": DeviceType.CPU, "is_user_annotation": False, "start_thread_id": 1, **changes}
        facts.update(name=name, start_ns=start, duration_ns=ns, correlation_id=number, linked_correlation_id=linked)
        return SimpleNamespace(**{key: lambda value=value: value for key, value in facts.items()})

    on_gpu = {"device_type": DeviceType.CUDA, "start_thread_id": 7}
    raw = [
        event("vitprof run", 200, 900, 20, 1, **on_gpu, is_user_annotation=True),
        event("vitprof run", 0, 100, 1, is_user_annotation=True),
        event("aten::linear", 10, 30, 2),
        event("aten::addmm", 12, 20, 3),
        event("cudaLaunchKernel", 14, 5, 21, 3),
        event("ampere_sgemm", 300, 500, 21, 3, **on_gpu),
        event("splitK_reduce", 810, 200, 22, 3, **on_gpu),
    ]
    # 500 + 200 ns in addmm, and so in the linear around it.
    assert torch_profiles._kernel_ns(raw) == {("aten::linear", 10, 40): 700, ("aten::addmm", 12, 32): 700}


class _Net(torch.nn.Module):
    """One activation under two names, and operators of the model's own."""

    def __init__(self) -> None:
        super().__init__()
        act = torch.nn.GELU()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, stride=4), act)
        self.head = torch.nn.Sequential(torch.nn.Linear(8, 5), act)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(image).mean((2, 3)))


@pytest.mark.parametrize("format", ["pt2", "pt"])
def test_torch_knows_modules_in_programs_and_none_in_torchscript(format: str, tmp_path: Path) -> None:
    from vitprof.export.pt2_export import export_pt2

    write_tensors(tmp_path / "images.bin", seeded_inputs((1, 3, 16, 16), "float32", 1, seed=0))
    net, image, path = _Net().eval().requires_grad_(False), torch.zeros(1, 3, 16, 16), tmp_path / f"net.{format}"
    export_pt2(net, image, path) if format == "pt2" else torch.jit.trace(net, image).save(str(path))
    plan = _plan(tmp_path / "images.bin", "torch", artifact=str(path), input_shape=(1, 3, 16, 16))
    profile = backend_module("torch").load(plan).profile(REQUEST, time.perf_counter_ns)
    modules = {(op.op, op.module) for op in profile.ops}
    if format == "pt":
        assert {module for _, module in modules} == {""} and {"_convolution", "linear"} <= {op for op, _ in modules}
    else:
        assert {("conv2d", "stem.0"), ("gelu", "stem.1"), ("linear", "head.0"), ("gelu", "head.1")} <= modules
    assert profile.runs == 4 and 0 < sum(op.ns for op in profile.ops) <= profile.total_ns


def test_hooks_name_a_shared_module_by_the_path_of_its_caller(tmp_path: Path) -> None:
    net, image = _Net().eval().requires_grad_(False), torch.zeros(1, 3, 16, 16)
    profile = torch_profiles.profile(net, image, REQUEST, time.perf_counter_ns)
    modules = {(op.op, op.module) for op in profile.ops}
    assert {("gelu", "stem.1"), ("gelu", "head.1"), ("mean", "")} <= modules
    # The hooks are gone.
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_compile_says_that_it_has_no_profile(image_file: Path) -> None:
    with pytest.raises(BackendError, match="no profile by layer") as caught:
        backend_module("compile").load(_plan(image_file, "compile"))
    assert "--backend torch, ort or openvino" in caught.value.remedy


def test_the_fake_backend_has_a_fixed_profile() -> None:
    profile = fake.load(Plan(backend="fake")).profile(REQUEST, time.perf_counter_ns)
    assert profile.total_ns == 1_000_000 and sum(op.ns for op in profile.ops) == 900_000
