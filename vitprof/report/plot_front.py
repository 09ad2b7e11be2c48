"""The picture of a Pareto front: accuracy against cost.

Its own file beside `plots` because its points are candidates, not a group of measured models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from vitprof.comparisons import FrontPoint
from vitprof.errors import VitprofError
from vitprof.report.comparison import counted
from vitprof.report.pareto import COSTS, GAINS, by_cost
from vitprof.report.plot_axes import log_counts, log_times
from vitprof.report.plot_labels import Label, place_labels
from vitprof.report.plot_style import (
    FAINT,
    INK,
    PALETTE,
    QUIET,
    new_figure,
    pictured,
    save,
    settle,
    shown,
    size_behind,
    titled,
)
from vitprof.units import NS_PER_UNIT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ON_FRONT = PALETTE[0]
_CLOSE = PALETTE[3]
# Radius of a marker in 1/72 inch.
_RIM = 4.5
_LINE_STEPS = 12
_MOST_WITH_INTERVALS = 200
# In letters: as wide as the axes beside the widest legend.
_TITLE_WIDTH = 70
# Of so many models every one is named where MACs are all that is had, as in the picture of ranks.
_ALL_NAMED = 40


def pareto_plot(
    points: Sequence[FrontPoint], cost: str, file: Path, *, where: str = "", gain: str = "accuracy"
) -> None:
    """`gain` against `cost` (names of `pareto.GAINS`, `COSTS`), costs on a logarithmic axis, the front as a step line.

    Intervals of the cost are error bars. Hollow: beaten by value, but not beyond the interval. `where`
    (device, backend, batch) ends the title. Raises `VitprofError` where there is no point.
    """
    drawn = [point for point in points if point.cost.value > 0]
    if not drawn:
        raise VitprofError(
            "there is nothing to draw: no model has both an accuracy and a cost",
            remedy="name a file whose models are those that were measured",
            stage="report",
        )
    scale, unit = _scale(drawn, cost)
    with pictured(file):
        figure = new_figure(8.4, 5.6)
        axes = figure.subplots()
        _clouds(axes, drawn, scale)
        front = by_cost([point for point in drawn if point.is_on_front], cost)
        _steps(axes, front, scale)
        axis_values = [point.cost.value / scale for point in drawn]
        (log_times if scale > 1 else log_counts)(axes.xaxis, axis_values)
        axes.set_xlabel(f"{COSTS[cost].head}{f', {unit}' if unit else ''}")
        if gain == "macs":
            log_counts(axes.yaxis, [point.accuracy for point in drawn])
        else:
            # Room above for names.
            axes.margins(y=0.12)
        axes.set_ylabel(GAINS[gain])
        axes.grid(True)
        title = f"{'MACs' if gain == 'macs' else 'Accuracy'} against {COSTS[cost].head}: {counted(len(drawn), 'model')}"
        axes.set_title(titled(f"{title}, {where}" if where else title, _TITLE_WIDTH), loc="left")
        figure.legend(loc="outside right upper")
        settle(figure)
        counts = Counter(point.model for point in drawn)
        place_labels(
            axes,
            [
                Label(_name(point, counts[point.model]), point.cost.value / scale, point.accuracy)
                for point in _named(drawn, front, gain)
            ],
            [*((point.cost.value / scale, point.accuracy) for point in drawn), *_along_steps(front, scale)],
            _RIM,
        )
        save(figure, file)


def _named(drawn: Sequence[FrontPoint], front: Sequence[FrontPoint], gain: str) -> Sequence[FrontPoint]:
    """Who is on the front; of MACs, where that is nearly everybody, first who does less work in more time than another.

    In the order in which names take the room that there is.
    """
    if gain != "macs":
        return front
    beaten = [point for point in drawn if not point.is_on_front and not point.is_indistinguishable]
    named = beaten if len(beaten) < len(front) else front
    others = drawn if len(drawn) <= _ALL_NAMED else ()
    return [*named, *(point for point in others if not any(point is one for one in named))]


def _name(point: FrontPoint, same: int) -> str:
    return f"{shown(point.model)}{size_behind(point.size)}" if same > 1 else shown(point.model)


def _scale(points: Sequence[FrontPoint], cost: str) -> tuple[float, str]:
    """What values are divided by, and the unit to write beside the axis."""
    if cost != "latency":
        return 1.0, "" if cost in ("macs", "params") else COSTS[cost].unit
    unit = "ms" if max(point.cost.value for point in points) >= NS_PER_UNIT["ms"] else "us"
    return float(NS_PER_UNIT[unit]), "µs" if unit == "us" else unit


def _clouds(axes: Axes, points: Sequence[FrontPoint], scale: float) -> None:
    """Dominated, indistinguishable and best points, those that matter most on top."""
    dominated = [point for point in points if not point.is_on_front and not point.is_indistinguishable]
    close = [point for point in points if not point.is_on_front and point.is_indistinguishable]
    front = [point for point in points if point.is_on_front]
    for some, label, marker, face, edge, size in (
        (dominated, "dominated", "o", FAINT, QUIET, 4.0),
        (close, "not distinguishable\nfrom the front", "D", "white", _CLOSE, 6.0),
        (front, "on the front", "o", _ON_FRONT, INK, 6.5),
    ):
        if not some:
            continue
        values = [point.cost.value / scale for point in some]
        # Of a cloud of hundreds the intervals would be a smear.
        with_reach = some is not dominated or len(some) <= _MOST_WITH_INTERVALS
        axes.errorbar(
            values,
            [point.accuracy for point in some],
            xerr=[_reach(some, scale, low=True), _reach(some, scale, low=False)] if with_reach else None,
            linestyle="none",
            marker=marker,
            markersize=size,
            markerfacecolor=face,
            markeredgecolor=edge,
            markeredgewidth=1.2 if face == "white" else 0.5,
            ecolor=edge,
            elinewidth=0.9,
            capsize=2,
            label=label,
            zorder=2 if some is dominated else 3,
        )


def _along_steps(front: Sequence[FrontPoint], scale: float) -> list[tuple[float, float]]:
    """Places on the step line, for labels to avoid."""
    places = []
    for one, after in pairwise(front):
        start, end = one.cost.value / scale, after.cost.value / scale
        for share in (step / _LINE_STEPS for step in range(_LINE_STEPS)):
            places.append((start * (end / start) ** share, one.accuracy))
            places.append((end, one.accuracy + share * (after.accuracy - one.accuracy)))
    return places


def _reach(points: Sequence[FrontPoint], scale: float, *, low: bool) -> list[float]:
    """How far the error bar goes to one side; none where the interval is not known."""
    ends = [(point.cost.low if low else point.cost.high, point.cost.value) for point in points]
    return [0.0 if end is None else max(0.0, (value - end if low else end - value)) / scale for end, value in ends]


def _steps(axes: Axes, front: Sequence[FrontPoint], scale: float) -> None:
    """What accuracy is to be had at a cost, from the cheapest model on: it rises where the next one begins."""
    values = [point.cost.value / scale for point in front]
    accuracies = [point.accuracy for point in front]
    axes.plot(values, accuracies, drawstyle="steps-post", color=_ON_FRONT, linewidth=1.4, zorder=2.5)
