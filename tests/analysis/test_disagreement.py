from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.points import kind, point
from vitprof.analysis.disagreement import Group, disagreement, measured_groups, table_groups
from vitprof.comparisons import Disagreement, Limits, Point
from vitprof.counts import Kind
from vitprof.measurements import Interval

_LIMITS = Limits()


def _disagreement(points: list[Point], limits: Limits = _LIMITS, all_pairs: bool = False) -> Disagreement:
    [group] = measured_groups(points)
    return disagreement(group, limits, all_pairs)


def _named(found: Disagreement) -> list[tuple[str, str]]:
    return [(one.slower.model, one.faster.model) for one in found.inversions]


def test_an_inversion_has_far_fewer_macs_and_takes_far_longer() -> None:
    points = [
        point("big_a", 1e6, macs=10e9),
        point("small_a", 2e6, macs=1e9),
        # 0.8 of the MACs, and 1.4 of the time: neither is an inversion with big_a.
        point("near_a", 3e6, macs=8e9),
        point("slowish_a", 1.4e6, macs=1e9),
    ]
    found = _disagreement(points)
    # small has a tenth of the MACs and twice the time of big: 2 ÷ 0.1.
    assert _named(found) == [("small_a", "big_a")]
    assert (found.inversions[0].macs_ratio, found.inversions[0].time_ratio) == (0.1, 2.0)
    assert found.inversions[0].severity == 20.0
    assert (found.inversions_total, found.pairs) == (1, 6)


def test_both_limits_belong_to_the_inversions() -> None:
    points = [point("a", 1e6, macs=10e9), point("b", 1.5e6, macs=7e9)]
    assert _disagreement(points).inversions_total == 1
    assert _disagreement(points, Limits(macs_ratio=0.69)).inversions_total == 0
    assert _disagreement(points, Limits(time_ratio=1.51)).inversions_total == 0


def test_of_each_pair_of_families_the_worst_is_shown_and_all_are_counted() -> None:
    points = [
        point("vit_base_1", 1e6, macs=10e9),
        point("vit_base_2", 1e6, macs=20e9),
        point("vit_large_1", 1e6, macs=5e9),
        point("ghostnet_1", 2e6, macs=1e9),
        point("ghostnet_2", 3e6, macs=1e9),
    ]
    found = _disagreement(points)
    assert found.inversions_total == 6
    # Against vit_base the worst is 3 ÷ 0.05 = 60, against vit_large 3 ÷ 0.2 = 15.
    assert _named(found) == [("ghostnet_2", "vit_base_2"), ("ghostnet_2", "vit_large_1")]
    everything = _disagreement(points, all_pairs=True)
    assert len(everything.inversions) == 6
    assert [one.severity for one in everything.inversions] == sorted(
        (one.severity for one in everything.inversions), reverse=True
    )
    assert everything.inversions[0] == found.inversions[0]


def test_a_shown_inversion_has_a_reason_from_the_operators() -> None:
    plain, traffic = (kind(Kind.LINEAR, 10, 200e6),), (kind(Kind.ELEMENTWISE, 40),)
    found = _disagreement([point("a", 1e6, macs=10e9, kinds=plain), point("b", 5e6, macs=1e9, kinds=traffic)])
    assert "elementwise and norm traffic" in found.inversions[0].reason


def test_models_without_macs_are_in_no_pair_and_in_no_correlation_of_macs() -> None:
    models = [point(f"m{index}", index * 1e6, macs=index * 1e9, params=index * 1e6) for index in range(1, 7)]
    found = _disagreement([*models, point("unknown", 1.0, params=1e9)])
    assert found.pairs == 15
    assert found.spearman["macs"].value == 1.0
    # Seven models, the largest of them fastest: ranks 1 … 6, 7 against 2 … 7, 1: 1 − 6 · (6 + 36) / (7 · 48) = 0.25.
    assert found.spearman["params"].value == 0.25
    assert found.spearman["roofline"].value is None and found.kendall["activations"].value is None


def test_the_best_count_is_sought_over_models_that_all_counts_know() -> None:
    """The roofline is perfect where it is known, and so are the MACs there."""
    known = [
        point(f"k{index}", index * 1e6, macs=index * 1e9, params=(index % 3 + 1) * 1e6, roofline_ns=index * 1e5)
        for index in range(1, 8)
    ]
    strange = [point(f"s{index}", (9 - index) * 1e6, macs=index * 1e9, params=1e6) for index in range(1, 8)]
    found = _disagreement([*known, *strange])
    assert found.spearman["macs"].value is not None and found.spearman["macs"].value < 0.9
    assert found.spearman["roofline"].value == 1.0
    assert found.best_count == "macs"
    assert _disagreement(known[:4]).best_count is None


def _relative(model: str, ratio: float, image_ns: float, **facts: object) -> Point:
    facts = {"reference": "cpu-ref-1", "protocol_hash": "abc", **facts}
    return point(model, image_ns, macs=1e9, ratio=Interval(ratio, None, None), **facts)


def test_times_are_multiples_of_the_reference_where_all_have_the_same() -> None:
    # Raw times say b is slower, because its machine was in a bad mood; ratios say a is.
    a, b = _relative("a", 2.0, 1e6), _relative("b", 1.0, 4e6)
    limits = Limits(macs_ratio=1.0)
    assert _named(_disagreement([a, b], limits)) == [("a", "b")]
    other_reference = _relative("b", 1.0, 4e6, reference="cpu-ref-2")
    other_protocol = _relative("b", 1.0, 4e6, protocol_hash="def")
    no_ratio = point("b", 4e6, macs=1e9)
    for one in (other_reference, other_protocol, no_ratio):
        assert _named(_disagreement([a, one], limits)) == [("b", "a")]


def test_ratios_of_several_batches_are_taken_per_image() -> None:
    # Eight images in twice the time of one: a is the slower one, image for image.
    a, b = _relative("a", 2.0, 1e6), _relative("b", 4.0, 1e6, batch=8)
    whole = table_groups([a, b])[0]
    assert _named(disagreement(whole, Limits(macs_ratio=1.0))) == [("a", "b")]


def test_a_pair_far_down_a_long_table_is_found() -> None:
    # More rows than one part of the matrix of pairs holds.
    plain = [point(f"m{index}", 1e6, macs=1e9) for index in range(1_200)]
    assert _named(_disagreement([*plain, point("big_a", 1e6, macs=2e9), point("slow_a", 2e6, macs=1e9)])) == [
        ("slow_a", "big_a")
    ]


def test_measured_points_are_grouped_by_where_and_how_they_ran() -> None:
    points = [point("a"), point("a", backend="torch"), point("b"), point("a", batch=8), point("a", precision="fp16")]
    groups = measured_groups(points)
    assert [(one.backend, one.precision, one.batch, len(one.points)) for one in groups] == [
        ("ort", "fp32", 1, 2),
        ("torch", "fp32", 1, 1),
        ("ort", "fp32", 8, 1),
        ("ort", "fp16", 1, 1),
    ]


def test_tables_are_grouped_as_a_whole_and_then_by_batch() -> None:
    points = [point("a", batch=256), point("b", batch=32), point("c", batch=256)]
    groups = table_groups(points)
    assert [(one.batch, [member.model for member in one.points]) for one in groups] == [
        (None, ["a", "b", "c"]),
        (32, ["b"]),
        (256, ["a", "c"]),
    ]
    assert [one.batch for one in table_groups(points[:1])] == [None, 256]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=25))
def test_inversions_are_those_of_the_plain_double_loop(pairs: list[tuple[int, int]]) -> None:
    points = tuple(point(f"m{chr(97 + at)}", time * 1e6, macs=macs * 1e9) for at, (macs, time) in enumerate(pairs))
    found = disagreement(Group("local", "ort", "fp32", 1, points), all_pairs=True)
    expected = {
        (slower.model, faster.model)
        for slower in points
        for faster in points
        if slower.macs <= 0.7 * faster.macs and slower.image_ns >= 1.5 * faster.image_ns  # type: ignore[operator]
    }
    # In whole GMACs the border itself is hit by 7 of 10, 14 of 20, …, which floats decide as the loop does, or not.
    border = {(a.model, b.model) for a in points for b in points if a.macs * 10 == b.macs * 7}  # type: ignore[operator]
    assert set(_named(found)) - border == expected - border
    assert found.inversions_total == len(found.inversions)
    assert found.pairs == len(points) * (len(points) - 1) // 2
