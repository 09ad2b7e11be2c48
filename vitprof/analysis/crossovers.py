"""Where one model overtakes another along the batches or the sizes: "A is faster than B above batch 12".

Its own file beside `throughput`, which is about one curve: here two meet. At every batch or size that both were
measured at, the ratio of their times is judged as everywhere (`verdicts.holm`: the band of equivalence, intervals
widened for the number of comparisons). Where it changes sides, the place is interpolated between the two measured
ones, on logarithms of both the ratio and the axis. It is decided where each side holds a clear verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TypeVar

from vitprof.analysis.throughput import time_ratio
from vitprof.analysis.verdicts import holm
from vitprof.curves import Axis, Crossover, Curve, CurvePoint, PointOutcome
from vitprof.measurements import Interval
from vitprof.records import Verdict

_Place = tuple[int, int] | None
_Key = TypeVar("_Key")
_SIDES = {Verdict.SLOWER: 1, Verdict.FASTER: -1}


@dataclass(frozen=True)
class Meeting:
    """Two models at one place of an axis; `ratio`: time of the second ÷ time of the first."""

    at: float
    ratio: Interval
    verdict: Verdict


@dataclass(frozen=True)
class Crossing:
    """Where the ratio goes through 1; `first_is_above`: the first model is the faster one beyond it."""

    at: float
    between: tuple[float, float]
    first_is_above: bool
    is_decided: bool


@dataclass(frozen=True)
class _Pair:
    """Two models along an axis, the other one standing still."""

    axis: Axis
    first: str
    second: str
    spots: tuple[tuple[float, CurvePoint, CurvePoint], ...]
    batch: int | None = None
    size: _Place = None


def crossovers(curves: Sequence[Curve]) -> tuple[Crossover, ...]:
    """Every change of places between two of the curves: over batches at each size, then over sizes at each batch."""
    pairs = [one for one in (*_over_batches(curves), *_over_sizes(curves)) if len(one.spots) > 1]
    ratios = [[time_ratio(first, second) for _, first, second in pair.spots] for pair in pairs]
    judged = iter(holm([ratio for of_pair in ratios for ratio in of_pair]))
    found = []
    for pair in pairs:
        meetings = [Meeting(at, *next(judged)) for at, _, _ in pair.spots]
        found += [_crossover(pair, one) for one in crossings(meetings)]
    return tuple(found)


def crossings(meetings: Sequence[Meeting]) -> list[Crossing]:
    """Where the ratio of `meetings` (along a rising axis) changes sides.

    Between two clear verdicts for different models it is decided; a change that only one clear verdict, or none,
    stands beside is not. Between two clear verdicts for the same model it is noise. Who comes to be the same as the
    other, or always is, has not overtaken it.
    """
    clear = [index for index, one in enumerate(meetings) if one.verdict in _SIDES]
    ends = sorted({0, *clear, len(meetings) - 1})
    found = []
    for begin, end in pairwise(ends):
        turns = [index for index in range(begin, end) if _is_turn(meetings[index], meetings[index + 1])]
        # An even number of turns leads back to where it began.
        if len(turns) % 2:
            is_decided = begin in clear and end in clear
            if not is_decided and not any(one.verdict is Verdict.UNDECIDED for one in meetings[begin : end + 1]):
                continue
            span = (meetings[begin].at, meetings[end].at)
            found.append(Crossing(_middle(meetings, turns), span, meetings[end].ratio.value >= 1, is_decided))
    return found


def side_px(size: tuple[int, int]) -> float:
    """The side of the square with as many pixels."""
    return math.sqrt(size[0] * size[1])


def _is_turn(one: Meeting, after: Meeting) -> bool:
    return (one.ratio.value >= 1) != (after.ratio.value >= 1)


def _middle(meetings: Sequence[Meeting], turns: Sequence[int]) -> float:
    """The place of the turn; of several, which noise has made of one, their geometric mean."""
    places = [_zero(meetings[index], meetings[index + 1]) for index in turns]
    return math.exp(math.fsum(math.log(place) for place in places) / len(places))


def _zero(one: Meeting, after: Meeting) -> float:
    """Where the line between both goes through a ratio of 1, on logarithms; within the two, rounding or not."""
    begin, end = math.log(one.ratio.value), math.log(after.ratio.value)
    place = math.exp(math.log(one.at) + math.log(after.at / one.at) * begin / (begin - end))
    return min(max(place, one.at), after.at)


def _crossover(pair: _Pair, crossing: Crossing) -> Crossover:
    below, above = (pair.second, pair.first) if crossing.first_is_above else (pair.first, pair.second)
    return Crossover(pair.axis, below, above, crossing.at, crossing.between, crossing.is_decided, pair.batch, pair.size)


def _over_batches(curves: Sequence[Curve]) -> Iterator[_Pair]:
    for size, named in _by(curves, lambda curve: curve.size if _has_sizes(curves) else None).items():
        for first, second in combinations(named, 2):
            batches = [batch for batch in _batches(first) if batch in _batches(second)]
            spots = [(float(batch), _batches(first)[batch], _batches(second)[batch]) for batch in batches]
            yield _Pair(Axis.BATCH, first.name, second.name, tuple(spots), size=size)


def _over_sizes(curves: Sequence[Curve]) -> Iterator[_Pair]:
    by_name = _by(curves, lambda curve: curve.name)
    batches = sorted({batch for curve in curves for batch in _batches(curve)})
    for batch in batches:
        for first, second in combinations(by_name, 2):
            of_first, of_second = (_sizes(by_name[name], batch) for name in (first, second))
            shared = sorted(size for size in of_first if size in of_second)
            spots = [(side, of_first[side], of_second[side]) for side in shared]
            yield _Pair(Axis.SIZE, first, second, tuple(spots), batch=batch)


def _has_sizes(curves: Sequence[Curve]) -> bool:
    """Whether one model was measured at several sizes; models that differ in their own are compared all the same."""
    return len(curves) > len({curve.name for curve in curves})


def _batches(curve: Curve) -> Mapping[int, CurvePoint]:
    return {
        one.batch: one
        for one in curve.points
        if one.outcome is PointOutcome.OK and one.images_per_s is not None and not one.is_broken
    }


def _sizes(curves: Sequence[Curve], batch: int) -> Mapping[float, CurvePoint]:
    return {
        side_px(curve.size): point
        for curve in curves
        if curve.size and (point := _batches(curve).get(batch)) is not None
    }


def _by(curves: Sequence[Curve], key: Callable[[Curve], _Key]) -> dict[_Key, list[Curve]]:
    found: dict[_Key, list[Curve]] = {}
    for curve in curves:
        found.setdefault(key(curve), []).append(curve)
    return found
