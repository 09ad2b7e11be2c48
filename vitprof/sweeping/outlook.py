"""How long one machine still takes, by how long it took so far.

Its own file because it is a guess for the progress display, and nothing that is measured depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitprof.devices import profiles
from vitprof.measurements import Protocol
from vitprof.sweeping.cells import exporting_s, exports_of, measuring_s, missing_exports
from vitprof.sweeps import SweepCell


class Outlook:
    """The time for the groups that are left, and for the exports that they wait for.

    By what was thought of each and not by the cell: an emulated device takes many times as long as this machine.
    """

    def __init__(
        self, groups: Sequence[Sequence[SweepCell]], protocol: Protocol, cache_root: Path, *, is_here: bool
    ) -> None:
        """`is_here`: exports are made on the machine that is measured, so never while it is."""
        self._is_here = is_here
        self._thought_s = {
            group[0].group: measuring_s(profiles.device(group[0].device), group, protocol) for group in groups
        }
        cells = [cell for group in groups for cell in group]
        self._missing = missing_exports(cells, cache_root)
        # Of the groups that were measured.
        self._seen_s = self._seen_thought_s = 0.0

    def exported(self, cells: Sequence[SweepCell]) -> None:
        """What these cells need is made, or cannot be."""
        self._missing -= exports_of(cells)

    def done(self, group: int, seconds: float | None) -> None:
        """A group is over, after `seconds`; None where nothing of it was measured."""
        thought_s = self._thought_s.pop(group, 0.0)
        if seconds is not None:
            self._seen_s += seconds
            self._seen_thought_s += thought_s

    @property
    def left_s(self) -> float:
        """About how many seconds are left."""
        pace = self._seen_s / self._seen_thought_s if self._seen_thought_s else 1.0
        measuring, exporting = pace * sum(self._thought_s.values()), exporting_s(len(self._missing))
        return measuring + exporting if self._is_here else max(measuring, exporting)
