"""Which rows of the results store are wanted: what `list`, `export` and `prune` are told.

Its own file because a command knows this before the database library is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """Which rows; `model` is a glob, `is_all`: not of one cell the latest only."""

    model: str = "*"
    backends: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    run: str | None = None
    is_all: bool = False
    limit: int | None = None
    # Only rows that began before this moment; ISO 8601.
    before: str | None = None
    # Of one shape only: columns of a cell with what they must hold.
    shape: tuple[tuple[str, int | str | None], ...] = ()
