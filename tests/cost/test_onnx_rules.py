"""Each rule against a sum worked out by hand; all graphs have one image, and shapes as small as the rule needs."""

import math
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from onnx import TensorProto

from tests.cost.graphs import counted, last, node, weight
from vitprof.counts import Kind, Ledgers

INT8, UINT8, INT64 = TensorProto.INT8, TensorProto.UINT8, TensorProto.INT64
MS = "com.microsoft"
BLOCKED = "com.microsoft.nchwc"


@pytest.mark.parametrize(
    ("kernel", "group", "pads", "kind", "macs"),
    [
        ((8, 4, 3, 3), 1, 1, Kind.CONV, 36 * 8 * 4 * 9),
        ((8, 2, 3, 3), 2, 1, Kind.CONV, 36 * 8 * 2 * 9),
        ((8, 4, 1, 1), 1, 0, Kind.POINTWISE_CONV, 36 * 8 * 4),
        ((8, 2, 1, 1), 2, 0, Kind.CONV, 36 * 8 * 2),
        ((4, 1, 3, 3), 4, 1, Kind.DEPTHWISE_CONV, 36 * 4 * 9),
        ((8, 1, 3, 3), 4, 1, Kind.DEPTHWISE_CONV, 36 * 8 * 9),
    ],
)
def test_a_convolution_is_counted_and_told_apart(
    tmp_path: Path, kernel: tuple[int, ...], group: int, pads: int, kind: Kind, macs: int
) -> None:
    nodes = [node("Conv", "image w", group=group, pads=[pads] * 4)]
    row = last(counted(tmp_path, nodes, [weight("w", kernel)], (1, 4, 6, 6)))
    assert (row.kind, row.macs, row.shape_out) == (kind, macs, (1, kernel[0], 6, 6))


def test_a_transposed_convolution_counts_its_inputs(tmp_path: Path) -> None:
    nodes = [node("ConvTranspose", "image w", strides=[2, 2])]
    # 3 channels of 4x4, each into 5 channels of 2x2.
    assert last(counted(tmp_path, nodes, [weight("w", (3, 5, 2, 2))], (1, 3, 4, 4))).macs == 48 * 20


def test_a_deformable_convolution_reads_between_pixels(tmp_path: Path) -> None:
    nodes = [node("DeformConv", "image w offset", kernel_shape=[3, 3])]
    cost = counted(tmp_path, nodes, [weight("w", (2, 3, 3, 3)), weight("offset", (1, 18, 6, 6))])
    assert last(cost).macs == 36 * 2 * 27
    # 3 channels x 9 places x 36 positions, from four pixels each.
    assert cost.ledgers.resample == 4 * 3 * 9 * 36


def test_a_product_with_a_weight_is_linear_and_of_two_activations_attention(tmp_path: Path) -> None:
    nodes = [
        node("Reshape", "image tokens", "x"),
        node("Transpose", "w", "w2", perm=[1, 0]),
        node("MatMul", "x w2", "y"),
        # A view of an activation is none of a weight, though its new shape is a constant.
        node("Reshape", "y turned", "z"),
        node("MatMul", "y z", "scores"),
        node("Abs", "v", "positions"),
        node("MatMul", "scores positions", "out"),
    ]
    weights = [weight("w", (5, 6)), weight("v", (8, 3)), weight("tokens", (3,), INT64, [1, 8, 6])]
    weights.append(weight("turned", (3,), INT64, [1, 5, 8]))
    products = [row for row in counted(tmp_path, nodes, weights, (1, 3, 4, 4)).rows if row.macs]
    assert [(row.kind, row.macs) for row in products] == [
        (Kind.LINEAR, 8 * 6 * 5),
        (Kind.ATTENTION, 8 * 5 * 8),
        # Computed from weights by arithmetic: no weight itself.
        (Kind.OTHER_MATMUL, 8 * 8 * 3),
    ]


def test_a_gemm_counts_its_transposed_operands(tmp_path: Path) -> None:
    nodes = [node("Flatten", "image", "x"), node("Gemm", "x w bias", transB=1)]
    weights = [weight("w", (10, 48)), weight("bias", (10,))]
    row = last(counted(tmp_path, nodes, weights, (1, 3, 4, 4)))
    assert (row.kind, row.macs) == (Kind.LINEAR, 480)
    # 48 values in; 480 weights and 10 biases, which are read once for any batch; 10 out.
    assert (row.bytes_in, row.weight_bytes, row.bytes_out) == (4 * (48 + 490), 4 * 490, 40)


def test_einsum_is_the_product_that_it_writes(tmp_path: Path) -> None:
    row = last(counted(tmp_path, [node("Einsum", "image w", equation="bchw,kc->bkhw")], [weight("w", (5, 3))]))
    assert (row.kind, row.macs) == (Kind.LINEAR, 64 * 3 * 5)
    moved = last(counted(tmp_path, [node("Einsum", "image", equation="bchw->bhwc")]))
    assert (moved.kind, moved.macs) == (Kind.ELEMENTWISE, 0)


def test_attention_of_opset_23_takes_four_axes(tmp_path: Path) -> None:
    cost = counted(tmp_path, [node("Attention", "image image image")], image=(1, 2, 6, 5), opset=23)
    # 2 heads, 6x6 scores, width 5 for both products.
    assert last(cost).macs == 2 * 36 * (5 + 5)
    assert last(cost).kind is Kind.ATTENTION
    assert cost.ledgers == Ledgers(elementwise=72, transcendental=72)


def test_attention_of_opset_23_takes_three_axes_with_shared_heads(tmp_path: Path) -> None:
    nodes = [
        node("Reshape", "image queries", "q"),
        node("Attention", "q k v", q_num_heads=4, kv_num_heads=2),
    ]
    weights = [
        weight("queries", (3,), INT64, [1, 6, 16]),
        weight("k", (1, 7, 8)),
        weight("v", (1, 7, 6)),
    ]
    # Width 16 / 4 = 4 for scores, 6 / 2 = 3 for values.
    assert last(counted(tmp_path, nodes, weights, (1, 3, 4, 8), 23)).macs == 4 * 6 * 7 * (4 + 3)


def test_past_keys_lengthen_attention(tmp_path: Path) -> None:
    nodes = [node("Attention", "image image image _ past past", "out k v")]
    cost = counted(tmp_path, nodes, [weight("past", (1, 2, 3, 5))], (1, 2, 6, 5), 23)
    assert last(cost).macs == 2 * 6 * (6 + 3) * 10


@pytest.mark.parametrize(("op", "gates", "functions"), [("LSTM", 4, 5), ("GRU", 3, 3), ("RNN", 1, 1)])
def test_recurrent_layers_count_every_step(tmp_path: Path, op: str, gates: int, functions: int) -> None:
    nodes = [node("Reshape", "image rows", "x"), node(op, "x w r", "out last", hidden_size=5)]
    weights = [
        weight("rows", (3,), INT64, [7, 2, 6]),
        weight("w", (1, gates * 5, 6)),
        weight("r", (1, gates * 5, 5)),
    ]
    cost = counted(tmp_path, nodes, weights, (1, 3, 4, 7))
    # 7 steps of 2 sequences.
    assert last(cost).macs == 14 * gates * 5 * (6 + 5)
    assert cost.ledgers.transcendental == 14 * 5 * functions


def test_quantised_products_have_scales_between_their_operands(tmp_path: Path) -> None:
    scalars = [weight("s", (), values=[0.5]), weight("z", (), UINT8, [0])]
    quantize = node("QuantizeLinear", "image s z", "q")
    conv = [quantize, node("QLinearConv", "q s z w s z s z", pads=[1] * 4)]
    row = last(counted(tmp_path, conv, [*scalars, weight("w", (8, 3, 3, 3), UINT8)]))
    assert (row.kind, row.macs) == (Kind.CONV, 64 * 8 * 27)
    # One byte a value: 192 in, 216 weights; two scales of 4 bytes are one tensor here, as is the zero point.
    assert (row.bytes_in, row.bytes_out) == (192 + 216 + 4 + 1, 512)
    integer = [quantize, node("ConvInteger", "q w z z")]
    assert last(counted(tmp_path, integer, [*scalars, weight("w", (8, 3, 3, 3), UINT8)])).macs == 36 * 8 * 27
    for op, inputs in (("MatMulInteger", "q w z z"), ("QLinearMatMul", "q s z w s z s z")):
        row = last(counted(tmp_path, [quantize, node(op, inputs)], [*scalars, weight("w", (8, 5), UINT8)]))
        assert (row.kind, row.macs) == (Kind.LINEAR, 3 * 8 * 8 * 5)


def test_a_dequantised_weight_is_a_weight(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", "image s z", "q"),
        node("DequantizeLinear", "q s z", "x"),
        node("DequantizeLinear", "wq s zw", "w"),
        node("MatMul", "x w"),
    ]
    weights = [
        weight("s", (), values=[0.5]), weight("z", (), UINT8, [0]), weight("zw", (), INT8, [0]),
        weight("wq", (8, 5), INT8),
    ]  # fmt: skip
    cost = counted(tmp_path, nodes, weights)
    assert (last(cost).kind, last(cost).macs) == (Kind.LINEAR, 3 * 8 * 8 * 5)
    # What dequantises the weight needs no image.
    assert [row.depends_on_input for row in cost.rows] == [True, True, False, True]
    assert cost.ledgers.elementwise == 2 * 192


def test_microsofts_fused_convolutions_count_as_their_convolution(tmp_path: Path) -> None:
    kernel = [weight("w", (16, 3, 3, 3))]
    fused = [node("FusedConv", "image w", domain=MS, pads=[1] * 4, activation="Relu")]
    blocked = [
        node("Conv", "image w", "y", domain=BLOCKED, pads=[1] * 4, strides=[2, 2]),
        node("ReorderOutput", "y", domain=BLOCKED, channels=10),
    ]
    row = last(counted(tmp_path, fused, kernel))
    assert (row.op, row.kind, row.macs) == ("com.microsoft.FusedConv", Kind.CONV, 64 * 16 * 27)
    cost = counted(tmp_path, blocked, kernel)
    assert (cost.rows[0].op, cost.macs) == ("com.microsoft.nchwc.Conv", 16 * 16 * 27)
    assert last(cost).shape_out == (1, 10, 4, 4)
    channels_last = [node("Transpose", "image", "x", perm=[0, 2, 3, 1]), node("NhwcFusedConv", "x w", domain=MS)]
    row = last(counted(tmp_path, channels_last, kernel))
    assert (row.macs, row.shape_out) == (36 * 16 * 27, (1, 6, 6, 16))


def test_microsofts_fused_products_count_as_their_product(tmp_path: Path) -> None:
    b = weight("b", (1, 3, 8, 5))
    assert last(counted(tmp_path, [node("FusedMatMul", "image b", domain=MS, transA=1)], [b])).macs == 3 * 8 * 8 * 5
    turned = last(counted(tmp_path, [node("TransposeMatMul", "image image", domain=MS, transB=1)], image=(1, 3, 6, 8)))
    assert (turned.kind, turned.macs, turned.shape_out) == (Kind.ATTENTION, 3 * 6 * 8 * 6, (1, 3, 6, 6))
    packed = [weight("packed", (5, 1, 4), UINT8), weight("scales", (5,))]
    nodes = [node("MatMulNBits", "image packed scales", domain=MS, K=8, N=5, bits=4, block_size=16)]
    row = last(counted(tmp_path, nodes, packed))
    assert (row.kind, row.macs, row.shape_out) == (Kind.LINEAR, 24 * 8 * 5, (1, 3, 8, 5))


TOKENS = [weight("shape", (3,), INT64, [1, 6, 16])]
RESHAPE = node("Reshape", "image shape", "x")


def test_microsofts_attention_projects_first(tmp_path: Path) -> None:
    weights = [*TOKENS, weight("w", (16, 48)), weight("b", (48,))]
    nodes = [RESHAPE, node("Attention", "x w b", domain=MS, num_heads=4)]
    cost = counted(tmp_path, nodes, weights, (1, 3, 4, 8))
    # The projection of 6 tokens, then 4 heads of 6x6 scores of width 4.
    assert last(cost).macs == 6 * 16 * 48 + 4 * 36 * 8
    assert last(cost).shape_out == (1, 6, 16)
    assert cost.ledgers.transcendental == 4 * 36
    quantised = [RESHAPE, node("QAttention", "x w b", domain=MS, num_heads=4)]
    assert last(counted(tmp_path, quantised, weights, (1, 3, 4, 8))).macs == 6 * 16 * 48 + 4 * 36 * 8


def test_microsofts_multi_head_attention_takes_its_operands_apart_or_packed(tmp_path: Path) -> None:
    weights = [*TOKENS, weight("k", (1, 7, 16)), weight("v", (1, 7, 8))]
    apart = [RESHAPE, node("MultiHeadAttention", "x k v", domain=MS, num_heads=4)]
    row = last(counted(tmp_path, apart, weights, (1, 3, 4, 8)))
    # 6 queries by 7 keys of width 4, values of width 2.
    assert (row.macs, row.shape_out) == (4 * 6 * 7 * (4 + 2), (1, 6, 8))
    packed = [node("Reshape", "image five", "x"), node("MultiHeadAttention", "x", domain=MS, num_heads=4)]
    row = last(counted(tmp_path, packed, [weight("five", (5,), INT64, [1, 2, 4, 3, 4])], (1, 3, 4, 8)))
    assert (row.macs, row.shape_out) == (4 * 4 * 8, (1, 2, 16))


def test_grouped_and_packed_attention_of_microsoft(tmp_path: Path) -> None:
    weights = [*TOKENS, weight("k", (1, 6, 8)), weight("past", (1, 2, 3, 4)), weight("n", (1,), TensorProto.INT32)]
    nodes = [RESHAPE, node("GroupQueryAttention", "x k k past past n n", domain=MS, num_heads=4, kv_num_heads=2)]
    # 3 past keys and 6 new ones, width 4.
    assert last(counted(tmp_path, nodes, weights, (1, 3, 4, 8))).macs == 4 * 6 * 9 * 8
    together = [RESHAPE, node("GroupQueryAttention", "x _ _ _ _ n n", domain=MS, num_heads=4, kv_num_heads=2)]
    row = last(counted(tmp_path, together, weights, (1, 3, 4, 8)))
    # 16 columns are four heads of queries, two of keys, two of values: width 2.
    assert (row.macs, row.shape_out) == (4 * 6 * 6 * 4, (1, 6, 8))
    weights = [weight("two", (2,), INT64, [10, 16]), weight("offsets", (2, 5), TensorProto.INT32)]
    packed = node("PackedMultiHeadAttention", "x x x _ offsets offsets", domain=MS, num_heads=4)
    row = last(counted(tmp_path, [node("Reshape", "image two", "x"), packed], weights, (1, 2, 8, 10)))
    # Two sequences of 5 tokens.
    assert row.macs == 2 * 4 * 25 * 8


VALUES = 3 * 8 * 8
EACH = Ledgers(elementwise=VALUES, transcendental=VALUES)


@pytest.mark.parametrize(
    ("made", "kind", "ledgers"),
    [
        (node("Relu", "image"), Kind.ACTIVATION, Ledgers(elementwise=VALUES)),
        (node("Gelu", "image"), Kind.ACTIVATION, EACH),
        (node("Gelu", "image", domain=MS), Kind.ACTIVATION, EACH),
        (node("BiasGelu", "image c", domain=MS), Kind.ACTIVATION, EACH + Ledgers(elementwise=VALUES)),
        (node("Add", "image image"), Kind.ELEMENTWISE, Ledgers(elementwise=VALUES)),
        (node("Sum", "image image image"), Kind.ELEMENTWISE, Ledgers(elementwise=2 * VALUES)),
        (node("Sqrt", "image"), Kind.ELEMENTWISE, EACH),
        (node("Softmax", "image"), Kind.SOFTMAX, EACH),
        (node("LayerNormalization", "image c"), Kind.NORM, Ledgers(norm=VALUES)),
        (node("SkipLayerNormalization", "image image c", domain=MS), Kind.NORM, Ledgers(VALUES, norm=VALUES)),
        (node("LpNormalization", "image"), Kind.NORM, Ledgers(norm=VALUES)),
        (node("ReduceL2", "image", keepdims=0), Kind.NORM, Ledgers(norm=VALUES, transcendental=1)),
        (node("ReduceMean", "image"), Kind.POOL, Ledgers(pool=VALUES)),
        (node("GlobalAveragePool", "image"), Kind.POOL, Ledgers(pool=VALUES)),
        # 3 channels of 4x4 outputs, 9 values each.
        (
            node("MaxPool", "image", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
            Kind.POOL,
            Ledgers(pool=3 * 16 * 9),
        ),
        # 3 channels of 16x16 outputs; along two axes 2, 4 or no weighted sources.
        (node("Resize", "image _ twice", mode="linear"), Kind.RESAMPLE, Ledgers(resample=3 * 256 * 4)),
        (node("Resize", "image _ twice", mode="cubic"), Kind.RESAMPLE, Ledgers(resample=3 * 256 * 16)),
        (node("Resize", "image _ twice"), Kind.RESAMPLE, Ledgers()),
        (node("GridSample", "image grid"), Kind.RESAMPLE, Ledgers(resample=3 * 25 * 4)),
        (node("Transpose", "image"), Kind.DATA_MOVEMENT, Ledgers()),
        (node("Where", "mask image image"), Kind.DATA_MOVEMENT, Ledgers()),
        (node("Flatten", "image"), Kind.DATA_MOVEMENT, Ledgers()),
    ],
    ids=lambda value: value.op_type if hasattr(value, "op_type") else "",
)  # fmt: skip
def test_work_that_is_no_product_has_its_own_ledger(tmp_path: Path, made: object, kind: Kind, ledgers: Ledgers) -> None:
    weights = [
        weight("c", (8,)),
        weight("twice", (4,), values=[1, 1, 2, 2]),
        weight("grid", (1, 5, 5, 2)),
        weight("mask", (1,), TensorProto.BOOL),
    ]
    cost = counted(tmp_path, [made], weights)
    assert (last(cost).kind, last(cost).macs, cost.ledgers) == (kind, 0, ledgers)
    assert cost.uncounted_ops == {}


def test_the_sum_of_a_fused_norm_has_a_shape(tmp_path: Path) -> None:
    nodes = [
        node("SkipLayerNormalization", "image image c", "y _ _ sum", domain=MS),
        node("MatMul", "sum w"),
    ]
    assert counted(tmp_path, nodes, [weight("c", (8,)), weight("w", (8, 5))]).macs == 24 * 8 * 5


def test_a_fourier_transform_is_counted_in_flops(tmp_path: Path) -> None:
    weights = [weight("shape", (4,), INT64, [1, 3, 64, 1]), weight("axis", (), INT64, [2])]
    nodes = [node("Reshape", "image shape", "x"), node("DFT", "x _ axis", onesided=1)]
    cost = counted(tmp_path, nodes, weights)
    assert last(cost).kind is Kind.FFT
    # 3 real transforms of 64 values, log2 64 = 6.
    assert cost.ledgers.fft == 3 * 64 * 6 * 5 // 2


def test_short_transforms_are_one_for_each_frame(tmp_path: Path) -> None:
    weights = [weight("shape", (3,), INT64, [1, 192, 1]), weight("step", (), INT64, [16]), weight("window", (32,))]
    nodes = [node("Reshape", "image shape", "x"), node("STFT", "x step window")]
    # (192 - 32) / 16 + 1 = 11 frames of 32 real values, log2 32 = 5.
    assert math.isclose(counted(tmp_path, nodes, weights).ledgers.fft, 11 * 32 * 5 * 2.5)


def test_a_gather_reads_what_it_picks_and_a_view_reads_nothing(tmp_path: Path) -> None:
    nodes = [node("Gather", "image two", "x", axis=2), node("Flatten", "x")]
    gather, view = counted(tmp_path, nodes, [weight("two", (2,), INT64, [0, 3])]).rows
    # 3 x 2 x 8 values and two indices of 8 bytes.
    assert (gather.bytes_in, gather.bytes_out) == (4 * 48 + 16, 4 * 48)
    assert (view.bytes_in, view.bytes_out, view.shape_out) == (0, 0, (1, 48))
