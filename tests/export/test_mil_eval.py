"""Programs as coremltools converts and saves them, held against the torch modules that they come from."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from vitprof.errors import VitprofError
from vitprof.export.mil_eval import UnknownOperator, evaluate, evaluate_function
from vitprof.export.quiet import silenced

with silenced():
    ct = pytest.importorskip("coremltools", reason="it makes the packages that are read here")
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types


def converted(module: nn.Module, image: torch.Tensor, path: Path, precision: str = "fp32") -> Path:
    """The module traced, converted and saved."""
    saved = path / f"model_{precision}.mlpackage"
    with silenced(), torch.no_grad():
        model = ct.convert(
            torch.jit.trace(module.eval(), image),
            inputs=[ct.TensorType(name="image", shape=image.shape)],
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT16 if precision == "fp16" else ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        )
        model.save(str(saved))
    return saved


def relative_errors(module: nn.Module, image: torch.Tensor, package: Path) -> list[float]:
    """max|d| / max|y| of each output of the package against the module's."""
    with torch.no_grad():
        expected = module(image)
    outputs = list(evaluate(package, {"image": image.numpy()}).values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert [tuple(output.shape) for output in outputs] == [tuple(one.shape) for one in expected]
    return [
        float(abs(output - one.numpy()).max() / one.abs().max()) for output, one in zip(outputs, expected, strict=True)
    ]


class Convolutions(nn.Module):
    """What convolutional nets are made of; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise = nn.Conv2d(8, 16, 5, padding=4, dilation=2, groups=8)
        self.norm = nn.GroupNorm(4, 16)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Hardsigmoid())
        self.up = nn.ConvTranspose2d(16, 12, 3, 2, 1, output_padding=1)
        self.act = nn.PReLU(12)
        self.head = nn.Linear(12, 5)
        torch.manual_seed(1)
        for part in (self.stem[1], self.norm):
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.uniform_(part.bias, -1, 1)
        self.stem[1].running_mean.uniform_(-1, 1)
        self.stem[1].running_var.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.norm(functional.hardswish(self.depthwise(self.stem(x))))
        x = x * self.squeeze(x)
        pooled = functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False) + functional.max_pool2d(x, 3, 2, 1)
        pooled = functional.avg_pool2d(pooled, 2, 2, ceil_mode=True)
        x = functional.interpolate(pooled, size=x.shape[-2:], mode="bilinear", align_corners=False) + x
        x = functional.interpolate(pooled, scale_factor=2, mode="nearest").mean() + functional.elu(x)
        x = self.act(functional.pad(self.up(x), (1, 2, 3, 0), mode="reflect"))
        return self.head(x.amax((2, 3))), functional.pixel_shuffle(x, 2)


class Attention(nn.Module):
    """What transformers are made of, with the windows and shifts of Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 24, 4, 4)
        self.cls = nn.Parameter(torch.randn(1, 1, 24))
        self.norm = nn.LayerNorm(24)
        self.qkv = nn.Linear(24, 72)
        self.mlp = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 48), nn.GELU("tanh"), nn.Linear(48, 24))
        self.bias = nn.Parameter(torch.randn(7, 3))
        self.register_buffer("index", torch.randint(0, 7, (4, 4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        x = x + self.windows(torch.roll(self.norm(x), (-1, -1), (1, 2)))
        x = torch.cat((self.cls.expand(x.shape[0], -1, -1), x.flatten(1, 2)), 1)
        q, k, v = self.qkv(self.norm(x)).reshape(x.shape[0], -1, 3, 4, 6).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.mlp(functional.normalize(x, dim=-1))
        first, rest = x[:, 0], x[:, 1::2]
        return torch.einsum("bnc,bc->bn", rest, first) + functional.silu(rest).std(-1)

    def windows(self, x: torch.Tensor) -> torch.Tensor:
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        q, k, v = self.qkv(x).reshape(-1, 4, 3, 3, 8).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * 8**-0.5) @ k.transpose(-2, -1) + self.bias[self.index].permute(2, 0, 1)
        x = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, h // 2, w // 2, 2, 2, c)
        return torch.roll(x.permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c), (1, 1), (1, 2))


@pytest.mark.parametrize("kind", [Convolutions, Attention])
def test_a_converted_module_gives_what_the_module_gives(kind: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, image = kind(), torch.randn(2, 3, 32, 32)
    for precision, limit in (("fp32", 1e-5), ("fp16", 1e-2)):
        errors = relative_errors(module, image, converted(module, image, tmp_path, precision))
        assert max(errors) < limit
        # fp16 that shows no rounding was not computed in fp16.
        assert precision == "fp32" or max(errors) > 1e-5


def test_a_changed_weight_changes_the_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, image = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(16 * 36, 4)), torch.randn(1, 3, 8, 8)
    package = converted(module, image, tmp_path)
    assert relative_errors(module, image, package) == [pytest.approx(0, abs=1e-5)]
    module[0].weight.data[0] *= 1.01
    assert relative_errors(module, image, package)[0] > 1e-4


def test_weights_in_eight_bits_are_what_they_stand_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, image = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)), torch.randn(3, 64)
    plain = converted(module, image, tmp_path)
    saved = tmp_path / "small.mlpackage"
    with silenced():
        from coremltools.optimize.coreml import OpLinearQuantizerConfig, OptimizationConfig, linear_quantize_weights

        config = OptimizationConfig(global_config=OpLinearQuantizerConfig(weight_threshold=0))
        linear_quantize_weights(ct.models.MLModel(str(plain), skip_model_load=True), config).save(str(saved))
    (error,) = relative_errors(module, image, saved)
    # Half a step of 127 for each weight; nothing at all would mean that they were not quantised.
    assert 1e-4 < error < 2e-2


def program(*specs: Any, body: Any) -> Any:
    """The main function of a MIL program built in memory."""
    return mb.program(input_specs=list(specs), opset_version=ct.target.iOS16)(body).functions["main"]


def test_values_are_rounded_to_fp16_where_the_program_stores_fp16() -> None:
    # Near 1 the values of fp16 are 2^-10 apart: a quarter of that is lost. 300 * 300 is past its largest, 65,504.
    given = {"x": np.array([1.0, 300.0], np.float32)}

    def sums(dtype: Any, kind: Any) -> Any:
        def body(x: Any) -> Any:
            return mb.add(x=mb.mul(x=x, y=x), y=np.array([2**-12, 0], kind))

        (made,) = evaluate_function(program(mb.TensorSpec((2,), dtype), body=body), given).values()
        assert made.dtype == kind
        return made.tolist()

    assert sums(types.fp32, np.float32) == [1 + 2**-12, 90000]
    assert sums(types.fp16, np.float16) == [1, np.inf]


def test_an_input_of_fp16_is_rounded() -> None:
    main = program(mb.TensorSpec((1,), types.fp16), body=lambda x: mb.cast(x=x, dtype="fp32"))
    (out,) = evaluate_function(main, {"x": np.array([0.1], np.float32)}).values()
    assert out[0] == np.float32(np.float16(0.1)) != np.float32(0.1)


def test_an_output_may_be_an_input_or_a_constant() -> None:
    main = program(mb.TensorSpec((2,)), body=lambda x: (mb.identity(x=x), mb.const(val=np.int32(3))))
    same, three = evaluate_function(main, {"x": np.array([1, 2], np.float32)}).values()
    assert (same.tolist(), three.tolist(), three.dtype) == ([1, 2], 3, np.int32)


def test_an_operator_without_a_function_is_named() -> None:
    def body(x: Any) -> Any:
        return mb.topk(x=mb.non_zero(x=x), k=1, axis=0)

    with pytest.raises(UnknownOperator, match=r"no reference for MIL operators: non_zero, topk$") as caught:
        evaluate_function(program(mb.TensorSpec((2,)), body=body), {})
    assert "on a Mac" in caught.value.remedy
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), UnknownOperator)  # noqa: S301


def test_a_branch_is_not_followed() -> None:
    def body(x: Any) -> Any:
        positive = mb.greater(x=mb.reduce_sum(x=x), y=np.float32(0))
        return mb.cond(pred=positive, _true_fn=lambda: mb.relu(x=x), _false_fn=lambda: mb.tanh(x=x))

    with pytest.raises(UnknownOperator, match=r"operators: cond$"):
        evaluate_function(program(mb.TensorSpec((2,)), body=body), {})


def test_an_operator_used_in_a_way_that_its_function_does_not_know_is_named() -> None:
    def body(x: Any) -> Any:
        sizes = {"shape": [2, 2], "resized_dims": np.uint32(2), "interpolation_mode": "NEAREST_NEIGHBOR"}
        return mb.resize(x=x, **sizes, sampling_mode="OFFSET_CORNERS", name="grown")

    main = mb.program(input_specs=[mb.TensorSpec((1, 1, 1, 1))], opset_version=ct.target.iOS17)(body).functions["main"]
    with pytest.raises(VitprofError, match="MIL's resize fails at 'grown': NEAREST_NEIGHBOR with sampling mode"):
        evaluate_function(main, {"x": np.zeros((1, 1, 1, 1), np.float32)})


@pytest.mark.parametrize("given", [{}, {"x": np.zeros((3,), np.float32)}])
def test_an_input_must_be_there_and_fit(given: dict[str, Any]) -> None:
    with pytest.raises(VitprofError, match=r"input 'x' of the program is \(2,\), given was") as caught:
        evaluate_function(program(mb.TensorSpec((2,)), body=lambda x: mb.relu(x=x)), given)
    assert caught.value.stage == "parity"


def test_a_package_that_is_none_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "broken.mlpackage").mkdir()
    with pytest.raises(VitprofError, match=r"cannot read broken\.mlpackage back") as caught:
        evaluate(tmp_path / "broken.mlpackage", {})
    assert "export the model again" in caught.value.remedy


def test_an_image_is_given_as_the_values_of_its_pixels(tmp_path: Path) -> None:
    saved = tmp_path / "image.mlpackage"
    with silenced():
        model = ct.convert(
            torch.jit.trace(nn.ReLU(), torch.zeros(1, 3, 4, 4)),
            inputs=[ct.ImageType(name="image", shape=(1, 3, 4, 4), scale=1 / 127.5, bias=[-1.0, -0.5, 0.0])],
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        )
        model.save(str(saved))
    (out,) = evaluate(saved, {"image": np.full((1, 3, 4, 4), 255, np.float32)}).values()
    # 255 / 127.5 = 2, and the bias of each channel.
    assert out[0, :, 0, 0].tolist() == pytest.approx([1, 1.5, 2])
