"""Where counts and time disagree over the models of one group: correlations, the log–log fit, inversions.

Its own file beside `ranks`, which knows no models, and `reasons`, which knows one pair. An inversion is an ordered
pair of which `slower` has at most 0.7 times the MACs of `faster` and takes at least 1.5 times its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vitprof.analysis.families import family_of
from vitprof.analysis.intervals import Array
from vitprof.analysis.ranks import kendall_correlation, log_r2, spearman, spearman_correlation
from vitprof.analysis.reasons import reason
from vitprof.comparisons import Disagreement, Inversion, Limits, Point, comparable_times

# The counts that may predict time, by their names in a `Disagreement`.
COUNTS: dict[str, Callable[[Point], float | None]] = {
    "macs": lambda point: point.macs,
    "params": lambda point: point.params,
    "activations": lambda point: point.activations,
    "roofline": lambda point: point.roofline_ns,
}
# Pairs held at once: 8 MB a matrix of float64.
_CELLS_AT_ONCE = 1_000_000
_LIMITS = Limits()
Indices = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True)
class Group:
    """Points that may be compared with each other. `batch` None: every batch of a published table together."""

    device: str
    backend: str
    precision: str
    batch: int | None
    points: tuple[Point, ...]


def measured_groups(points: Iterable[Point]) -> tuple[Group, ...]:
    """One group per device, backend, precision and batch, in the order in which they first appear."""
    return _groups(points, lambda point: point.batch)


def table_groups(points: Iterable[Point]) -> tuple[Group, ...]:
    """Per device, backend and precision: all rows together (`batch` None), then one group per batch, ascending."""
    return tuple(
        group
        for whole in _groups(points, lambda _: None)
        for group in (whole, *sorted(measured_groups(whole.points), key=lambda one: one.batch or 0))
    )


def disagreement(
    group: Group, limits: Limits = _LIMITS, all_pairs: bool = False, most: int | None = None
) -> Disagreement:
    """What the points of `group` say; of each pair of families only the worst inversion unless `all_pairs`.

    `most`: no more rows of inversions than that, since reasons are sought for each. They are counted all the same.
    A count is correlated over the models for which it is known; inversions are sought among those with known MACs.
    """
    times = np.array(comparable_times(group.points))
    by_count = {name: _known(group.points, times, count) for name, count in COUNTS.items()}
    with_macs = [index for index, point in enumerate(group.points) if point.macs]
    points = [group.points[index] for index in with_macs]
    inversions = _Inversions(points, times[with_macs], limits)
    return Disagreement(
        group.device,
        group.backend,
        group.precision,
        group.batch,
        group.points,
        spearman={name: spearman_correlation(*known) for name, known in by_count.items()},
        kendall={name: kendall_correlation(*known) for name, known in by_count.items()},
        log_macs_r2=log_r2(*by_count["macs"]),
        inversions_total=inversions.slower.size,
        pairs=len(points) * (len(points) - 1) // 2,
        inversions=inversions.rows(all_pairs, most),
        best_count=_best_count(group.points, times),
    )


def _groups(points: Iterable[Point], batch_of: Callable[[Point], int | None]) -> tuple[Group, ...]:
    found: dict[tuple[str, str, str, int | None], list[Point]] = {}
    for point in points:
        found.setdefault((point.device, point.backend, point.precision, batch_of(point)), []).append(point)
    return tuple(Group(*key, points=tuple(members)) for key, members in found.items())


def _known(points: Sequence[Point], times: Array, count: Callable[[Point], float | None]) -> tuple[Array, Array]:
    """(counts, times) of the points whose count is known and above zero."""
    counts = np.array([count(point) or 0.0 for point in points])
    return counts[counts > 0], times[counts > 0]


def _best_count(points: Sequence[Point], times: Array) -> str | None:
    """The count with the highest Spearman over the models for which all of the group's counts are known.

    Not over each count's own models: a count known for the easy half would win.
    """
    usable = [name for name, count in COUNTS.items() if spearman(*_known(points, times, count)) is not None]
    shared = [index for index, point in enumerate(points) if all(COUNTS[name](point) for name in usable)]
    values = {
        name: spearman([COUNTS[name](points[index]) or 0.0 for index in shared], times[shared]) for name in usable
    }
    known = {name: value for name, value in values.items() if value is not None}
    return max(known, key=lambda name: known[name], default=None)


class _Inversions:
    """All inverted pairs as indices; reasons are sought only for the rows that are shown."""

    def __init__(self, points: Sequence[Point], times: Array, limits: Limits) -> None:
        self.points, self.times = points, times
        # In GMACs, as tables print them: whether 0.07 is at most 0.7 × 0.1 depends on the unit in binary floating
        # point, and the totals known of published tables were taken in this one.
        self.macs = np.array([point.macs or 0.0 for point in points]) / 1e9
        at_once = max(1, _CELLS_AT_ONCE // max(1, len(points)))
        parts = [self._found(start, start + at_once, limits) for start in range(0, len(points), at_once)]
        self.slower, self.faster = np.concatenate([np.empty((2, 0), dtype=np.int64), *parts], axis=1)

    def _found(self, start: int, stop: int, limits: Limits) -> Indices:
        has_fewer_macs = self.macs[start:stop, None] <= limits.macs_ratio * self.macs
        takes_longer = self.times[start:stop, None] >= limits.time_ratio * self.times
        slower, faster = np.nonzero(has_fewer_macs & takes_longer)
        return np.stack([slower + start, faster])

    def rows(self, all_pairs: bool, most: int | None = None) -> tuple[Inversion, ...]:
        """The worst first, at most so many; of each pair of families one, unless `all_pairs`."""
        macs_ratio = self.macs[self.slower] / self.macs[self.faster]
        time_ratio = self.times[self.slower] / self.times[self.faster]
        order = np.argsort(-time_ratio / macs_ratio, kind="stable")
        if not all_pairs:
            order = order[self._first_of_families(order)]
        return tuple(self._row(int(at), float(macs_ratio[at]), float(time_ratio[at])) for at in order[:most])

    def _first_of_families(self, order: Indices) -> Indices:
        names, codes = np.unique([family_of(point.model) for point in self.points] or [""], return_inverse=True)
        if not order.size:
            return order
        pairs = codes[self.slower[order]] * names.size + codes[self.faster[order]]
        return np.sort(np.unique(pairs, return_index=True)[1])

    def _row(self, at: int, macs_ratio: float, time_ratio: float) -> Inversion:
        slower, faster = self.points[int(self.slower[at])], self.points[int(self.faster[at])]
        return Inversion(slower, faster, macs_ratio, time_ratio, reason(slower, faster, time_ratio))
