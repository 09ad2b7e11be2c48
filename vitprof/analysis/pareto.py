"""The Pareto front of accuracy against a cost, and who is beaten only within the cost's interval.

Its own file because it knows neither where accuracies nor where costs come from. A candidate is on the front if and
only if no other is at least as good on both and better on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitprof.analysis.intervals import Array
from vitprof.comparisons import FrontPoint
from vitprof.measurements import Interval

Indices = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True)
class Candidate:
    """A model with its accuracy and its cost; `low` and `high` of the cost are None where it is exact."""

    model: str
    size: tuple[int, int] | None
    accuracy: float
    cost: Interval


def front(candidates: Sequence[Candidate], *, is_cost_to_gain: bool = False) -> tuple[FrontPoint, ...]:
    """Each candidate with whether it is on the front, in the order given; `is_cost_to_gain`: the cost is to be high.

    A beaten candidate is `is_indistinguishable` where every cost that beats it overlaps its own. It is `dominated_by`
    the cheapest that surely beats it, else the cheapest that beats it by value.
    """
    accuracy = np.array([one.accuracy for one in candidates])
    # Columns: value, least and most; a cost to gain is one to pay with the sign turned.
    costs = np.array([_to_pay(one.cost, is_cost_to_gain) for one in candidates]).reshape(-1, 3)
    # Places in the order of who beats first: the cheapest, of equals the most accurate.
    places = np.argsort(np.lexsort((-accuracy, costs[:, 0])))
    return tuple(_placed(index, candidates, accuracy, costs, places) for index in range(len(candidates)))


def _to_pay(cost: Interval, is_gain: bool) -> tuple[float, float, float]:
    low, high = (cost.value if border is None else border for border in (cost.low, cost.high))
    return (-cost.value, -high, -low) if is_gain else (cost.value, low, high)


def _placed(index: int, candidates: Sequence[Candidate], accuracy: Array, costs: Array, places: Indices) -> FrontPoint:
    is_no_worse = (accuracy >= accuracy[index]) & (costs[:, 0] <= costs[index, 0])
    dominates = is_no_worse & ((accuracy > accuracy[index]) | (costs[:, 0] < costs[index, 0]))
    surely = dominates & (costs[:, 2] <= costs[index, 1])
    beaten_by = np.flatnonzero(surely if surely.any() else dominates)
    one = candidates[index]
    by = candidates[beaten_by[np.argmin(places[beaten_by])]] if beaten_by.size else None
    return FrontPoint(
        one.model,
        one.size,
        one.accuracy,
        one.cost,
        is_on_front=not dominates.any(),
        is_indistinguishable=bool(dominates.any() and not surely.any()),
        dominated_by=by.model if by else None,
        dominated_by_size=by.size if by else None,
    )
