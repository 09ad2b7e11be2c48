from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from vitprof.errors import VitprofError  # noqa: E402
from vitprof.export.onnx_export import INPUT_NAME, OPSET, export_onnx  # noqa: E402
from vitprof.export.outputs import flat_tensors  # noqa: E402
from vitprof.export.weights import (  # noqa: E402
    Weight,
    folded_weights,
    reached_weights,
    text_from_folded,
)


class Dict(torch.nn.Module):
    """Two outputs in a dict, one inside a tuple; a branch on a shape, which the tracer warns of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.head = torch.nn.Linear(8, 5)
        self.unused = torch.nn.Linear(8, 50)

    def forward(self, image: "torch.Tensor") -> dict[str, object]:
        features = self.conv(image)
        if features.mean() > 1e9:
            features = features * 2
        return {"out": self.head(features.mean((2, 3))), "aux": (features, None)}


def exported(tmp_path: Path, module: "torch.nn.Module") -> Path:
    path = tmp_path / "model.onnx"
    export_onnx(module.eval(), (1, 3, 8, 8), path)
    return path


def test_outputs_of_any_shape_come_as_a_row_of_tensors() -> None:
    a, b, c = (torch.zeros(i) for i in (1, 2, 3))
    assert [t.numel() for t in flat_tensors({"x": a, "y": [b, None, (c, "text")]})] == [1, 2, 3]


def test_an_export_computes_what_the_module_does(tmp_path: Path) -> None:
    module = Dict().eval()
    path = exported(tmp_path, module)
    image = torch.randn(1, 3, 8, 8)
    expected = flat_tensors(module(image))
    actual = onnxruntime.InferenceSession(str(path)).run(None, {INPUT_NAME: image.numpy()})
    for e, a in zip(expected, actual, strict=True):
        np.testing.assert_allclose(e.detach().numpy(), a, rtol=1e-4, atol=1e-5)


def test_an_export_is_static_in_fp32_and_of_the_opset_named(tmp_path: Path) -> None:
    model = onnx.load(exported(tmp_path, Dict()))
    (value,) = model.graph.input
    assert [d.dim_value for d in value.type.tensor_type.shape.dim] == [1, 3, 8, 8]
    assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert model.opset_import[0].version == OPSET


def test_an_export_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exported(tmp_path, Dict())
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


class NoSymbol(torch.nn.Module):
    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        return torch.special.bessel_j0(image)


def test_an_operator_that_onnx_lacks_is_an_export_failure_with_its_cause(tmp_path: Path) -> None:
    with pytest.raises(VitprofError, match="bessel_j0") as caught:
        exported(tmp_path, NoSymbol())
    assert caught.value.stage == "export"
    assert "\n" not in caught.value.message
    assert "doctor" in caught.value.remedy


def test_a_failed_export_prints_nothing_either(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(VitprofError):
        exported(tmp_path, NoSymbol())
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


class Attention(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        tokens = image[:, 0]
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


def test_torchs_own_attention_module_exports(tmp_path: Path) -> None:
    module = Attention().eval().requires_grad_(False)
    path = exported(tmp_path, module)
    image = torch.randn(1, 3, 8, 8)
    (actual,) = onnxruntime.InferenceSession(str(path)).run(None, {INPUT_NAME: image.numpy()})
    np.testing.assert_allclose(module(image).numpy(), actual, rtol=1e-4, atol=1e-5)


class Big(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(600_000_000, device="meta"))


def test_weights_that_no_onnx_file_can_hold_are_refused_before_exporting(tmp_path: Path) -> None:
    with pytest.raises(VitprofError, match=r"2\.4 GB"):
        exported(tmp_path, Big())


def test_a_folder_that_cannot_be_written_is_the_callers_to_explain(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(OSError, match=r"model\.onnx"):
        exported(tmp_path, Dict())


def test_only_weights_that_inference_reaches_are_asked_for() -> None:
    weights = reached_weights(Dict().eval(), torch.zeros(1, 3, 8, 8))
    assert weights == (Weight("conv", 3 * 8 * 9), Weight("head", 40))


class Bypassed(torch.nn.Module):
    """An empty Sequential (ghost nets have some) is falsy; two weights are equal (ConViT starts with identities)."""

    def __init__(self) -> None:
        super().__init__()
        self.shortcut = torch.nn.Sequential()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(3)))
        for layer in self.layers[:2]:
            torch.nn.init.eye_(layer.weight)

    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        return self.layers(image) + self.shortcut(image)


def test_equal_weights_are_asked_for_once_and_empty_parts_do_no_harm(tmp_path: Path) -> None:
    module = Bypassed().eval()
    weights = reached_weights(module, torch.zeros(1, 3, 8, 8))
    assert [weight.module for weight in weights] == ["layers.0", "layers.2"]
    assert folded_weights(weights, exported(tmp_path, module)) == ()


def test_an_export_holds_all_its_weights(tmp_path: Path) -> None:
    module = Dict().eval()
    path = exported(tmp_path, module)
    assert folded_weights(reached_weights(module, torch.zeros(1, 3, 8, 8)), path) == ()


def resnet_with_a_convolution_folded_away(tmp_path: Path) -> tuple[tuple[Weight, ...], Path]:
    """What a compiler makes of a residual block whose last norm scale is zero: its 36,864 weights are gone."""
    import torchvision

    module = torchvision.models.resnet18(weights=None).eval()
    path = tmp_path / "model.onnx"
    export_onnx(module, (1, 3, 64, 64), path)
    weights = reached_weights(module, torch.zeros(1, 3, 64, 64))
    assert folded_weights(weights, path) == ()
    model = onnx.load(path)
    gone = next(t for t in model.graph.initializer if list(t.dims) == [64, 64, 3, 3])
    model.graph.initializer.remove(gone)
    onnx.save(model, path)
    return weights, path


def test_a_convolution_that_was_folded_away_is_found_by_its_missing_weights(tmp_path: Path) -> None:
    from vitprof.models.torchvision_compat import import_torchvision

    import_torchvision()
    weights, path = resnet_with_a_convolution_folded_away(tmp_path)
    (folded,) = folded_weights(weights, path)
    assert folded.values == 64 * 64 * 3 * 3
    assert text_from_folded((folded,)) == f"weights folded away: {folded.module} (36,864 values)"


def test_many_folded_weights_are_told_by_three_names_and_their_number() -> None:
    text = text_from_folded(tuple(Weight(f"layer{i}", 20) for i in range(5)))
    assert text == "weights folded away: layer0 (20 values), layer1 (20 values), layer2 (20 values), … (5 in all)"
