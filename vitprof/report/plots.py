"""Pictures of a comparison: time against MACs, and how far the rank by time is from the rank by MACs.

Its own file because both draw groups of models, a panel for each. One picture is one file, SVG or PNG by its suffix;
matplotlib is imported when a picture is drawn. What is drawn is said in words in the picture itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitprof.comparisons import Correlation, Disagreement, Point, is_relative
from vitprof.errors import VitprofError
from vitprof.report.comparison import Placed, counted, group_title, placements, time_name, worst_inversions
from vitprof.report.plot_axes import log_counts, log_times
from vitprof.report.plot_labels import Label, place_labels, spread
from vitprof.report.plot_style import (
    FAINT,
    INK,
    OTHER_STYLE,
    QUIET,
    FamilyStyle,
    family_of,
    family_styles,
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
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

# More panels than that are too small to read.
_MOST_PANELS = 4
_LINKED = 8
# Places along a line that labels avoid like points.
_LINE_STEPS = 24
_OUTLIERS = 6
# Up to so many models every one is named in the rank picture.
_ALL_NAMED = 40
_EMPHASISED = 12
# Mean width of a bold letter of 7.5/72 inch.
_LETTER_INCH = 0.075


def scatter_plot(groups: Sequence[Disagreement], file: Path) -> tuple[Disagreement, ...]:
    """The groups drawn: time against MACs on logarithmic axes, with least-squares line and the worst inversions linked.

    A panel a group, at most four: those with most models. Raises `VitprofError` where no group has two models whose
    MACs are known.
    """
    drawn = _drawable(groups)
    with pictured(file):
        figure, panels = _panels(len(drawn), 5.6, 4.5)
        styles = family_styles(point.model for group in drawn for point in _points(group))
        for panel, group in zip(panels, drawn, strict=True):
            _scatter(panel, group, styles)
        figure.suptitle("Time against MACs", fontsize=12)
        _family_legend(figure, styles)
        settle(figure)
        for panel, group in zip(panels, drawn, strict=True):
            _label_scatter(panel, group)
        save(figure, file)
    return drawn


def rank_shift_plot(groups: Sequence[Disagreement], file: Path) -> tuple[Disagreement, ...]:
    """The groups drawn, as `scatter_plot` does: a line a model, from its rank by MACs to its rank by time.

    The largest shifts are drawn strongly and named: solid where a model is slower than its MACs say, dashed where it
    is faster.
    """
    drawn = _drawable(groups)
    with pictured(file):
        placed = [[one for one in placements(group) if one.shift is not None] for group in drawn]
        most = max(map(len, placed))
        # Names on both sides, and on the right the shift; all panels get what the longest name needs.
        longest = max(_longest_name(group) for group in drawn)
        height = max(4.0, 1.4 + 0.18 * most) if most <= _ALL_NAMED else 8.0
        figure, panels = _panels(len(drawn), 2.4 + _LETTER_INCH * (2 * longest + 16), height)
        # Of very many models only the strong lines have a colour, so only they need one.
        styles = family_styles(
            one.point.model for each in placed for one in (each if most <= _ALL_NAMED else _strong(each))
        )
        for panel, group, each in zip(panels, drawn, placed, strict=True):
            _rank_shift(panel, group, each, styles)
        figure.suptitle("Rank by MACs against rank by time", fontsize=12)
        _family_legend(figure, styles, with_directions=True)
        save(figure, file)
    return drawn


def _panels(count: int, width_inch: float, height_inch: float) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes of about that size, at most two beside each other."""
    columns = 1 if count == 1 else 2
    rows = math.ceil(count / columns)
    figure = new_figure(2.0 + width_inch * columns, 0.8 + height_inch * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for spare in panels[count:]:
        spare.set_axis_off()
    return figure, panels[:count]


def _drawable(groups: Sequence[Disagreement]) -> tuple[Disagreement, ...]:
    """At most so many groups as there is room for, the largest ones, in the order given."""
    known = [group for group in groups if len(_points(group)) > 1]
    if not known:
        raise VitprofError(
            "there is nothing to draw: no group holds two models with known MACs and time",
            remedy="compare two models or more whose MACs are counted",
            stage="report",
        )
    largest = sorted(known, key=lambda group: -len(_points(group)))[:_MOST_PANELS]
    return tuple(group for group in known if any(group is one for one in largest))


def name_in(group: Disagreement, point: Point) -> str:
    """The model's name, with the size where the group holds that model more than once."""
    return _named(point, sum(1 for one in group.points if one.model == point.model))


def _longest_name(group: Disagreement) -> int:
    # Not by `name_in`, which looks through the whole group for each.
    counts = Counter(point.model for point in group.points)
    return max(len(_named(point, counts[point.model])) for point in _points(group))


def _named(point: Point, same: int) -> str:
    return f"{shown(point.model)}{size_behind(point.size)}" if same > 1 else shown(point.model)


def _points(group: Disagreement) -> list[Point]:
    return [point for point in group.points if point.macs and point.image_ns > 0]


def _scatter(axes: Axes, group: Disagreement, styles: Mapping[str, FamilyStyle]) -> None:
    points = _points(group)
    unit = _unit(group)
    area = _area(points)
    # The families drawn last lie on top: those with a colour of their own.
    for style in (OTHER_STYLE, *_own_styles(styles)):
        of_style = [point for point in points if styles[family_of(point.model)] is style]
        axes.scatter(
            [point.macs or 0 for point in of_style],
            [point.image_ns / NS_PER_UNIT[unit] for point in of_style],
            s=area,
            marker=style.marker,
            facecolors=style.face,
            edgecolors=INK if style.face != "none" else style.colour,
            linewidths=0.4 if style.face != "none" else 0.7,
            alpha=0.9 if len(points) < 200 else 0.75,
            zorder=2 if style is OTHER_STYLE else 3,
        )
    _fit_line(axes, points, unit)
    for inversion in worst_inversions(group, _LINKED):
        ends = (inversion.slower, inversion.faster)
        macs = [end.macs or 0 for end in ends]
        times = [end.image_ns / NS_PER_UNIT[unit] for end in ends]
        axes.plot(macs, times, color=INK, linewidth=0.9, zorder=4)
        ring = (math.sqrt(area) + 3) ** 2
        axes.scatter(macs, times, s=ring, facecolors="none", edgecolors=INK, linewidths=0.9, zorder=4)
    log_counts(axes.xaxis, [point.macs or 0 for point in points])
    log_times(axes.yaxis, [point.image_ns / NS_PER_UNIT[unit] for point in points])
    axes.set_xlabel("MACs of one image")
    axes.set_ylabel(f"{time_name(group)}, {'µs' if unit == 'us' else unit}")
    axes.set_title(titled(group_title(group)), loc="left")
    axes.grid(True, which="major")


def _fit_line(axes: Axes, points: Sequence[Point], unit: str) -> None:
    """The least-squares line of log time on log MACs, over the MACs that there are."""
    import numpy as np

    macs = np.array([point.macs for point in points], dtype=float)
    times = np.array([point.image_ns / NS_PER_UNIT[unit] for point in points])
    if np.ptp(macs) == 0:
        return
    slope, start = np.polyfit(np.log(macs), np.log(times), 1)
    ends = np.array([macs.min(), macs.max()])
    axes.plot(ends, np.exp(start + slope * np.log(ends)), color=INK, linewidth=1.2, linestyle=(0, (6, 3)), zorder=3.5)


def _label_scatter(axes: Axes, group: Disagreement) -> None:
    """In words how good the prediction is, then names: the inverted pairs, and who is farthest from the line."""
    taken = _corner_text(axes, _said(group))
    points = _points(group)
    scale = NS_PER_UNIT[_unit(group)]
    worst = [(one.slower, one.faster) for one in worst_inversions(group, _LINKED)]
    named = {name_in(group, point): point for point in (*(end for ends in worst for end in ends), *_outliers(points))}
    places = [(point.macs or 0, point.image_ns / scale) for point in points]
    links = [((a.macs or 0, a.image_ns / scale), (b.macs or 0, b.image_ns / scale)) for a, b in worst]
    place_labels(
        axes,
        [Label(name, point.macs or 0, point.image_ns / scale) for name, point in named.items()],
        [*places, *(place for link in links for place in _along(*link))],
        math.sqrt(_area(points)) / 2 + 1.5,
        taken,
    )


def _corner_text(axes: Axes, lines: Sequence[str]) -> list[Bbox]:
    """Where the lines stand, in pixels: right-aligned each for itself, as a reader of SVG may lack the font."""
    box = {"boxstyle": "square,pad=0.3", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    return [
        axes.annotate(
            line, (1, 0), xycoords="axes fraction", xytext=(-8, 6 + 10.5 * index), textcoords="offset points",
            ha="right", va="bottom", fontsize=7.5, zorder=5, bbox=box,
        ).get_window_extent()
        for index, line in enumerate(reversed(lines))
    ]  # fmt: skip


def _along(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """Places on the straight line between two points of logarithmic axes."""
    shares = [step / _LINE_STEPS for step in range(1, _LINE_STEPS)]
    return [(start[0] * (end[0] / start[0]) ** one, start[1] * (end[1] / start[1]) ** one) for one in shares]


def _area(points: Sequence[Point]) -> float:
    """Of a marker, in (1/72 inch)²: small where there are many."""
    return float(max(11.0, min(46.0, 900 / len(points) ** 0.6)))


def _said(group: Disagreement) -> list[str]:
    unknown = len(group.points) - len(_points(group))
    linked = len(worst_inversions(group, _LINKED))
    return [
        f"Spearman {_correlation(group.spearman.get('macs'))}",
        f"Kendall {_correlation(group.kendall.get('macs'))}",
        *([f"R² of the line {group.log_macs_r2:.3f}"] if group.log_macs_r2 is not None else []),
        f"{counted(group.inversions_total, 'inversion')} in {counted(group.pairs, 'pair')}",
        *([f"{linked} of the worst linked"] if linked < group.inversions_total else []),
        *(["ranked by the ratio to the reference"] if is_relative(group.points) else []),
        *([f"{counted(unknown, 'model')} without MACs not shown"] if unknown else []),
    ]


def _correlation(one: Correlation | None) -> str:
    if one is None or one.value is None:
        return "n/a"
    interval = f" [{one.low:.3f}, {one.high:.3f}]" if one.low is not None and one.high is not None else ""
    return f"{one.value:.3f}{interval}"


def _outliers(points: Sequence[Point]) -> list[Point]:
    """The models farthest from the least-squares line, above and below."""
    import numpy as np

    macs = np.log([point.macs or 1 for point in points])
    times = np.log([point.image_ns for point in points])
    if np.ptp(macs) == 0:
        return []
    residuals = times - np.polyval(np.polyfit(macs, times, 1), macs)
    return [points[index] for index in np.argsort(-np.abs(residuals), kind="stable")[:_OUTLIERS]]


def _rank_shift(axes: Axes, group: Disagreement, placed: Sequence[Placed], styles: Mapping[str, FamilyStyle]) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import Normal, Stroke

    is_small = len(placed) <= _ALL_NAMED
    strong = _strong(placed)
    weak = [one for one in placed if one not in strong]
    if is_small:
        colours = [styles.get(family_of(one.point.model), OTHER_STYLE).colour for one in weak]
        segments = [[(0, one.by_macs or 0), (1, one.by_time or 0)] for one in weak]
        axes.add_collection(LineCollection(segments, colors=colours, linewidths=0.9, zorder=2))
    else:
        # One path, parted by gaps: an element for each of thousands takes a second and a megabyte.
        heights = [height for one in weak for height in (one.by_macs or 0, one.by_time or 0, math.nan)]
        axes.plot([0, 1, math.nan] * len(weak), heights, color=FAINT, linewidth=0.4, zorder=2)
    # The largest shift last, on top.
    for one in reversed(strong):
        style = styles.get(family_of(one.point.model), OTHER_STYLE)
        axes.plot(
            [0, 1],
            [one.by_macs or 0, one.by_time or 0],
            color=style.colour,
            linestyle="-" if (one.shift or 0) >= 0 else (0, (4, 2)),
            linewidth=2.0,
            marker=style.marker,
            markersize=6.5,
            markerfacecolor=style.face if style.face != "none" else "white",
            markeredgecolor=INK,
            markeredgewidth=0.5,
            # Yellow on white would be lost.
            path_effects=[Stroke(linewidth=2.8, foreground=INK), Normal()],
            zorder=4,
        )
    named = placed if is_small else strong
    for side in (0, 1):
        _rank_labels(axes, side, group, named, strong)
    _rank_frame(axes, group, len(placed))


def _strong(placed: Sequence[Placed]) -> list[Placed]:
    """The largest shifts in both directions, the largest first."""
    most = max(1, min(_EMPHASISED, len(placed) // 3))
    slower = sorted((one for one in placed if (one.shift or 0) >= 2), key=lambda one: -(one.shift or 0))
    faster = sorted((one for one in placed if (one.shift or 0) <= -2), key=lambda one: one.shift or 0)
    half = most - most // 2
    chosen = [*slower[: max(half, most - len(faster))], *faster[: max(most // 2, most - len(slower))]]
    return sorted(chosen, key=lambda one: -abs(one.shift or 0))[:most]


def _rank_labels(axes: Axes, side: int, group: Disagreement, named: Sequence[Placed], strong: Sequence[Placed]) -> None:
    """Names beside one end of the lines, moved apart where ranks are closer than text is high."""
    from matplotlib.collections import LineCollection

    ranked = sorted(((one.by_time if side else one.by_macs) or 0, index) for index, one in enumerate(named))
    gap = 1.0 if len(group.points) <= _ALL_NAMED else len(group.points) / 48
    outwards = 1 if side else -1
    links = []
    for (rank, index), height in zip(ranked, spread([rank for rank, _ in ranked], gap), strict=True):
        one = named[index]
        name = name_in(group, one.point)
        # Half ranks of ties say nothing among hundreds.
        digits = "g" if len(group.points) <= _ALL_NAMED else ",.0f"
        shift = f" ({one.shift:+{digits}})" if one in strong else ""
        axes.text(
            side + outwards * 0.06,
            height,
            f"{rank:{digits}}  {name}{shift}" if side else f"{name}  {rank:{digits}}",
            ha="left" if side else "right",
            va="center",
            fontsize=7.5,
            fontweight="bold" if one in strong else "normal",
        )
        links.append([(side + outwards * 0.014, rank), (side + outwards * 0.05, height)])
    # Not arrows of annotations: to cut those off at their text takes longer than all else of a large picture.
    axes.add_collection(LineCollection(links, colors=QUIET, linewidths=0.5, clip_on=False), autolim=False)


def _rank_frame(axes: Axes, group: Disagreement, total: int) -> None:
    margin = max(1.0, total * 0.02)
    axes.set_ylim(total + margin, 1 - margin)
    axes.set_xlim(-0.05, 1.05)
    axes.set_yticks([])
    axes.xaxis.tick_top()
    axes.set_xticks([0, 1], ["rank by MACs\n(1: fewest)", f"rank by {time_name(group)}\n(1: fastest)"])
    axes.tick_params(axis="x", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for side in (0, 1):
        axes.axvline(side, color=FAINT, linewidth=0.8, zorder=1)
    axes.set_title(titled(group_title(group)), pad=14)


def _family_legend(figure: Figure, styles: Mapping[str, FamilyStyle], *, with_directions: bool = False) -> None:
    from matplotlib.lines import Line2D

    def mark(style: FamilyStyle) -> Line2D:
        edge = INK if style.face != "none" else style.colour
        return Line2D(
            [], [], linestyle="none", marker=style.marker, markersize=6,
            markerfacecolor=style.face if style.face != "none" else "white",
            markeredgecolor=edge, markeredgewidth=0.5, label=style.name,
        )  # fmt: skip

    used = [*_own_styles(styles), *([OTHER_STYLE] if OTHER_STYLE in styles.values() else [])]
    marks = [mark(style) for style in used]
    if with_directions:
        marks += [
            Line2D([], [], color=INK, linewidth=2, label="slower than\nits MACs say"),
            Line2D([], [], color=INK, linewidth=2, linestyle=(0, (4, 2)), label="faster than\nits MACs say"),
        ]
    else:
        marks += [
            Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (6, 3)), label="least squares"),
            Line2D(
                [], [], color=INK, linewidth=0.9, marker="o", markerfacecolor="white", markersize=7, label="inversion"
            ),
        ]
    figure.legend(handles=marks, loc="outside right upper", title="family", alignment="left")


def _own_styles(styles: Mapping[str, FamilyStyle]) -> list[FamilyStyle]:
    return [style for style in styles.values() if style is not OTHER_STYLE]


def _unit(group: Disagreement) -> str:
    """Milliseconds, as everybody speaks of, unless nothing takes one."""
    return "ms" if max(point.image_ns for point in _points(group)) >= NS_PER_UNIT["ms"] else "us"
