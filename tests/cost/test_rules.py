"""Each rule's sum by hand, on modules small enough to see through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

from vitprof.cost.count import count  # noqa: E402
from vitprof.cost.rules import RULES, Call, Role, is_compute_like, rule_name  # noqa: E402
from vitprof.counts import Cost, Kind, Ledgers  # noqa: E402


class Of(torch.nn.Module):
    """A function of the image, with parameters that it may use."""

    def __init__(self, function: Callable[..., Any], *parameters: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        self.held = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(shape)) for shape in parameters)

    def forward(self, image: torch.Tensor) -> Any:
        return self.function(image, *self.held)


def cost_of(function: Callable[..., Any], shape: tuple[int, ...], *parameters: tuple[int, ...]) -> Cost:
    return count(Of(function, *parameters).eval(), shape)


def macs_by_kind(cost: Cost) -> dict[Kind, int]:
    return {row.kind: sum(one.macs for one in cost.rows if one.kind is row.kind) for row in cost.rows if row.macs}


IMAGE = (1, 4, 6, 6)


@pytest.mark.parametrize(
    ("function", "weight", "kind", "macs"),
    [
        # 6x6 positions, 8 outputs of 3x3 over 4 channels.
        (lambda x, w: functional.conv2d(x, w, padding=1), (8, 4, 3, 3), Kind.CONV, 36 * 8 * 9 * 4),
        # Stride 2: 3x3 positions.
        (lambda x, w: functional.conv2d(x, w, padding=1, stride=2), (8, 4, 3, 3), Kind.CONV, 9 * 8 * 9 * 4),
        # Two groups: each output sees 2 of the 4 channels.
        (lambda x, w: functional.conv2d(x, w, padding=1, groups=2), (8, 2, 3, 3), Kind.CONV, 36 * 8 * 9 * 2),
        # As many groups as channels: each output sees one.
        (lambda x, w: functional.conv2d(x, w, padding=1, groups=4), (4, 1, 3, 3), Kind.DEPTHWISE_CONV, 36 * 4 * 9),
        (functional.conv2d, (8, 4, 1, 1), Kind.POINTWISE_CONV, 36 * 8 * 4),
        # Each of the 36 inputs is spread by 2x2 to 5 outputs from each of 4 channels.
        (lambda x, w: functional.conv_transpose2d(x, w, stride=2), (4, 5, 2, 2), Kind.CONV, 36 * 4 * 5 * 4),
        # Two groups: 2 channels to 3 outputs each.
        (lambda x, w: functional.conv_transpose2d(x, w, stride=2, groups=2), (4, 3, 2, 2), Kind.CONV, 36 * 4 * 3 * 4),
        (lambda x, w: functional.conv1d(x.flatten(2), w), (8, 4, 1), Kind.POINTWISE_CONV, 36 * 8 * 4),
        # 36 tokens of 4 to 7.
        (lambda x, w: functional.linear(x.flatten(2).mT, w), (7, 4), Kind.LINEAR, 36 * 4 * 7),
        (lambda x, w: x.flatten(2).mT @ w, (4, 7), Kind.LINEAR, 36 * 4 * 7),
        (lambda x, w: torch.einsum("bchw,oc->bohw", x, w), (7, 4), Kind.LINEAR, 36 * 4 * 7),
        # A matrix by a vector.
        (lambda x, w: torch.mv(x.flatten(2)[0].mT, w), (4,), Kind.LINEAR, 36 * 4),
        (lambda x, w: torch.dot(x.flatten(), w), (144,), Kind.LINEAR, 144),
    ],
)
def test_products_with_a_parameter(
    function: Callable[..., Any], weight: tuple[int, ...], kind: Kind, macs: int
) -> None:
    cost = cost_of(function, IMAGE, weight)
    assert macs_by_kind(cost) == {kind: macs}
    assert cost.macs == macs
    assert cost.uncounted_ops == {}


def tokens(image: torch.Tensor) -> torch.Tensor:
    """(1, 36, 4)"""
    return image.flatten(2).mT


@pytest.mark.parametrize(
    ("function", "macs"),
    [
        # Scores 36 x 36 over 4, values 36 x 4 over 36.
        (lambda x: functional.scaled_dot_product_attention(*[tokens(x)[None]] * 3), 2 * 36 * 36 * 4),
        # 5-D: (1, 1, 2 heads, 36 tokens, 2).
        (
            lambda x: functional.scaled_dot_product_attention(
                *[tokens(x).unflatten(2, (2, 2)).transpose(1, 2)[None]] * 3
            ),
            2 * 2 * 36 * 36 * 2,
        ),
        (lambda x: tokens(x) @ tokens(x).mT, 36 * 36 * 4),
        (lambda x: torch.einsum("bnc,bmc->bnm", tokens(x), tokens(x)), 36 * 36 * 4),
        # Over channels, as XCiT does: 4 x 4 over 36.
        (lambda x: torch.einsum("bnc,bnd->bcd", tokens(x), tokens(x)), 4 * 4 * 36),
    ],
)
def test_products_of_what_depends_on_the_image_are_attention(function: Callable[..., Any], macs: int) -> None:
    assert macs_by_kind(cost_of(function, IMAGE)) == {Kind.ATTENTION: macs}


class OnTokens(torch.nn.Module):
    """A module of torch's own on the image's 36 positions as tokens of 8."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image: torch.Tensor) -> Any:
        both = torch.cat([image, image], dim=1).flatten(2).mT
        if isinstance(self.inner, torch.nn.MultiheadAttention):
            return self.inner(both, both, both, need_weights=False)[0]
        return self.inner(both)


def test_multi_head_attention_in_eval_is_counted_whole() -> None:
    module = OnTokens(torch.nn.MultiheadAttention(8, 2, batch_first=True))
    # Query, key, value and output 8x8 a token; scores and values 36x36x8 over both heads.
    assert count(module.eval(), IMAGE).macs == 36 * 4 * 64 + 2 * 36 * 36 * 8


def test_an_encoder_layer_in_eval_is_counted_whole() -> None:
    module = OnTokens(torch.nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True))
    assert count(module.eval(), IMAGE).macs == 36 * 4 * 64 + 2 * 36 * 36 * 8 + 36 * 2 * 8 * 16
    # The short cut of evaluation is open again.
    assert torch.backends.mha.get_fastpath_enabled()


def test_flex_attention_is_counted_where_it_can_run() -> None:
    from torch.nn.attention import flex_attention as module

    def attended(image: torch.Tensor) -> Any:
        both = tokens(image)[None].contiguous()
        return module.flex_attention(both, both, both)

    # Not on shapes alone: torch refuses it on the meta device. One head of 36 tokens of 4.
    assert macs_by_kind(cost_of(attended, IMAGE)) == {Kind.ATTENTION: 2 * 36 * 36 * 4}
    assert module._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG is False


@pytest.mark.parametrize(
    ("name", "shapes", "macs"),
    [
        # Two heads of 36 tokens, 4 wide; keys of 9 tokens, values 5 wide: 2 x 36 x 9 x (4 + 5).
        (
            "_scaled_dot_product_flash_attention_for_cpu",
            {"query": (1, 2, 36, 4), "key": (1, 2, 9, 4), "value": (1, 2, 9, 5)},
            2 * 36 * 9 * 9,
        ),
        (
            "_scaled_dot_product_efficient_attention",
            {"query": (1, 2, 36, 4), "key": (1, 2, 36, 4), "value": (1, 2, 36, 4)},
            2 * 36 * 36 * 8,
        ),
        (
            "_native_multi_head_attention",
            {"query": (1, 36, 8), "key": (1, 36, 8), "value": (1, 36, 8), "embed_dim": 8},
            36 * 4 * 64 + 2 * 36 * 36 * 8,
        ),
        (
            "_transformer_encoder_layer_fwd",
            {"src": (1, 36, 8), "embed_dim": 8, "ffn_weight_1": (16, 8)},
            36 * 4 * 64 + 2 * 36 * 36 * 8 + 2 * 36 * 8 * 16,
        ),
    ],
)
def test_fused_attention_counts_as_its_parts(name: str, shapes: dict[str, Any], macs: int) -> None:
    """As a program may hold it; the counter itself takes attention apart."""
    arguments = {key: torch.zeros(value) if isinstance(value, tuple) else value for key, value in shapes.items()}
    work = RULES[name](Call(arguments, (torch.zeros(1),), lambda _: Role.INPUT))
    assert (work.kind, work.macs) == (Kind.ATTENTION, macs)


@pytest.mark.parametrize(
    ("function", "parameters", "ledgers"),
    [
        (functional.gelu, (), Ledgers(elementwise=144, transcendental=144)),
        (lambda x: x + 1, (), Ledgers(elementwise=144)),
        (torch.exp, (), Ledgers(elementwise=144, transcendental=144)),
        (lambda x: x.softmax(1), (), Ledgers(elementwise=144, transcendental=144)),
        # 36 tokens normalised over 4 channels: one root each.
        (lambda x: functional.layer_norm(tokens(x), (4,)), (), Ledgers(norm=144, transcendental=36)),
        # 3x3 windows of 4 values, on 4 channels.
        (lambda x: functional.avg_pool2d(x, 2), (), Ledgers(pool=4 * 9 * 4)),
        (lambda x: functional.max_pool2d(x, 3, 1), (), Ledgers(pool=4 * 16 * 9)),
        (lambda x: x.mean((2, 3)), (), Ledgers(pool=144)),
        # 12x12 outputs on 4 channels, of 4 and of 16 values each; nearest weighs none.
        (lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"), (), Ledgers(resample=576 * 4)),
        (lambda x: functional.interpolate(x, scale_factor=2, mode="bicubic"), (), Ledgers(resample=576 * 16)),
        (lambda x: functional.interpolate(x, scale_factor=2), (), Ledgers()),
    ],
)
def test_what_is_not_a_product_has_ledgers_of_its_own(
    function: Callable[..., Any], parameters: tuple[tuple[int, ...], ...], ledgers: Ledgers
) -> None:
    cost = cost_of(function, IMAGE, *parameters)
    assert (cost.macs, cost.ledgers, cost.uncounted_ops) == (0, ledgers, {})


def test_a_batch_norm_reads_its_four_tensors() -> None:
    norm = torch.nn.BatchNorm2d(4)
    cost = count(norm.eval(), IMAGE)
    [row] = cost.rows
    assert (row.kind, row.bytes_in, row.bytes_out, row.weight_bytes) == (Kind.NORM, 4 * (144 + 16), 4 * 144, 64)
    assert cost.ledgers == Ledgers(norm=144, transcendental=4)


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        # A complex 8x8 transform on each of 3 channels: 5 x 64 x log2(64).
        (lambda x: torch.fft.fft2(x.to(torch.complex64)).abs(), 3 * 5 * 64 * 6),
        # A real one does half of it, there and back.
        (lambda x: torch.fft.rfft2(x).abs(), 3 * 5 * 64 * 6 // 2),
        (lambda x: torch.fft.irfft2(torch.fft.rfft2(x)), 3 * 5 * 64 * 6),
    ],
)
def test_transforms(function: Callable[..., Any], flops: int) -> None:
    cost = cost_of(function, (1, 3, 8, 8))
    assert (cost.ledgers.fft, cost.macs, cost.uncounted_ops) == (flops, 0, {})


def test_a_broadcast_value_is_read_once() -> None:
    cost = cost_of(lambda x, w: x * w.expand(1, 4, 6, 6), IMAGE, (1, 4, 1, 1))
    [row] = cost.rows
    assert (row.bytes_in, row.weight_bytes) == (4 * (144 + 4), 16)


def test_a_gather_reads_what_it_writes() -> None:
    cost = cost_of(lambda x, table: x.mean() + table[torch.tensor([0, 1, 1], device=x.device)], IMAGE, (1000, 2))
    [row] = [row for row in cost.rows if row.op == "index"]
    assert (row.kind, row.bytes_in, row.bytes_out) == (Kind.DATA_MOVEMENT, 24, 24)


def test_moved_weights_are_weights_still_and_computed_ones_are_not() -> None:
    moved = cost_of(lambda x, w: tokens(x) @ torch.cat([w, w], 1), IMAGE, (4, 3))
    computed = cost_of(lambda x, w: tokens(x) @ (w * 2), IMAGE, (4, 3))
    assert macs_by_kind(moved) == {Kind.LINEAR: 36 * 4 * 6}
    assert macs_by_kind(computed) == {Kind.OTHER_MATMUL: 36 * 4 * 3}


def test_what_is_written_into_a_slice_is_in_the_whole() -> None:
    def filled(image: torch.Tensor) -> torch.Tensor:
        whole = torch.zeros(1, 36, 8, device=image.device)
        whole[:, :, :4].copy_(tokens(image))
        return whole @ whole.mT

    cost = cost_of(filled, IMAGE)
    assert macs_by_kind(cost) == {Kind.ATTENTION: 36 * 36 * 8}
    assert {row.op for row in cost.rows if not row.depends_on_input} == {"zeros"}


@pytest.mark.parametrize(
    ("schema_name", "name"),
    [("aten::relu_", "relu"), ("aten::__or__", "__or__"), ("torchvision::nms", "torchvision::nms")],
)
def test_in_place_forms_have_the_rule_of_the_plain_one(schema_name: str, name: str) -> None:
    assert rule_name(schema_name) == name


@pytest.mark.parametrize(
    ("name", "is_like"),
    [
        ("_cdist_forward", True),
        ("mkldnn_rnn_layer", True),
        ("_weight_int8pack_mm", True),
        ("nms", False),
        ("roll", False),
    ],
)
def test_what_computes_by_its_nature_is_told_by_name(name: str, is_like: bool) -> None:
    assert is_compute_like(name) is is_like
