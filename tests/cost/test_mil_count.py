from __future__ import annotations

import pytest

from vitprof.cost.mil_count import count_mil
from vitprof.counts import Kind, Ledgers
from vitprof.errors import VitprofError
from vitprof.mil import MilOp, MilProgram, MilValue, Number


def live(name: str, *shape: int, dtype: str = "fp16") -> MilValue:
    return MilValue(name, dtype, shape, depends_on_input=True)


def weight(name: str, *shape: int, parameter: str = "") -> MilValue:
    return MilValue(name, "fp16", shape, is_constant=True, parameter=parameter)


def constant(*content: Number, dtype: str = "int32") -> MilValue:
    return MilValue("constant", dtype, (len(content),), is_constant=True, content=content)


def op(type: str, output: MilValue, **inputs: MilValue | tuple[MilValue, ...]) -> MilOp:
    values = {name: value if isinstance(value, tuple) else (value,) for name, value in inputs.items()}
    return MilOp(type, f"{type}_1", values, (output,))


def program(*ops: MilOp, images: int = 1) -> MilProgram:
    return MilProgram("CoreML6", (live("image", images, 3, 8, 8),), ops)


def test_a_convolution_is_its_output_times_its_kernel() -> None:
    conv = op("conv", live("y", 1, 16, 4, 4), x=live("x", 1, 8, 8, 8), weight=weight("w", 16, 8, 3, 3))
    cost = count_mil(program(conv))
    # 16 x 4 x 4 outputs, each of 8 x 3 x 3 products.
    assert cost.macs == 16 * 4 * 4 * 8 * 3 * 3
    [row] = cost.rows
    assert row.kind is Kind.CONV
    # fp32, whatever the program is typed in: input, weight, output.
    assert (row.bytes_in, row.bytes_out, row.weight_bytes) == (4 * (512 + 1152), 4 * 256, 4 * 1152)


@pytest.mark.parametrize(
    ("kernel", "groups", "kind", "macs"),
    [
        # 8 x 4 x 4 outputs of 1 x 3 x 3 products.
        ((8, 1, 3, 3), 8, Kind.DEPTHWISE_CONV, 8 * 16 * 9),
        # 8 x 4 x 4 outputs of 8 products.
        ((8, 8, 1, 1), 1, Kind.POINTWISE_CONV, 8 * 16 * 8),
        # Two groups of four channels each.
        ((8, 4, 3, 3), 2, Kind.CONV, 8 * 16 * 4 * 9),
    ],
)
def test_the_kind_of_a_convolution_is_that_of_its_weight(
    kernel: tuple[int, ...], groups: int, kind: Kind, macs: int
) -> None:
    conv = op(
        "conv", live("y", 1, 8, 4, 4), x=live("x", 1, 8, 4, 4), weight=weight("w", *kernel), groups=constant(groups)
    )
    cost = count_mil(program(conv))
    assert (cost.rows[0].kind, cost.macs) == (kind, macs)


def test_a_transposed_convolution_is_its_input_times_its_kernel() -> None:
    conv = op("conv_transpose", live("y", 1, 4, 8, 8), x=live("x", 1, 8, 4, 4), weight=weight("w", 8, 4, 2, 2))
    # Each of the 8 x 4 x 4 inputs goes to 4 x 2 x 2 outputs.
    assert count_mil(program(conv)).macs == 8 * 16 * 4 * 4


def test_a_linear_layer_multiplies_every_row_by_its_weight() -> None:
    linear = op("linear", live("y", 1, 5, 7), x=live("x", 1, 5, 6), weight=weight("w", 7, 6), bias=weight("b", 7))
    cost = count_mil(program(linear))
    assert (cost.macs, cost.rows[0].kind, cost.params) == (5 * 6 * 7, Kind.LINEAR, 42 + 7)


@pytest.mark.parametrize(
    ("x", "y", "transposed"),
    [
        ((2, 5, 6), (2, 6, 7), {}),
        ((2, 5, 6), (2, 7, 6), {"transpose_y": constant(True, dtype="bool")}),
        ((2, 6, 5), (2, 6, 7), {"transpose_x": constant(True, dtype="bool")}),
    ],
)
def test_a_product_of_two_tensors_of_the_image_is_attention(
    x: tuple[int, ...], y: tuple[int, ...], transposed: dict[str, MilValue]
) -> None:
    matmul = op("matmul", live("z", 2, 5, 7), x=live("x", *x), y=live("y", *y), **transposed)
    cost = count_mil(program(matmul))
    # Two products of 5x6 by 6x7.
    assert (cost.macs, cost.rows[0].kind) == (2 * 5 * 6 * 7, Kind.ATTENTION)


def test_an_einsum_is_counted_by_its_equation() -> None:
    einsum = op(
        "einsum",
        live("z", 1, 3, 4, 6),
        values=(live("x", 1, 3, 4, 5), live("y", 1, 5, 4, 6)),
        equation=constant("nchw,nwhu->nchu", dtype="string"),
    )
    # c=3, h=4, w=5 summed, u=6.
    assert count_mil(program(einsum)).macs == 3 * 4 * 5 * 6


def test_attention_in_one_operator_is_scores_and_weighted_sum() -> None:
    query, key, value = live("q", 1, 2, 5, 8), live("k", 1, 2, 6, 8), live("v", 1, 2, 6, 8)
    attention = op("scaled_dot_product_attention", live("y", 1, 2, 5, 8), query=query, key=key, value=value)
    # Two heads: 5x8 by 8x6, then 5x6 by 6x8.
    assert count_mil(program(attention)).macs == 2 * (5 * 8 * 6 + 5 * 6 * 8)


def test_a_program_for_several_images_is_counted_for_one() -> None:
    conv = op("conv", live("y", 4, 16, 4, 4), x=live("x", 4, 8, 8, 8), weight=weight("w", 16, 8, 3, 3))
    cost = count_mil(program(conv, images=4))
    assert cost.macs == 16 * 4 * 4 * 8 * 3 * 3
    # The weight is read once for all of them.
    assert (cost.rows[0].bytes_in, cost.rows[0].weight_bytes) == (4 * 512 + 4 * 1152, 4 * 1152)


def test_what_needs_no_image_has_its_macs_and_no_work_for_each_image() -> None:
    table = MilValue("t", "fp16", (3, 4))
    folded = op("matmul", table, x=weight("a", 3, 5), y=weight("b", 5, 4))
    cost = count_mil(program(folded))
    assert (cost.macs, cost.ops, cost.activation_bytes) == (3 * 5 * 4, 0, 0)
    assert not cost.rows[0].depends_on_input


def test_parameters_are_weights_and_what_is_named_as_one() -> None:
    norm = op("layer_norm", live("y", 1, 5, 6), x=live("x", 1, 5, 6), gamma=weight("g", 6), beta=weight("b", 6))
    position = op("add", live("z", 1, 5, 6), x=live("y", 1, 5, 6), y=weight("p", 1, 5, 6, parameter="pos_embed"))
    # A table that the converter computed, such as a gathered bias.
    bias = op("add", live("w", 1, 5, 6), x=live("z", 1, 5, 6), y=weight("c", 5, 6))
    again = op("mul", live("v", 1, 5, 6), x=live("w", 1, 5, 6), y=weight("p", 1, 5, 6, parameter="pos_embed"))
    assert count_mil(program(norm, position, bias, again)).params == 6 + 6 + 30


def test_views_are_no_work_and_the_rest_has_a_ledger() -> None:
    x = live("x", 1, 4, 6)
    cost = count_mil(
        program(
            op("reshape", live("a", 4, 6), x=x),
            op("softmax", live("b", 4, 6), x=x),
            op("reduce_mean", live("c", 4, 1), x=x),
            op("avg_pool", live("d", 1, 4, 3), x=x, kernel_sizes=constant(2)),
            op("upsample_bilinear", live("e", 1, 8, 12), x=x),
        )
    )
    assert cost.ops == 4
    assert cost.ledgers == Ledgers(elementwise=24, transcendental=24, pool=24 + 2 * 12, resample=4 * 96)


def test_an_operator_without_a_rule_is_named_and_where_it_multiplies_the_count_is_a_lower_bound() -> None:
    x = live("x", 1, 4, 6)
    cost = count_mil(program(op("crop_of_mine", live("y", 1, 4, 6), x=x), op("lstm", live("z", 1, 4, 6), x=x)))
    assert cost.uncounted_ops == {"crop_of_mine": 1, "lstm": 1}
    assert cost.is_lower_bound and cost.macs is None


def test_an_operator_without_a_shape_is_named_and_not_taken_for_zero() -> None:
    x = live("x", 1, 4, 6)
    free = MilValue("w", "fp16", None, depends_on_input=True)
    cost = count_mil(program(op("matmul", live("y", 1, 4, 4), x=x, y=free), op("linear", live("z", 1, 4, 2), x=x)))
    assert cost.uncounted_ops == {
        "matmul (shape not known: input y)": 1,
        "linear (shape not known: input weight)": 1,
    }
    assert cost.is_lower_bound


def test_a_program_without_images_is_refused_with_what_it_takes() -> None:
    with pytest.raises(VitprofError, match="takes no input"):
        count_mil(MilProgram("CoreML6", (), ()))
