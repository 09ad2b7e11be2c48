import math

import pytest

from vitprof.cost.formulas import (
    attention_macs,
    broadcast,
    conv_macs,
    einsum_macs,
    fft_flops,
    matmul_macs,
    product,
    transposed_conv_macs,
)


def test_a_scalar_is_one_value() -> None:
    assert product(()) == 1
    assert product((2, 3, 4)) == 24


def test_a_convolution_multiplies_each_output_by_its_window() -> None:
    # 8 channels of 5x5 outputs, each from 3 channels of 3x3.
    assert conv_macs((1, 8, 5, 5), (8, 3, 3, 3)) == 8 * 25 * 27
    # In two groups each output sees half of 4 channels.
    assert conv_macs((2, 8, 5, 5), (8, 2, 1, 1)) == 2 * 8 * 25 * 2


def test_a_transposed_convolution_spreads_each_input_by_its_kernel() -> None:
    # 3 channels of 4x4 inputs, each into 5 channels of 2x2.
    assert transposed_conv_macs((1, 3, 4, 4), (3, 5, 2, 2)) == 48 * 20


def test_a_matrix_product_takes_vectors_and_broadcasts() -> None:
    assert matmul_macs((2, 3), (3, 4)) == 24
    # Six products of 4x5 by 5x7: the leading 2 and 3 broadcast.
    assert matmul_macs((2, 1, 4, 5), (3, 5, 7)) == 6 * 4 * 5 * 7
    assert matmul_macs((5,), (5,)) == 5
    assert matmul_macs((5,), (3, 5, 7)) == 3 * 35
    assert matmul_macs((3, 4, 5), (5,)) == 60


def test_attention_is_scores_and_weighted_sum() -> None:
    # 2 images, 3 heads, 4 queries by 6 keys of width 5, values of width 7.
    assert attention_macs((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)) == 2 * 3 * 4 * 6 * (5 + 7)
    # Four heads of queries that share one of keys and values do as much as with four.
    assert attention_macs((1, 4, 9, 8), (1, 1, 9, 8), (1, 1, 9, 8)) == 4 * 81 * 16
    # An axis before the heads (windows) multiplies all.
    assert attention_macs((2, 7, 3, 4, 5), (2, 7, 3, 4, 5), (2, 7, 3, 4, 5)) == 14 * 3 * 16 * 10


# What torch itself multiplies was taken from FlopCounterMode; the sums are by hand.
@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("ij,jk->ik", ((2, 3), (3, 4)), 2 * 3 * 4),
        ("ij,jk", ((2, 3), (3, 4)), 2 * 3 * 4),
        ("bhqd,bhkd->bhqk", ((2, 3, 4, 5), (2, 3, 6, 5)), 6 * 4 * 6 * 5),
        ("...ij,...jk->...ik", ((2, 3, 4, 5), (3, 5, 6)), 6 * 4 * 5 * 6),
        ("bij,bjk->bik", ((1, 3, 4), (5, 4, 2)), 5 * 3 * 4 * 2),
        # i is summed out of the left one before: 2x4 by 4x5.
        ("bij,jk->bk", ((2, 3, 4), (4, 5)), 2 * 4 * 5),
        # From the left: 2x3x4, then 2x4x5.
        ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 5)), 24 + 40),
        # The first two share only j, which is needed later: no product of matrices.
        ("ij,j,jk->ik", ((2, 3), (3,), (3, 5)), 2 * 3 * 5),
        ("ij,ij->", ((3, 4), (3, 4)), 12),
        ("iij,jk->ik", ((2, 2, 3), (3, 4)), 24),
        # Nothing is summed over both: values by values.
        ("i,j->ij", ((3,), (4,)), 0),
        ("bi,bi->bi", ((3, 4), (3, 4)), 0),
        ("ab,cd->ac", ((2, 3), (4, 5)), 0),
        # One operand: trace, sum, transpose.
        ("ii->", ((3, 3),), 0),
        ("ij->j", ((3, 4),), 0),
        ("ij->ji", ((3, 4),), 0),
    ],
)
def test_einsum_counts_what_torch_lowers_it_to(equation: str, shapes: tuple[tuple[int, ...], ...], macs: int) -> None:
    assert einsum_macs(equation, shapes) == macs


def test_a_transform_is_five_n_log_n() -> None:
    # 6 transforms of 8 values, log2 8 = 3.
    assert fft_flops((6, 8), (1,), is_real=False) == 6 * 5 * 8 * 3
    assert fft_flops((6, 8), (-1,), is_real=True) == 6 * 5 * 8 * 3 // 2
    # Over both axes: one of 48 values.
    assert fft_flops((6, 8), (0, 1), is_real=False) == round(5 * 48 * math.log2(48))
    assert fft_flops((6, 1), (1,), is_real=False) == 0


def test_shapes_broadcast_from_the_right() -> None:
    assert broadcast((3, 1), (2, 1, 4)) == (2, 3, 4)
    assert broadcast((0, 2), (1, 2)) == (0, 2)
    assert broadcast() == ()
