"""Where one model overtakes another, on curves worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.curves import curve, point
from vitprof.analysis.crossovers import Meeting, crossings, crossovers
from vitprof.analysis.verdicts import holm
from vitprof.curves import Axis, Curve
from vitprof.measurements import Interval
from vitprof.records import Verdict


def _meetings(*pairs: tuple[float, float], half: float = 0.001) -> list[Meeting]:
    """At each place the time of the second ÷ that of the first, known to ± `half`."""
    judged = holm([Interval(ratio, ratio * (1 - half), ratio * (1 + half)) for _, ratio in pairs])
    return [Meeting(at, *one) for (at, _), one in zip(pairs, judged, strict=True)]


def _two(first: dict[int, float], second: dict[int, float], half: float = 0.001) -> list[Curve]:
    return [
        curve(name, [point(batch, speed, half) for batch, speed in speeds.items()])
        for name, speeds in (("one", first), ("two", second))
    ]


def test_the_place_is_interpolated_on_logarithms_of_both() -> None:
    # log2 of the ratio: -1 at 4, +1 at 16: 0 half-way between on a logarithmic axis, at 8 and not at 10.
    [found] = crossings(_meetings((4, 0.5), (16, 2.0)))
    assert found.at == pytest.approx(8) and found.between == (4, 16)
    assert found.is_decided and found.first_is_above
    # -1 and +2: at a third of the way.
    [found] = crossings(_meetings((1, 0.5), (8, 4.0)))
    assert found.at == pytest.approx(2)
    [back] = crossings(_meetings((4, 2.0), (16, 0.5)))
    assert not back.first_is_above


def test_without_a_change_of_sides_there_is_none() -> None:
    assert crossings(_meetings((1, 2.0), (2, 1.5), (4, 1.1))) == []
    # Within ±2 % the two are the same, whatever side of 1 they are on.
    assert crossings(_meetings((1, 1.005), (2, 0.995), (4, 1.004))) == []


def test_who_comes_to_be_the_same_has_not_overtaken() -> None:
    # Clearly slower, then within ±2 % on both sides of 1: no word that the order may have turned.
    assert crossings(_meetings((1, 2.0), (2, 1.005), (4, 0.995))) == []
    assert crossings(_meetings((1, 0.995), (2, 1.005), (4, 2.0))) == []
    clear, vague = Interval(2.0, 1.99, 2.01), Interval(0.95, 0.8, 1.1)
    [found] = crossings([Meeting(at, *one) for at, one in zip((1, 2), holm([clear, vague]), strict=True)])
    assert not found.is_decided and not found.first_is_above


def test_it_is_undecided_where_an_interval_reaches_across() -> None:
    [found] = crossings(_meetings((4, 0.9), (16, 1.1), half=0.2))
    assert not found.is_decided and found.between == (4, 16)


def test_undecided_places_between_two_clear_ones_are_stepped_over() -> None:
    # The ratio of 1 is met three times on the way from clear to clear: that is one change of places.
    clear, vague = 0.001, 0.3
    wide = [
        Interval(r, r * (1 - h), r * (1 + h)) for r, h in ((0.5, clear), (1.05, vague), (0.98, vague), (2.0, clear))
    ]
    [found] = crossings([Meeting(at, *one) for at, one in zip((1, 2, 4, 8), holm(wide), strict=True)])
    assert found.is_decided and found.between == (1, 8) and 1 < found.at < 8


def test_noise_between_two_clear_verdicts_for_the_same_is_no_change() -> None:
    wide = [Interval(0.5, 0.49, 0.51), Interval(1.05, 0.7, 1.4), Interval(0.5, 0.49, 0.51)]
    assert crossings([Meeting(at, *one) for at, one in zip((1, 2, 4), holm(wide), strict=True)]) == []


def test_two_changes_are_both_told() -> None:
    found = crossings(_meetings((1, 0.5), (2, 2.0), (4, 0.5)))
    assert [(one.between, one.first_is_above) for one in found] == [((1, 2), True), ((2, 4), False)]


@example([0.99609375, 2.0, 0.5], 0.015625)
@given(st.lists(st.floats(0.2, 5.0), min_size=2, max_size=8), st.floats(0.0001, 0.5))
def test_a_change_lies_between_what_was_measured_and_turns_the_order(ratios: list[float], half: float) -> None:
    meetings = _meetings(*((2.0**index, ratio) for index, ratio in enumerate(ratios)), half=half)
    found = crossings(meetings)
    for one in found:
        assert one.between[0] <= one.at <= one.between[1] or math.isclose(one.at, one.between[0])
    decided = [one for one in found if one.is_decided]
    for before, after in pairwise(decided):
        assert before.between[1] <= after.between[0] and before.first_is_above != after.first_is_above
    # An odd number of changes has turned the order, where that is clear at both ends: who comes from being the same as
    # the other has not overtaken it.
    if {meetings[0].verdict, meetings[-1].verdict} <= {Verdict.FASTER, Verdict.SLOWER}:
        assert len(decided) == len(found)
        assert (len(found) % 2 == 1) == ((ratios[0] >= 1) != (ratios[-1] >= 1))


def test_over_batches_the_faster_one_above_is_named() -> None:
    # Images in a reference's call; equal where lines of 10 → 40 and 20 → 20 over 1 → 4 meet: at 2.
    [found] = crossovers(_two({1: 10.0, 4: 40.0}, {1: 20.0, 4: 20.0}))
    assert (found.axis, found.below, found.above, found.batch, found.size) == (Axis.BATCH, "two", "one", None, None)
    assert found.at == pytest.approx(2) and found.between == (1, 4) and found.is_decided


def test_only_batches_that_both_were_measured_at_count() -> None:
    # 2 and 8 are of one model alone; 4 is the only one in common.
    assert crossovers(_two({2: 10.0, 4: 40.0}, {4: 20.0, 8: 50.0})) == ()


def test_over_sizes_the_place_is_in_pixels_and_the_batch_stands_still() -> None:
    curves = [
        curve(
            name,
            [point(1, at_224), point(8, 8 * at_224)] if px == 224 else [point(1, at_896), point(8, at_224)],
            size=(px, px),
        )
        for name, at_224, at_896 in (("one", 10.0, 10.0), ("two", 20.0, 5.0))
        for px in (224, 896)
    ]
    found = crossovers(curves)
    over_sizes = [one for one in found if one.axis is Axis.SIZE]
    # At batch 1 "two" is twice as fast at 224 and half as fast at 896: half-way on a logarithmic axis are 448.
    assert [(one.batch, one.below, one.above) for one in over_sizes] == [(1, "two", "one")]
    assert over_sizes[0].at == pytest.approx(448)
    # Over batches it is looked for at each size.
    assert {one.size for one in found if one.axis is Axis.BATCH} <= {(224, 224), (896, 896)}


def test_sizes_that_are_no_squares_stand_by_their_pixels() -> None:
    curves = [
        curve(name, [point(1, speed)], size=size)
        for name, speeds in (("one", (10.0, 10.0)), ("two", (20.0, 5.0)))
        for size, speed in zip(((100, 100), (100, 400)), speeds, strict=True)
    ]
    [found] = crossovers(curves)
    assert found.between == (100, 200) and found.at == pytest.approx(math.sqrt(100 * 200))


def test_more_comparisons_need_clearer_intervals() -> None:
    first, second = {1: 10.0, 2: 10.0}, {1: 10.8, 2: 9.3}
    # Of two comparisons the intervals are widened by 14 %, of 56 by 69 %: that reaches into the band.
    half = 0.028
    assert crossovers(_two(first, second, half))[0].is_decided
    others = [curve(f"other {index}", [point(1, 10.0, 0.3), point(2, 10.0, 0.3)]) for index in range(6)]
    pairs = crossovers([*_two(first, second, half), *others])
    [same] = [one for one in pairs if {one.below, one.above} == {"one", "two"}]
    assert not same.is_decided
