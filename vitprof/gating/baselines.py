"""The earlier rows that a cell of the gate's candidate is compared with, and why one may not serve.

Its own file beside `stored`: what is looked for in the store is one thing, what is said of it another.
"""

from __future__ import annotations

import dataclasses
import glob
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitprof.analysis.changes import cell_of, standing, trouble_of, why_not_compared
from vitprof.errors import UsageError
from vitprof.gating.again import VERIFICATION
from vitprof.gating.levels import of_this_level
from vitprof.measurements import Grade, StopReason
from vitprof.reports import Cell
from vitprof.store.runs import Gate, StoredRun
from vitprof.store.wanted import Wanted

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
# So many rows of one shape are looked through for those of one cell, first for each one wanted, then in all: others are
# of other protocols, of runs that were rejected, or gate's own.
_FIRST_LOOK = 4
_LOOKED_THROUGH = 500


def candidate_of(store: Store, named: str | None) -> StoredRun:
    """The run of that name; None and `latest`: the newest that measured something. `UsageError` where there is none."""
    if named is None or named == "latest":
        return store.latest()
    try:
        return store.run(named)
    except UsageError as error:
        raise UsageError(error.message, remedy=f"{error.remedy}; a model is gated by --against another") from error


def key_of(row: _Row) -> Cell:
    """The cell of a row, whichever protocol it was measured by."""
    return dataclasses.replace(cell_of(row), protocol_hash="")


class Baselines:
    """For `rows`, all of the candidate's: of a run, or of the last N runs of each cell that were not rejected.

    `shown`: what they are called; `last`: that N, None for a run. `UsageError` for anything else.
    """

    def __init__(
        self, store: Store, asked: str, candidate: StoredRun, rows: Sequence[StoredRow], limit_share: float
    ) -> None:
        self._store = store
        self._candidate = candidate
        self._limit_share = limit_share
        match = _LAST.fullmatch(asked)
        if asked.startswith("last:") and (not match or int(match[1]) < 1):
            raise UsageError(f"--baseline {asked} is no number of runs", remedy="give --baseline last:5, or a run")
        self.last = int(match[1]) if match else None
        self.shown = asked
        # Of a run, by the cell of the candidate that a row stands for; those that stand for none.
        self._rows: dict[Cell, StoredRow] = {}
        self.gone: tuple[Cell, ...] = ()
        self._own: frozenset[str] = frozenset()
        self._rejected: frozenset[str] = frozenset()
        self._accepted: frozenset[str] = frozenset()
        if self.last is None:
            run = candidate_of(store, asked)
            if run.id == candidate.id:
                what = f"run {run.id} is the candidate and cannot be its own baseline"
                raise UsageError(what, remedy="name an earlier run, or give --baseline last:5")
            self.shown = run.id
            self._pair({key_of(row.document): row for row in reversed(store.rows(run=run.id))}, rows)
        else:
            runs = store.runs()
            self._own = frozenset(one.id for one in runs if one.command in _OWN)
            self._rejected = frozenset(one.id for one in runs if one.gate == Gate.REJECTED)
            self._accepted = frozenset(one.id for one in runs if one.gate == Gate.ACCEPTED)

    def of(self, row: _Row) -> tuple[list[StoredRow], str]:
        """Those that serve, the newest first; where none does although there are some, why the first does not."""
        if self.last is None:
            known = self._rows.get(key_of(row))
            return _serving([known] if known else [], row)
        # Mostly the first look finds enough; each row that is read takes its time.
        for limit in (_FIRST_LOOK * self.last, max(_FIRST_LOOK * self.last, _LOOKED_THROUGH)):
            looked_through = self._earlier(row, limit)
            serving, reason = _serving(self._fit(looked_through, row, self._own | self._rejected), row)
            # As many again tell whether the level is another since.
            if len(serving) >= 2 * self.last or len(looked_through) < limit:
                break
        if not serving and len(looked_through) < limit:
            # There was nothing to call the first one slower than: its run was rejected for other cells.
            serving = _serving(self._fit(looked_through, row, self._own), row)[0][-1:]
        return of_this_level(serving, self._accepted, self.last, self._limit_share), reason

    def _pair(self, known: Mapping[Cell, StoredRow], rows: Sequence[StoredRow]) -> None:
        """What failed before its size was known stands for the cell that it can be of, on either side."""
        before = {key: row.document for key, row in known.items()}
        now = {key_of(row.document): row.document for row in rows}
        of_now = {place: cell for cell, place in standing(now, before).items()}
        for cell, place in standing(before, now).items():
            if place in of_now:
                self._rows[of_now[place]] = known[cell]
        served = {one.id for one in self._rows.values()}
        self.gone = tuple(sorted(cell_of(row.document) for row in known.values() if row.id not in served))

    def _earlier(self, row: _Row, limit: int) -> tuple[StoredRow, ...]:
        height, width = row["size"] or (None, None)
        alike = tuple((name, row[name]) for name in ("batch", "precision", "threads"))
        wanted = Wanted(
            glob.escape(row["model"]),
            (row["backend"],),
            (row["device"],),
            is_all=True,
            before=row["started_at"] or self._candidate.started_at,
            limit=limit,
            shape=(("height", height), ("width", width), *alike),
        )
        return self._store.find(wanted)

    def _fit(self, rows: Sequence[StoredRow], row: _Row, unfit: frozenset[str]) -> list[StoredRow]:
        """Of each run but the candidate and `unfit` the newest row of the cell: runs are asked for, and two rows of one
        know less of the noise."""
        unfit |= {self._candidate.id}
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
    """What says of a row of grade C why it is one: its warnings, mostly."""
    if (row["latency_ns"] or {}).get("stop_reason") == StopReason.INTERRUPTED:
        return "it was interrupted"
    codes = dict.fromkeys(one["code"] for one in row["warnings"])
    return ", ".join([code for code in codes if code in _UNSOUND] or codes) or "no warning says why"
