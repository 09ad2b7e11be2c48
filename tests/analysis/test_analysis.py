from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.series import samples_from_ratios
from vitprof.analysis.comparison import paired_ratio, verdict
from vitprof.analysis.intervals import exponential, median_over_sets, t_95
from vitprof.analysis.steadiness import is_warm, spread, trend, two_speeds
from vitprof.analysis.summary import summarise
from vitprof.measurements import Grade, Interval
from vitprof.protocols import protocol
from vitprof.records import Verdict


def test_the_t_table_is_scipy_s() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    for degrees in range(1, 60):
        assert t_95(degrees) == pytest.approx(scipy_stats.t.ppf(0.975, degrees), rel=2e-3)


def test_sets_of_equal_scatter_weigh_the_same() -> None:
    sets = [np.array([1.0, 2.0, 3.0]), np.array([3.0, 4.0, 5.0])]
    assert median_over_sets(sets).value == pytest.approx(3.0)


def test_a_noisy_set_weighs_less_than_a_quiet_one() -> None:
    random = np.random.default_rng(0)
    quiet, noisy = random.normal(0.0, 0.005, 30), random.normal(0.1, 0.2, 30)
    assert abs(median_over_sets([quiet, quiet + 0.001, noisy]).value) < 0.02


def test_sets_that_differ_by_more_than_their_rounds_take_hartung_and_knapp_s_t_interval() -> None:
    # Without scatter inside the sets all weights are equal, and the interval is Student's over the medians.
    sets = [np.full(50, value) for value in (1.0, 2.0, 3.0)]
    interval = median_over_sets(sets)
    half = 4.303 * 1.0 / math.sqrt(3)
    assert (interval.low, interval.high) == (pytest.approx(2 - half), pytest.approx(2 + half))


def test_one_set_has_the_t_interval_of_a_median() -> None:
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    # The median absolute deviation is 1, shared and own alike; four degrees of freedom.
    half = 2.776 * 1.4826 * math.sqrt(math.pi / 2 / 5)
    assert median_over_sets([values]).high == pytest.approx(half)


def test_one_round_has_no_interval() -> None:
    interval = median_over_sets([np.array([1.0])])
    assert (interval.low, interval.high, interval.half_width_share) == (None, None, None)


@given(st.lists(st.lists(st.floats(-1, 1), min_size=2, max_size=30), min_size=1, max_size=4))
def test_an_interval_holds_its_value_and_lies_within_reach_of_the_data(sets: list[list[float]]) -> None:
    interval = median_over_sets([np.array(values) for values in sets])
    assert interval.low is not None and interval.high is not None
    assert interval.low <= interval.value + 1e-12 and interval.value - 1e-12 <= interval.high
    ratio = exponential(interval)
    assert ratio.low is not None and ratio.low > 0


def test_intervals_of_known_noise_hold_the_truth_about_as_often_as_they_say() -> None:
    def share_that_hold(between: float) -> float:
        random = np.random.default_rng(0)
        hits = 0
        for _ in range(400):
            sets = [random.normal(random.normal(0, between), 0.02 * random.choice([1, 3]), 25) for _ in range(5)]
            interval = median_over_sets(sets)
            assert interval.low is not None and interval.high is not None
            hits += interval.low <= 0 <= interval.high
        return hits / 400

    assert share_that_hold(between=0.0) >= 0.93
    # Five processes that differ as much as their rounds do are the worst case: 90 %.
    assert share_that_hold(between=0.005) >= 0.88
    assert share_that_hold(between=0.03) >= 0.92


def test_the_trend_is_the_theil_sen_slope_over_the_series() -> None:
    assert trend([0.0, 1.0, 2.0, 3.0]) == pytest.approx(3.0)
    assert trend([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 600.0]) == pytest.approx(6.0)
    assert trend([5.0]) == 0.0
    scipy_stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(1).normal(size=17)
    assert trend(values) == pytest.approx(scipy_stats.theilslopes(values).slope * 16)


def test_warm_means_like_its_neighbours_and_without_trend() -> None:
    rules = protocol()
    steady, falling, jumping = [0.0] * 5, [0.2, 0.16, 0.12, 0.08, 0.04], [0.0] * 6 + [0.12, 0.0]
    assert is_warm(steady, 400_000_000, rules)
    assert not is_warm(steady, 200_000_000, rules), "floor of 0.3 s"
    assert not is_warm(steady[:4], 400_000_000, rules), "five blocks"
    assert not is_warm(falling, 400_000_000, rules)
    assert is_warm(jumping, 400_000_000, rules), "one bad moment"
    assert is_warm([0.0, 0.12, 0.0, 0.12, 0.0, 0.12, 0.0], 400_000_000, rules), "noise without trend"
    assert is_warm([0.3, 0.0, 0.0], 3_100_000_000, rules) is False
    assert is_warm([0.0, 0.01], 3_100_000_000, rules), "calls of seconds reach the cap before five blocks"


def test_two_speeds_are_found_with_their_shares() -> None:
    random = np.random.default_rng(0)
    mixed = np.concatenate([random.normal(4.0, 0.04, 60), random.normal(5.6, 0.05, 40)])
    found = two_speeds(list(mixed))
    assert found and found == (pytest.approx(4.0, rel=0.01), pytest.approx(5.6, rel=0.01), 0.4)
    assert two_speeds(list(random.normal(4.0, 0.3, 100))) is None
    assert two_speeds([4.0] * 100) is None
    assert two_speeds([4.0] * 98 + [8.0] * 2) is None, "two slow blocks are outliers, not a speed"


def test_spread_leaves_the_worst_blocks_out() -> None:
    assert spread([4.0] * 95 + [40.0] * 5) == 0.0


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.99, 1.01, Verdict.SAME),
        (1.03, 1.08, Verdict.SLOWER),
        (0.90, 0.97, Verdict.FASTER),
        (1.00, 1.03, Verdict.UNDECIDED),
        (0.90, 1.10, Verdict.UNDECIDED),
        (None, None, Verdict.UNDECIDED),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(low: float | None, high: float | None, said: Verdict) -> None:
    assert verdict(Interval(1.0, low, high)) is said


def test_pairs_are_taken_round_by_round() -> None:
    mood = np.random.default_rng(0).normal(0, 0.2, (3, 20))
    baseline = samples_from_ratios([np.exp(one) for one in mood])
    candidate = samples_from_ratios([1.05 * np.exp(one) for one in mood])
    ratio = paired_ratio(baseline, candidate)
    assert ratio and ratio.value == pytest.approx(1.05)
    assert verdict(ratio) is Verdict.SLOWER


def test_percentiles_are_given_only_where_there_are_samples_enough() -> None:
    def of(blocks: int) -> tuple[bool, bool]:
        summary = summarise(
            samples_from_ratios([np.ones(blocks)], calls=10), protocol(), batch=1, macs_per_image=None,
            reference_long_run_ns=None,
        )  # fmt: skip
        assert summary
        return summary.latency.p90_ns is not None, summary.latency.p99_ns is not None

    assert of(9) == (False, False)
    assert of(10) == (True, False)
    assert of(100) == (True, True)


def test_throughput_and_achieved_macs_follow_from_the_median() -> None:
    summary = summarise(
        samples_from_ratios([np.ones(20)], reference_ns=2_000_000), protocol(), batch=4, macs_per_image=1_000_000,
        reference_long_run_ns=None,
    )  # fmt: skip
    assert summary
    assert summary.throughput_images_per_s == pytest.approx(4 / 0.002)
    assert summary.achieved_macs_per_s == pytest.approx(4e6 / 0.002)


def _graded(**facts: object) -> tuple[Grade, Grade, set[str]]:
    summary = summarise(
        samples_from_ratios(**facts),  # type: ignore[arg-type]
        protocol(),
        batch=1,
        macs_per_image=None,
        reference_long_run_ns=None,
    )
    assert summary and summary.relative
    return summary.grade, summary.relative.grade, {doubt.code for doubt in summary.warnings}


def _sets(sigma: float = 0.002, drift: float = 0.0) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [np.exp(random.normal(0, sigma, 30) + np.linspace(0, drift, 30)) for _ in range(3)]


def test_a_steady_series_is_graded_a() -> None:
    assert _graded(sets=_sets()) == (Grade.A, Grade.A, set())


def test_a_missed_interval_is_graded_b() -> None:
    absolute, relative, codes = _graded(sets=_sets(sigma=0.2))
    assert relative is Grade.B and "interval missed" in codes and absolute is not Grade.A


def test_a_drifting_series_is_graded_c() -> None:
    _, relative, codes = _graded(sets=_sets(drift=0.08))
    assert relative is Grade.C and "drifting" in codes


def test_nothing_falls_by_more_than_all_of_it() -> None:
    # From 1 to a quarter, evenly on logarithms.
    series = np.exp(np.linspace(0, math.log(0.25), 30))
    samples = samples_from_ratios([series] * 3)
    summary = summarise(samples, protocol(), batch=1, macs_per_image=None, reference_long_run_ns=None)
    assert summary is not None
    [told] = [doubt.detail for doubt in summary.warnings if doubt.code == "drifting"]
    assert "moved by -75.0% or more" in told


def test_an_unsteady_reference_caps_the_absolute_grade_only() -> None:
    random = np.random.default_rng(4)
    absolute, relative, codes = _graded(sets=_sets(), reference_mood=np.exp(random.normal(0, 0.1, 30)))
    assert (absolute, relative) == (Grade.B, Grade.A) and "unsteady machine" in codes


def test_a_warm_up_that_was_not_reached_is_graded_c() -> None:
    absolute, relative, codes = _graded(sets=_sets(), is_warm=False)
    assert (absolute, relative) == (Grade.C, Grade.C) and "warm-up not reached" in codes


def test_disturbed_blocks_are_kept_marked_and_graded_c() -> None:
    absolute, relative, codes = _graded(sets=_sets(), queue_delay_share=0.2)
    assert (absolute, relative) == (Grade.C, Grade.C) and "disturbed" in codes


def test_throttling_is_graded_c() -> None:
    _, relative, codes = _graded(sets=_sets(), throttles=True)
    assert relative is Grade.C and "throttled" in codes


def test_no_call_takes_less_than_no_time_however_the_reference_spreads() -> None:
    moods = np.array([1.0] * 8 + [4.0] * 2)
    samples = samples_from_ratios([np.full(20, 2.0)] * 5, reference_mood=moods)
    summary = summarise(samples, protocol(), batch=1, macs_per_image=None, reference_long_run_ns=None)
    assert summary is not None and summary.relative is not None and summary.relative.reference_spread > 2
    assert summary.latency.p50_ns.low == 0 and summary.relative.ratio.value == pytest.approx(2.0)
