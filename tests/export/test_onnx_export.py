from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from vitprof.errors import VitprofError  # noqa: E402
from vitprof.export import onnx_export  # noqa: E402
from vitprof.export.onnx_export import DEFAULT_ORDER, INPUT_NAME, OPSETS, export_onnx  # noqa: E402
from vitprof.export.weights import (  # noqa: E402
    Weight,
    folded_weights,
    reached_weights,
    text_from_folded,
)
from vitprof.records import Exporter  # noqa: E402
from vitprof.runner.tensors import flat_tensors  # noqa: E402


class Plain(torch.nn.Module):
    """Two outputs in a dict, one inside a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.head = torch.nn.Linear(8, 5)
        self.unused = torch.nn.Linear(8, 50)

    def forward(self, image: "torch.Tensor") -> dict[str, object]:
        features = self.conv(image)
        return {"out": self.head(features.mean((2, 3))), "aux": (features, None)}


def exported(tmp_path: Path, module: "torch.nn.Module", exporter: Exporter | None = None) -> Path:
    path = tmp_path / "model.onnx"
    export_onnx(module.eval(), (1, 3, 8, 8), path, exporter)
    return path


def test_outputs_of_any_shape_come_as_a_row_of_tensors() -> None:
    a, b, c = (torch.zeros(i) for i in (1, 2, 3))
    assert [t.numel() for t in flat_tensors({"x": a, "y": [b, None, (c, "text")]})] == [1, 2, 3]


@pytest.mark.parametrize("exporter", Exporter)
def test_an_export_computes_what_the_module_does(tmp_path: Path, exporter: Exporter) -> None:
    module = Plain().eval()
    path = exported(tmp_path, module, exporter)
    image = torch.randn(1, 3, 8, 8)
    expected = flat_tensors(module(image))
    actual = onnxruntime.InferenceSession(str(path)).run(None, {INPUT_NAME: image.numpy()})
    for e, a in zip(expected, actual, strict=True):
        np.testing.assert_allclose(e.detach().numpy(), a, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exporter", Exporter)
def test_an_export_is_static_in_fp32_and_of_the_opset_named(tmp_path: Path, exporter: Exporter) -> None:
    model = onnx.load(exported(tmp_path, Plain(), exporter))
    (value,) = model.graph.input
    assert [d.dim_value for d in value.type.tensor_type.shape.dim] == [1, 3, 8, 8]
    assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert model.opset_import[0].version == OPSETS[exporter]


def test_an_export_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exported(tmp_path, Branch())
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


class Branch(Plain):
    """A branch on a value: torch.export refuses it, the tracer follows the image at hand."""

    def forward(self, image: "torch.Tensor") -> dict[str, object]:
        return super().forward(image * 2 if image.mean() > 1e9 else image)


class FiveAxes(torch.nn.Module):
    """Attention over five axes, as Hiera's: the fused operator has no such form in dynamo's ONNX."""

    def __init__(self) -> None:
        super().__init__()
        self.fused_attn = True

    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        q = image[:, None]
        if self.fused_attn:
            return torch.nn.functional.scaled_dot_product_attention(q, q, q)
        return (q @ q.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ q


def test_the_other_exporter_stands_in_and_the_record_says_why(tmp_path: Path) -> None:
    export = export_onnx(Branch().eval(), (1, 3, 8, 8), tmp_path / "model.onnx")
    assert "TorchScript" in export.exporter
    told = " ".join(export.fixups)
    assert ("dynamo exporter failed" in told) == (DEFAULT_ORDER[0] is Exporter.DYNAMO)


def test_an_exporter_that_was_asked_for_has_no_stand_in(tmp_path: Path) -> None:
    with pytest.raises(VitprofError, match="dynamo exporter failed") as caught:
        exported(tmp_path, Branch(), Exporter.DYNAMO)
    assert "leave out --exporter" in caught.value.remedy


def test_attention_is_taken_apart_where_its_fused_form_does_not_export(tmp_path: Path) -> None:
    module = FiveAxes().eval()
    export = export_onnx(module, (1, 3, 8, 8), tmp_path / "model.onnx", Exporter.DYNAMO)
    assert "attention exported in its parts" in export.fixups
    assert module.fused_attn
    image = torch.randn(1, 3, 8, 8)
    (actual,) = onnxruntime.InferenceSession(str(tmp_path / "model.onnx")).run(None, {INPUT_NAME: image.numpy()})
    np.testing.assert_allclose(module(image).numpy(), actual, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exporter", Exporter)
def test_weights_too_large_for_one_file_lie_beside_it(
    tmp_path: Path, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "MAX_WEIGHT_BYTES", 100)
    if exporter is Exporter.TORCHSCRIPT:
        with pytest.raises(VitprofError, match="this exporter's one file holds"):
            exported(tmp_path, Plain(), exporter)
        return
    path = exported(tmp_path, Plain())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert path.stat().st_size < 100_000
    module = Plain().eval()
    session = onnxruntime.InferenceSession(str(path))
    assert [o.shape for o in session.get_outputs()] == [
        list(t.shape) for t in flat_tensors(module(torch.zeros(1, 3, 8, 8)))
    ]


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


def test_a_folder_that_cannot_be_written_is_the_callers_to_explain(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(OSError, match=r"model\.onnx"):
        exported(tmp_path, Branch())


def test_only_weights_that_inference_reaches_are_asked_for() -> None:
    weights = reached_weights(Plain().eval(), torch.zeros(1, 3, 8, 8))
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
    module = Plain().eval()
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
    from vitprof.runner.torchvision_compat import import_torchvision

    import_torchvision()
    weights, path = resnet_with_a_convolution_folded_away(tmp_path)
    (folded,) = folded_weights(weights, path)
    assert folded.values == 64 * 64 * 3 * 3
    assert text_from_folded((folded,)) == f"weights folded away: {folded.module} (36,864 values)"


def test_many_folded_weights_are_told_by_three_names_and_their_number() -> None:
    text = text_from_folded(tuple(Weight(f"layer{i}", 20) for i in range(5)))
    assert text == "weights folded away: layer0 (20 values), layer1 (20 values), layer2 (20 values), … (5 in all)"
