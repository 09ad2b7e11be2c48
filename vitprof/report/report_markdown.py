"""A report as markdown that a team reads on a code forge: what changed first, protocol and versions last.

Its own file beside the HTML, which has every row: here a table ends where nobody would read on, and says how many
more there are. Text from outside is escaped by `markdown`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from urllib.parse import quote

from vitprof.report.columns import Column
from vitprof.report.comparison import counted
from vitprof.report.markdown import columns_text, escaped, item_text, listed_text, table_text
from vitprof.report.report_pictures import Pictures
from vitprof.report.report_ranks import disagreement_parts, front_parts
from vitprof.report.report_tables import (
    environment_columns,
    most_telling,
    placement_columns,
    result_columns,
    shared_facts,
    tables_of,
)
from vitprof.report.report_words import (
    MARK,
    TOLD,
    Names,
    common_confounders,
    counts_text,
    headline_text,
    moment_text,
    title_of,
    troubles_text,
)
from vitprof.reports import INSTRUCTIONS, ChangeKind, Report, ReportRow, RunFacts, Trouble
from vitprof.units import NOT_KNOWN

_MOST_LINES = 10
_MOST_ROWS = 60
_MOST_TABLES = 30
_MOST_TROUBLES = 20
_MOST_FACTS = 3
_UNFINISHED = (
    " The sweep is not over: what it has yet to measure is not here, and is not told as gone "
    "(`vitprof sweep PLAN.toml --resume` goes on)."
)
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
        *disagreement_parts(report, pictures),
        *front_parts(report, pictures),
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
    told = troubles_text(report)
    results = f"{counted(len(report.rows), 'result')}{f' ({told})' if told else ''}"
    source = f"{results} of {counted(len(report.runs), 'run')}{when}."
    link = f" Every row, sortable: [{escaped(html)}]({quote(html)})." if html else ""
    return f"{escaped(source)}{_UNFINISHED if report.is_unfinished else ''}{link}"


def _headline(report: Report, names: Names) -> Iterable[str]:
    yield "## What changed"
    if not report.baseline_runs:
        yield escaped(
            "Nothing to compare with: there is no earlier result of the same model, size, batch, precision, device, "
            "backend and threads by the same protocol."
        )
        return
    yield f"**{escaped(counts_text(report.changes))}**, each cell against its last result before."
    common = common_confounders(report.changes)
    lines = [line for kind in TOLD for line in _lines(report, kind, names, common)]
    lines += list(_counted_lines(report, names))
    band = f"±{report.band_share * 100:g}%"
    yield "\n".join(lines) if lines else f"Every cell is the same as before, within {band}."
    if lines and any(one.ratio for one in report.changes):
        yield (
            f"<sub>Change of {_compared(report)}, with its 95% interval, widened for the number of comparisons. "
            f"Wholly within {band}: same; wholly outside: faster or slower; else undecided.</sub>"
        )
    if report.environment:
        below = f"[see below](#{_AROUND.lower().replace(' ', '-')})"
        yield f"The machine and its runtimes differ from before in {counted(len(report.environment), 'fact')}: {below}."


def _compared(report: Report) -> str:
    """What the ratios of the changes are of."""
    is_count = {one.cell.region == INSTRUCTIONS for one in report.changes if one.ratio is not None}
    time, count = "the time as a multiple of the reference's", "the number of instructions"
    return f"{time}, or of {count}" if len(is_count) > 1 else count if True in is_count else time


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
            yield f"- **{kind.value}** {listed_text([names.name(one.cell) for one in found])}"


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
    if any(row.document["latency_ns"] or row.document["relative"] for row in report.rows):
        ratio = (
            "; ratio: the time as a multiple of the reference's, which the machine's moods move less"
            if any(row.document["relative"] for row in report.rows)
            else ""
        )
        yield (
            f"<sub>Time: median of one inference; ±95%: half of the 95% interval{ratio}. "
            "Grades: A trustworthy, B wide interval, C disturbed.</sub>"
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
        yield f"And {counted(len(rows) - len(shown), 'result')} more{_kinds_of(rows, shown) if with_change else ''}."


def _kinds_of(rows: Sequence[ReportRow], shown: Sequence[ReportRow]) -> str:
    """What became of the rows that are not shown: `: 12 slower, 28 same`."""
    hidden = {id(row) for row in rows} - {id(row) for row in shown}
    told = counts_text(row.change for row in rows if row.change and id(row) in hidden)
    return f": {told}" if told else ""


def _drawn(column: Column, rows: Sequence[ReportRow]) -> list[str]:
    return [
        f"~~{escaped(cell)}~~" if column.is_timing and row.is_broken and cell != NOT_KNOWN else escaped(cell)
        for cell, row in zip(column.cells, rows, strict=True)
    ]


def _around(report: Report, names: Names) -> Iterable[str]:
    if report.placements:
        yield "## Placed otherwise than before"
        yield columns_text(placement_columns(report.placements[:_MOST_ROWS], names))
        if len(report.placements) > _MOST_ROWS:
            yield f"And {counted(len(report.placements) - _MOST_ROWS, 'model')} more."
    if report.baseline_runs:
        yield f"## {_AROUND}"
        if not report.environment:
            yield "Of what is known of machines and runtimes nothing differs."
            return
        yield columns_text(environment_columns(report.environment[:_MOST_ROWS]))
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
            yield f"And {len(report.left_out) - _MOST_LINES:,} more."


def _trouble(trouble: Trouble, names: Names) -> Iterable[str]:
    cells = listed_text([names.name(cell) for cell in trouble.cells])
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
        yield columns_text(
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
    yield columns_text(
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
    yield columns_text(tuple(one for one in columns if one.head != "gate" or set(one.cells) != {NOT_KNOWN}))
    if len(runs) > len(shown):
        yield f"And {counted(len(runs) - len(shown), 'run')} more."


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_FACT else f"{text[: _LONGEST_FACT - 1]}…"
