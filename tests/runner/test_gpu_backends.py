"""The backends of GPUs without one: arguments, refusals, and the names of the libraries that they use."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.runner.gpu_fakes import FakeNvml
from vitprof.devices.transports import RunnerFailed
from vitprof.devices.transports.local import LocalTransport
from vitprof.places import Places
from vitprof.runner import engine, ort_devices
from vitprof.runner.accelerator import NvidiaAccelerator
from vitprof.runner.backends import BackendError, backend_module, trt, trt_rtx
from vitprof.runner.engine import logger_of
from vitprof.runner.nvml import GpuMeter
from vitprof.runner.options import RunOptions
from vitprof.runner.profiles import tensorrt as profiles
from vitprof.runner.torch_devices import place_of
from vitprof.runner.wire import Plan

_WAIT_S = 60

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an NVIDIA GPU")


@without_gpu
@pytest.mark.parametrize(
    "plan",
    [
        Plan("trt"),
        Plan("trt-rtx"),
        Plan("torch", {"device": "cuda"}),
        Plan("compile", {"device": "cuda"}),
        Plan("ort", {"device": "cuda"}),
    ],
    ids=lambda plan: plan.backend,
)
def test_a_runner_without_a_gpu_says_so_before_it_imports_anything(
    here: Places, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "onnxruntime", "tensorrt", "tensorrt_rtx", "cuda"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    link = LocalTransport(here.cache_root).start(plan)
    with pytest.raises(RunnerFailed) as caught:
        link.receive(_WAIT_S)
    failure = caught.value.failure
    assert "NVIDIA" in failure.error and "\n" not in failure.error
    assert failure.stage == "load" and "--device local" in failure.remedy


@without_gpu
def test_torch_without_cuda_says_where_to_get_one_with_it() -> None:
    with pytest.raises(BackendError, match="sees no CUDA") as caught:
        place_of(RunOptions(device="cuda"))
    assert "pytorch.org" in caught.value.remedy


def test_the_processor_is_no_place_of_its_own() -> None:
    assert place_of(RunOptions()) is None


def test_a_graph_on_the_processor_is_refused(tmp_path: Path) -> None:
    torch.jit.trace(torch.nn.ReLU(), torch.zeros(1, 3, 2, 2)).save(str(tmp_path / "net.pt"))
    (tmp_path / "images.bin").write_bytes(bytes(4 * 12))
    plan = Plan(
        "torch",
        {"cuda_graph": True},
        artifact=str(tmp_path / "net.pt"),
        inputs=str(tmp_path / "images.bin"),
        input_shape=(1, 3, 2, 2),
    )
    with pytest.raises(BackendError, match="runs on the processor"):
        backend_module("torch").load(plan)


def test_onnx_runtime_is_told_where_and_in_what_precision(tmp_path: Path) -> None:
    plan = Plan("ort", {"device": "cuda:1"}, inputs=str(tmp_path / "inputs.bin"), precision="fp16")
    [(name, cuda), rest] = ort_devices.providers_of(plan, RunOptions("cuda", 1, cuda_graph=True))
    assert name == "CUDAExecutionProvider" and rest == ("CPUExecutionProvider", {})
    assert (cuda["device_id"], cuda["use_tf32"], cuda["enable_cuda_graph"]) == ("1", "0", "1")
    names, given = zip(
        *ort_devices.providers_of(plan, RunOptions("cuda", 1, cuda_graph=True, provider="tensorrt")), strict=True
    )
    assert names == ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    assert (given[0]["trt_fp16_enable"], given[0]["trt_int8_enable"], given[0]["trt_cuda_graph_enable"]) == (
        "1",
        "0",
        "1",
    )
    # What TensorRT leaves to CUDA runs between parts of its own: no graph there.
    assert given[1]["enable_cuda_graph"] == "0"
    assert given[0]["trt_engine_cache_path"] == str(tmp_path / "engines")


def test_an_onnx_runtime_without_the_provider_says_which_package_has_it() -> None:
    library = SimpleNamespace(__version__="1.31", get_available_providers=lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match="has no CUDAExecutionProvider; it has CPUExecutionProvider") as caught:
        ort_devices.prepare(library, RunOptions("cuda"))
    assert "onnxruntime-gpu" in caught.value.remedy


def test_a_provider_that_was_left_out_without_a_word_is_noticed() -> None:
    session = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match="left CUDAExecutionProvider out and would run on CPUExecutionProvider"):
        ort_devices.check_provider(session, RunOptions("cuda"))
    both = SimpleNamespace(get_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    ort_devices.check_provider(both, RunOptions("cuda"))


def test_the_share_of_nodes_on_the_gpu_is_of_all_nodes() -> None:
    # 6 + 3 of 12.
    counts = [("CUDAExecutionProvider", 6), ("CPUExecutionProvider", 3), ("TensorrtExecutionProvider", 3)]
    assert ort_devices.share_from_counts(counts) == 9 / 12
    assert ort_devices.share_from_counts([]) is None


def test_onnx_runtime_tells_which_provider_has_which_nodes() -> None:
    import onnxruntime

    from vitprof.devices.profiles import reference_model

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(ort_devices.ASSIGNMENT_ENTRY, "1")
    model = str(reference_model("cpu-ref-1"))
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    # All of them are the processor's here: none is on a GPU, which is known and not missing.
    assert ort_devices.placement_share(session) == 0.0
    plain = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert ort_devices.placement_share(plain) is None


def test_an_accelerator_tells_what_it_was_told_and_what_nvml_says() -> None:
    meter = GpuMeter(FakeNvml([0, 0]), "handle")
    told = NvidiaAccelerator({"gpu_clocks": "unlocked", "tf32": False}, meter, lambda: 5, lambda: 70)
    assert told.environment()["gpu_clocks"] == "unlocked" and told.environment()["gpu_power_limit_w"] == 400.0
    assert told.sensors()["gpu_clock_hz"] == 1_410_000_000
    # NVML knows nothing of this process, and the runtime's allocator is asked for itself.
    assert (told.peak_bytes(), told.driver_peak_bytes()) == (70, None)
    blind = NvidiaAccelerator({}, None, lambda: None, lambda: None)
    assert (
        blind.sensors() == {}
        and blind.peak_bytes() is blind.driver_peak_bytes() is None
        and blind.environment()["nvml"]
    )


def test_networks_are_strongly_typed_where_that_must_be_asked_for() -> None:
    older = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1))
    newer = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace())
    assert (trt.network_flags(older), trt.network_flags(newer)) == (2, 0)


@pytest.mark.parametrize(("tf32", "called"), [(False, "clear_flag"), (True, "set_flag")])
def test_tf32_is_set_one_way_or_the_other(tf32: bool, called: str) -> None:
    calls: list[tuple[str, object]] = []
    config = SimpleNamespace(
        set_flag=lambda flag: calls.append(("set_flag", flag)),
        clear_flag=lambda flag: calls.append(("clear_flag", flag)),
    )
    verbosity = SimpleNamespace(DETAILED="detailed")
    library = SimpleNamespace(ProfilingVerbosity=verbosity, BuilderFlag=SimpleNamespace(TF32="TF32"))
    trt.configure(library, config, RunOptions(tf32=tf32))
    assert calls == [(called, "TF32")] and config.profiling_verbosity == "detailed"
    trt.configure(SimpleNamespace(ProfilingVerbosity=verbosity, BuilderFlag=SimpleNamespace()), config, RunOptions())
    assert len(calls) == 1, "a version without the flag"


def test_the_parser_s_first_error_names_the_node() -> None:
    error = SimpleNamespace(node_name=lambda: "/a/Foo", node_operator=lambda: "Foo", desc=lambda: "no such operator")
    parser = SimpleNamespace(num_errors=2, get_error=lambda index: error)
    assert trt.parser_error(parser) == "node /a/Foo (Foo): no such operator"
    assert trt.parser_error(SimpleNamespace(num_errors=0)) == "it does not say why"


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """A convolution over any number of images."""
    import onnx
    from onnx import TensorProto, helper

    image, logits = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, 4, 4])
        for name, channels in (("image", 3), ("logits", 2))
    )
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [2, 3, 1, 1], [0.5] * 6)
    node = helper.make_node("Conv", ["image", "weight"], ["logits"], name="/conv/Conv")
    graph = helper.make_graph([node], "net", [image], [logits], [weight])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx"
    )
    return tmp_path / "net.onnx"


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX")
@pytest.mark.parametrize("batch", [1, 5])
def test_an_engine_is_really_built_for_the_plan_s_shape(onnx_file: Path, batch: int) -> None:
    """By TensorRT for RTX, whose builder shares the interface and needs no GPU."""
    library = pytest.importorskip("tensorrt_rtx")
    plan = Plan("trt", artifact=str(onnx_file), input_shape=(batch, 3, 4, 4))
    engine_bytes, timings = trt.build(library, logger_of(library), plan, RunOptions("cuda"), None)
    assert len(engine_bytes) > 1_000 and timings
    again, _ = trt.build(library, logger_of(library), plan, RunOptions("cuda"), timings)
    assert len(again) > 1_000


def test_a_file_that_is_no_model_is_refused_in_the_parser_s_words(tmp_path: Path) -> None:
    library = pytest.importorskip("tensorrt_rtx")
    (tmp_path / "net.onnx").write_bytes(b"not a model")
    plan = Plan("trt", artifact=str(tmp_path / "net.onnx"), input_shape=(1, 3, 4, 4))
    with pytest.raises(BackendError, match=r"cannot read the ONNX file: .*Failed to parse") as caught:
        trt.build(library, logger_of(library), plan, RunOptions("cuda"), None)
    assert caught.value.stage == "build" and "--backend ort" in caught.value.remedy


# Which class of TensorRT a variable of these files holds.
_CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "timing_cache": "ITimingCache",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime": "Runtime",
    "inspector": "EngineInspector",
    "image": "ITensor",
}
_CLASSES_OF_RTX = {**_CLASSES, "config": "IRuntimeConfig", "kernels": "IRuntimeCache"}


@pytest.mark.parametrize(
    ("module", "classes"),
    [(trt, _CLASSES), (engine, _CLASSES), (profiles, _CLASSES), (trt_rtx, _CLASSES_OF_RTX)],
    ids=["trt", "engine", "profiles", "trt_rtx"],
)
def test_every_name_that_is_used_of_tensorrt_exists_in_tensorrt_rtx(module: Any, classes: dict[str, str]) -> None:
    library = pytest.importorskip("tensorrt_rtx")
    tree = ast.parse(Path(module.__file__).read_text())
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.add((node.value.id, node.attr))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            # `self._engine.…`
            used.add((node.value.attr.lstrip("_"), node.attr))
    missing = [attribute for name, attribute in used if name == "library" and not hasattr(library, attribute)]
    methods = [(classes[name], attribute) for name, attribute in used if name in classes]
    missing += [f"{owner}.{name}" for owner, name in methods if not hasattr(getattr(library, owner), name)]
    assert missing == [] and methods
