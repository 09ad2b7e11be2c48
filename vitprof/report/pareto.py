"""A Pareto front in words and tables: who is on it, who cannot be told from it, who is beaten by whom.

Its own file for what each cost is called, its unit, and whether more of it is better; the picture and the JSON read
that here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitprof.comparisons import FrontPoint
from vitprof.report.columns import Column, counts_column, times_column
from vitprof.report.comparison import counted
from vitprof.report.sections import Section
from vitprof.units import NOT_KNOWN, significant


@dataclass(frozen=True)
class CostUnit:
    """How a cost is spoken of. `unit`: of the numbers that are compared."""

    head: str
    unit: str
    is_gain: bool = False


COSTS = {
    "latency": CostUnit("latency", "ns"),
    "throughput": CostUnit("throughput", "images/s", is_gain=True),
    "macs": CostUnit("MACs", "MACs"),
    "params": CostUnit("parameters", "parameters"),
    "memory": CostUnit("memory", "B"),
}
# What is had for a cost, as the axis of a picture calls it: accuracies, or where none are known the work done.
GAINS = {"accuracy": "top-1 accuracy, %", "macs": "MACs of one image"}


def front_sections(
    points: Sequence[FrontPoint], cost: str, *, where: str = "", with_dominated: bool = False
) -> tuple[Section, ...]:
    """What `pareto` shows: the front, then who cannot be told from it, and where asked for who is beaten.

    `cost`: a name of `COSTS`. `where` (device, backend, batch) ends the title.
    """
    if not points:
        return (Section("no model has both an accuracy and a cost"),)
    front = [point for point in points if point.is_on_front]
    close = [point for point in points if not point.is_on_front and point.is_indistinguishable]
    beaten = [point for point in points if not point.is_on_front and not point.is_indistinguishable]
    better = "more" if COSTS[cost].is_gain else "less"
    title = f"Pareto front: accuracy against {COSTS[cost].head}, {counted(len(points), 'model')}"
    title += f", {where}" if where else ""
    facts = f"{counted(len(front), 'model')} on the front: no other is at least as accurate for {better}."
    with_size = len({point.size for point in points}) > 1
    sections = [Section(title, (facts,), front_columns(front, cost, with_size), level=1)]
    if close:
        fact = "Beaten by value, but the intervals of the cost overlap."
        sections.append(
            Section(
                "Not distinguishable from the front", (fact,), front_columns(close, cost, with_size, is_beaten=True)
            )
        )
    if beaten and with_dominated:
        sections.append(Section("Dominated", (), front_columns(beaten, cost, with_size, is_beaten=True)))
    elif beaten:
        sections.append(Section("Dominated", (f"{counted(len(beaten), 'model')}: --all shows them.",)))
    return tuple(sections)


def by_cost(points: Sequence[FrontPoint], cost: str) -> list[FrontPoint]:
    """The points from the cheapest to the dearest, the more accurate of equals first."""
    sign = -1 if COSTS[cost].is_gain else 1
    return sorted(points, key=lambda point: (sign * point.cost.value, -point.accuracy, point.model))


def front_columns(
    points: Sequence[FrontPoint], cost: str, with_size: bool, *, is_beaten: bool = False, gain: str = "accuracy"
) -> tuple[Column, ...]:
    """The points from the cheapest on; `gain`, a name of `GAINS`: what their `accuracy` is."""
    ordered = by_cost(points, cost)
    values = [point.cost.value for point in ordered]
    head = COSTS[cost].head
    column = {
        "latency": lambda: times_column(head, values),
        "memory": lambda: counts_column("B", values),
        "macs": lambda: counts_column("MACs", values),
        "params": lambda: counts_column(" parameters", values),
        "throughput": lambda: Column("images/s", tuple(significant(value) for value in values)),
    }[cost]()
    columns = [Column("model", tuple(point.model for point in ordered), is_number=False)]
    if with_size:
        sizes = tuple(f"{point.size[0]}x{point.size[1]}" if point.size else NOT_KNOWN for point in ordered)
        columns.append(Column("size", sizes, is_number=False))
    gains = [point.accuracy for point in ordered]
    columns += [
        counts_column("MACs", gains) if gain == "macs" else Column("accuracy", tuple(map(significant, gains))),
        column,
    ]
    halves = tuple(_half_width(point) for point in ordered)
    if set(halves) != {NOT_KNOWN}:
        columns.append(Column("±95%", halves, spare=1))
    if is_beaten:
        columns.append(Column("by", tuple(_beaten_by(point, with_size) for point in ordered), is_number=False))
    return tuple(columns)


def _beaten_by(point: FrontPoint, with_size: bool) -> str:
    size = point.dominated_by_size if with_size else None
    return f"{point.dominated_by or NOT_KNOWN}{f' {size[0]}x{size[1]}' if size else ''}"


def _half_width(point: FrontPoint) -> str:
    share = point.cost.half_width_share
    return NOT_KNOWN if share is None else f"{significant(share * 100, 2)}%"
