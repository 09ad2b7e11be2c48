from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vitprof.devices.profiles import reference_model
from vitprof.export.inputs import seeded_inputs, write_tensors
from vitprof.export.onnx_export import export_onnx
from vitprof.export.pt2_export import export_pt2
from vitprof.runner.backends import BACKENDS, BackendError, backend_module, ort
from vitprof.runner.images import bytes_of
from vitprof.runner.wire import Plan


def _plan(image_file: Path, **changes: object) -> Plan:
    fields: dict[str, object] = {
        "backend": "ort",
        "artifact": str(reference_model("cpu-ref-1")),
        "inputs": str(image_file),
        "input_name": "image",
        "input_shape": (1, 3, 224, 224),
    }
    return Plan(**{**fields, **changes})  # type: ignore[arg-type]


def test_onnx_runtime_gives_the_same_outputs_timed_and_asked(image_file: Path) -> None:
    session = ort.load(_plan(image_file))
    session.call()
    session.call()
    [(name, dtype, shape, data)] = session.outputs(0)
    bound = session._binding.get_outputs()[0].numpy()
    assert (dtype, shape) == ("float32", (1, 100))
    np.testing.assert_array_equal(np.frombuffer(data, "float32").reshape(shape), bound)
    assert name


def test_bound_outputs_stay_in_the_same_memory(image_file: Path) -> None:
    session = ort.load(_plan(image_file))
    session.call()
    first = session._binding.get_outputs()[0].data_ptr()
    session.call()
    assert session._binding.get_outputs()[0].data_ptr() == first


def test_a_file_that_is_no_model_is_refused_with_a_remedy(tmp_path: Path, image_file: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(BackendError, match="cannot load") as caught:
        ort.load(_plan(image_file, artifact=str(broken)))
    assert "onnx.checker" in caught.value.remedy


@pytest.mark.parametrize(
    ("said", "kind", "remedy"),
    [
        ("std::bad_alloc", "out of memory", "smaller model"),
        ("[NOT_IMPLEMENTED] : Could not find an implementation for Foo(1)", "lacks an operator", "upgrade"),
        ("[INVALID_GRAPH] : bad", "cannot load", "onnx.checker"),
    ],
)
def test_what_onnx_runtime_says_becomes_a_remedy(said: str, kind: str, remedy: str) -> None:
    error = ort.load_error(RuntimeError(said))
    assert kind in str(error) and remedy in error.remedy


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(BackendError) as caught:
        backend_module("nope")
    assert "ort" in caught.value.remedy


class _Net(torch.nn.Module):
    """A convolution, a norm, attention and a head: two outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 4, stride=4)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        tokens = self.norm(self.conv(image)).relu().flatten(2).transpose(1, 2)
        attended = torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return {"logits": self.head(attended.mean(1)), "tokens": attended}


@pytest.fixture(scope="module")
def net() -> _Net:
    torch.manual_seed(0)
    return _Net().eval().requires_grad_(False)


def _net_plan(net: _Net, tmp_path: Path, format: str, batch: int = 1) -> tuple[Plan, list[np.ndarray]]:
    images = seeded_inputs((batch, 3, 16, 16), "float32", 2, seed=0)
    write_tensors(tmp_path / "images.bin", images)
    path = tmp_path / f"net.{format}"
    if format == "onnx":
        export_onnx(net, (1, 3, 16, 16), path, any_batch=True)
    elif format == "pt2":
        export_pt2(net, torch.zeros(batch, 3, 16, 16), path)
    else:
        torch.jit.trace(net, torch.zeros(batch, 3, 16, 16), strict=False).save(str(path))
    plan = Plan(
        backend="",
        artifact=str(path),
        inputs=str(tmp_path / "images.bin"),
        input_name="image",
        input_shape=(batch, 3, 16, 16),
        input_count=2,
        symbolic_batch="batch" if format == "onnx" else None,
    )
    expected = [tensor.numpy() for tensor in net(torch.from_numpy(images[1])).values()]
    return plan, expected


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("name", "format"),
    [("ort", "onnx"), ("openvino", "onnx"), ("torch", "pt2"), ("torch", "pt"), ("compile", "pt2")],
)
def test_every_backend_gives_the_modules_outputs(name: str, format: str, batch: int, net: _Net, tmp_path: Path) -> None:
    pytest.importorskip(str(BACKENDS[name].requires))
    plan, expected = _net_plan(net, tmp_path, format, batch)
    session = backend_module(name).load(plan)
    session.call()
    session.call()
    for (_, dtype, shape, data), wanted in zip(session.outputs(1), expected, strict=True):
        actual = np.frombuffer(data, dtype).reshape(shape)
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


def test_openvino_computes_in_the_precision_that_was_asked_for(net: _Net, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from vitprof.runner.backends import openvino

    plan, _ = _net_plan(net, tmp_path, "onnx")
    session = openvino.load(replace(plan, precision="fp32"))
    hint = session._request.get_compiled_model().get_property("INFERENCE_PRECISION_HINT")
    assert hint.get_type_name() == "f32"


def test_openvino_refuses_a_file_that_is_no_model(net: _Net, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from vitprof.runner.backends import openvino

    plan, _ = _net_plan(net, tmp_path, "onnx")
    (tmp_path / "net.onnx").write_bytes(b"not a model")
    with pytest.raises(BackendError, match="OpenVINO cannot load"):
        openvino.load(plan)


def test_compile_says_what_to_install_where_there_is_no_compiler(
    net: _Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = _net_plan(net, tmp_path, "pt2")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BackendError, match=r"needs a C\+\+ compiler") as caught:
        backend_module("compile").load(plan)
    assert "apt install g++" in caught.value.remedy


def test_torch_refuses_a_file_that_is_no_program(net: _Net, tmp_path: Path) -> None:
    plan, _ = _net_plan(net, tmp_path, "pt2")
    (tmp_path / "net.pt2").write_bytes(b"not a program")
    with pytest.raises(BackendError, match="cannot load the model"):
        backend_module("torch").load(plan)


def test_images_that_end_too_early_are_told_and_not_filled_up(net: _Net, tmp_path: Path) -> None:
    plan, _ = _net_plan(net, tmp_path, "pt2")
    with pytest.raises(BackendError, match="ends before input 2"):
        bytes_of(plan, 2)


def test_openvino_tells_nobody_that_it_was_imported() -> None:
    pytest.importorskip("openvino")
    code = (
        "import sys, threading\n"
        "from vitprof.runner.backends import backend_module\n"
        "backend_module('openvino').version()\n"
        "print('openvino.tools.ovc.telemetry_stub' in sys.modules, threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Its sender would be a pool of threads, one of which forks the process.
    assert done.stdout == "True 1\n"
