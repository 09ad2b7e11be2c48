"""What each of ONNX's operators does, as one small rule apiece: its kind, its MACs, its entries in the other ledgers.

Its own file because it is the table that a reader checks: an operator that is not here is reported, never taken for
zero. The names and operands are those of https://onnx.ai/onnx/operators/; ONNX Runtime's own operators are in
`onnx_contrib`. A fused operator has the kind of its product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vitprof.cost.formulas import (
    Shape,
    attention_macs,
    conv_macs,
    einsum_macs,
    fft_flops,
    matmul_macs,
    product,
    transposed_conv_macs,
)
from vitprof.cost.onnx_contrib_shapes import operands
from vitprof.cost.onnx_shapes import Call, Value
from vitprof.counts import Kind, Ledgers


@dataclass(frozen=True)
class Work:
    """What one node does."""

    kind: Kind
    macs: int = 0
    ledgers: Ledgers = field(default_factory=Ledgers)
    # Its output is its input under another shape: nothing is read or written.
    is_view: bool = False
    # It reads of its first input only as many values as it writes.
    reads_part: bool = False


Rule = Callable[[Call], Work]


class UnknownShape(Exception):
    """A shape that a rule needs is not known; the text says which tensor."""


def shape_in(call: Call, position: int) -> Shape:
    """The shape of an input that must be there; `UnknownShape` where it is not known."""
    value = value_in(call, position)
    if value is None or value.shape is None:
        raise UnknownShape(f"input {position}")
    return value.shape


def shape_out(call: Call) -> Shape:
    shape = call.outputs[0].shape
    if shape is None:
        raise UnknownShape("output")
    return shape


def value_in(call: Call, position: int) -> Value | None:
    """The input, None where it is left out."""
    return call.inputs[position] if position < len(call.inputs) else None


# Products.


def conv(image: int = 0, weight: int = 1) -> Rule:
    """A convolution whose image and weight are the inputs at these positions."""

    def rule(call: Call) -> Work:
        kernel = shape_in(call, weight)
        return Work(conv_kind(call, kernel), conv_macs(shape_out(call), kernel))

    return rule


def _transposed_conv(call: Call) -> Work:
    kernel = shape_in(call, 1)
    return Work(conv_kind(call, kernel), transposed_conv_macs(shape_in(call, 0), kernel))


def _deformable_conv(call: Call) -> Work:
    # Each of the kernel's places is read between pixels, from four of them, at every output position: offset holds
    # two coordinates for each.
    kernel, offset = shape_in(call, 1), shape_in(call, 2)
    channels = kernel[1] * call.attributes.get("group", 1) // call.attributes.get("offset_group", 1)
    reads = 4 * channels * product(offset) // 2
    return Work(conv_kind(call, kernel), conv_macs(shape_out(call), kernel), Ledgers(resample=reads))


def conv_kind(call: Call, weight: Shape) -> Kind:
    """The kind of a convolution from its weight (Cout, Cin / groups, *kernel)."""
    groups = call.attributes.get("group", 1)
    if groups > 1 and weight[1] == 1:
        return Kind.DEPTHWISE_CONV
    return Kind.POINTWISE_CONV if groups == 1 and product(weight[2:]) == 1 else Kind.CONV


def matmul(a: int = 0, b: int = 1) -> Rule:
    """A product of the inputs at these positions, transposed as the attributes say."""

    def rule(call: Call) -> Work:
        left, right = operands(call.attributes, shape_in(call, a), shape_in(call, b))
        return Work(product_kind(call, a, b), matmul_macs(left, right))

    return rule


def product_kind(call: Call, *positions: int) -> Kind:
    """LINEAR with a weight, ATTENTION where all operands depend on the image."""
    values = [value for position in positions if (value := value_in(call, position)) is not None]
    if any(value.is_weight for value in values):
        return Kind.LINEAR
    return Kind.ATTENTION if all(value.depends_on_input for value in values) else Kind.OTHER_MATMUL


def _einsum(call: Call) -> Work:
    shapes = tuple(shape_in(call, position) for position in range(len(call.inputs)))
    macs = einsum_macs(call.attributes["equation"], shapes)
    if macs == 0:
        # No index is shared and summed: values are multiplied, summed or moved one by one.
        return Work(Kind.ELEMENTWISE, ledgers=Ledgers(elementwise=product(shape_out(call))))
    return Work(product_kind(call, *range(len(shapes))), macs)


def _attention(call: Call) -> Work:
    """Opset 23: (B, heads, L, E), or (B, L, heads * E) with the number of heads in attributes; past keys go before."""
    heads, shared = call.attributes.get("q_num_heads", 1), call.attributes.get("kv_num_heads", 1)
    query = _in_heads(shape_in(call, 0), heads)
    key, value = _in_heads(shape_in(call, 1), shared), _in_heads(shape_in(call, 2), shared)
    past = shape_in(call, 4)[2] if value_in(call, 4) is not None else 0
    return attention_work(query, (*key[:2], key[2] + past, key[3]), value)


def _in_heads(shape: Shape, heads: int) -> Shape:
    return shape if len(shape) == 4 else (shape[0], heads, shape[1], shape[2] // heads)


def attention_work(query: Shape, key: Shape, value: Shape, linear_macs: int = 0) -> Work:
    """Scores, softmax and weighted sum of (B, heads, L, E), (B, heads, S, E), (B, heads, S, Ev).

    `linear_macs`: of a projection that the operator has in it.
    """
    scores = product(query[:-1]) * key[-2]
    macs = linear_macs + attention_macs(query, key, value)
    return Work(Kind.ATTENTION, macs, Ledgers(elementwise=scores, transcendental=scores))


def _recurrent(functions_per_unit: int) -> Rule:
    """LSTM, GRU, RNN: input (L, B, I) by W (D, gates * H, I) and state (B, H) by R (D, gates * H, H) at each step."""

    def rule(call: Call) -> Work:
        steps, weight, recurrence = shape_in(call, 0), shape_in(call, 1), shape_in(call, 2)
        rows = steps[0] * steps[1]
        units = rows * recurrence[0] * recurrence[2]
        macs = rows * (product(weight) + product(recurrence))
        return Work(Kind.LINEAR, macs, Ledgers(transcendental=functions_per_unit * units))

    return rule


# What is not a product.


def of_kind(kind: Kind, *, elementwise: int = 0, transcendental: int = 0) -> Rule:
    """`elementwise` and `transcendental`: how many of these for each value written."""

    def rule(call: Call) -> Work:
        values = product(shape_out(call))
        return Work(kind, ledgers=Ledgers(elementwise=elementwise * values, transcendental=transcendental * values))

    return rule


def _variadic(call: Call) -> Work:
    """Sum, Mean, Max, Min of any number of tensors, one operation for each but the first."""
    operations = max(1, len(call.inputs) - 1)
    return Work(Kind.ELEMENTWISE, ledgers=Ledgers(elementwise=operations * product(shape_out(call))))


def norm(call: Call) -> Work:
    return Work(Kind.NORM, ledgers=Ledgers(norm=product(shape_out(call))))


def _vector_norm(call: Call) -> Work:
    return Work(Kind.NORM, ledgers=Ledgers(norm=product(shape_in(call, 0)), transcendental=product(shape_out(call))))


def reduction(call: Call) -> Work:
    return Work(Kind.POOL, ledgers=Ledgers(pool=product(shape_in(call, 0))))


def _exponential_reduction(call: Call) -> Work:
    values = product(shape_in(call, 0))
    return Work(Kind.POOL, ledgers=Ledgers(pool=values, transcendental=values))


def window_pool(call: Call) -> Work:
    window = product(tuple(call.attributes["kernel_shape"]))
    return Work(Kind.POOL, ledgers=Ledgers(pool=product(shape_out(call)) * window))


def _resize(call: Call) -> Work:
    before, after = shape_in(call, 0), shape_out(call)
    axes = sum(old != new for old, new in zip(before, after, strict=True))
    return _sampled(call, axes)


def _grid_sample(call: Call) -> Work:
    return _sampled(call, len(shape_out(call)) - 2)


def _sampled(call: Call, axes: int) -> Work:
    """Nearest values are copied; else 2 (linear) or 4 (cubic) sources along each resampled axis are weighted."""
    mode = call.attributes.get("mode", "linear" if call.op == "GridSample" else "nearest")
    along = 4 if "cubic" in mode else 2 if "linear" in mode else 0
    return Work(Kind.RESAMPLE, ledgers=Ledgers(resample=along**axes * product(shape_out(call)) if along else 0))


def _fourier(call: Call) -> Work:
    """DFT of (..., N, ..., 1 or 2): the last axis holds the real part, or both."""
    shape = shape_in(call, 0)
    axis = _scalar(call, 2, call.attributes.get("axis", -2 if len(call.inputs) > 2 else 1))
    length = _scalar(call, 1, shape[axis])
    padded = tuple(length if i == axis % len(shape) else size for i, size in enumerate(shape))
    is_real = 1 in (shape[-1], shape_out(call)[-1])
    return Work(Kind.FFT, ledgers=Ledgers(fft=fft_flops(padded[:-1], (axis % len(shape),), is_real)))


def _short_time_fourier(call: Call) -> Work:
    """STFT: (B, frames, bins, 2) from a real or complex signal (B, samples, 1 or 2)."""
    batch, frames, *_ = shape_out(call)
    window = shape_in(call, 2)[0] if value_in(call, 2) is not None else None
    length = _scalar(call, 3, window)
    return Work(Kind.FFT, ledgers=Ledgers(fft=fft_flops((batch, frames, length), (2,), shape_in(call, 0)[-1] == 1)))


def _scalar(call: Call, position: int, default: Any) -> int:
    """A scalar input's value; `UnknownShape` where it is there and not fixed."""
    value = value_in(call, position)
    if value is None:
        if default is None:
            raise UnknownShape(f"input {position}")
        return int(default)
    if value.content is None:
        raise UnknownShape(f"value of input {position}")
    return int(value.content.reshape(-1)[0])


def moved(call: Call) -> Work:
    return Work(Kind.DATA_MOVEMENT)


def _moved_part(call: Call) -> Work:
    return Work(Kind.DATA_MOVEMENT, reads_part=True)


def _view(call: Call) -> Work:
    return Work(Kind.DATA_MOVEMENT, is_view=True)


def quantized(call: Call) -> Work:
    """One value scaled and rounded to another type: layout work with an arithmetic operation for each value."""
    return Work(Kind.DATA_MOVEMENT, ledgers=Ledgers(elementwise=product(shape_out(call))))


RULES: dict[str, Rule] = {
    # Products; the quantised ones have scales and zero points between their operands.
    "Conv": conv(),
    "ConvInteger": conv(),
    "QLinearConv": conv(0, 3),
    "ConvTranspose": _transposed_conv,
    "DeformConv": _deformable_conv,
    "MatMul": matmul(),
    "MatMulInteger": matmul(),
    "QLinearMatMul": matmul(0, 3),
    "Gemm": matmul(),
    "Einsum": _einsum,
    "Attention": _attention,
    # Three gates and two tanh; two gates and a tanh; one.
    "LSTM": _recurrent(5),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    # Norms.
    **dict.fromkeys(
        ("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization",
         "LRN", "MeanVarianceNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
        norm,
    ),
    "ReduceL2": _vector_norm,
    # Softmax: an exponential and a division for each value.
    **dict.fromkeys(("Softmax", "LogSoftmax"), of_kind(Kind.SOFTMAX, elementwise=1, transcendental=1)),
    "Hardmax": of_kind(Kind.SOFTMAX, elementwise=1),
    # Activations.
    **dict.fromkeys(
        ("Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu", "Shrink", "Softsign", "ThresholdedRelu"),
        of_kind(Kind.ACTIVATION, elementwise=1),
    ),
    **dict.fromkeys(
        ("Celu", "Elu", "Erf", "Gelu", "Mish", "Selu", "Sigmoid", "Softplus", "Swish", "Tanh"),
        of_kind(Kind.ACTIVATION, elementwise=1, transcendental=1),
    ),
    # Arithmetic on single values.
    **dict.fromkeys(
        ("Abs", "Add", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Div", "Equal",
         "Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Mod", "Mul", "Neg", "Not",
         "Or", "Reciprocal", "Round", "Sign", "Sub", "Xor"),
        of_kind(Kind.ELEMENTWISE, elementwise=1),
    ),
    **dict.fromkeys(("Max", "Mean", "Min", "Sum"), _variadic),
    **dict.fromkeys(
        ("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Exp", "Log", "Pow", "Sin", "Sinh", "Sqrt",
         "Tan"),
        of_kind(Kind.ELEMENTWISE, elementwise=1, transcendental=1),
    ),
    # Pools and reductions.
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), window_pool),
    **dict.fromkeys(
        ("ArgMax", "ArgMin", "CumSum", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "ReduceL1", "ReduceMax",
         "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "TopK"),
        reduction,
    ),
    **dict.fromkeys(("ReduceLogSum", "ReduceLogSumExp"), _exponential_reduction),
    # Resampling.
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "GridSample": _grid_sample,
    # Transforms.
    "DFT": _fourier,
    "STFT": _short_time_fourier,
    # Copies. Transpose among them: a tensor of ONNX has no strides, so the next node finds it written anew.
    **dict.fromkeys(
        ("AffineGrid", "Cast", "CastLike", "Col2Im", "Compress", "Concat", "ConcatFromSequence", "ConstantOfShape",
         "DepthToSpace", "Expand", "EyeLike", "MaxUnpool", "NonZero", "OneHot", "Pad", "RandomNormal",
         "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Range", "ReverseSequence", "ScatterElements",
         "ScatterND", "Scatter", "SequenceAt", "SequenceConstruct", "SpaceToDepth", "Split", "SplitToSequence",
         "TensorScatter", "Tile", "Transpose", "Trilu", "Where"),
        moved,
    ),
    **dict.fromkeys(("Gather", "GatherElements", "GatherND", "Slice"), _moved_part),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"), quantized),
    # The same values under another shape; Dropout does nothing in inference; sizes are known before the image is.
    **dict.fromkeys(("Dropout", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"), _view),
}  # fmt: skip
