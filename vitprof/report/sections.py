"""Sections of facts and a table, drawn on a terminal and as markdown.

Its own file because comparisons and fronts are told in the same shape, and what they say must not depend on where it
is read. A remark on a row (why a pair is inverted) is too long for a column of a terminal: there it stands under its
row, in markdown it is the last column. Text in a section comes from anywhere and is made harmless here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from vitprof.report.markdown import escaped
from vitprof.report.outside import plain
from vitprof.report.table import Column
from vitprof.units import NOT_KNOWN, NS_PER_UNIT, significant, time_unit

_PROSE_WIDTH = 120
_GAP = "  "
_PREFIXES = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


@dataclass(frozen=True)
class Section:
    """What is said under one title: sentences, then a table, then what a sentence must say of the table."""

    title: str
    facts: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    # One a row, or none at all.
    remarks: tuple[str, ...] = ()
    remark_head: str = ""
    closing: tuple[str, ...] = ()
    # 1: a group; 2: a part of it.
    level: int = 2


def show_sections(sections: Sequence[Section], console: Console) -> None:
    """Print the sections; columns that may go are left out where the terminal is too narrow."""
    width = min(console.width, _PROSE_WIDTH) if console.is_terminal else _PROSE_WIDTH
    for index, section in enumerate(sections):
        lines = [Text()] if index else []
        lines.append(Text(plain(section.title), "bold underline" if section.level == 1 else "bold"))
        lines += _prose(section.facts, width, "")
        lines += _table(section, console.width if console.is_terminal else None, width)
        lines += _prose(section.closing, width, "dim")
        for line in lines:
            line.rstrip()
            # The lines have their final width already.
            console.print(line, soft_wrap=True)


def sections_text(sections: Sequence[Section]) -> str:
    """The sections as GitHub markdown."""
    return "\n\n".join(part for section in sections for part in _markdown_parts(section)) + "\n"


def times_column(name: str, values_ns: Sequence[float | None]) -> Column:
    """Times in the one unit that suits the middle one."""
    known = sorted(value for value in values_ns if value is not None)
    unit = time_unit(known[len(known) // 2]) if known else "ms"
    cells = tuple(_number(value, NS_PER_UNIT[unit]) for value in values_ns)
    return Column(f"{name} {'µs' if unit == 'us' else unit}", cells)


def counts_column(name: str, values: Sequence[float | None], spare: int = 0) -> Column:
    """Counts with the prefix that suits the largest."""
    largest = max((value for value in values if value is not None), default=0.0)
    prefix, scale = next(((prefix, scale) for prefix, scale in _PREFIXES if largest >= scale), ("", 1.0))
    return Column(f"{prefix}{name}", tuple(_number(value, scale) for value in values), spare)


def _number(value: float | None, scale: float) -> str:
    return NOT_KNOWN if value is None else significant(value / scale)


def _prose(sentences: Sequence[str], width: int, style: str) -> list[Text]:
    return [Text(line, style) for sentence in sentences for line in _wrapped(plain(sentence), width)]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(20, width), break_long_words=False, break_on_hyphens=False)


def _table(section: Section, limit: int | None, width: int) -> list[Text]:
    columns = _fitting(section.columns, limit)
    drawn = [_drawn(column) for column in columns]
    lines = [Text(_GAP.join(cells), "" if index else "bold") for index, cells in enumerate(zip(*drawn, strict=True))]
    if not section.remarks:
        return lines
    under = [
        [Text(f"{_GAP}{line}", "dim") for line in _wrapped(plain(remark), width - len(_GAP))]
        for remark in section.remarks
    ]
    return [lines[0], *(line for row, remark in zip(lines[1:], under, strict=True) for line in (row, *remark))]


def _fitting(columns: Sequence[Column], limit: int | None) -> list[Column]:
    kept = list(columns)
    while limit is not None and sum(cell_len(_drawn(one)[0]) + len(_GAP) for one in kept) - len(_GAP) > limit:
        spare = max(column.spare for column in kept)
        if spare == 0:
            break
        kept = [column for column in kept if column.spare != spare]
    return kept


def _drawn(column: Column) -> list[str]:
    """Head and cells, all equally wide; numbers with their points under each other."""
    cells = [plain(cell) for cell in column.cells]
    if column.is_number:
        tails = [0 if cell == NOT_KNOWN or "." not in cell else len(cell) - cell.find(".") for cell in cells]
        longest = max(tails, default=0)
        cells = [
            cell if cell == NOT_KNOWN else cell + " " * (longest - tail)
            for cell, tail in zip(cells, tails, strict=True)
        ]
    width = max(map(cell_len, (column.head, *cells)))
    blanks = [" " * (width - cell_len(cell)) for cell in (column.head, *cells)]
    return [
        blank + cell if column.is_number else cell + blank
        for cell, blank in zip((column.head, *cells), blanks, strict=True)
    ]


def _markdown_parts(section: Section) -> list[str]:
    parts = [f"{'#' * (section.level + 1)} {escaped(section.title)}"]
    parts += [escaped(" ".join(section.facts))] if section.facts else []
    if section.columns:
        remarks = (Column(section.remark_head, section.remarks, is_number=False),) if section.remarks else ()
        parts.append(_markdown_table((*section.columns, *remarks)))
    parts += [escaped(" ".join(section.closing))] if section.closing else []
    return parts


def _markdown_table(columns: Sequence[Column]) -> str:
    """Padded so that the source reads as a table too."""
    drawn = []
    for column in columns:
        cells = [escaped(cell) for cell in (column.head, *column.cells)]
        width = max(3, *map(len, cells))
        rule = "-" * (width - 1) + ":" if column.is_number else "-" * width
        padded = [cell.rjust(width) if column.is_number else cell.ljust(width) for cell in cells]
        drawn.append([padded[0], rule, *padded[1:]])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in zip(*drawn, strict=True))
