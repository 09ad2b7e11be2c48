"""A report as markdown that a team reads on a code forge: what changed first, protocol and versions last.

Its own file beside the HTML, which has every row: here a table ends where nobody would read on, and says how many
more there are. Text from outside is escaped by `markdown`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from urllib.parse import quote

from vitprof.comparisons import Disagreement
from vitprof.report.columns import Column
from vitprof.report.comparison import UNEXPLAINED, counted, group_title, worst_inversions
from vitprof.report.markdown import escaped, item_text, table_text
from vitprof.report.pareto import front_columns
from vitprof.report.report_pictures import Picture, Pictures, shown_fronts
from vitprof.report.report_tables import (
    environment_columns,
    most_telling,
    placement_columns,
    result_columns,
    shared_facts,
    tables_of,
)
from vitprof.report.report_words import (
    TOLD,
    Names,
    common_confounders,
    counts_text,
    headline_text,
    moment_text,
    title_of,
)
from vitprof.reports import ChangeKind, FrontReport, GroupReport, Report, ReportRow, RunFacts, Trouble
from vitprof.units import NOT_KNOWN

# By this line `report_index` knows the files that are reports.
MARK = "<!-- vitprof report -->"
_MOST_LINES = 10
_MOST_ROWS = 60
_MOST_TABLES = 30
_MOST_GROUPS = 20
_MOST_DETAILED = 4
_MOST_INVERSIONS = 5
_MOST_CELLS = 8
_MOST_ON_FRONT = 20
_MOST_TROUBLES = 20
_MOST_FACTS = 3
_AROUND = "The machine against before"
# Of a fact, as a line of a list: error texts can hold a graph.
_LONGEST_FACT = 600


def report_text(report: Report, pictures: Pictures = Pictures(), html: str | None = None) -> str:  # noqa: B008
    """The whole document; `html`: the name of the file beside it that has every row."""
    names = Names([*(row.cell for row in report.rows), *(one.cell for one in report.changes)])
    parts = [
        f"{MARK}\n# {escaped(title_of(report))}",
        _opening(report, html),
        *_headline(report, names),
        *_results(report),
        *_disagreement(report, pictures),
        *_fronts(report, pictures),
        *_around(report, names),
        *_troubles(report, names),
        *_closing(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(report: Report, html: str | None) -> str:
    # As text, since imported rows may be of another zone.
    moments = sorted(map(moment_text, {row.document["started_at"] for row in report.rows} - {None}))
    when = ""
    if moments:
        first, last = moments[0], moments[-1]
        when = f", measured {first}" if first == last else f", measured {first} to {last}"
    # Also where nothing was measured before and what failed is no change.
    troubles = (
        (sum(1 for row in report.rows if row.document["outcome"] != "ok"), "failed"),
        (sum(1 for row in report.rows if row.is_broken), "with broken parity"),
    )
    told = ", ".join(f"{count:,} {what}" for count, what in troubles if count)
    results = f"{counted(len(report.rows), 'result')}{f' ({told})' if told else ''}"
    source = f"{results} of {counted(len(report.runs), 'run')}{when}."
    link = f" Every row, sortable: [{escaped(html)}]({quote(html)})." if html else ""
    return f"{escaped(source)}{link}"


def _headline(report: Report, names: Names) -> Iterable[str]:
    yield "## What changed"
    if not report.baseline_runs:
        yield escaped(
            "Nothing to compare with: no cell was measured before by the same protocol, against the same reference, "
            "on the same device."
        )
        return
    yield f"**{escaped(counts_text(report))}**, each cell against its last result before."
    common = common_confounders(report.changes)
    lines = [line for kind in TOLD for line in _lines(report, kind, names, common)]
    lines += list(_counted_lines(report, names))
    band = f"±{report.band_share * 100:g}%"
    yield "\n".join(lines) if lines else f"Every cell takes as long as before, within {band}."
    if lines:
        yield (
            "<sub>Change of the time as a multiple of the reference's, with its 95% interval, widened for the number "
            f"of comparisons. Wholly within {band}: same; wholly outside: faster or slower; else undecided.</sub>"
        )
    if report.environment:
        below = f"[see below](#{_AROUND.lower().replace(' ', '-')})"
        yield f"The machine and its runtimes differ from before in {counted(len(report.environment), 'fact')}: {below}."


def _lines(
    report: Report, kind: ChangeKind, names: Names, common: Mapping[tuple[str, str], Collection[str]]
) -> Iterable[str]:
    found = report.changes_of(kind)
    for one in found[:_MOST_LINES]:
        told = headline_text(one, names, common.get((one.cell.device, one.cell.backend), ()))
        yield f"- **{kind.value}** {escaped(_cut(told))}"
    if len(found) > _MOST_LINES:
        yield f"- and {len(found) - _MOST_LINES:,} more {kind.value}"


def _counted_lines(report: Report, names: Names) -> Iterable[str]:
    """What is said of several cells in one line: why they are not compared, what still fails, what is new."""
    reasons = Counter(one.detail for one in report.changes_of(ChangeKind.NOT_COMPARED))
    for reason, count in sorted(reasons.items(), key=lambda one: (-one[1], one[0]))[:_MOST_LINES]:
        yield f"- **not compared** {escaped(counted(count, 'cell'))}: {escaped(_cut(reason))}"
    for kind in (ChangeKind.STILL_BROKEN, ChangeKind.NEW):
        found = report.changes_of(kind)
        if found:
            yield f"- **{kind.value}** {_listed([names.name(one.cell) for one in found])}"


def _results(report: Report) -> Iterable[str]:
    yield "## Results"
    tables = tables_of(report)
    # Where everything is new the column would say nothing.
    with_change = bool(report.baseline_runs)
    shown = sorted(sorted(tables, key=lambda rows: -len(rows))[:_MOST_TABLES], key=tables.index)
    for rows in shown:
        yield from _table_of(rows, with_change)
    if len(tables) > len(shown):
        more = sum(map(len, tables)) - sum(map(len, shown))
        yield f"And {counted(len(tables) - len(shown), 'table')} more, {counted(more, 'result')}."
    if any(row.document["relative"] for row in report.rows):
        yield (
            "<sub>Time: median of one inference; ±95%: half of the 95% interval; ratio: the time as a multiple of the "
            "reference's, which the machine's moods move less. Grades: A trustworthy, B wide interval, C disturbed."
            "</sub>"
        )


def _table_of(rows: Sequence[ReportRow], with_change: bool) -> Iterable[str]:
    cell = rows[0].cell
    versions = sorted({row.document["backend_version"] for row in rows if row.document["backend_version"]})
    version = f" {versions[0]}" if len(versions) == 1 else ""
    yield f"### {escaped(f'{cell.device} × {cell.backend}{version}')}"
    facts = shared_facts(rows)
    yield escaped(f"{counted(len(rows), 'result')}{': ' if facts else ''}{facts}.")
    shown = most_telling(rows, _MOST_ROWS)
    columns = result_columns(shown, with_change)
    yield table_text(columns, [_drawn(column, shown) for column in columns])
    if len(shown) < len(rows):
        yield f"And {counted(len(rows) - len(shown), 'result')} more, of which the fewest changed."


def _drawn(column: Column, rows: Sequence[ReportRow]) -> list[str]:
    return [
        f"~~{escaped(cell)}~~" if column.is_timing and row.is_broken and cell != NOT_KNOWN else escaped(cell)
        for cell, row in zip(column.cells, rows, strict=True)
    ]


def _disagreement(report: Report, pictures: Pictures) -> Iterable[str]:
    groups = [one for one in report.groups if len(one.disagreement.points) > 1]
    if not groups:
        return
    yield "## Where MACs and time disagree"
    largest = sorted(groups, key=lambda one: -len(one.disagreement.points))[:_MOST_GROUPS]
    shown = [one for one in groups if any(one is other for other in largest)]
    columns = _correlation_columns(shown)
    yield _table(columns)
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
        Column("MACs", correlations("macs")),
        Column("parameters", correlations("params")),
        Column("roofline", correlations("roofline")),
        Column("inversions", tuple(f"{one.disagreement.inversions_total:,}" for one in groups)),
        Column("of pairs", tuple(f"{one.disagreement.pairs:,}" for one in groups)),
    )
    constant = ("threads", "protocol")
    return tuple(one for one in columns if not (one.head in constant and len(set(one.cells)) == 1))


def _inversions(group: Disagreement) -> Iterable[str]:
    rows = worst_inversions(group, _MOST_INVERSIONS)
    yield f"### Worst inversions: {escaped(group_title(group))}"
    yield _table(
        (
            Column("slower", tuple(one.slower.model for one in rows), is_number=False),
            Column("faster", tuple(one.faster.model for one in rows), is_number=False),
            Column("MACs ratio", tuple(f"{one.macs_ratio:.3f}" for one in rows)),
            Column("time ratio", tuple(f"{one.time_ratio:.2f}" for one in rows)),
            Column(
                "reason",
                tuple(one.reason if one.reason != UNEXPLAINED else "not explained" for one in rows),
                is_number=False,
            ),
        )
    )
    if group.inversions_total > len(rows):
        yield f"And {group.inversions_total - len(rows):,} more."


def _fronts(report: Report, pictures: Pictures) -> Iterable[str]:
    shown = shown_fronts(report)
    if not shown:
        return
    is_accuracy = shown[0].gain == "accuracy"
    yield f"## {'Accuracy' if is_accuracy else 'MACs'} against time"
    if not is_accuracy:
        yield (
            "No accuracies were given (`--accuracy FILE`), so these are the models that nobody beats in multiply-adds "
            "for their time: what suits the device, not what is the better model."
        )
    for index, one in enumerate(shown):
        yield from _front(one)
        yield from _picture(pictures.fronts[index] if pictures.fronts else None)
    if len(report.fronts) > len(shown):
        yield f"And {counted(len(report.fronts) - len(shown), 'front')} of fewer models."
    yield (
        "<sub>Times of a front: the ratios to the reference, times its median beside these models, so that the "
        "machine's moods do not decide who is on it.</sub>"
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
        yield "Fewer MACs and more time than another, beyond the intervals:" if beaten else "Nobody is beaten."
    if listed:
        columns = front_columns(listed, "latency", with_size, is_beaten=not is_accuracy, gain=one.gain)
        yield _table(tuple(_capped(column, _MOST_ON_FRONT) for column in columns))
    if len(listed) > _MOST_ON_FRONT:
        yield f"And {counted(len(listed) - _MOST_ON_FRONT, 'model')} more."
    if close and is_accuracy:
        names = _listed(sorted({point.model for point in close}))
        yield f"Beaten by value, but not beyond the intervals of the times: {names}."


def _capped(column: Column, most: int) -> Column:
    return Column(column.head, column.cells[:most], column.spare, column.is_number)


def _around(report: Report, names: Names) -> Iterable[str]:
    if report.placements:
        yield "## Placed otherwise than before"
        yield _table(placement_columns(report.placements[:_MOST_ROWS], names))
        if len(report.placements) > _MOST_ROWS:
            yield f"And {counted(len(report.placements) - _MOST_ROWS, 'model')} more."
    if report.baseline_runs:
        yield f"## {_AROUND}"
        if not report.environment:
            yield "Of what is known of machines and runtimes nothing differs."
            return
        yield _table(environment_columns(report.environment[:_MOST_ROWS]))
        if len(report.environment) > _MOST_ROWS:
            yield f"And {counted(len(report.environment) - _MOST_ROWS, 'fact')} more."


def _troubles(report: Report, names: Names) -> Iterable[str]:
    for title, troubles in (
        ("Failures", report.failures),
        ("Broken parity", report.broken),
        ("Warnings", report.warnings),
    ):
        if troubles:
            yield f"## {title}"
            yield "\n".join(line for one in troubles[:_MOST_TROUBLES] for line in _trouble(one, names))
            if len(troubles) > _MOST_TROUBLES:
                yield f"And {len(troubles) - _MOST_TROUBLES:,} more kinds."
    if report.left_out:
        yield "## In no comparison"
        yield "\n".join(f"- {item_text(_cut(text))}" for text in report.left_out[:_MOST_LINES])
        if len(report.left_out) > _MOST_LINES:
            yield f"And {counted(len(report.left_out) - _MOST_LINES, 'result')} more."


def _trouble(trouble: Trouble, names: Names) -> Iterable[str]:
    cells = _listed([names.name(cell) for cell in trouble.cells])
    yield f"- **{escaped(trouble.title)}** ({len(trouble.cells):,}): {cells}"
    for fact in trouble.facts[:_MOST_FACTS]:
        yield f"  - {item_text(_cut(fact))}"
    if len(trouble.facts) > _MOST_FACTS:
        yield f"  - and {len(trouble.facts) - _MOST_FACTS:,} more"
    if trouble.remedy:
        yield f"  - Remedy: {escaped(_cut(trouble.remedy))}"


def _closing(report: Report) -> Iterable[str]:
    yield "## Protocol and versions"
    if report.protocols:
        yield _table(
            (
                Column("protocol", tuple(one.hash for one in report.protocols), is_number=False),
                Column("effort", tuple(one.effort or NOT_KNOWN for one in report.protocols), is_number=False),
                Column("sets", tuple(str(one.sets or NOT_KNOWN) for one in report.protocols)),
                Column("region", tuple(one.region for one in report.protocols), is_number=False),
                Column(
                    "reference", tuple(", ".join(one.references) or "none" for one in report.protocols), is_number=False
                ),
                Column("results", tuple(f"{one.rows:,}" for one in report.protocols)),
            )
        )
    yield _table(
        (
            Column("device", tuple(one.device for one in report.versions), is_number=False),
            Column("backend", tuple(one.backend for one in report.versions), is_number=False),
            Column("version", tuple(", ".join(one.versions) or NOT_KNOWN for one in report.versions), is_number=False),
        )
    )
    yield from _runs("Runs", report.runs)
    yield from _runs("Compared with", report.baseline_runs)
    yield f"vitprof {escaped(' and '.join(report.vitprof_versions) or NOT_KNOWN)}."


def _runs(title: str, runs: Sequence[RunFacts]) -> Iterable[str]:
    if not runs:
        return
    shown = runs[:_MOST_ROWS]
    columns = (
        Column(title, tuple(one.id for one in shown), is_number=False),
        Column("command", tuple(one.command for one in shown), is_number=False),
        Column("began", tuple(moment_text(one.started_at) for one in shown), is_number=False),
        Column("vitprof", tuple(one.vitprof_version for one in shown), is_number=False),
        Column("gate", tuple(one.gate or NOT_KNOWN for one in shown), is_number=False),
        Column("results", tuple(f"{one.rows:,}" for one in shown)),
    )
    yield _table(tuple(one for one in columns if one.head != "gate" or set(one.cells) != {NOT_KNOWN}))
    if len(runs) > len(shown):
        yield f"And {counted(len(runs) - len(shown), 'run')} more."


def _picture(picture: Picture | None) -> Iterable[str]:
    if picture is not None:
        yield f"![{escaped(picture.alt)}]({quote(picture.file)})"


def _table(columns: Sequence[Column]) -> str:
    return table_text(columns, [[escaped(cell) for cell in column.cells] for column in columns])


def _listed(texts: Sequence[str]) -> str:
    shown = "; ".join(escaped(text) for text in texts[:_MOST_CELLS])
    return f"{shown} and {len(texts) - _MOST_CELLS:,} more" if len(texts) > _MOST_CELLS else shown


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_FACT else f"{text[: _LONGEST_FACT - 1]}…"
