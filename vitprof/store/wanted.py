"""Which rows of the results store are wanted: what `list`, `export` and `prune` are told.

Its own file because a command knows this before the database library is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

# Of more names only the first are looked at: comparing them takes longer than anybody waits for a hint.
_COMPARED = 1_000


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

    @property
    def is_every(self) -> bool:
        """Whether rows of every model, backend, device and run are meant."""
        return self.model == "*" and not self.backends and not self.devices and self.run is None


def nearest(text: str, names: Sequence[str]) -> tuple[str, ...]:
    """Up to three of `names` that `text`, or the beginning of one, was most likely meant to be; best first."""
    asked = text.strip("*?")
    matcher = SequenceMatcher(b=asked, autojunk=False)

    def likeness(name: str) -> float:
        matcher.set_seq1(name[: len(asked)])
        return matcher.ratio()

    return tuple(sorted(names[:_COMPARED], key=likeness, reverse=True)[:3])
