"""Output shapes of ONNX Runtime's own operators, and of the few of ONNX that its shape inference leaves open.

Its own file because onnx knows no schema of `com.microsoft`; ONNX Runtime's docs/ContribOperators.md defines them.
Each function takes the attributes and the shapes of the inputs and returns the shape of the first output; an operand of
unknown shape makes it raise TypeError or IndexError, which the walk takes for "not known".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vitprof.cost.formulas import Shape, broadcast

Shapes = Sequence[Shape | None]
ShapeRule = Callable[[Mapping[str, Any], Shapes], Shape]


def of(shapes: Shapes, position: int) -> Shape:
    """The shape at `position`; TypeError where it is not known or the input is left out."""
    shape = shapes[position]
    if shape is None:
        raise TypeError(f"the shape of input {position} is not known")
    return shape


def same(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
    return of(shapes, 0)


def broadcast_of(*positions: int) -> ShapeRule:
    return lambda attributes, shapes: broadcast(*(of(shapes, position) for position in positions))


def matmul(a: int, b: int) -> ShapeRule:
    def shape(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
        left, right = operands(attributes, of(shapes, a), of(shapes, b))
        return (*broadcast(left[:-2], right[:-2]), left[-2], right[-1])

    return shape


def operands(attributes: Mapping[str, Any], a: Shape, b: Shape) -> tuple[Shape, Shape]:
    """The two shapes as `matmul` takes them, from what FusedMatMul and Gemm are told to transpose."""
    return (
        _turned(a, attributes.get("transA", 0), attributes.get("transBatchA", 0)),
        _turned(b, attributes.get("transB", 0), attributes.get("transBatchB", 0)),
    )


def _turned(shape: Shape, is_transposed: int, is_batch_transposed: int) -> Shape:
    if is_batch_transposed:
        shape = (*shape[1:-1], shape[0], shape[-1])
    return (*shape[:-2], shape[-1], shape[-2]) if is_transposed else shape


def matmul_of_n(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
    """MatMulNBits keeps the shape of its packed weights in attributes."""
    return (*of(shapes, 0)[:-1], attributes["N"])


def conv(image: int, weight: int) -> ShapeRule:
    """(N, C, *space), also in blocks of channels: ONNX Runtime keeps those under the plain shape."""

    def shape(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
        batch, _, *space = of(shapes, image)
        cout, _, *kernel = of(shapes, weight)
        return (batch, cout, *_swept(attributes, space, kernel))

    return shape


def nhwc_conv(image: int, weight: int) -> ShapeRule:
    def shape(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
        batch, *space, _ = of(shapes, image)
        cout, _, *kernel = of(shapes, weight)
        return (batch, *_swept(attributes, space, kernel), cout)

    return shape


def qlinear_conv(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
    return (nhwc_conv if attributes.get("channels_last") else conv)(0, 3)(attributes, shapes)


def pool(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
    shape = of(shapes, 0)
    if attributes.get("channels_last"):
        return (shape[0], *_swept(attributes, shape[1:-1], attributes["kernel_shape"]), shape[-1])
    return (*shape[:2], *_swept(attributes, shape[2:], attributes["kernel_shape"]))


def global_pool(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
    shape = of(shapes, 0)
    ones = (1,) * (len(shape) - 2)
    return (shape[0], *ones, shape[-1]) if attributes.get("channels_last") else (*shape[:2], *ones)


def _swept(attributes: Mapping[str, Any], space: Sequence[int], kernel: Sequence[int]) -> Shape:
    """Positions of a window over `space`."""
    axes = len(space)
    strides = attributes.get("strides") or [1] * axes
    if str(attributes.get("auto_pad", "NOTSET")).startswith("SAME"):
        return tuple(-(-size // stride) for size, stride in zip(space, strides, strict=True))
    pads = attributes.get("pads") or [0] * (2 * axes)
    dilations = attributes.get("dilations") or [1] * axes
    free = [
        space[i] + pads[i] + pads[i + axes] - dilations[i] * (kernel[i] - 1) - 1 + (strides[i] - 1) * _ceils(attributes)
        for i in range(axes)
    ]
    return tuple(left // stride + 1 for left, stride in zip(free, strides, strict=True))


def _ceils(attributes: Mapping[str, Any]) -> int:
    return int(attributes.get("ceil_mode", 0))


def attention(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
    """Attention and QAttention: (B, L, hidden) by weights (hidden, q + k + v), answers (B, L, v)."""
    batch, length, _ = of(shapes, 0)
    return (batch, length, value_width(attributes, of(shapes, 1)))


def value_width(attributes: Mapping[str, Any], weight: Shape) -> int:
    """How many columns of the weights make the values; a third, where nothing else is said."""
    widths = attributes.get("qkv_hidden_sizes")
    return int(widths[2]) if widths else weight[1] // 3


def multi_head_attention(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
    query = of(shapes, 0)
    if len(query) == 5:
        # (B, L, heads, 3, width): all three in one.
        return (query[0], query[1], query[2] * query[4])
    if len(shapes) > 2 and shapes[2] is not None:
        value = of(shapes, 2)
        return (*query[:2], value[1] * value[3] if len(value) == 4 else value[-1])
    return query


def packed_attention(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
    query = of(shapes, 0)
    if len(query) == 4:
        return (query[0], query[1] * query[3])
    return (query[0], of(shapes, 2)[-1])


def grouped_query_attention(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
    query = of(shapes, 0)
    if len(shapes) > 1 and shapes[1] is not None:
        return query
    heads, shared = attributes["num_heads"], attributes["kv_num_heads"]
    return (*query[:2], query[2] * heads // (heads + 2 * shared))


def embedded(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
    return (*of(shapes, 0), of(shapes, 2)[-1])


def concatenated(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
    """QLinearConcat: the output's scale and zero point, then three inputs for each part."""
    parts = [of(shapes, position) for position in range(2, len(shapes), 3)]
    axis = int(attributes["axis"]) % len(parts[0])
    return (*parts[0][:axis], sum(part[axis] for part in parts), *parts[0][axis + 1 :])


def halved(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
    """BiasSplitGelu gates one half of the channels with the other."""
    return (*of(shapes, 0)[:-1], of(shapes, 0)[-1] // 2)


def reordered(attributes: Mapping[str, Any], shapes: Shapes) -> Shape:
    """ReorderOutput cuts the channels that were added to fill a block."""
    shape = of(shapes, 0)
    batch, channels, *space = shape
    channels = int(attributes.get("channels", channels))
    return (batch, *space, channels) if attributes.get("channels_last") else (batch, channels, *space)


def _microsoft() -> dict[str, ShapeRule]:
    plain = (
        "BiasAdd", "BiasGelu", "BiasSoftmax", "DequantizeLinear", "FastGelu", "Gelu", "GroupNorm", "QLinearLeakyRelu",
        "QLinearSigmoid", "QLinearSoftmax", "QuantizeLinear", "QuickGelu", "SkipGroupNorm", "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    )  # fmt: skip
    return {
        **dict.fromkeys(plain, same),
        "Attention": attention,
        "BiasSplitGelu": halved,
        "DynamicQuantizeMatMul": matmul(0, 1),
        "EmbedLayerNormalization": embedded,
        "FusedConv": conv(0, 1),
        "FusedGemm": matmul(0, 1),
        "FusedMatMul": matmul(0, 1),
        "GroupQueryAttention": grouped_query_attention,
        "MatMulInteger16": matmul(0, 1),
        "MatMulIntegerToFloat": matmul(0, 1),
        "MatMulNBits": matmul_of_n,
        "MultiHeadAttention": multi_head_attention,
        "NhwcFusedConv": nhwc_conv(0, 1),
        "NhwcMaxPool": lambda attributes, shapes: pool({**attributes, "channels_last": 1}, shapes),
        "PackedMultiHeadAttention": packed_attention,
        "QAttention": attention,
        "QGemm": matmul(0, 3),
        "QLinearAdd": broadcast_of(0, 3),
        "QLinearAveragePool": pool,
        "QLinearConcat": concatenated,
        "QLinearConv": qlinear_conv,
        "QLinearGlobalAveragePool": global_pool,
        "QLinearMul": broadcast_of(0, 3),
        "TransposeMatMul": matmul(0, 1),
    }


# The output that holds the sum with the residual, of the shape of the first; the rest are statistics and caches.
SUM_OUTPUTS = {
    "com.microsoft.SkipGroupNorm": 1,
    "com.microsoft.SkipLayerNormalization": 3,
    "com.microsoft.SkipSimplifiedLayerNormalization": 3,
}
CONTRIB_SHAPES: dict[str, ShapeRule] = {
    # Functions of ONNX without inference of their own, in the opsets that have them.
    **dict.fromkeys(("GroupNormalization", "SimplifiedLayerNormalization", "MeanVarianceNormalization"), same),
    **{f"com.microsoft.{op}": rule for op, rule in _microsoft().items()},
    # Channels in blocks of 8 or 16; the shapes are those of (N, C, H, W) with C filled up.
    "com.microsoft.nchwc.Conv": conv(0, 1),
    "com.microsoft.nchwc.MaxPool": pool,
    "com.microsoft.nchwc.AveragePool": pool,
    "com.microsoft.nchwc.GlobalMaxPool": global_pool,
    "com.microsoft.nchwc.GlobalAveragePool": global_pool,
    "com.microsoft.nchwc.ReorderInput": same,
    "com.microsoft.nchwc.ReorderOutput": reordered,
    "com.ms.internal.nhwc.Conv": nhwc_conv(0, 1),
}
