"""LiteRT on the CPU for real, on a file of 3 kB; what its GPU says, on recorded text."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vitprof.export.inputs import seeded_inputs, write_tensors
from vitprof.runner.backends import BackendError, accelerator_of, backend_module, litert, litert_gpu
from vitprof.runner.serve import Server
from vitprof.runner.wire import Plan

# A convolution, ReLU, the mean and a product, two outputs; made by `vitprof export` from the module below.
NET = Path(__file__).parent.parent / "data" / "net.tflite"
_SHAPE = (2, 3, 8, 8)
_SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    write_tensors(tmp_path / "images.bin", seeded_inputs(_SHAPE, "float32", 2, seed=0))
    return Plan(
        backend="litert",
        artifact=str(NET),
        inputs=str(tmp_path / "images.bin"),
        input_name="image",
        input_shape=_SHAPE,
        input_count=2,
    )


def _arrays(session: object, index: int) -> list[np.ndarray]:
    outputs = session.outputs(index)  # type: ignore[attr-defined]
    return [np.frombuffer(data, dtype).reshape(shape) for _, dtype, shape, data in outputs]


def _expected(index: int) -> list[np.ndarray]:
    """What the module gave: its weights are those of seed 0."""
    import torch

    from tests.data.net import net

    image = torch.from_numpy(seeded_inputs(_SHAPE, "float32", 2, seed=0)[index])
    with torch.no_grad():
        return [tensor.numpy() for tensor in net()(image).values()]


def test_the_outputs_are_those_of_the_module_for_every_input(plan: Plan) -> None:
    pytest.importorskip("ai_edge_litert")
    session = backend_module("litert").load(plan)
    for index in (0, 1):
        for actual, wanted in zip(_arrays(session, index), _expected(index), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


def test_the_input_is_still_there_after_many_calls(plan: Plan) -> None:
    pytest.importorskip("ai_edge_litert")
    session = litert.load(plan)
    for _ in range(5):
        session.call()
    timed = session._interpreter.get_tensor(session._output_details[0]["index"])
    np.testing.assert_array_equal(timed, _arrays(session, 0)[0])


def test_a_file_that_is_no_model_is_refused_with_a_remedy(plan: Plan, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from dataclasses import replace

    (tmp_path / "broken.tflite").write_bytes(b"not a model")
    with pytest.raises(BackendError, match="cannot load the file") as caught:
        litert.load(replace(plan, artifact=str(tmp_path / "broken.tflite")))
    assert "--backend ort" in caught.value.remedy


def test_a_profile_is_refused_before_anything_is_loaded() -> None:
    for one in (litert, litert_gpu):
        with pytest.raises(BackendError, match="no profile by layer"):
            one.load(Plan(backend="", profile_path="x"))


@pytest.mark.skipif(not Path(_SWIFTSHADER).exists(), reason="Debian's chromium with its SwiftShader is not installed")
def test_a_renderer_in_software_gives_the_modules_outputs_and_is_told(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setenv("VK_ICD_FILENAMES", _SWIFTSHADER)
    # Vulkan's loader reads the variable of the process, which Python has set as well.
    assert os.environ["VK_ICD_FILENAMES"] == _SWIFTSHADER
    session = litert_gpu.load(plan)
    for actual, wanted in zip(_arrays(session, 1), _expected(1), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)
    assert session.placement_ops_share == 1.0
    accelerator = accelerator_of(session)
    assert accelerator is not None and accelerator.environment()["gpu_is_software"] is True
    server = Server(plan, lambda _: session, litert_gpu.version(), time.perf_counter_ns)
    ended = server.end()
    assert ended.peak_rss_bytes and ended.call_energy_j is None


# Lines recorded from LiteRT 2.3.0 on SwiftShader, put together from an attention as timm writes it and from windows,
# with shorter names of tensors and without the lines between.
_REFUSED = """INFO: [delegate_webgpu.cc:342] Create WebGPU environment (use_low_power=0, enable_host_mapped_pointer=1)
I0000 00:00:1795344517.849508   18942 environment.cc:532] Selected adapter: SwiftShader Device (Subzero), \
arch=swiftshader, vendor=google, backend=Vulkan, adapterType=CPU / Software
ERROR: Following operations are not supported by GPU delegate:
RESHAPE: Tensor dimensions must be less than 5. net.Attention_body;10
RESHAPE: Tensor dimensions must be less than 5. net.Attention_body;12
SLICE: Slicing is unsupported for input with rank > 4
TRANSPOSE: Tensor "net;14" has bad input dims size: 6.
TRANSPOSE: Tensor "net;8" has bad input dims size: 6.
14 operations will run on the GPU, and the remaining 14 operations will run on the CPU.
I0000 00:00:1795344517.851988   18942 delegate_kernel.cc:984] Initializing WebGPU-based API from graph.
"""
# Recorded from it where there is no Vulkan.
_NO_VULKAN = """Warning: Couldn't load Vulkan: libvulkan.so.1: cannot open shared object file: No such file or directory
    at operator() (third_party/dawn/src/dawn/native/vulkan/BackendVk.cpp:368)

ERROR: [delegate_webgpu.cc:359] Failed to initialize WebGPU environment: INTERNAL: No adapters found
"""


def test_refused_operators_are_counted_and_named_with_how_to_rewrite_them() -> None:
    assert litert_gpu.refused_operators(_REFUSED) == [
        "2 x RESHAPE: Tensor dimensions must be less than 5",
        "1 x SLICE: Slicing is unsupported for input with rank > 4",
        "2 x TRANSPOSE: Tensor has bad input dims size: 6",
    ]
    error = litert_gpu.load_error("Failed to compile model", _REFUSED)
    assert "RESHAPE" in str(error) and "four axes" in error.remedy and "--backend litert" in error.remedy


def test_what_runs_elsewhere_is_not_placed_on_the_gpu() -> None:
    # 14 of 28.
    assert litert_gpu._gpu_share(_REFUSED) == pytest.approx(0.5)
    assert litert_gpu._gpu_share("") == 1.0


def test_a_machine_without_a_gpu_is_told_what_to_install_or_to_try() -> None:
    error = litert_gpu.load_error("Failed to compile model", _NO_VULKAN)
    assert "finds no GPU" in str(error)
    assert "VK_ICD_FILENAMES" in error.remedy and "--backend litert" in error.remedy


def test_any_other_error_of_the_gpu_is_passed_on() -> None:
    error = litert_gpu.load_error("something new", "")
    assert "something new" in str(error) and "--backend litert" in error.remedy


def test_the_renderer_is_the_one_that_was_taken() -> None:
    facts = litert_gpu.gpu_facts(_REFUSED, lambda pattern: ["/dev/dri/renderD128"])
    assert facts == {"gpu": "SwiftShader Device (Subzero)", "gpu_is_software": True}
    # Made up after the one above: no real GPU was at hand.
    real = "Selected adapter: NVIDIA A100, arch=ampere, vendor=nvidia, backend=Vulkan, adapterType=discrete GPU\n"
    assert litert_gpu.gpu_facts(real, lambda pattern: []) == {"gpu": "NVIDIA A100", "gpu_is_software": False}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows its GPUs as files")
def test_without_any_gpu_it_can_only_be_a_renderer_in_software() -> None:
    assert litert_gpu.gpu_facts("", lambda pattern: []) == {"gpu": None, "gpu_is_software": True}
    assert litert_gpu.gpu_facts("", lambda pattern: ["/dev/mali0"]) == {"gpu": None, "gpu_is_software": False}
    assert not litert_gpu.may_have_gpu({}, lambda pattern: [])
    assert litert_gpu.may_have_gpu({"VK_ICD_FILENAMES": _SWIFTSHADER}, lambda pattern: [])
