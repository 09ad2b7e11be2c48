from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.points import point
from vitprof.analysis.verdicts import holm, pair_verdicts
from vitprof.comparisons import PairVerdict, Point
from vitprof.measurements import Interval
from vitprof.records import Verdict


def _verdicts(baseline: list[Point], candidate: list[Point]) -> tuple[PairVerdict, ...]:
    return pair_verdicts(baseline, candidate, baseline="ort", candidate="torch")


def _verdict(baseline: Point, candidate: Point) -> PairVerdict:
    [found] = _verdicts([baseline], [candidate])
    return found


def _around(value: float, half_share: float = 0.01) -> Interval:
    return Interval(value, value * (1 - half_share), value * (1 + half_share))


def _relative(ratio: float, latency_ns: float = 1e6, half_share: float = 0.01, **facts: object) -> Point:
    facts = {"reference": "cpu-ref-1", "protocol_hash": "abc123", "threads": 1, **facts}
    return point(ratio=_around(ratio, half_share), latency_ns=_around(latency_ns, half_share), **facts)


def test_the_ratio_goes_through_the_shared_reference_and_not_through_raw_time() -> None:
    # Raw time says twice as fast; the machine was twice as fast in that hour.
    found = _verdict(_relative(2.0, 2e6), _relative(2.2, 1.1e6))
    assert found.ratio is not None and found.ratio.value == pytest.approx(1.1)
    assert (found.baseline, found.candidate, found.verdict) == ("ort", "torch", Verdict.SLOWER)
    # 1 % and 1 % on the log scale: sqrt(ln(1/0.99)² + ln(1.01)²) below.
    assert found.ratio.low == pytest.approx(1.1 * math.exp(-math.hypot(math.log(1 / 0.99), math.log(1.01))))
    assert found.ratio.high == pytest.approx(1.1 * math.exp(math.hypot(math.log(1.01), math.log(1 / 0.99))))


@pytest.mark.parametrize(
    "change",
    [{"reference": "cpu-ref-2"}, {"device": "other"}, {"ratio": None}, {"environment": {"cpu": "B"}}],
)
def test_without_a_shared_reference_on_one_machine_raw_times_are_compared(change: dict[str, object]) -> None:
    baseline = _relative(2.0, 2e6, environment={"cpu": "A"})
    candidate = dataclasses.replace(_relative(2.2, 1.1e6, environment={"cpu": "A"}), **change)  # type: ignore[arg-type]
    found = _verdict(baseline, candidate)
    assert found.ratio is not None and found.ratio.value == pytest.approx(0.55)
    assert found.verdict is Verdict.FASTER


def test_a_ratio_without_intervals_is_undecided() -> None:
    found = _verdict(point(image_ns=2e6), point(image_ns=1e6))
    assert found.ratio == Interval(0.5, None, None) and found.verdict is Verdict.UNDECIDED


def test_unlike_protocols_are_not_compared() -> None:
    found = _verdict(_relative(2.0), _relative(2.0, protocol_hash="def456"))
    assert (found.ratio, found.verdict) == (None, None)
    assert found.confounders == ("protocol abc123 against def456",)
    assert _verdict(_relative(2.0), _relative(2.0, protocol_hash=None)).confounders == ("protocol abc123 against n/a",)


def test_confounders_are_listed_with_the_device_first() -> None:
    baseline = _relative(2.0, backend_version="1.0", environment={"cpu": "A", "governor": "powersave"})
    elsewhere = dataclasses.replace(
        baseline, device="pi5", threads=4, precision="fp16", backend_version="2.0", grade="C", environment={"cpu": "B"}
    )
    found = _verdict(baseline, elsewhere)
    assert found.verdict is not None
    assert found.confounders == (
        "device local against pi5",
        "threads 1 against 4",
        "precision fp32 against fp16",
        "backend version 1.0 against 2.0",
        "grade C of the candidate",
    )


def test_the_grade_that_counts_is_that_of_what_is_compared() -> None:
    drifting = _relative(2.0, grade="C", ratio_grade="A")
    assert _verdict(_relative(2.0), drifting).confounders == ()
    unsound = dataclasses.replace(drifting, ratio_grade="C")
    assert _verdict(unsound, drifting).confounders == ("grade C of the baseline",)
    # Without a common reference nanoseconds are compared.
    assert _verdict(_relative(2.0, reference="other"), drifting).confounders == ("grade C of the candidate",)


def test_on_one_device_what_lasts_of_the_environment_is_a_confounder() -> None:
    baseline = _relative(2.0, environment={"governor": "powersave", "cores": 4, "load_1min": 0.1, "kernel": "6.1"})
    candidate = dataclasses.replace(
        baseline, environment={"governor": "performance", "cores": 8, "load_1min": 3.0}, backend="torch"
    )
    assert _verdict(baseline, candidate).confounders == ("cores 4 against 8", "governor powersave against performance")


def test_another_backend_has_another_version_without_being_a_confounder() -> None:
    found = _verdict(_relative(2.0, backend_version="1"), _relative(2.0, backend="torch", backend_version="2"))
    assert found.confounders == ()


def test_models_meet_by_name_size_batch_and_precision_and_the_latest_counts() -> None:
    baseline = [
        _relative(1.0, started_at="2026-01-02T00:00:00Z"),
        _relative(9.0, started_at="2026-01-01T00:00:00Z"),
        _relative(1.0, precision="fp16"),
        _relative(1.0, batch=8),
    ]
    candidate = [_relative(2.0), _relative(3.0, precision="fp16"), _relative(5.0, size=(256, 256))]
    ratios = [found.ratio for found in _verdicts(baseline, candidate)]
    assert [round(ratio.value, 6) for ratio in ratios if ratio] == [2.0, 3.0]


def test_without_a_shared_precision_models_meet_all_the_same() -> None:
    [found] = _verdicts([_relative(1.0)], [_relative(2.0, precision="fp16")])
    assert found.confounders == ("precision fp32 against fp16",)


def test_intervals_are_widened_step_by_step_by_bonferroni_and_holm() -> None:
    # Three comparisons. The clearest is judged at 5 %/3, the next at 5 %/2, the last at 5 %.
    ratios = [_around(1.035, 0.01), _around(1.5, 0.01), _around(1.2, 0.01)]
    found = holm(ratios)
    normal = NormalDist()
    for index, comparisons in ((1, 3), (2, 2), (0, 1)):
        factor = normal.inv_cdf(1 - 0.025 / comparisons) / normal.inv_cdf(0.975)
        low = found[index][0].low
        assert low is not None
        assert math.log(ratios[index].value / low) == pytest.approx(factor * -math.log(0.99))
    assert [said for _, said in found] == [Verdict.SLOWER] * 3


def test_after_the_first_undecided_no_level_rises_any_more() -> None:
    undecided = [_around(1.02, 0.01), _around(1.0, 0.05)]
    found = holm([_around(1.5), *undecided])
    assert [said for _, said in found] == [Verdict.SLOWER, Verdict.UNDECIDED, Verdict.UNDECIDED]
    factor = NormalDist().inv_cdf(1 - 0.025 / 2) / NormalDist().inv_cdf(0.975)
    for (widened, _), ratio in zip(found[1:], undecided, strict=True):
        assert widened.low is not None and ratio.low is not None
        assert math.log(widened.value / widened.low) == pytest.approx(factor * math.log(ratio.value / ratio.low))


def test_a_pair_that_is_clear_alone_may_be_undecided_among_many() -> None:
    close = _around(1.0325, 0.01)
    assert holm([close])[0][1] is Verdict.SLOWER
    assert holm([close] * 20)[0][1] is Verdict.UNDECIDED


def test_an_interval_that_holds_no_time_gives_none() -> None:
    for low, high in ((-0.1, 2.1), (1.9, -2.1), (0.0, 2.1)):
        odd = dataclasses.replace(_relative(2.0), ratio=Interval(2.0, low, high))
        found = _verdict(odd, _relative(2.2))
        assert found.ratio is not None and found.ratio.low is None and found.verdict is Verdict.UNDECIDED


def test_what_has_no_interval_does_not_widen_the_others() -> None:
    alone, among = holm([_around(1.5)])[0][0], holm([_around(1.5), *[Interval(2.0, None, None)] * 9])[0][0]
    assert alone == among


def test_pairs_of_equal_speed_are_called_different_in_few_families() -> None:
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        # 20 pairs, truth on the border of the band: each alone would be called slower in 2.5 % of cases.
        logs = math.log(1.02) + random.normal(0, 0.01, 20)
        said = holm([Interval(*(math.exp(log + shift) for shift in (0, -0.0196, 0.0196))) for log in logs])
        wrong += any(one is Verdict.SLOWER for _, one in said)
    assert wrong / 200 <= 0.06


@given(st.lists(st.tuples(st.floats(0.5, 2), st.floats(0.001, 0.2)), min_size=1, max_size=12))
def test_holm_decides_no_more_than_each_alone_and_keeps_every_value_inside(pairs: list[tuple[float, float]]) -> None:
    ratios = [_around(value, half) for value, half in pairs]
    for ratio, (widened, said) in zip(ratios, holm(ratios), strict=True):
        assert widened.low is not None and widened.high is not None and ratio.low is not None and ratio.high is not None
        assert widened.low <= ratio.low * (1 + 1e-9) and ratio.high <= widened.high * (1 + 1e-9)
        assert widened.value == ratio.value
        [(_, alone)] = holm([ratio])
        assert said in (alone, Verdict.UNDECIDED)
