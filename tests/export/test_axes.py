from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from vitprof.export.axes import Moves, neighbours, span_of


def _sizes(moves: Moves) -> list[list[int]]:
    return [[factor.size for factor in row] for row in moves.rows]


def test_a_reshape_splits_and_joins_axes() -> None:
    moves = Moves.of((1, 6, 8))
    # 6 x 8 values as 3 x 4 x 4: the six become 3 x 2, the eight 2 x 4.
    assert moves.regroup((3, 4, 4))
    assert _sizes(moves) == [[3], [2, 2], [4]]
    assert [factor.size for factor in moves.source] == [3, 2, 2, 4]


def test_an_axis_that_cannot_be_split_where_another_begins_is_told() -> None:
    # 6 = 4 x 1.5.
    assert not Moves.of((6, 2)).regroup((4, 3))


def test_queries_are_the_first_third_of_the_last_axis() -> None:
    moves = Moves.of((1, 197, 576))
    # Three heads of 64: 576 = 3 (q, k, v) x 3 (heads) x 64.
    assert moves.regroup((1, 197, 3, 3, 64))
    moves.permute((2, 0, 3, 1, 4))
    moves.select(0, 1)
    [(factor, index)] = moves.fixed.items()
    assert (factor.size, index) == (3, 1)
    assert span_of(moves.source, factor) == (1, 197, 576)
    assert _sizes(moves) == [[], [3], [197], [64]]


def test_neighbours_before_and_after_stay_one_axis() -> None:
    # Windows of 7 x 7 out of 56 x 56 x 96: a row of a window lies in one piece, 7 x 96 values long.
    moves = Moves.of((1, 56, 56, 96))
    assert moves.regroup((1, 8, 7, 8, 7, 96))
    moves.permute((0, 1, 3, 2, 4, 5))
    groups = neighbours(moves.source, moves.place)
    assert [[factor.size for factor in group] for group in groups] == [[8], [7], [8], [7, 96]]


def test_an_index_of_a_joined_axis_fixes_all_of_its_factors() -> None:
    moves = Moves.of((2, 3, 5))
    moves.permute((1, 0, 2))
    assert moves.regroup((6, 5))
    # Place 4 of 3 x 2 is (2, 0).
    moves.select(0, 4)
    assert {factor.size: index for factor, index in moves.fixed.items()} == {3: 2, 2: 0}


@given(st.permutations(range(4)), st.sampled_from([(24,), (4, 6), (2, 3, 4), (8, 3), (2, 2, 2, 3)]))
def test_factors_stand_where_numpy_moves_the_values(order: list[int], shape: tuple[int, ...]) -> None:
    values = np.arange(24).reshape(2, 3, 1, 4)
    moved = values.transpose(order).reshape(shape)
    moves = Moves.of(values.shape)
    moves.permute(order)
    # Else an axis would begin inside another.
    assume(moves.regroup(shape))
    # The same by the factors: their axes in the order of the end.
    place = moves.place
    by_factors = values.reshape([factor.size for factor in moves.source])
    by_factors = by_factors.transpose(sorted(range(len(place)), key=lambda axis: place[moves.source[axis]]))
    np.testing.assert_array_equal(by_factors.reshape(shape), moved)
