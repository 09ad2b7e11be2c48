"""What each operator of a MIL program does, as one small function apiece: what a conversion is held against.

Its own file because it is the table that a reader checks: an operator that is not here is named, never guessed. A
function gets its operator's inputs under their names in MIL (`coremltools.converters.mil.mil.ops.defs`, whose
definitions it follows), with MIL's defaults filled in: a number or an array as a tensor (float32, int64 or bool), a
text as `str`, an input left out not at all. It gives one tensor, or a tuple where the operator has several outputs.
Copies are in `mil_layout`, windows and resizing in `mil_windows`; constants and their compressed forms in `mil_eval`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vitprof.export import mil_layout, mil_windows
from vitprof.export.mil_layout import ints

Operator = Callable[..., Any]

# Products.


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.linear(x, weight, bias)


def _matmul(x: Tensor, y: Tensor, transpose_x: Tensor, transpose_y: Tensor) -> Tensor:
    return (x.mT if bool(transpose_x) else x) @ (y.mT if bool(transpose_y) else y)


def _einsum(values: Sequence[Tensor], equation: str) -> Tensor:
    return torch.einsum(equation, *values)


def _attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """(..., L, E), (..., S, E), (..., S, Ev). A mask of truth values says what takes part, any other one is added."""
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1) @ value


# Norms.


def _batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    return functional.batch_norm(x, mean, variance, gamma, beta, False, 0.0, float(epsilon))


def _instance_norm(x: Tensor, epsilon: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
    return functional.instance_norm(x, weight=gamma, bias=beta, eps=float(epsilon))


def _layer_norm(
    x: Tensor, epsilon: Tensor, axes: Tensor | None = None, gamma: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    """`gamma` and `beta` have the sizes of the normalised axes, in their order in `x`."""
    places = _axes(x, axes)
    sizes = [size if axis in places else 1 for axis, size in enumerate(x.shape)]
    centred = x - x.mean(places, keepdim=True)
    normal = centred / (centred.square().mean(places, keepdim=True) + epsilon).sqrt()
    scaled = normal if gamma is None else normal * gamma.reshape(sizes)
    return scaled if beta is None else scaled + beta.reshape(sizes)


def _l2_norm(x: Tensor, epsilon: Tensor) -> Tensor:
    """Over the last three axes together."""
    return x / (x.square().sum((-3, -2, -1), keepdim=True) + epsilon).sqrt()


def _axes(x: Tensor, axes: Tensor | None) -> list[int]:
    return list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in ints(axes)]


# Activations.


def _gelu(x: Tensor, mode: str) -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return functional.gelu(x, approximate={"EXACT": "none", "TANH_APPROXIMATION": "tanh"}[mode])


def _sigmoid_hard(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


def _leaky_relu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x >= 0, x, alpha * x)


def _prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """One `alpha` for each channel, the second axis."""
    return torch.where(x > 0, x, alpha.reshape(-1, *(1,) * (x.ndim - 2)) * x)


def _elu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x))


def _clip(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(x, alpha), beta)


def _threshold(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.maximum(x, alpha)


def _thresholded_relu(x: Tensor, alpha: Tensor) -> Tensor:
    # Asked this way round, what is not a number stays one.
    return torch.where(x < alpha, 0.0, x)


def _softmax(x: Tensor, axis: Tensor) -> Tensor:
    return x.softmax(int(axis))


# Single values.


def _of_one(function: Callable[[Tensor], Tensor]) -> Operator:
    def operator(x: Tensor) -> Tensor:
        return function(x)

    return operator


def _of_two(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def operator(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    return operator


def _inverse(x: Tensor, epsilon: Tensor) -> Tensor:
    return 1 / (x + epsilon)


def _rsqrt(x: Tensor, epsilon: Tensor) -> Tensor:
    return 1 / (x + epsilon).sqrt()


def _log(x: Tensor, epsilon: Tensor) -> Tensor:
    return (x + epsilon).log()


def _cast(x: Tensor, dtype: str) -> Tensor:
    # Every result is stored in the type that the program gives it: `dtype`, and the `output_dtype` of others.
    return x


def _select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond, a, b)


# Over axes.


def _over(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    """A reduction over `axes`, all where they are left out."""

    def operator(x: Tensor, keep_dims: Tensor, axes: Tensor | None = None) -> Tensor:
        return function(x, _axes(x, axes), bool(keep_dims))

    return operator


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _argmax(x: Tensor, axis: Tensor, keep_dims: Tensor, output_dtype: str = "") -> Tensor:
    return x.argmax(int(axis), keepdim=bool(keep_dims))


def _argmin(x: Tensor, axis: Tensor, keep_dims: Tensor, output_dtype: str = "") -> Tensor:
    return x.argmin(int(axis), keepdim=bool(keep_dims))


def _cumsum(x: Tensor, axis: Tensor, exclusive: Tensor, reverse: Tensor) -> Tensor:
    """`exclusive`: without the value itself; `reverse`: from the end."""
    place = int(axis)
    turned = x.flip(place) if bool(reverse) else x
    summed = turned.cumsum(place) - turned if bool(exclusive) else turned.cumsum(place)
    return summed.flip(place) if bool(reverse) else summed


# Out of nothing.


def _fill(shape: Tensor, value: Tensor) -> Tensor:
    return value.expand(ints(shape))


def _fill_like(ref_tensor: Tensor, value: Tensor) -> Tensor:
    return value.expand(ref_tensor.shape)


def _range(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


OPERATORS: dict[str, Operator] = {
    # Products.
    "conv": mil_windows.conv,
    "conv_transpose": mil_windows.conv_transpose,
    "linear": _linear,
    "matmul": _matmul,
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    # Norms.
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "l2_norm": _l2_norm,
    # Activations.
    "relu": _of_one(torch.relu),
    "relu6": _of_one(functional.relu6),
    "gelu": _gelu,
    "silu": _of_one(functional.silu),
    "sigmoid": _of_one(torch.sigmoid),
    "sigmoid_hard": _sigmoid_hard,
    "tanh": _of_one(torch.tanh),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "elu": _elu,
    "softplus": _of_one(functional.softplus),
    "softsign": _of_one(functional.softsign),
    "thresholded_relu": _thresholded_relu,
    "clip": _clip,
    "threshold": _threshold,
    "softmax": _softmax,
    # Arithmetic on two values.
    "add": _of_two(torch.add),
    "sub": _of_two(torch.sub),
    "mul": _of_two(torch.mul),
    "real_div": _of_two(torch.true_divide),
    "floor_div": _of_two(torch.floor_divide),
    "mod": _of_two(torch.remainder),
    "pow": _of_two(torch.pow),
    "maximum": _of_two(torch.maximum),
    "minimum": _of_two(torch.minimum),
    # On one.
    "abs": _of_one(torch.abs),
    "ceil": _of_one(torch.ceil),
    "cos": _of_one(torch.cos),
    "erf": _of_one(torch.erf),
    "exp": _of_one(torch.exp),
    "exp2": _of_one(torch.exp2),
    "floor": _of_one(torch.floor),
    "inverse": _inverse,
    "log": _log,
    "round": _of_one(torch.round),
    "rsqrt": _rsqrt,
    "sign": _of_one(torch.sign),
    "sin": _of_one(torch.sin),
    "sqrt": _of_one(torch.sqrt),
    "square": _of_one(torch.square),
    "cast": _cast,
    "identity": _of_one(lambda x: x),
    # Truth values.
    "equal": _of_two(torch.eq),
    "not_equal": _of_two(torch.ne),
    "less": _of_two(torch.lt),
    "less_equal": _of_two(torch.le),
    "greater": _of_two(torch.gt),
    "greater_equal": _of_two(torch.ge),
    "logical_and": _of_two(torch.logical_and),
    "logical_or": _of_two(torch.logical_or),
    "logical_xor": _of_two(torch.logical_xor),
    "logical_not": _of_one(torch.logical_not),
    "select": _select,
    # Over axes.
    "reduce_mean": _over(lambda x, axes, keep: x.mean(axes, keep, dtype=torch.float32)),
    "reduce_sum": _over(lambda x, axes, keep: x.sum(axes, keep)),
    "reduce_max": _over(lambda x, axes, keep: x.amax(axes, keep)),
    "reduce_min": _over(lambda x, axes, keep: x.amin(axes, keep)),
    "reduce_prod": _over(_product),
    "reduce_l1_norm": _over(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "reduce_l2_norm": _over(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
    "reduce_sum_square": _over(lambda x, axes, keep: x.square().sum(axes, keep)),
    "reduce_log_sum_exp": _over(lambda x, axes, keep: x.logsumexp(axes, keep)),
    "reduce_argmax": _argmax,
    "reduce_argmin": _argmin,
    "cumsum": _cumsum,
    # Pools and resizing.
    "avg_pool": mil_windows.avg_pool,
    "max_pool": mil_windows.max_pool,
    "upsample_nearest_neighbor": mil_windows.upsample_nearest_neighbor,
    "upsample_bilinear": mil_windows.upsample_bilinear,
    "resize_nearest_neighbor": mil_windows.resize_nearest_neighbor,
    "resize_bilinear": mil_windows.resize_bilinear,
    "resize": mil_windows.resize,
    # Copies.
    "reshape": mil_layout.reshape,
    "transpose": mil_layout.transpose,
    "expand_dims": mil_layout.expand_dims,
    "squeeze": mil_layout.squeeze,
    "concat": mil_layout.concat,
    "stack": mil_layout.stack,
    "split": mil_layout.split,
    "slice_by_index": mil_layout.slice_by_index,
    "slice_by_size": mil_layout.slice_by_size,
    "crop": mil_layout.crop,
    "gather": mil_layout.gather,
    "gather_along_axis": mil_layout.gather_along_axis,
    "gather_nd": mil_layout.gather_nd,
    "tile": mil_layout.tile,
    "reverse": mil_layout.reverse,
    "pad": mil_layout.pad,
    "pixel_shuffle": mil_layout.pixel_shuffle,
    "pixel_unshuffle": mil_layout.pixel_unshuffle,
    "depth_to_space": mil_layout.depth_to_space,
    "space_to_depth": mil_layout.space_to_depth,
    "sliding_windows": mil_layout.sliding_windows,
    # Sizes and new tensors.
    "shape": mil_layout.shape,
    "fill": _fill,
    "fill_like": _fill_like,
    "range_1d": _range,
}
