"""What ONNX Runtime's own operators do: those of `com.microsoft` and the layouts that its optimiser writes.

Its own file beside `onnx_rules` because these are one runtime's, and fuse several operators of ONNX into one; each has
the kind of its product. Operands are those of ONNX Runtime's docs/ContribOperators.md.
"""

from __future__ import annotations

from vitprof.cost.formulas import Shape, product
from vitprof.cost.onnx_contrib_shapes import value_width
from vitprof.cost.onnx_rules import (
    Rule,
    Work,
    attention_work,
    conv,
    matmul,
    moved,
    norm,
    of_kind,
    quantized,
    reduction,
    shape_in,
    shape_out,
    value_in,
    window_pool,
)
from vitprof.cost.onnx_shapes import Call
from vitprof.counts import Kind, Ledgers


def _projecting_attention(past: int) -> Rule:
    """Input (B, L, hidden) by weights (hidden, q + k + v), then attention; `past` (2, B, heads, P, E) goes before."""

    def rule(call: Call) -> Work:
        (batch, length, hidden), weight = shape_in(call, 0), shape_in(call, 1)
        heads = call.attributes["num_heads"]
        value = value_width(call.attributes, weight)
        width = (weight[1] - value) // 2
        sources = length + (shape_in(call, past)[3] if value_in(call, past) is not None else 0)
        return attention_work(
            (batch, heads, length, width // heads),
            (batch, heads, sources, width // heads),
            (batch, heads, sources, value // heads),
            linear_macs=batch * length * hidden * weight[1],
        )

    return rule


def _multi_head_attention(call: Call) -> Work:
    """Projected query, key and value, in one tensor, in two, or in three; past keys (B, heads, P, E) go before."""
    heads = call.attributes["num_heads"]
    query = shape_in(call, 0)
    if len(query) == 5:
        # (B, L, heads, 3, E)
        batch, length, _, _, width = query
        one = (batch, heads, length, width)
        return attention_work(one, one, one)
    batch, length, hidden = query
    width = hidden // heads
    key = shape_in(call, 1)
    # (B, S, heads, 2, E), (B, heads, S, E) or (B, S, heads * E)
    sources = key[2] if len(key) == 4 else key[1]
    past = shape_in(call, 6)[2] if value_in(call, 6) is not None else 0
    value_head = width if len(key) == 5 else _head_width(shape_in(call, 2), heads)
    return attention_work(
        (batch, heads, length, width), (batch, heads, sources + past, width), (batch, heads, sources + past, value_head)
    )


def _head_width(shape: Shape, heads: int) -> int:
    return shape[3] if len(shape) == 4 else shape[-1] // heads


def _packed_attention(call: Call) -> Work:
    """Tokens without padding (T, heads * E) or (T, heads, 3, E), counted as sequences of the full length.

    How long each sequence is stands in the values of `token_offset` (B, L); the shapes give the upper bound.
    """
    heads = call.attributes["num_heads"]
    query = shape_in(call, 0)
    batch, length = shape_in(call, 4)
    width = query[3] if len(query) == 4 else query[-1] // heads
    value = width if len(query) == 4 else shape_in(call, 2)[-1] // heads
    tokens = (batch, heads, length)
    return attention_work((*tokens, width), (*tokens, width), (*tokens, value))


def _grouped_query_attention(call: Call) -> Work:
    """Query (B, L, heads * E), or with its keys and values behind it; past keys (B, shared heads, P, E) go before."""
    heads, shared = call.attributes["num_heads"], call.attributes["kv_num_heads"]
    batch, length, hidden = shape_in(call, 0)
    width = hidden // (heads + 2 * shared if value_in(call, 1) is None else heads)
    past = shape_in(call, 3)[2] if value_in(call, 3) is not None else 0
    key = (batch, shared, length + past, width)
    return attention_work((batch, heads, length, width), key, key)


def _matmul_of_n(call: Call) -> Work:
    """MatMulNBits: the weight's shape is in attributes, its values in packed bytes."""
    rows = product(shape_in(call, 0)[:-1])
    return Work(Kind.LINEAR, rows * call.attributes["K"] * call.attributes["N"])


def _skip_norm(call: Call) -> Work:
    """The sum with the residual, then the norm."""
    values = product(shape_out(call))
    return Work(Kind.NORM, ledgers=Ledgers(elementwise=values, norm=values))


_FUSED_ACTIVATION = of_kind(Kind.ACTIVATION, elementwise=2, transcendental=1)

_MICROSOFT: dict[str, Rule] = {
    # Convolutions, with an activation or a sum in them.
    "FusedConv": conv(),
    "NhwcFusedConv": conv(),
    "QLinearConv": conv(0, 3),
    # Products.
    "FusedMatMul": matmul(),
    "TransposeMatMul": matmul(),
    "FusedGemm": matmul(),
    "MatMulInteger16": matmul(),
    "MatMulIntegerToFloat": matmul(),
    "DynamicQuantizeMatMul": matmul(),
    "QGemm": matmul(0, 3),
    "MatMulNBits": _matmul_of_n,
    # Attention.
    "Attention": _projecting_attention(past=4),
    "QAttention": _projecting_attention(past=8),
    "MultiHeadAttention": _multi_head_attention,
    "PackedMultiHeadAttention": _packed_attention,
    "GroupQueryAttention": _grouped_query_attention,
    # Activations, with a bias in them.
    "Gelu": of_kind(Kind.ACTIVATION, elementwise=1, transcendental=1),
    "QuickGelu": of_kind(Kind.ACTIVATION, elementwise=1, transcendental=1),
    "BiasGelu": _FUSED_ACTIVATION,
    "FastGelu": _FUSED_ACTIVATION,
    "BiasSplitGelu": _FUSED_ACTIVATION,
    "BiasSoftmax": of_kind(Kind.SOFTMAX, elementwise=2, transcendental=1),
    # Norms, with a residual in them.
    "GroupNorm": norm,
    "SkipGroupNorm": _skip_norm,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
    "EmbedLayerNormalization": _skip_norm,
    "BiasAdd": of_kind(Kind.ELEMENTWISE, elementwise=2),
    # Quantised.
    "QLinearAdd": of_kind(Kind.ELEMENTWISE, elementwise=1),
    "QLinearMul": of_kind(Kind.ELEMENTWISE, elementwise=1),
    "QLinearSigmoid": of_kind(Kind.ACTIVATION, elementwise=1, transcendental=1),
    "QLinearLeakyRelu": of_kind(Kind.ACTIVATION, elementwise=1),
    "QLinearSoftmax": of_kind(Kind.SOFTMAX, elementwise=1, transcendental=1),
    "QLinearAveragePool": window_pool,
    "QLinearGlobalAveragePool": reduction,
    "QLinearReduceMean": reduction,
    "QLinearConcat": moved,
    "QLinearWhere": moved,
    "QuantizeLinear": quantized,
    "DequantizeLinear": quantized,
    "NhwcMaxPool": window_pool,
}

_BLOCKED: dict[str, Rule] = {
    # Channels are filled up to whole blocks, and what fills them is multiplied too.
    "Conv": conv(),
    "MaxPool": window_pool,
    "AveragePool": window_pool,
    "GlobalMaxPool": reduction,
    "GlobalAveragePool": reduction,
    "ReorderInput": moved,
    "ReorderOutput": moved,
    "Upsample": of_kind(Kind.RESAMPLE),
}

CONTRIB_RULES: dict[str, Rule] = {
    **{f"com.microsoft.{op}": rule for op, rule in _MICROSOFT.items()},
    **{f"com.microsoft.nchwc.{op}": rule for op, rule in _BLOCKED.items()},
    "com.ms.internal.nhwc.Conv": conv(),
}
