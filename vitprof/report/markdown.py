"""Results as GitHub markdown, ready to paste: the table, what to know beside it, and under which protocol.

Its own file for what markdown gives meaning to: names and error texts come from outside and are escaped here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from vitprof.records import Result
from vitprof.report.cell import is_broken
from vitprof.report.columns import Column
from vitprof.report.notes import Note, broken_notes, failure_notes, warning_notes
from vitprof.report.outside import plain
from vitprof.report.table import COUNTED, columns_of, is_count, references_of, shared_facts
from vitprof.units import NOT_KNOWN

# HTML first by entities; then what starts emphasis, code, links, strike-through, a cell, a formula.
_ENTITIES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"))
_MEANT = re.compile(r"([\\|`*_\[\]~$])")
# What a line of text must not begin with: a heading, a list, a rule.
_BLOCK = re.compile(r"^(?=[#+=-])|^(\d+)(?=[.)])")


def markdown_text(results: Sequence[Result]) -> str:
    """A document of one table with its notes; a line of protocol and versions ends it."""
    if not results:
        return "No results.\n"
    columns = columns_of(results)
    parts = [
        _sentence(shared_facts(results)),
        table_text(columns, [_drawn(column, results) for column in columns]),
        _legend(results),
        _section("Parity", broken_notes(results)),
        _section("Failures", failure_notes(results)),
        _section("Warnings", warning_notes(results)),
        _footer(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    """`text` as markdown shows it letter for letter, in a table cell too."""
    shown = plain(text)
    for char, entity in _ENTITIES:
        shown = shown.replace(char, entity)
    return _MEANT.sub(r"\\\1", shown)


def item_text(text: str) -> str:
    """`text` escaped where it begins an item of a list."""
    return _BLOCK.sub(r"\1\\", escaped(text))


def table_text(columns: Sequence[Column], drawn: Sequence[Sequence[str]]) -> str:
    """The table, its cells (`drawn`: those of each column, escaped) padded so that the source reads as one too."""
    cells = [[escaped(column.head), *own] for column, own in zip(columns, drawn, strict=True)]
    widths = [max(3, *map(len, own)) for own in cells]
    rule = [
        "-" * (width - 1) + ":" if column.is_number else "-" * width
        for column, width in zip(columns, widths, strict=True)
    ]
    lines = list(zip(*cells, strict=True))
    return "\n".join(_line(row, columns, widths) for row in (lines[0], rule, *lines[1:]))


def columns_text(columns: Sequence[Column]) -> str:
    """The table of columns whose cells are not escaped yet."""
    return table_text(columns, [[escaped(cell) for cell in column.cells] for column in columns])


def listed_text(texts: Sequence[str], most: int = 8) -> str:
    """The texts escaped, on one line; of more than `most` how many more there are."""
    shown = "; ".join(escaped(text) for text in texts[:most])
    return f"{shown} and {len(texts) - most:,} more" if len(texts) > most else shown


def _drawn(column: Column, results: Sequence[Result]) -> list[str]:
    return [
        f"~~{escaped(cell)}~~" if column.is_timing and is_broken(result) and cell != NOT_KNOWN else escaped(cell)
        for cell, result in zip(column.cells, results, strict=True)
    ]


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    padded = (
        cell.rjust(width) if column.is_number else cell.ljust(width)
        for cell, column, width in zip(cells, columns, widths, strict=True)
    )
    return f"| {' | '.join(padded)} |"


def _legend(results: Sequence[Result]) -> str:
    if is_count(results):
        return f"{COUNTED}."
    references = " or ".join(escaped(name) for name in references_of(results))
    to = f"; ratio: time as a multiple of the reference {references}'s" if references else ""
    return f"{results[0].protocol.region}: median latency of one call; ±95%: half of the 95 % interval{to}."


def _section(title: str, notes: Sequence[Note]) -> str:
    return "\n".join([f"**{title}**", "", *(_item(note) for note in notes)]) if notes else ""


def _item(note: Note) -> str:
    models = ", ".join(escaped(model) for model in note.models)
    lines = [f"- {item_text(note.title)}: {models}", *(f"  - {item_text(fact)}" for fact in note.facts)]
    if note.remedy:
        lines.append(f"  - Remedy: {escaped(note.remedy)}")
    return "\n".join(lines)


def _footer(results: Sequence[Result]) -> str:
    backends = _once(
        f"{result.backend} {result.backend_version}" for result in results if result.backend_version is not None
    )
    facts = (
        f"protocol {_once(result.protocol.hash for result in results)}",
        f"effort {_once(result.protocol.effort for result in results)}",
        f"vitprof {_once(result.vitprof_version for result in results)}",
        backends,
        f"measured {min(result.started_at for result in results)}",
    )
    return f"<sub>{escaped(', '.join(fact for fact in facts if fact))}</sub>"


def _once(texts: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(texts))


def _sentence(facts: Sequence[str]) -> str:
    return escaped(", ".join(facts))
