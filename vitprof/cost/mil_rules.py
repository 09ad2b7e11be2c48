"""What each of MIL's operators does, as one small rule apiece: its kind, its MACs, its entries in the other ledgers.

Its own file because it is the table that a reader checks: an operator that is not here is reported, never taken for
zero. Names and operands are those of https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html.
"""

from __future__ import annotations

from collections.abc import Callable

from vitprof.cost.formulas import (
    Shape,
    conv_macs,
    einsum_macs,
    matmul_macs,
    product,
    transposed_conv_macs,
)
from vitprof.cost.onnx_rules import UnknownShape, Work, attention_work
from vitprof.counts import Kind, Ledgers
from vitprof.mil import MilOp, MilValue

__all__ = ["RULES", "Rule", "UnknownShape", "Work"]

Rule = Callable[[MilOp], Work]


def _shape(op: MilOp, name: str) -> Shape:
    """The shape of an input that must be there; `UnknownShape` where it is not known."""
    value = op.input(name)
    if value is None or value.shape is None:
        raise UnknownShape(f"input {name}")
    return value.shape


def _shape_out(op: MilOp) -> Shape:
    shape = op.outputs[0].shape
    if shape is None:
        raise UnknownShape("output")
    return shape


def _number(op: MilOp, name: str, default: int) -> int:
    """A scalar input's value; flags are 0 and 1."""
    value = op.input(name)
    if value is None:
        return default
    if not value.content:
        raise UnknownShape(f"value of input {name}")
    return int(value.content[0])


# Products.


def _conv(op: MilOp) -> Work:
    kernel = _shape(op, "weight")
    return Work(_conv_kind(op, kernel), conv_macs(_shape_out(op), kernel))


def _transposed_conv(op: MilOp) -> Work:
    kernel = _shape(op, "weight")
    return Work(_conv_kind(op, kernel), transposed_conv_macs(_shape(op, "x"), kernel))


def _conv_kind(op: MilOp, kernel: Shape) -> Kind:
    groups = _number(op, "groups", 1)
    if groups > 1 and kernel[1] == 1:
        return Kind.DEPTHWISE_CONV
    return Kind.POINTWISE_CONV if groups == 1 and product(kernel[2:]) == 1 else Kind.CONV


def _linear(op: MilOp) -> Work:
    # weight (out, in): its transpose is the right side.
    outputs, inputs = _shape(op, "weight")
    return Work(_product_kind(op, "x", "weight"), matmul_macs(_shape(op, "x"), (inputs, outputs)))


def _matmul(op: MilOp) -> Work:
    left = _turned(_shape(op, "x"), _number(op, "transpose_x", 0))
    right = _turned(_shape(op, "y"), _number(op, "transpose_y", 0))
    return Work(_product_kind(op, "x", "y"), matmul_macs(left, right))


def _turned(shape: Shape, is_transposed: int) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if is_transposed else shape


def _einsum(op: MilOp) -> Work:
    values = op.inputs.get("values", ())
    equation = op.input("equation")
    if equation is None or not equation.content:
        raise UnknownShape("value of input equation")
    shapes = tuple(_known(value) for value in values)
    return Work(_kind_of(values), einsum_macs(str(equation.content[0]), shapes))


def _known(value: MilValue) -> Shape:
    if value.shape is None:
        raise UnknownShape(f"input {value.name}")
    return value.shape


def _attention(op: MilOp) -> Work:
    return attention_work(_shape(op, "query"), _shape(op, "key"), _shape(op, "value"))


def _product_kind(op: MilOp, *names: str) -> Kind:
    return _kind_of(tuple(value for name in names if (value := op.input(name)) is not None))


def _kind_of(values: tuple[MilValue, ...]) -> Kind:
    """LINEAR with a weight, ATTENTION where all operands depend on the image."""
    if any(value.is_constant for value in values):
        return Kind.LINEAR
    return Kind.ATTENTION if all(value.depends_on_input for value in values) else Kind.OTHER_MATMUL


# What is not a product.


def _of_kind(kind: Kind, *, elementwise: int = 0, transcendental: int = 0) -> Rule:
    """`elementwise` and `transcendental`: how many of these for each value written."""

    def rule(op: MilOp) -> Work:
        values = product(_shape_out(op))
        return Work(kind, ledgers=Ledgers(elementwise=elementwise * values, transcendental=transcendental * values))

    return rule


def _norm(op: MilOp) -> Work:
    return Work(Kind.NORM, ledgers=Ledgers(norm=product(_shape_out(op))))


def _reduction(op: MilOp) -> Work:
    return Work(Kind.POOL, ledgers=Ledgers(pool=product(_shape(op, "x"))))


def _exponential_reduction(op: MilOp) -> Work:
    values = product(_shape(op, "x"))
    return Work(Kind.POOL, ledgers=Ledgers(pool=values, transcendental=values))


def _vector_norm(op: MilOp) -> Work:
    ledgers = Ledgers(norm=product(_shape(op, "x")), transcendental=product(_shape_out(op)))
    return Work(Kind.NORM, ledgers=ledgers)


def _window_pool(op: MilOp) -> Work:
    sizes = op.input("kernel_sizes")
    if sizes is None or sizes.content is None:
        raise UnknownShape("value of input kernel_sizes")
    window = product(tuple(int(size) for size in sizes.content))
    return Work(Kind.POOL, ledgers=Ledgers(pool=product(_shape_out(op)) * window))


def _resampling(sources: int) -> Rule:
    """`sources`: how many source values are weighted for each value written; 0 where the nearest is copied."""

    def rule(op: MilOp) -> Work:
        return Work(Kind.RESAMPLE, ledgers=Ledgers(resample=sources * product(_shape_out(op))))

    return rule


def _moved(op: MilOp) -> Work:
    return Work(Kind.DATA_MOVEMENT)


def _moved_part(op: MilOp) -> Work:
    return Work(Kind.DATA_MOVEMENT, reads_part=True)


def _view(op: MilOp) -> Work:
    return Work(Kind.DATA_MOVEMENT, is_view=True)


RULES: dict[str, Rule] = {
    # Products.
    "conv": _conv,
    "conv_transpose": _transposed_conv,
    "linear": _linear,
    "matmul": _matmul,
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    # Norms.
    **dict.fromkeys(("batch_norm", "instance_norm", "l2_norm", "layer_norm", "local_response_norm"), _norm),
    "reduce_l2_norm": _vector_norm,
    "softmax": _of_kind(Kind.SOFTMAX, elementwise=1, transcendental=1),
    # Activations.
    **dict.fromkeys(
        ("clamped_relu", "clip", "leaky_relu", "linear_activation", "prelu", "relu", "relu6", "sigmoid_hard",
         "softsign", "threshold", "thresholded_relu"),
        _of_kind(Kind.ACTIVATION, elementwise=1),
    ),
    **dict.fromkeys(
        ("elu", "erf", "gelu", "scaled_tanh", "sigmoid", "silu", "softplus", "softplus_parametric", "tanh"),
        _of_kind(Kind.ACTIVATION, elementwise=1, transcendental=1),
    ),
    # Arithmetic on single values.
    **dict.fromkeys(
        ("abs", "add", "ceil", "equal", "floor", "floor_div", "greater", "greater_equal", "inverse", "less",
         "less_equal", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "mod", "mul",
         "not_equal", "real_div", "round", "sign", "square", "sub"),
        _of_kind(Kind.ELEMENTWISE, elementwise=1),
    ),
    **dict.fromkeys(
        ("acos", "asin", "atan", "atanh", "cos", "cosh", "exp", "exp2", "log", "pow", "rsqrt", "sin", "sinh", "sqrt",
         "tan"),
        _of_kind(Kind.ELEMENTWISE, elementwise=1, transcendental=1),
    ),
    # Pools and reductions.
    **dict.fromkeys(("avg_pool", "l2_pool", "max_pool"), _window_pool),
    **dict.fromkeys(
        ("argsort", "cumsum", "reduce_argmax", "reduce_argmin", "reduce_l1_norm", "reduce_max", "reduce_mean",
         "reduce_min", "reduce_prod", "reduce_sum", "reduce_sum_square", "topk"),
        _reduction,
    ),
    **dict.fromkeys(("reduce_log_sum", "reduce_log_sum_exp"), _exponential_reduction),
    # Resampling.
    **dict.fromkeys(("resize_nearest_neighbor", "upsample_nearest_neighbor"), _resampling(0)),
    **dict.fromkeys(
        ("affine", "crop_resize", "resample", "resize_bilinear", "upsample_bilinear"), _resampling(4)
    ),
    # Copies; a transposed tensor has no strides here, so the next operator finds it written anew.
    **dict.fromkeys(
        ("band_part", "batch_to_space", "cast", "concat", "depth_to_space", "fill", "fill_like", "non_zero", "one_hot",
         "pad", "pixel_shuffle", "pixel_unshuffle", "range_1d", "reverse", "reverse_sequence", "scatter",
         "scatter_along_axis", "scatter_nd", "select", "sliding_windows", "space_to_batch", "space_to_depth", "split",
         "stack", "tile", "transpose"),
        _moved,
    ),
    **dict.fromkeys(
        ("crop", "gather", "gather_along_axis", "gather_nd", "slice_by_index", "slice_by_size"), _moved_part
    ),
    # The same values under another shape.
    **dict.fromkeys(
        ("expand_dims", "flatten2d", "identity", "reshape", "reshape_like", "shape", "squeeze"), _view
    ),
}  # fmt: skip
