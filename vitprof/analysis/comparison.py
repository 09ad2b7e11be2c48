"""Candidate against baseline: faster, slower, same or undecided.

From ratios paired round by round where both were measured in one group, else through the shared reference. The
verdict needs the whole interval on one side of the equivalence band: an interval that straddles it is `undecided`.
"""

from __future__ import annotations

import math

import numpy as np

from vitprof.analysis.intervals import Array, exponential, median_over_sets
from vitprof.analysis.steadiness import log_ratio
from vitprof.measurements import Interval, Samples, SetSamples
from vitprof.records import Verdict

# Differences below 2 % are of no use to anybody who chooses a model, and are what the code's place in memory does.
EQUIVALENCE_SHARE = 0.02


def paired_ratio(baseline: Samples, candidate: Samples) -> Interval | None:
    """Candidate's time ÷ baseline's, from the rounds that both took part in; None where they share no round."""
    differences = [
        _paired(of_baseline, of_candidate)
        for of_baseline, of_candidate in zip(baseline.sets, candidate.sets, strict=False)
    ]
    if not any(values.size for values in differences):
        return None
    return exponential(median_over_sets(differences))


def verdict(ratio: Interval, band: float = EQUIVALENCE_SHARE) -> Verdict:
    """What the interval of candidate ÷ baseline allows to say."""
    if ratio.low is None or ratio.high is None:
        return Verdict.UNDECIDED
    low, high = math.log(ratio.low), math.log(ratio.high)
    border = math.log1p(band)
    if -border <= low and high <= border:
        return Verdict.SAME
    if low > border:
        return Verdict.SLOWER
    return Verdict.FASTER if high < -border else Verdict.UNDECIDED


def _paired(baseline: SetSamples, candidate: SetSamples) -> Array:
    of_baseline, of_candidate = _by_round(baseline), _by_round(candidate)
    shared = sorted(of_baseline.keys() & of_candidate.keys())
    return np.array([of_candidate[index] - of_baseline[index] for index in shared])


def _by_round(samples: SetSamples) -> dict[int, float]:
    repeats = samples.ready.calls_per_sample
    return {round_.block.index: log_ratio(round_, repeats) for round_ in samples.rounds if not round_.is_warm_up}
