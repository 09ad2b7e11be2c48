from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitprof.analysis.ranks import (
    LEAST_MODELS,
    LEAST_MODELS_FOR_INTERVAL,
    kendall,
    kendall_correlation,
    log_r2,
    spearman,
    spearman_correlation,
)

_lists = st.integers(LEAST_MODELS, 40).flatmap(
    lambda size: st.tuples(*[st.lists(st.integers(0, 9).map(float), min_size=size, max_size=size)] * 2)
)


def _with_ties(random: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    x = random.integers(0, max(3, size // 4), size).astype(float)
    return x, np.round(x + random.normal(0, 2, size))


@pytest.mark.parametrize("size", [5, 8, 30, 400])
def test_both_coefficients_are_scipy_s_with_ties(size: int) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(size)
    for _ in range(20):
        x, y = _with_ties(random, size)
        if np.ptp(x) and np.ptp(y):
            assert spearman(x, y) == pytest.approx(scipy_stats.spearmanr(x, y).statistic, abs=1e-12)
            assert kendall(x, y) == pytest.approx(scipy_stats.kendalltau(x, y).statistic, abs=1e-12)


def test_kendall_in_more_parts_than_one_is_the_same() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    # 1,500 squared is above what one part holds.
    x, y = _with_ties(np.random.default_rng(0), 1_500)
    assert kendall(x, y) == pytest.approx(scipy_stats.kendalltau(x, y).statistic, abs=1e-12)


def test_tau_b_of_a_list_worked_out_by_hand() -> None:
    # Ten pairs: eight in the same order, one swapped (3, 2), one tied in y (4, 4): (8 − 1) / sqrt(10 · 9).
    assert kendall([1, 2, 3, 4, 5], [1, 3, 2, 4, 4]) == pytest.approx(7 / math.sqrt(90))


def test_the_bootstrap_resamples_models_with_ties_as_scipy_would() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    x, y = _with_ties(np.random.default_rng(1), 40)
    random = np.random.default_rng(2)
    drawn = [
        scipy_stats.spearmanr(x[picks], y[picks]).statistic
        for picks in (random.integers(0, 40, 40) for _ in range(1_000))
    ]
    found = spearman_correlation(x, y, seed=3)
    # Two bootstraps of 1,000 resamples differ by less than this at their 2.5 % points.
    assert (found.low, found.high) == (
        pytest.approx(np.quantile(drawn, 0.025), abs=0.05),
        pytest.approx(np.quantile(drawn, 0.975), abs=0.05),
    )


def test_the_same_seed_gives_the_same_interval() -> None:
    x, y = _with_ties(np.random.default_rng(4), 30)
    assert spearman_correlation(x, y, seed=1) == spearman_correlation(x, y, seed=1)
    assert spearman_correlation(x, y, seed=1) != spearman_correlation(x, y, seed=2)


def test_kendall_s_interval_is_hollander_and_wolfe_s_worked_out_by_hand() -> None:
    # One swap of neighbours among eight: C is 7 for six models and 5 for the two; tau = 52/56.
    x, y = [1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 3, 4, 5, 6, 7, 8]
    tau = 52 / 56
    # Mean of C 6.5: 6 · 0.25 + 2 · 2.25 = 6.
    variance = 2 / (8 * 7) * (2 * 6 / (8 * 7**2) * 6 + 1 - tau**2)
    half = 1.96 * math.sqrt(variance) / (1 - tau**2)
    found = kendall_correlation(x, y)
    assert (found.value, found.low, found.high) == (
        pytest.approx(tau),
        pytest.approx(math.tanh(math.atanh(tau) - half)),
        pytest.approx(math.tanh(math.atanh(tau) + half)),
    )


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    # Of two normal variables with correlation 0.8: Kendall 2/π · asin ρ, Spearman 6/π · asin(ρ/2).
    truth = 6 / math.pi * math.asin(0.4), 2 / math.pi * math.asin(0.8)
    random = np.random.default_rng(5)
    hits = np.zeros(2)
    for trial in range(200):
        x = random.normal(size=30)
        y = 0.8 * x + 0.6 * random.normal(size=30)
        for which, found in enumerate((spearman_correlation(x, y, trial), kendall_correlation(x, y))):
            assert found.low is not None and found.high is not None
            hits[which] += found.low <= truth[which] <= found.high
    assert (hits >= 180).all()


@given(_lists)
def test_coefficients_lie_in_bounds_and_turn_with_the_order(lists: tuple[list[float], list[float]]) -> None:
    x, y = lists
    for coefficient in (spearman, kendall):
        value = coefficient(x, y)
        assert (value is None) == (len(set(x)) == 1 or len(set(y)) == 1)
        if value is not None:
            assert -1 - 1e-12 <= value <= 1 + 1e-12
            assert coefficient(x, [-one for one in y]) == pytest.approx(-value)
            assert coefficient(y, x) == pytest.approx(value)


@given(_lists)
def test_an_interval_lies_within_bounds_and_kendall_s_around_its_value(lists: tuple[list[float], list[float]]) -> None:
    for found in (spearman_correlation(*lists), kendall_correlation(*lists)):
        assert (found.low is None) == (found.high is None)
        if found.low is not None and found.high is not None:
            assert -1 - 1e-12 <= found.low <= found.high <= 1 + 1e-12
    tau = kendall_correlation(*lists)
    assert tau.low is None or (tau.value is not None and tau.high is not None and tau.low <= tau.value <= tau.high)


def test_too_few_models_have_no_coefficient_and_few_have_no_interval() -> None:
    few, some, enough = LEAST_MODELS - 1, LEAST_MODELS_FOR_INTERVAL - 1, LEAST_MODELS_FOR_INTERVAL
    for coefficient in (spearman_correlation, kendall_correlation):
        swapped = [[1.0, 0.0, *map(float, range(2, size))] for size in (few, some, enough)]
        found = [coefficient(sorted(one), one) for one in swapped]
        assert [one.value is None for one in found] == [True, False, False]
        assert [one.low is None for one in found] == [True, True, False]
    assert log_r2([1, 2, 3, 4], [1, 2, 3, 4]) is None


def test_perfect_agreement_has_no_interval_of_a_single_point() -> None:
    numbers = list(map(float, range(20)))
    for found in (spearman_correlation(numbers, numbers), kendall_correlation(numbers, numbers)):
        assert (found.value, found.low, found.high) == (pytest.approx(1.0), None, None)


def test_the_fit_is_on_logarithms() -> None:
    x = np.array([1.0, 10.0, 100.0, 1_000.0, 10_000.0])
    assert log_r2(x, 3 * x**0.7) == pytest.approx(1.0)
    # log10 y is 0 1 0 1 0 against −2 … 2: no slope at all.
    assert log_r2(x, [1, 10, 1, 10, 1]) == pytest.approx(0.0)
    assert log_r2(x, [5, 5, 5, 5, 5]) is None
