"""The picture of a history: intervals over the measurements, a line where something else changed.

Its own file beside `plots` because its axis is the order of measurements and not a count: times between two of them
say nothing, and a month without any would squeeze the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vitprof.errors import VitprofError
from vitprof.gates import Moment, Series, Unit
from vitprof.report.gate import name_of
from vitprof.report.history import value_name
from vitprof.report.plot_style import FAINT, INK, PALETTE, QUIET, new_figure, pictured, save, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Series that are drawn: each has a row of its own.
_MOST_SERIES = 8
# Of dates under the axis, and of changes under the picture.
_MOST_DATES = 8
_MOST_CHANGES = 6
_LONGEST_TITLE = 88
_LONGEST_CHANGE = 110
_NS_PER_MS = 1e6


def history_plot(series: Sequence[Series], file: Path) -> None:
    """A row of axes for each series; `VitprofError` where none holds a value."""
    known = [one for one in series if any(moment.value for moment in one.moments)]
    drawn = known[:_MOST_SERIES]
    if not drawn:
        raise VitprofError(
            "there is nothing to draw: no measurement of the model succeeded",
            remedy="measure it: vitprof latency MODEL",
            stage="report",
        )
    with pictured(file):
        changes = [_changes(one) for one in drawn]
        heights = [2.2 + 0.16 * min(len(one), _MOST_CHANGES + 1) for one in changes]
        figure = new_figure(8.0, sum(heights) + 0.3)
        rows = figure.subplots(len(drawn), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, one, changed in zip(rows, drawn, changes, strict=True):
            _draw(axes, one, changed)
        if len(known) > len(drawn):
            rest = f"{len(known) - len(drawn)} more cells are not drawn: ask for one model, --backend or --device"
            figure.supxlabel(rest, fontsize=6.5, x=0.01, ha="left")
        save(figure, file)


def _draw(axes: Axes, one: Series, changes: Sequence[tuple[int, Moment]]) -> None:
    scale = _NS_PER_MS if one.unit is Unit.NS else 1.0
    known = [(place, moment) for place, moment in enumerate(one.moments) if moment.value]
    for place, moment in known:
        assert moment.value is not None  # noqa: S101 - chosen so
        low, high = (moment.value.low or moment.value.value, moment.value.high or moment.value.value)
        axes.plot([place, place], [low / scale, high / scale], color=QUIET, linewidth=1.2, zorder=2)
    for is_rejected, marker, colour, label in (
        (False, "o", PALETTE[0], None),
        (True, "X", PALETTE[3], "rejected by gate"),
    ):
        of_kind = [(place, moment) for place, moment in known if (moment.judged == "rejected") is is_rejected]
        points = [moment.value.value / scale for _, moment in of_kind if moment.value]
        axes.plot([place for place, _ in of_kind], points, marker, color=colour, markersize=5, zorder=3, label=label)
    top = axes.get_ylim()[1]
    for number, (place, _) in enumerate(changes, start=1):
        axes.axvline(place - 0.5, color=FAINT, linewidth=1.0, linestyle="--", zorder=1)
        axes.annotate(str(number), (place - 0.5, top), ha="center", va="bottom", fontsize=6.5, color=INK)
    axes.set_xlim(-0.8, len(one.moments) - 0.2)
    step = max(1, -(-len(one.moments) // _MOST_DATES))
    places = range(0, len(one.moments), step)
    axes.set_xticks(list(places), [_date(one.moments[place]) for place in places])
    axes.set_ylabel(shown(f"{value_name(one)}, ms" if one.unit is Unit.NS else value_name(one), 40))
    axes.set_title(
        shown(f"{name_of(one.cell)} on {one.cell.backend}, {one.cell.device}", _LONGEST_TITLE), loc="left", pad=12
    )
    axes.grid(True, axis="y")
    if any(moment.judged == "rejected" for _, moment in known):
        axes.legend(loc="best", frameon=True, framealpha=1.0, edgecolor="none")
    lines = [
        shown(f"{number}  {', '.join(moment.changed) or 'not to be compared with the one before'}", _LONGEST_CHANGE)
        for number, (_, moment) in enumerate(changes[:_MOST_CHANGES], start=1)
    ]
    if len(changes) > _MOST_CHANGES:
        lines.append(f"and {len(changes) - _MOST_CHANGES} more: vitprof history --json -")
    axes.set_xlabel("\n".join(lines), loc="left", fontsize=6.5)


def _changes(one: Series) -> list[tuple[int, Moment]]:
    return [(place, moment) for place, moment in enumerate(one.moments) if moment.changed or moment.is_apart]


def _date(moment: Moment) -> str:
    """In UTC: the picture must not depend on who draws it."""
    if moment.started_at is None:
        return ""
    read = datetime.fromisoformat(moment.started_at)
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC).strftime("%Y-%m-%d")
