"""What each of torch's operators does, as one small rule apiece: its kind, its MACs, its entries in the other ledgers.

Its own file because it is the table that a reader checks: an operator that is not here is reported, never taken for
zero. Rules see shapes alone. Names are those of torch's dispatcher, without overload and without the mark of the
in-place form; what composite operators (`linear`, `matmul`, `einsum`, `conv2d`) lower to is here instead of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vitprof.cost.formulas import (
    attention_macs,
    conv_macs,
    fft_flops,
    matmul_macs,
    product,
    transposed_conv_macs,
)
from vitprof.counts import Kind, Ledgers

Shape = tuple[int, ...]
NO_LEDGERS = Ledgers()


class Role(StrEnum):
    """Where a tensor comes from."""

    # It depends on the image.
    INPUT = "input"
    # A parameter or a buffer, perhaps transposed or sliced.
    WEIGHT = "weight"
    # Computed from weights alone: an exporter may fold it.
    COMPUTED = "computed"


@dataclass(frozen=True)
class Call:
    """One call of an operator: its arguments by their names in the schema, its outputs, the roles of its tensors."""

    arguments: Mapping[str, Any]
    outputs: tuple[Any, ...]
    role_of: Callable[[Any], Role]

    def shape(self, name: str) -> Shape:
        return tuple(self.arguments[name].shape)

    @property
    def shape_out(self) -> Shape:
        return tuple(self.outputs[0].shape) if self.outputs else ()

    @property
    def values_out(self) -> int:
        return product(self.shape_out)

    @property
    def values_in(self) -> int:
        return product(next(tuple(one.shape) for one in self.arguments.values() if hasattr(one, "shape")))


@dataclass(frozen=True)
class Work:
    """What one call does."""

    kind: Kind
    macs: int = 0
    ledgers: Ledgers = NO_LEDGERS


Rule = Callable[[Call], Work]

# Products.


def _convolution(call: Call) -> Work:
    weight = call.shape("weight")
    if call.arguments.get("transposed"):
        macs = transposed_conv_macs(call.shape("input"), weight)
    else:
        macs = conv_macs(call.shape_out, weight)
    return Work(conv_kind(weight, call.shape("input")[1], call.arguments.get("groups", 1)), macs)


def _convolution_of_self(call: Call) -> Work:
    weight = call.shape("weight")
    return Work(
        conv_kind(weight, call.shape("self")[1], call.arguments.get("groups", 1)), conv_macs(call.shape_out, weight)
    )


def _depthwise_convolution(call: Call) -> Work:
    return Work(Kind.DEPTHWISE_CONV, conv_macs(call.shape_out, call.shape("weight")))


def _deformable_convolution(call: Call) -> Work:
    # The bilinear reads at the moved places are the resampling; the product is that of a plain convolution.
    weight = call.shape("weight")
    return Work(Kind.CONV, conv_macs(call.shape_out, weight), Ledgers(resample=4 * product(call.shape("offset")) // 2))


def conv_kind(weight: Shape, channels_in: int, groups: int) -> Kind:
    """The kind of a convolution from its weight (Cout, Cin / groups, *kernel)."""
    if groups == channels_in and groups > 1:
        return Kind.DEPTHWISE_CONV
    return Kind.POINTWISE_CONV if groups == 1 and product(weight[2:]) == 1 else Kind.CONV


def _product_of(left: str, right: str) -> Rule:
    def rule(call: Call) -> Work:
        kind = _product_kind(call.role_of(call.arguments[left]), call.role_of(call.arguments[right]))
        return Work(kind, matmul_macs(call.shape(left), call.shape(right)))

    return rule


def _product_kind(left: Role, right: Role) -> Kind:
    if Role.WEIGHT in (left, right):
        return Kind.LINEAR
    return Kind.ATTENTION if left is right is Role.INPUT else Kind.OTHER_MATMUL


def _outer_sum(call: Call) -> Work:
    # A batch of products that are added up: as many MACs as without the sum.
    return Work(Kind.OTHER_MATMUL, matmul_macs(call.shape("batch1"), call.shape("batch2")))


def _attention(call: Call) -> Work:
    shapes = (call.shape("query"), call.shape("key"), call.shape("value"))
    scores = product(shapes[0][:-1]) * shapes[1][-2]
    return Work(Kind.ATTENTION, attention_macs(*shapes), Ledgers(elementwise=scores, transcendental=scores))


def _multi_head_attention(call: Call) -> Work:
    """Projections of query, key and value, attention, output projection; images x tokens x width."""
    macs = _self_attention_macs(call.shape("query"), call.shape("key"), call.arguments["embed_dim"])
    return Work(Kind.ATTENTION, macs)


def _encoder_layer(call: Call) -> Work:
    shape = call.shape("src")
    hidden = call.shape("ffn_weight_1")[0]
    macs = _self_attention_macs(shape, shape, call.arguments["embed_dim"])
    feed_forward = 2 * product(shape) * hidden
    return Work(Kind.ATTENTION, macs + feed_forward)


def _self_attention_macs(query: Shape, key: Shape, width: int) -> int:
    tokens, sources = product(query[:-1]), product(key[:-1])
    # Query and output by `tokens`, key and value by `sources`; then scores and weighted sum over all heads.
    return 2 * (tokens + sources) * width * width + 2 * tokens * key[-2] * width


# What is not a product.


def _of_kind(kind: Kind, *, elementwise: int = 0, transcendental: int = 0) -> Rule:
    """`elementwise` and `transcendental`: how many of these for each value written."""

    def rule(call: Call) -> Work:
        values = call.values_out
        return Work(kind, ledgers=Ledgers(elementwise=elementwise * values, transcendental=transcendental * values))

    return rule


def _norm(call: Call) -> Work:
    # One root for each variance: the third output where a norm computes them itself, else one a channel.
    computed = call.outputs[2].numel() if len(call.outputs) > 2 and call.outputs[2].numel() else call.shape_out[1]
    return Work(Kind.NORM, ledgers=Ledgers(norm=call.values_out, transcendental=computed))


def _vector_norm(call: Call) -> Work:
    return Work(Kind.NORM, ledgers=Ledgers(norm=call.values_in, transcendental=call.values_out))


def _reduction(call: Call) -> Work:
    return Work(Kind.POOL, ledgers=Ledgers(pool=call.values_in))


def _window_pool(call: Call) -> Work:
    kernel = tuple(call.arguments["kernel_size"])
    # One number stands for all sides.
    sides = kernel * (len(call.shape_out) - 2) if len(kernel) == 1 else kernel
    return Work(Kind.POOL, ledgers=Ledgers(pool=call.values_out * product(sides)))


def _resampling(sources: int) -> Rule:
    def rule(call: Call) -> Work:
        return Work(Kind.RESAMPLE, ledgers=Ledgers(resample=sources * call.values_out))

    return rule


def _fourier(call: Call) -> Work:
    shape, dims = call.shape("self"), tuple(call.arguments["dim"])
    is_complex = call.arguments["self"].is_complex() and call.outputs[0].is_complex()
    # The longer side of a real transform is the real one.
    longer = shape if product(shape) >= call.values_out else call.shape_out
    return Work(Kind.FFT, ledgers=Ledgers(fft=fft_flops(longer, dims, not is_complex)))


_RULES: dict[str, Rule] = {
    # Convolutions.
    "convolution": _convolution,
    "_convolution": _convolution,
    "convolution_overrideable": _convolution,
    "mkldnn_convolution": _convolution_of_self,
    "cudnn_convolution": _convolution_of_self,
    "_conv_depthwise2d": _depthwise_convolution,
    "torchvision::deform_conv2d": _deformable_convolution,
    # Products of matrices.
    "mm": _product_of("self", "mat2"),
    "bmm": _product_of("self", "mat2"),
    "addmm": _product_of("mat1", "mat2"),
    "_addmm_activation": _product_of("mat1", "mat2"),
    "baddbmm": _product_of("batch1", "batch2"),
    "addbmm": _outer_sum,
    "mv": _product_of("self", "vec"),
    "addmv": _product_of("mat", "vec"),
    "dot": _product_of("self", "tensor"),
    "vdot": _product_of("self", "other"),
    "_int_mm": _product_of("self", "mat2"),
    # Attention in one operator.
    "_scaled_dot_product_attention_math": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
    "_scaled_dot_product_attention_math_for_mps": _attention,
    "flex_attention": _attention,
    "_native_multi_head_attention": _multi_head_attention,
    "_transformer_encoder_layer_fwd": _encoder_layer,
    # Norms.
    "linalg_vector_norm": _vector_norm,
    "norm": _vector_norm,
    # Pools and reductions.
    "avg_pool1d": _window_pool,
    "avg_pool2d": _window_pool,
    "avg_pool3d": _window_pool,
    "max_pool2d_with_indices": _window_pool,
    "max_pool3d_with_indices": _window_pool,
    # Resampling.
    "upsample_nearest1d": _resampling(0),
    "upsample_nearest2d": _resampling(0),
    "_upsample_nearest_exact2d": _resampling(0),
    "upsample_linear1d": _resampling(2),
    "upsample_bilinear2d": _resampling(4),
    "_upsample_bilinear2d_aa": _resampling(4),
    "upsample_bicubic2d": _resampling(16),
    "_upsample_bicubic2d_aa": _resampling(16),
    "grid_sampler_2d": _resampling(4),
    # Transforms.
    "_fft_r2c": _fourier,
    "_fft_c2r": _fourier,
    "_fft_c2c": _fourier,
    # Softmax: an exponential each; the maximum and the sum are part of it.
    "_softmax": _of_kind(Kind.SOFTMAX, elementwise=1, transcendental=1),
    "_safe_softmax": _of_kind(Kind.SOFTMAX, elementwise=1, transcendental=1),
    "_log_softmax": _of_kind(Kind.SOFTMAX, elementwise=1, transcendental=1),
}


# One rule for many names.
_GROUPS: tuple[tuple[str, Rule], ...] = (
    (
        "native_batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit"
        " _batch_norm_no_update cudnn_batch_norm native_layer_norm native_group_norm _fused_rms_norm",
        _norm,
    ),
    (
        "relu hardtanh hardswish hardsigmoid leaky_relu _prelu_kernel threshold relu6 rrelu_with_noise",
        _of_kind(Kind.ACTIVATION, elementwise=1),
    ),
    (
        "gelu silu sigmoid tanh elu mish softplus glu log_sigmoid_forward",
        _of_kind(Kind.ACTIVATION, elementwise=1, transcendental=1),
    ),
    (
        "add sub rsub mul div neg abs clamp clamp_min clamp_max maximum minimum reciprocal square sign floor"
        " ceil round trunc remainder fmod lerp eq ne lt le gt ge logical_and logical_or logical_not"
        " logical_xor bitwise_not bitwise_and bitwise_or isnan isinf cumsum cumprod floor_divide masked_fill"
        " nan_to_num bernoulli rand randn rand_like randn_like view_as_complex_copy",
        _of_kind(Kind.ELEMENTWISE, elementwise=1),
    ),
    (
        "addcmul addcdiv",
        _of_kind(Kind.ELEMENTWISE, elementwise=2),
    ),
    (
        "exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh pow sqrt rsqrt erf"
        " erfinv angle",
        _of_kind(Kind.ELEMENTWISE, elementwise=1, transcendental=1),
    ),
    (
        "mean sum amax amin max min prod var var_mean std any all argmax argmin logsumexp"
        " _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d topk sort median norm_except_dim"
        " count_nonzero",
        _reduction,
    ),
    (
        "clone copy _to_copy contiguous cat stack constant_pad_nd reflection_pad1d reflection_pad2d"
        " replication_pad2d roll flip repeat index index_select gather embedding scatter scatter_add index_put"
        " _unsafe_index_put masked_select where tril triu im2col col2im pixel_shuffle pixel_unshuffle"
        " channel_shuffle zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full fill zero"
        " arange linspace eye scalar_tensor lift_fresh_copy _reshape_copy one_hot native_channel_shuffle"
        " meshgrid nonzero unique_dim rot90 complex view_as_real_copy unfold_copy _unsafe_index index_add"
        " index_copy repeat_interleave bucketize searchsorted slice_scatter select_scatter",
        _of_kind(Kind.DATA_MOVEMENT),
    ),
)

RULES: Mapping[str, Rule] = {**_RULES, **{name: rule for names, rule in _GROUPS for name in names.split()}}

# Memory handed out or relabelled, with nothing computed or moved; their schemas do not say so.
NO_WORK = frozenset(
    ("empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "_unsafe_view", "resize", "as_strided")
)
# Operators that read as much as they write, however large the tensor is that they pick from.
READS_WHAT_IT_WRITES = frozenset(
    ("index", "_unsafe_index", "index_select", "gather", "embedding", "copy", "masked_select", "bucketize")
)
# What multiplies and adds by its nature: one of these without a rule makes the MACs a lower bound.
_COMPUTES = re.compile(
    r"_?(\w*conv\w*|\w*(?:mm|mv)(?:_\w+)?|v?dot|\w*attention\w*|_?fft_\w+|einsum|tensordot|_?cdist\w*|\w*(?:lstm|gru|rnn)\w*"
    r"|_?bilinear|_?trilinear|\w*linear|matmul)"
)


def rule_name(schema_name: str) -> str:
    """`aten::relu_` as `relu`, `torchvision::nms` as it is: the key of `RULES`."""
    name = schema_name.removeprefix("aten::")
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def is_compute_like(name: str) -> bool:
    """Whether an operator of this name multiplies and adds by its nature."""
    return _COMPUTES.fullmatch(name.rpartition("::")[2]) is not None
