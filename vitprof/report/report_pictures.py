"""The pictures of a report: SVG files beside its markdown.

Its own file because markdown can be written without them, where matplotlib is not installed. Every picture has a
background of its own, so that it reads on a dark page too, and equal reports give equal bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from vitprof.comparisons import Disagreement
from vitprof.report.report_words import MARK
from vitprof.reports import FrontReport, Report

# More fronts than that nobody looks at; the HTML has all.
MOST_FRONTS = 4
# Two make no order.
_LEAST_MODELS = 3
WHY_NOT = "No pictures: matplotlib is not installed (pip install 'vitprof[report]')."


@dataclass(frozen=True)
class Picture:
    """A file beside the markdown, by its name, and what it shows in words."""

    file: str
    alt: str


@dataclass(frozen=True)
class Pictures:
    """What was drawn; `why_not`: in words, why nothing was, where that is not a matter of course."""

    scatter: Picture | None = None
    ranks: Picture | None = None
    # In the order of `shown_fronts`.
    fronts: tuple[Picture, ...] = ()
    why_not: str = ""


def draw(report: Report, markdown: Path) -> Pictures:
    """The pictures of the report, written beside the file `markdown` and named after it.

    Those that an earlier report in that file shows, and this one has not, are taken away.
    """
    earlier = _report_in(markdown)
    if find_spec("matplotlib") is None:
        return Pictures(why_not=WHY_NOT)
    from vitprof.report.plot_front import pareto_plot
    from vitprof.report.plots import rank_shift_plot, scatter_plot

    fronts = shown_fronts(report)
    scatter = ranks = None
    groups = [one.disagreement for one in report.groups if _known(one.disagreement) >= _LEAST_MODELS]
    if groups:
        ranks = Picture(f"{markdown.stem}-ranks.svg", "Rank by MACs against rank by time")
        rank_shift_plot(groups, markdown.with_name(ranks.file))
    # Fronts of MACs show the same.
    if groups and not any(one.gain == "macs" for one in fronts):
        scatter = Picture(f"{markdown.stem}-macs.svg", "Time against MACs")
        scatter_plot(groups, markdown.with_name(scatter.file))
    drawn = []
    for number, one in enumerate(fronts, 1):
        name = f"{markdown.stem}-front{'' if len(fronts) == 1 else f'-{number}'}.svg"
        pareto_plot(one.points, "latency", markdown.with_name(name), where=one.where, gain=one.gain)
        what = "Accuracy" if one.gain == "accuracy" else "MACs"
        drawn.append(Picture(name, f"{what} against time, {one.where}"))
    kept = {one.file for one in (scatter, ranks, *drawn) if one is not None}
    numbered = (f"front-{number}" for number in range(1, MOST_FRONTS + 1))
    for what in ("ranks", "macs", "front", *numbered):
        name = f"{markdown.stem}-{what}.svg"
        # A picture of such a name that no report shows is somebody's own.
        if name not in kept and f"]({quote(name)})" in earlier:
            markdown.with_name(name).unlink(missing_ok=True)
    return Pictures(scatter, ranks, tuple(drawn))


def _report_in(markdown: Path) -> str:
    """The text of the report that this file is; "" where it is none."""
    try:
        text = markdown.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return text if text.startswith(MARK) else ""


def _known(group: Disagreement) -> int:
    return sum(1 for point in group.points if point.macs)


def shown_fronts(report: Report) -> Sequence[FrontReport]:
    """Those with most models, in the order of the report."""
    largest = sorted(report.fronts, key=lambda one: -len(one.points))[:MOST_FRONTS]
    return [one for one in report.fronts if any(one is other for other in largest)]
