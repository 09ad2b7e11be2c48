"""A column of text with one unit for all of its cells, and how columns are drawn side by side.

Its own file because every table needs it, of results and of comparisons, on a terminal and in markdown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from vitprof.units import NOT_KNOWN, NS_PER_UNIT, significant, time_unit

GAP = "  "
_PREFIXES = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


@dataclass(frozen=True)
class Column:
    """Cells as text without unit; the unit stands in the head."""

    head: str
    cells: tuple[str, ...]
    # 0: never left out; else the column with the greatest number goes first where room is short.
    spare: int = 0
    is_number: bool = True
    # From the timing of this very artifact: void where parity is broken.
    is_timing: bool = False


def times_column(
    name: str, values_ns: Sequence[float | None], unit: str | None = None, spare: int = 0, *, is_timing: bool = False
) -> Column:
    """Times in `unit`, by default the one that suits the middle one."""
    unit = unit or time_unit(middle(values_ns))
    cells = tuple(number(value, NS_PER_UNIT[unit]) for value in values_ns)
    return Column(f"{name} {'µs' if unit == 'us' else unit}", cells, spare, is_timing=is_timing)


def counts_column(name: str, values: Sequence[float | None], spare: int = 0, *, is_timing: bool = False) -> Column:
    """Counts with the prefix that suits the largest: the field speaks of 0.057 GMAC beside 4.1 GMAC."""
    largest = max((value for value in values if value is not None), default=0.0)
    prefix, scale = next(((prefix, scale) for prefix, scale in _PREFIXES if largest >= scale), ("", 1.0))
    # What is no unit is a word.
    head = f"{prefix} {name}".lstrip() if name in ("params", "instructions") else f"{prefix}{name}"
    return Column(head, tuple(number(value, scale) for value in values), spare, is_timing=is_timing)


def middle(values: Sequence[float | None]) -> float:
    """What a unit of time is chosen for: the geometric mean, so that one giant does not turn the rest into zeros."""
    logs = [math.log(value) for value in values if value]
    return math.exp(math.fsum(logs) / len(logs)) if logs else 0.0


def number(value: float | None, scale: float = 1.0) -> str:
    return NOT_KNOWN if value is None else significant(value / scale)


def fitting(columns: Sequence[Column], limit: int | None) -> list[Column]:
    """The columns that have room in `limit` characters (None: all), those that may go left out one rank at a time."""
    kept = list(columns)
    while limit is not None and total([drawn_width(column) for column in kept]) > limit:
        spare = max(column.spare for column in kept)
        if spare == 0:
            break
        kept = [column for column in kept if column.spare != spare]
    return kept


def total(widths: Sequence[int]) -> int:
    """The width of a row."""
    return sum(widths) + len(GAP) * (len(widths) - 1)


def drawn_width(column: Column) -> int:
    return max(cell_len(column.head), *(cell_len(cell) for cell in aligned(column)))


def aligned(column: Column) -> list[str]:
    """Cells of numbers with as many blanks behind them as put the decimal points under each other."""
    if not column.is_number:
        return list(column.cells)
    tails = [len(cell) - cell.find(".") if "." in cell else 0 for cell in column.cells]
    longest = max(tails, default=0)
    return [
        cell if cell == NOT_KNOWN else cell + " " * (longest - tail)
        for cell, tail in zip(column.cells, tails, strict=True)
    ]


def padded(text: str, column: Column, size: int) -> str:
    """The text `size` characters wide, numbers to the right."""
    blanks = " " * (size - cell_len(text))
    return blanks + text if column.is_number else text + blanks
