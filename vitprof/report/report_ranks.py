"""What a report says of ranks, as markdown: where MACs and time disagree, and the fronts.

Its own file beside `report_markdown`, which puts the document together: these two sections alone have pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote

from vitprof.comparisons import Disagreement, FrontPoint, Point, is_relative
from vitprof.measurements import Grade
from vitprof.report.columns import Column
from vitprof.report.comparison import UNEXPLAINED, counted, group_title, point_columns, worst_inversions
from vitprof.report.markdown import columns_text, escaped, listed_text
from vitprof.report.pareto import front_columns
from vitprof.report.report_pictures import Picture, Pictures, shown_fronts
from vitprof.reports import FrontReport, GroupReport, Report
from vitprof.units import NOT_KNOWN

_MOST_GROUPS = 20
_MOST_DETAILED = 4
_MOST_INVERSIONS = 5
_MOST_ON_FRONT = 20
_RAW = "; where none ran beside them, the times as they were measured"


def disagreement_parts(report: Report, pictures: Pictures) -> Iterable[str]:
    """The paragraphs of the section; none where no group has two models."""
    groups = [one for one in report.groups if len(one.disagreement.points) > 1]
    if not groups:
        return
    yield "## Where MACs and time disagree"
    largest = sorted(groups, key=lambda one: -len(one.disagreement.points))[:_MOST_GROUPS]
    shown = [one for one in groups if any(one is other for other in largest)]
    columns = _correlation_columns(shown)
    yield columns_text(columns)
    more = f"And {counted(len(groups) - len(shown), 'group')} of fewer models. " if len(groups) > len(shown) else ""
    yield (
        f"{more}<sub>Rank correlation (Spearman) of the time with each count, with its 95% interval over models. An "
        "inversion: at most 0.7 × the MACs, at least 1.5 × the time.</sub>"
    )
    yield from _picture(pictures.scatter)
    yield from _picture(pictures.ranks)
    if pictures.why_not:
        yield escaped(pictures.why_not)
    for one in [one for one in largest if one.disagreement.inversions][:_MOST_DETAILED]:
        yield from _inversions(one.disagreement)


def _correlation_columns(groups: Sequence[GroupReport]) -> tuple[Column, ...]:
    def correlations(name: str) -> tuple[str, ...]:
        found = [one.disagreement.spearman.get(name) for one in groups]
        return tuple(
            NOT_KNOWN
            if one is None or one.value is None
            else f"{one.value:.3f}"
            + (f" ({one.low:.3f} to {one.high:.3f})" if one.low is not None and one.high is not None else "")
            for one in found
        )

    columns = (
        Column("models", tuple(group_title(one.disagreement) for one in groups), is_number=False),
        Column("threads", tuple(str(one.threads or NOT_KNOWN) for one in groups)),
        Column("protocol", tuple(one.protocol_hash or NOT_KNOWN for one in groups), is_number=False),
        Column("reference", tuple(one.reference or "none" for one in groups), is_number=False),
        Column("MACs", correlations("macs")),
        Column("parameters", correlations("params")),
        Column("roofline", correlations("roofline")),
        Column("inversions", tuple(f"{one.disagreement.inversions_total:,}" for one in groups)),
        Column("of pairs", tuple(f"{one.disagreement.pairs:,}" for one in groups)),
    )
    constant = ("threads", "protocol", "reference")
    return tuple(one for one in columns if not (one.head in constant and len(set(one.cells)) == 1))


def _inversions(group: Disagreement) -> Iterable[str]:
    rows = worst_inversions(group, _MOST_INVERSIONS)
    slower, faster = [one.slower for one in rows], [one.faster for one in rows]
    grades = tuple(f"{_grade(one.slower, group)}, {_grade(one.faster, group)}" for one in rows)
    yield f"### Worst inversions: {escaped(group_title(group))}"
    yield columns_text(
        (
            *point_columns("slower", slower, others=faster),
            *point_columns("faster", faster, others=slower),
            Column("MACs ratio", tuple(f"{one.macs_ratio:.3f}" for one in rows)),
            Column("time ratio", tuple(f"{one.time_ratio:.2f}" for one in rows)),
            # Of a time that is not sound the ratio is not either.
            *([Column("grades", grades, is_number=False)] if Grade.C in "".join(grades) else []),
            Column(
                "reason",
                tuple(one.reason if one.reason != UNEXPLAINED else "not explained" for one in rows),
                is_number=False,
            ),
        )
    )
    if group.inversions_total > len(rows):
        yield f"And {group.inversions_total - len(rows):,} more."


def _grade(point: Point, group: Disagreement) -> str:
    return (point.ratio_grade if is_relative(group.points) else point.grade) or NOT_KNOWN


def front_parts(report: Report, pictures: Pictures) -> Iterable[str]:
    """The paragraphs of the section; none where there is no front."""
    shown = shown_fronts(report)
    if not shown:
        return
    is_accuracy = shown[0].gain == "accuracy"
    yield f"## {'Accuracy' if is_accuracy else 'MACs'} against time"
    if not is_accuracy:
        yield (
            "No accuracies were given (`--accuracy FILE`), so the front is of the models that nobody beats in "
            "multiply-adds for their time: what suits the device, not what is the better model."
        )
    for index, one in enumerate(shown):
        yield from _front(one)
        yield from _picture(pictures.fronts[index] if pictures.fronts else None)
    if len(report.fronts) > len(shown):
        yield f"And {counted(len(report.fronts) - len(shown), 'front')} of fewer models."
    if any(one.is_relative for one in shown):
        raw = "" if all(one.is_relative for one in shown) else _RAW
        yield (
            "<sub>Times of a front: the ratios to the reference, times its median beside these models, so that the "
            f"machine's moods do not decide who is on it{raw}.</sub>"
        )


def _front(one: FrontReport) -> Iterable[str]:
    """With accuracies who is best; without, who does less in more time than another: the front is nearly everybody."""
    best = [point for point in one.points if point.is_on_front]
    close = [point for point in one.points if not point.is_on_front and point.is_indistinguishable]
    beaten = [point for point in one.points if not point.is_on_front and not point.is_indistinguishable]
    with_size = len({point.size for point in one.points}) > 1
    is_accuracy = one.gain == "accuracy"
    yield f"### {escaped(f'{one.where}: {len(best):,} of {len(one.points):,} on the front')}"
    listed = best if is_accuracy else beaten
    if not is_accuracy:
        yield "Fewer MACs and more time than another, beyond the intervals:" if beaten else _nobody(close)
    if listed:
        columns = front_columns(listed, "latency", with_size, is_beaten=not is_accuracy, gain=one.gain)
        yield columns_text(tuple(_capped(column, _MOST_ON_FRONT) for column in columns))
    if len(listed) > _MOST_ON_FRONT:
        yield f"And {counted(len(listed) - _MOST_ON_FRONT, 'model')} more."
    if close and is_accuracy:
        names = sorted({f"{point.model}{_size(point.size) if with_size else ''}" for point in close})
        yield f"Beaten by value, but not beyond the intervals of the times: {listed_text(names)}."
    if one.left_out:
        unknown = "accuracy" if is_accuracy else "MACs"
        yield f"{counted(one.left_out, 'result')} more without known {unknown} or latency."


def _nobody(close: Sequence[FrontPoint]) -> str:
    return f"Nobody is beaten{' beyond the intervals' if close else ''}."


def _size(size: tuple[int, int] | None) -> str:
    return f" {size[0]}x{size[1]}" if size else ""


def _capped(column: Column, most: int) -> Column:
    return Column(column.head, column.cells[:most], column.spare, column.is_number)


def _picture(picture: Picture | None) -> Iterable[str]:
    if picture is not None:
        yield f"![{escaped(picture.alt)}]({quote(picture.file)})"
