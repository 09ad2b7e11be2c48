"""Pictures of curves: images a second against batch, against latency, and against size.

Its own file beside `plots` because its lines are models and its points batches. A panel is drawn where it has a line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from vitprof.curves import Axis, Crossover, Curve, CurvePoint, PointOutcome
from vitprof.errors import VitprofError
from vitprof.report.curves import size_text, where_of
from vitprof.report.plot_axes import log_times
from vitprof.report.plot_labels import Label, place_labels
from vitprof.report.plot_style import INK, PALETTE, new_figure, pictured, save, settle, shown, titled
from vitprof.units import NS_PER_UNIT, time_unit

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# The sizes, or the batches, of one model; more models than colours begin anew with other strokes.
_STROKES = ("solid", "dashed", "dotted", "dashdot")
_PANEL_INCH = 4.6
_HEIGHT_INCH = 4.4
_LEGEND_INCH = 2.6
# Of a marker, in 1/72 inch.
_MARKER = 5.0
_RING = 11.0
# Intervals may make the axis of rates longer by this factor on both sides; what is wider is cut.
_STRETCH = 1.3
_AXES = {Axis.BATCH: "batch", Axis.SIZE: "side of the image, pixels"}
_LATENCY = "latency"


@dataclass(frozen=True)
class _Line:
    """Points of one model along an axis; `rest`: what the other axis stands at, where lines of a model differ in it."""

    name: str
    rest: str
    places: tuple[tuple[float, CurvePoint], ...]


@dataclass(frozen=True)
class _Style:
    colour: str
    marker: str
    stroke: str


@dataclass(frozen=True)
class _Panel:
    # An axis, or `_LATENCY`.
    along: str
    lines: tuple[_Line, ...]
    # Of its axis.
    unit: str = ""


def curve_plot(curves: Sequence[Curve], crossovers: Sequence[Crossover], file: Path) -> None:
    """Images a second against batch and against latency, and where there are several sizes against size.

    A ring marks the best batch of a curve, a hollow square its knee, a cross where two lines change places. Raises
    `VitprofError` where no curve has two points.
    """
    drawn_over = (_over_batch, _over_latency, _over_size) if curves else ()
    panels = [one for over in drawn_over if (one := over(curves)).lines]
    if not panels:
        raise VitprofError(
            "there is nothing to draw: no model was measured at two batches or sizes",
            remedy="give several of either, or leave out --batch",
            stage="report",
        )
    with pictured(file):
        figure = new_figure(_LEGEND_INCH + _PANEL_INCH * len(panels), _HEIGHT_INCH)
        names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
        drawn = list(figure.subplots(1, len(panels), squeeze=False).ravel())
        for axes, panel in zip(drawn, panels, strict=True):
            _draw(axes, panel, _styles(panel.lines, names))
            _mark(axes, panel, curves, crossovers)
        figure.suptitle(titled(f"Throughput, {where_of(curves)}", 90), fontsize=11)
        _legend(figure, drawn)
        settle(figure)
        for axes, panel in zip(drawn, panels, strict=True):
            if panel.along == _LATENCY:
                _label_batches(axes, panel)
        save(figure, file)


def _over_batch(curves: Sequence[Curve]) -> _Panel:
    has_sizes = len({curve.name for curve in curves}) < len(curves)
    lines = (
        _Line(
            curve.name,
            f"{size_text(curve.size)} px" if has_sizes else "",
            tuple((float(point.batch), point) for point in _measured(curve)),
        )
        for curve in curves
    )
    return _Panel(Axis.BATCH, tuple(line for line in lines if len(line.places) > 1))


def _over_latency(curves: Sequence[Curve]) -> _Panel:
    """The same lines by what a call takes: what a batch costs who waits for it."""
    unit = _unit(curves)
    lines = (
        _Line(line.name, line.rest, tuple((_call_ns(point) / NS_PER_UNIT[unit], point) for _, point in line.places))
        for line in _over_batch(curves).lines
    )
    return _Panel(_LATENCY, tuple(lines), "µs" if unit == "us" else unit)


def _over_size(curves: Sequence[Curve]) -> _Panel:
    """Of many batches the smallest and the largest that all have: the others lie between."""
    measured = [{point.batch for point in _measured(curve)} for curve in curves]
    shared = sorted(set.intersection(*measured) or set.union(*measured))
    batches = shared if len(shared) < 3 else (shared[0], shared[-1])
    found: dict[tuple[str, int], list[tuple[float, CurvePoint]]] = {}
    for curve in curves:
        for point in _measured(curve) if curve.size else ():
            if point.batch not in batches:
                continue
            height, width = curve.size or (0, 0)
            found.setdefault((curve.name, point.batch), []).append((math.sqrt(height * width), point))
    lines = (
        _Line(name, f"batch {batch}" if len(batches) > 1 else "", tuple(sorted(places, key=lambda one: one[0])))
        for (name, batch), places in found.items()
    )
    return _Panel(Axis.SIZE, tuple(line for line in lines if len({place for place, _ in line.places}) > 1))


def _styles(lines: Sequence[_Line], names: Sequence[str]) -> Mapping[tuple[str, str], _Style]:
    """A colour and a marker for every model, the same in all panels, and a stroke for every line of it."""
    rests = list(dict.fromkeys(line.rest for line in lines))
    styles = {}
    for line in lines:
        place = names.index(line.name)
        stroke = (place // len(PALETTE) + rests.index(line.rest)) % len(_STROKES)
        marker = _MARKERS[place % len(_MARKERS)]
        styles[line.name, line.rest] = _Style(PALETTE[place % len(PALETTE)], marker, _STROKES[stroke])
    return styles


def _draw(axes: Axes, panel: _Panel, styles: Mapping[tuple[str, str], _Style]) -> None:
    for line in panel.lines:
        style = styles[line.name, line.rest]
        rates = [point.images_per_s for _, point in line.places if point.images_per_s]
        axes.errorbar(
            [place for place, _ in line.places],
            [rate.value for rate in rates],
            yerr=[
                [max(0.0, rate.value - (rate.value if rate.low is None else rate.low)) for rate in rates],
                [max(0.0, (rate.value if rate.high is None else rate.high) - rate.value) for rate in rates],
            ],
            color=style.colour,
            linestyle=style.stroke,
            linewidth=1.4,
            marker=style.marker,
            markersize=_MARKER,
            markeredgecolor=INK,
            markeredgewidth=0.4,
            elinewidth=0.9,
            capsize=2,
            label=shown(f"{line.name}, {line.rest}" if line.rest else line.name, 40),
            zorder=3,
        )
    places = [place for line in panel.lines for place, _ in line.places]
    log_times(axes.xaxis, places)
    if panel.along != _LATENCY:
        _tick_at(axes, sorted(set(places)))
    log_times(axes.yaxis, _heights([point for line in panel.lines for _, point in line.places]))
    axes.set_xlabel(f"latency of a call, {panel.unit}" if panel.unit else _AXES[Axis(panel.along)])
    axes.set_ylabel("images/s")
    axes.grid(True)


def _heights(points: Sequence[CurvePoint]) -> list[float]:
    """Rates with the ends of their intervals, as far as these do not press the lines together."""
    rates = [point.images_per_s for point in points if point.images_per_s]
    least, most = min(rate.value for rate in rates), max(rate.value for rate in rates)
    ends = [end for rate in rates for end in (rate.low, rate.high) if end]
    return [least, most, *(min(max(end, least / _STRETCH), most * _STRETCH) for end in ends)]


def _tick_at(axes: Axes, places: Sequence[float]) -> None:
    """Ticks where something was measured, as many as there is room for."""
    from matplotlib.ticker import FixedLocator

    kept: list[float] = []
    room = math.log(places[-1] / places[0]) / 14
    for place in reversed(places):
        if not kept or math.log(kept[-1] / place) >= room:
            kept.append(place)
    axes.xaxis.set_major_locator(FixedLocator(kept[::-1]))


def _mark(axes: Axes, panel: _Panel, curves: Sequence[Curve], crossovers: Sequence[Crossover]) -> None:
    if panel.along in (Axis.BATCH, _LATENCY):
        for marker, size, label, chosen in (
            ("o", _RING, "best batch", [curve.best_batch for curve in curves]),
            ("s", _RING - 2, "knee", [curve.knee_batch for curve in curves]),
        ):
            points = [curve.at(batch) for curve, batch in zip(curves, chosen, strict=True) if batch is not None]
            spots = [(place, _rate(one)) for line in panel.lines for place, one in line.places if one in points]
            _hollow(axes, spots, marker, size, label)
    crossed = [spot for one in crossovers if one.is_decided and one.axis == panel.along for spot in _spot(panel, one)]
    if crossed:
        axes.plot(
            *zip(*crossed, strict=True),
            linestyle="none",
            marker="x",
            markersize=8,
            markeredgewidth=1.6,
            color=INK,
            label="crossover",
            zorder=5,
        )


def _hollow(axes: Axes, spots: Sequence[tuple[float, float]], marker: str, size: float, label: str) -> None:
    if spots:
        axes.plot(
            *zip(*spots, strict=True), linestyle="none", marker=marker, markersize=size, markerfacecolor="none",
            markeredgecolor=INK, markeredgewidth=1.0, label=label, zorder=4,
        )  # fmt: skip


def _spot(panel: _Panel, one: Crossover) -> Iterator[tuple[float, float]]:
    """Where the line of the overtaking model is at the crossover."""
    rest = f"batch {one.batch}" if one.batch is not None else f"{size_text(one.size)} px" if one.size else ""
    for line in panel.lines:
        if line.name == one.above and line.rest in ("", rest):
            for (place, point), (after, next_point) in pairwise(line.places):
                if place <= one.at <= after:
                    share = math.log(one.at / place) / math.log(after / place)
                    yield one.at, _rate(point) * (_rate(next_point) / _rate(point)) ** share
                    return


def _legend(figure: Figure, drawn: Sequence[Axes]) -> None:
    """Every line once, then the marks."""
    entries: dict[str, Artist] = {}
    for axes in drawn:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(str(label), handle)
    marks = ("best batch", "knee", "crossover")
    ordered = sorted(entries, key=lambda label: marks.index(label) + 1 if label in marks else 0)
    figure.legend([entries[label] for label in ordered], ordered, loc="outside right upper")


def _label_batches(axes: Axes, panel: _Panel) -> None:
    spots = [(place, _rate(point), point.batch) for line in panel.lines for place, point in line.places]
    labels = [Label(str(batch), place, rate) for place, rate, batch in spots]
    place_labels(axes, labels, [(place, rate) for place, rate, _ in spots], _MARKER)


def _measured(curve: Curve) -> list[CurvePoint]:
    sound = (one for one in curve.points if one.outcome is PointOutcome.OK and not one.is_broken)
    return [one for one in sound if one.images_per_s is not None and one.latency_ns is not None]


def _rate(point: CurvePoint) -> float:
    return point.images_per_s.value if point.images_per_s else 0.0


def _call_ns(point: CurvePoint) -> float:
    return point.latency_ns.value if point.latency_ns else 0.0


def _unit(curves: Sequence[Curve]) -> str:
    """The one unit for the calls of all curves, by the geometric mean of them."""
    logs = [math.log(_call_ns(point)) for curve in curves for point in _measured(curve)]
    return time_unit(math.exp(math.fsum(logs) / len(logs))) if logs else "ms"
