"""The earlier rows that a cell of the gate's candidate is compared with, and why one may not serve.

Its own file beside `stored`: what is looked for in the store is one thing, what is said of it another.
"""

from __future__ import annotations

import dataclasses
import glob
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitprof.analysis.changes import cell_of, trouble_of, why_not_compared
from vitprof.errors import UsageError
from vitprof.gating.again import VERIFICATION
from vitprof.measurements import Grade
from vitprof.reports import Cell
from vitprof.store.runs import IMPORT, Gate, StoredRun

if TYPE_CHECKING:
    from vitprof.store.results import Store, StoredRow

# Of a run in which gate measured two models beside each other.
PAIR = "gate pair"
# What gate itself measures is no new state of anything: neither a candidate nor one of the last N.
_OWN = (VERIFICATION, PAIR)
_Row = Mapping[str, Any]
# Warnings that come with grade C of the ratio.
_UNSOUND = frozenset(
    (
        "warm-up not reached",
        "drifting",
        "throttled",
        "disturbed",
        "software gpu",
        "emulated",
        "page hidden",
        "clock jump",
    )
)
_LAST = re.compile(r"last:(\d{1,3})")
# So many rows of a model are looked through for those of one cell, first for each one wanted, then in all: others are
# of other sizes, batches and protocols.
_FIRST_LOOK = 4
_LOOKED_THROUGH = 500


def candidate_of(store: Store, named: str | None) -> StoredRun:
    """The run of that name; None and `latest`: the newest that measured something. `UsageError` where there is none."""
    if named not in (None, "latest"):
        return store.run(str(named))
    measured = (one for one in store.runs() if not one.command.startswith(IMPORT))
    return next((one for one in measured if one.command not in _OWN), None) or store.run("latest")


def key_of(row: _Row) -> Cell:
    """The cell of a row, whichever protocol it was measured by."""
    return dataclasses.replace(cell_of(row), protocol_hash="")


class Baselines:
    """Of a run, or of the last N runs of each cell that were not rejected.

    `shown`: what they are called; `last`: that N, None for a run. `UsageError` for anything else.
    """

    def __init__(self, store: Store, asked: str, candidate: StoredRun) -> None:
        self._store = store
        self._candidate = candidate
        match = _LAST.fullmatch(asked)
        if asked.startswith("last:") and (not match or int(match[1]) < 1):
            raise UsageError(f"--baseline {asked} is no number of runs", remedy="give --baseline last:5, or a run")
        self.last = int(match[1]) if match else None
        self.shown = asked
        self._rows: dict[Cell, StoredRow] = {}
        self._left_out: frozenset[str] = frozenset()
        if self.last is None:
            run = store.run(asked)
            if run.id == candidate.id:
                what = f"run {run.id} is the candidate and cannot be its own baseline"
                raise UsageError(what, remedy="name an earlier run, or give --baseline last:5")
            self.shown = run.id
            self._rows = {key_of(row.document): row for row in reversed(store.rows(run=run.id))}
        else:
            unfit = (one.id for one in store.runs() if one.gate == Gate.REJECTED or one.command in _OWN)
            self._left_out = frozenset(unfit)

    def of(self, row: _Row) -> tuple[list[StoredRow], str]:
        """Those that serve, the newest first; where none does although there are some, why the first does not."""
        if self.last is None:
            known = self._rows.get(key_of(row))
            return _serving([known] if known else [], row)
        # Mostly the first look finds enough; each row that is read takes its time.
        for limit in (_FIRST_LOOK * self.last, _LOOKED_THROUGH):
            looked_through = self._earlier(row, limit)
            serving, reason = _serving(self._fit(looked_through, row), row)
            if len(serving) >= self.last or len(looked_through) < limit:
                break
        return serving[: self.last], reason

    def gone(self, keys: set[Cell]) -> tuple[Cell, ...]:
        """Cells of the baseline's run that are not among `keys`."""
        return tuple(sorted(cell_of(row.document) for key, row in self._rows.items() if key not in keys))

    def _earlier(self, row: _Row, limit: int) -> tuple[StoredRow, ...]:
        return self._store.rows(
            glob.escape(row["model"]),
            backends=(row["backend"],),
            devices=(row["device"],),
            is_all=True,
            before=row["started_at"] or self._candidate.started_at,
            limit=limit,
        )

    def _fit(self, rows: Sequence[StoredRow], row: _Row) -> list[StoredRow]:
        """Of each run the newest row of the cell: runs are asked for, and two rows of one know less of the noise."""
        unfit = {self._candidate.id, *self._left_out}
        fit = [one for one in reversed(rows) if one.run not in unfit and key_of(one.document) == key_of(row)]
        newest = {one.run: one for one in fit}
        return [one for one in rows if newest.get(one.run) is one]


def _serving(found: Sequence[StoredRow], row: _Row) -> tuple[list[StoredRow], str]:
    reasons = [_why_not(one.document, row) for one in found]
    serving = [one for one, reason in zip(found, reasons, strict=True) if not reason]
    return serving, "" if serving or not reasons else reasons[0]


def _why_not(baseline: _Row, candidate: _Row) -> str:
    """Why a row cannot be the candidate's baseline: what differs; "" where it can."""
    told = trouble_of(baseline)
    if told:
        return told
    reason = why_apart(baseline, candidate)
    if not reason and not candidate.get("instructions_per_inference") and baseline["relative"]["grade"] == Grade.C:
        return f"relative.grade is C ({warned_text(baseline)}): a baseline needs B or better"
    return reason


def why_apart(baseline: _Row, candidate: _Row) -> str:
    """Why the numbers of two sound rows have no ratio to each other, with what differs; "" where they have."""
    theirs, ours = (one.get("instructions_per_inference") for one in (baseline, candidate))
    for counted, row in ((theirs, baseline), (ours, candidate)):
        number = counted["value"] if counted else (row["relative"] or {}).get("ratio")
        if number is not None and number <= 0:
            return f"a value of {number}, which nothing takes"
    if theirs and ours:
        facts = [
            ("protocol", baseline["protocol_hash"], candidate["protocol_hash"]),
            ("counter", theirs["counted_by"], ours["counted_by"]),
        ]
        return next((f"another {name}: {was} before, {now} now" for name, was, now in facts if was != now), "")
    return why_not_compared(candidate, baseline)


def warned_text(row: _Row) -> str:
    """The warnings of a row of grade C that say why it is one."""
    codes = dict.fromkeys(one["code"] for one in row["warnings"])
    return ", ".join([code for code in codes if code in _UNSOUND] or codes) or "no warning says why"
