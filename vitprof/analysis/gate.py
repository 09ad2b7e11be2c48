"""The rule of the regression gate: is the candidate slower than the baseline by more than is allowed?

    d        log(candidate ÷ baseline), each the weighted mean over its runs: weights 1 / (s² + τ²), s the standard
             error of a run by its own interval, τ what the runs differ by beyond that (DerSimonian and Laird)
    low      d − 1.645 standard errors: in 95 of 100 cases the slow-down is larger
    noise    3 τ of the baseline's runs; of a single run 3 τ of its sets: moods of a machine last for sets and for runs
    slower   low lies above the limit and above the noise, and the excess is over the floor
    fine     d + 1.645 standard errors, and what the noise is beyond the limit, lie below the limit or below the floor

Its own file, pure, because it must be tried on recorded noise, hundreds of times (`tests/benchmarks/gate.py`). Who is
measured once more, and when, is `gating`'s; here a candidate has one run or two, and two are one estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitprof.analysis.intervals import between, between_sets
from vitprof.analysis.steadiness import log_ratio
from vitprof.gates import GateVerdict, Judgement
from vitprof.measurements import Interval, Samples
from vitprof.units import text_from_ns, text_from_share

# 95 % on one side: a gate asks whether the candidate is slower, not whether it differs.
_ONE_SIDED_95 = 1.645
_TWO_SIDED_95 = 1.960
# Three standard deviations, as gates of others take it; of five runs it is what a sixth stays below in 97 of 100 cases.
_NOISE_SIGMAS = 3.0
# Shorter than what a call of an empty model takes in some runtimes: nobody waits for it.
FLOOR_NS = 20_000
# Counts of one artifact differ by up to 2.4e-5 from process to process (docs/decisions/0025).
_COUNT_NOISE = 1e-4
# A baseline that is known worse than to this share of the limit cannot tell a slow-down by the limit from none.
_BASELINE_SHARE = 0.5


@dataclass(frozen=True)
class RunRatio:
    """What one run says of a cell: time ÷ the reference's, with its 95 % interval."""

    ratio: Interval
    # The median call, for the floor.
    latency_ns: float | None = None
    # τ of its sets on the log scale; None: its samples were not kept.
    between_sets: float | None = None


def judged(candidate: Sequence[RunRatio], baseline: Sequence[RunRatio], limit_share: float) -> Judgement:
    """What the candidate's runs (one, or two after it was measured once more) say against the baseline's."""
    if any(_standard_error(one.ratio) is None for one in (*candidate, *baseline)):
        return Judgement(GateVerdict.UNDECIDED, "a ratio has no interval: too few rounds were counted")
    ours, theirs = _pooled(candidate), _pooled(baseline)
    spread = theirs.between if len(baseline) > 1 else baseline[0].between_sets
    baseline_ns = _middle([one.latency_ns for one in baseline])
    return _judged(
        ours.centre - theirs.centre,
        math.hypot(ours.error, theirs.error),
        limit_share,
        noise=None if spread is None else _NOISE_SIGMAS * spread,
        baseline_ns=baseline_ns,
    )


def judged_pair(ratio: Interval, baseline_ns: float | None, limit_share: float) -> Judgement:
    """What a ratio taken round by round says: both saw the same moods of the machine, so there is no noise of runs."""
    error = _standard_error(ratio)
    if error is None:
        return Judgement(GateVerdict.UNDECIDED, "the ratio has no interval: too few rounds were counted")
    return _judged(math.log(ratio.value), error, limit_share, noise=None, baseline_ns=baseline_ns)


def judged_counts(candidate: int, baseline: Sequence[int], limit_share: float) -> Judgement:
    """What counts of executed instructions say: they hardly vary, so nothing is undecided but a tie with the limit."""
    centre = math.log(candidate / float(np.median(baseline)))
    return _judged(centre, _COUNT_NOISE / _ONE_SIDED_95, limit_share, noise=None, baseline_ns=None)


def between_sets_of(samples: Samples) -> float | None:
    """τ of the sets of one run on the log scale; None where there are fewer than two.

    A set in which the reference was lost has no ratios: those of the others make up `relative.ratio` as well.
    """
    counted = [(one.ready, [each for each in one.rounds if not each.is_warm_up]) for one in samples.sets]
    return between_sets(
        [
            np.array([log_ratio(one, ready.calls_per_sample) for one in rounds])
            for ready, rounds in counted
            if all(one.reference_before_ns for one in rounds)
        ]
    )


def has_moved(newer: Sequence[RunRatio], older: Sequence[RunRatio], limit_share: float) -> Literal[-1, 0, 1]:
    """Whether runs lie apart from those before them by more than the limit and their noise: 1 above, -1 below."""
    if any(_standard_error(one.ratio) is None for one in (*newer, *older)):
        return 0
    now, before = _pooled(newer), _pooled(older)
    step = now.centre - before.centre
    least = abs(step) - _ONE_SIDED_95 * math.hypot(now.error, before.error)
    if least <= max(math.log1p(limit_share), _NOISE_SIGMAS * before.between):
        return 0
    return 1 if step > 0 else -1


def half_width_share(baseline: Sequence[RunRatio]) -> float | None:
    """Half the 95 % interval of the baseline's runs together, as a share; None where one of them has none."""
    if any(_standard_error(one.ratio) is None for one in baseline):
        return None
    return math.expm1(_TWO_SIDED_95 * _pooled(baseline).error)


def is_sharp(baseline: Sequence[RunRatio], limit_share: float) -> bool:
    """Whether the baseline is known well enough to tell a slow-down by the limit."""
    width = half_width_share(baseline)
    return width is not None and width <= sharpness(limit_share)


def sharpness(limit_share: float) -> float:
    """Half the interval that a baseline may have at most."""
    return _BASELINE_SHARE * limit_share


@dataclass(frozen=True)
class _Estimate:
    """On the log scale: the weighted mean of runs, its standard error, and τ between the runs."""

    centre: float
    error: float
    between: float


def _judged(
    centre: float, error: float, limit_share: float, *, noise: float | None, baseline_ns: float | None
) -> Judgement:
    low, high = centre - _ONE_SIDED_95 * error, centre + _ONE_SIDED_95 * error
    limit, spread = math.log1p(limit_share), noise or 0.0
    excess_ns = None if baseline_ns is None else baseline_ns * math.expm1(centre)
    # What the noise is beyond the limit may hide as much.
    most = high + max(0.0, spread - limit)
    most_ns = None if baseline_ns is None else baseline_ns * math.expm1(most)
    is_above = low > max(limit, spread)
    is_small = excess_ns is not None and excess_ns <= FLOOR_NS
    if is_above and not is_small:
        verdict, reason = GateVerdict.SLOWER, f"the interval lies above {_percent(max(limit, spread))}"
    elif is_above:
        verdict, reason = GateVerdict.FINE, f"slower, but by {text_from_ns(excess_ns)} only"
    elif most <= limit:
        verdict, reason = GateVerdict.FINE, ""
    elif most_ns is not None and most_ns <= FLOOR_NS:
        verdict, reason = GateVerdict.FINE, f"slower by {text_from_ns(most_ns)} at most"
    elif spread > limit:
        verdict = GateVerdict.UNDECIDED
        reason = f"the baseline's own runs differ by up to {_percent(spread)}, more than the limit of {_percent(limit)}"
    else:
        verdict, reason = GateVerdict.UNDECIDED, f"the limit of {_percent(limit)} lies within the interval"
    ratio = Interval(math.exp(centre), math.exp(low), math.exp(high))
    return Judgement(verdict, reason, ratio, None if noise is None else math.exp(noise), excess_ns)


def _pooled(runs: Sequence[RunRatio]) -> _Estimate:
    effects = np.array([math.log(one.ratio.value) for one in runs])
    variances = np.array([(_standard_error(one.ratio) or 0.0) ** 2 for one in runs])
    if len(runs) == 1:
        return _Estimate(float(effects[0]), math.sqrt(variances[0]), 0.0)
    # Runs of virtual time may have no error at all.
    variances = np.maximum(variances, 1e-12)
    spread = between(effects, variances)
    weights = 1 / (variances + spread)
    centre = float(np.average(effects, weights=weights))
    return _Estimate(centre, 1 / math.sqrt(float(weights.sum())), math.sqrt(spread))


def _standard_error(ratio: Interval) -> float | None:
    # One that was imported may be anything.
    if ratio.low is None or ratio.high is None or not 0 < ratio.low <= ratio.high:
        return None
    return math.log(ratio.high / ratio.low) / (2 * _TWO_SIDED_95)


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _percent(log_share: float) -> str:
    return text_from_share(math.expm1(log_share))
