"""`vitprof pareto`: accuracies from one table, costs from another or from the store, and which models nothing beats.

Its own file beside `comparing`, which is about two counts of one thing and not about a trade.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitprof.analysis.disagreement import Group, measured_groups
from vitprof.analysis.pareto import Candidate, front
from vitprof.comparing import Choice, Sides, matching, stored_points
from vitprof.comparisons import FrontPoint, Point
from vitprof.counts import CostName
from vitprof.errors import UsageError
from vitprof.measurements import Interval
from vitprof.places import Places
from vitprof.store.tables import Accuracies, read_table
from vitprof.units import NOT_KNOWN

# As many as a line of an error can name.
_MOST_GROUPS = 6
# Costs of the model alone: the same on every device, whatever was measured.
_COUNTED = (CostName.MACS, CostName.PARAMS)


@dataclass(frozen=True)
class Source:
    """Where costs come from: a published table, else the store."""

    table: Path | None = None
    column_map: Path | None = None
    sides: Sides = Sides()  # noqa: RUF009 - a frozen value
    models: tuple[str, ...] = ()
    batch: int | None = None
    # Searched for in the model's name.
    match: str | None = None


@dataclass(frozen=True)
class Fronted:
    """The candidates with their places; `where`: device, backend, precision, batch. `left_out`: who has no place."""

    points: tuple[FrontPoint, ...]
    where: str
    left_out: tuple[str, ...]


def pareto(source: Source, accuracies: Accuracies, cost: CostName, places: Places) -> Fronted:
    """The front of accuracy against `cost`; `UsageError` where the costs are of more than one device or backend."""
    group = _one_group(_points(source, places), cost, source)
    candidates, left_out = [], []
    for point in group.points:
        found = accuracies.accuracy_of(point.model, point.size)
        value = _COSTS[cost](point)
        if found is None or value is None:
            what = f"no accuracy in {accuracies.path}" if found is None else f"no {cost}"
            left_out.append(f"{_named(point)}: {what}")
        else:
            candidates.append(Candidate(point.model, point.size, found.top1_percent, value))
    placed = front(candidates, is_cost_to_gain=cost is CostName.THROUGHPUT)
    return Fronted(placed, _where(group, cost), tuple(left_out))


def _points(source: Source, places: Places) -> list[Point]:
    if source.table is not None:
        points: Sequence[Point] = read_table(source.table, source.column_map).points
    else:
        points = stored_points(source.sides, places, source.models)
    found = [one for one in matching(points, Choice(match=source.match)) if source.batch in (None, one.batch)]
    if not found:
        where = source.table or f"the store {places.shown_store}"
        raise UsageError(
            f"{where} has no result of what was asked for",
            remedy="leave out --match, --batch, --backend or --device, or measure: vitprof latency MODEL…",
        )
    return found


def _one_group(points: Sequence[Point], cost: CostName, source: Source) -> Group:
    """The points that may stand on one axis; of a count that no device changes, one for each model and size."""
    if cost in _COUNTED:
        once = {(point.model, point.size): point for point in reversed(points)}
        return Group("", "", "", None, tuple(reversed(once.values())))
    groups = measured_groups(points)
    if len(groups) == 1:
        return groups[0]
    named = "; ".join(_where(group, cost) for group in groups[:_MOST_GROUPS])
    more = f" and {len(groups) - _MOST_GROUPS} more" if len(groups) > _MOST_GROUPS else ""
    remedy = "choose one with --batch" if source.table else "choose one with --backend, --device and --batch"
    raise UsageError(f"{cost} of {len(groups)} kinds cannot stand on one axis: {named}{more}", remedy=remedy)


def _where(group: Group, cost: CostName) -> str:
    if cost in _COUNTED:
        return ""
    known = [name for name in (group.device, group.backend, group.precision) if name != NOT_KNOWN]
    return ", ".join((*known, f"batch {group.batch}"))


def _named(point: Point) -> str:
    return f"{point.model} at {point.size[0]}x{point.size[1]}" if point.size else point.model


def _latency(point: Point) -> Interval | None:
    # A large batch's throughput inverted is no latency.
    return point.latency_ns


def _throughput(point: Point) -> Interval | None:
    per_image = point.latency_ns
    images = point.batch * 1e9
    if per_image is None:
        return Interval(1e9 / point.image_ns, None, None)
    # The slowest of the interval is the least throughput.
    low, high = (None if border is None else images / border for border in (per_image.high, per_image.low))
    return Interval(images / per_image.value, low, high)


def _exact(value: float | None) -> Interval | None:
    return None if value is None else Interval(value, None, None)


_COSTS: Mapping[CostName, Callable[[Point], Interval | None]] = {
    CostName.LATENCY: _latency,
    CostName.THROUGHPUT: _throughput,
    CostName.MACS: lambda point: _exact(point.macs),
    CostName.PARAMS: lambda point: _exact(point.params),
    CostName.MEMORY: lambda point: _exact(point.memory_bytes),
}
