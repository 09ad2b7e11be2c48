"""Sections of facts and a table, drawn on a terminal and as markdown.

Its own file because comparisons and fronts are told in the same shape, and what they say must not depend on where it
is read. A remark on a row (why a pair is inverted) is too long for a column of a terminal: there it stands under its
row, in markdown it is the last column. Text in a section comes from anywhere and is made harmless here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.text import Text

from vitprof.report.columns import GAP, Column, aligned, drawn_width, fitting, padded
from vitprof.report.markdown import escaped, item_text, table_text
from vitprof.report.outside import plain

_PROSE_WIDTH = 120


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
    # Each fact stands for itself: in markdown they are a list.
    is_list: bool = False


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


def _prose(sentences: Sequence[str], width: int, style: str) -> list[Text]:
    return [Text(line, style) for sentence in sentences for line in _wrapped(plain(sentence), width)]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(20, width), break_long_words=False, break_on_hyphens=False)


def _table(section: Section, limit: int | None, width: int) -> list[Text]:
    safe = [replace(column, cells=tuple(plain(cell) for cell in column.cells)) for column in section.columns]
    drawn = [
        [padded(cell, column, drawn_width(column)) for cell in (column.head, *aligned(column))]
        for column in fitting(safe, limit)
    ]
    lines = [Text(GAP.join(cells), "" if index else "bold") for index, cells in enumerate(zip(*drawn, strict=True))]
    if not section.remarks:
        return lines
    under = [
        [Text(f"{GAP}{line}", "dim") for line in _wrapped(plain(remark), width - len(GAP))]
        for remark in section.remarks
    ]
    return [lines[0], *(line for row, remark in zip(lines[1:], under, strict=True) for line in (row, *remark))]


def _markdown_parts(section: Section) -> list[str]:
    parts = [f"{'#' * (section.level + 1)} {escaped(section.title)}"]
    if section.is_list:
        parts += ["\n".join(f"- {item_text(fact)}" for fact in section.facts)]
    elif section.facts:
        parts += [escaped(" ".join(section.facts))]
    if section.columns:
        remarks = (Column(section.remark_head, section.remarks, is_number=False),) if section.remarks else ()
        columns = (*section.columns, *remarks)
        parts.append(table_text(columns, [[escaped(cell) for cell in column.cells] for column in columns]))
    parts += [escaped(" ".join(section.closing))] if section.closing else []
    return parts
