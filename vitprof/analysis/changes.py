"""What changed between two measurements of the same cells: verdicts, placement, and facts of the machine.

Its own file because a report and `results diff` must say the same of the same rows. Times are compared as multiples
of the reference, by `verdicts`, and never in milliseconds: without a common reference, or on another machine, there is
no verdict. The intervals are widened for all comparisons of one call together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitprof.analysis.verdicts import IDENTITY, LASTING_FACTS, holm, pair_verdicts
from vitprof.measurements import Interval
from vitprof.points import LeftOut, model_of, point_from_row
from vitprof.records import ParityVerdict, Verdict
from vitprof.reports import INSTRUCTIONS, Cell, Change, ChangeKind, EnvironmentChange, PlacementChange
from vitprof.units import NOT_KNOWN

_KINDS = {
    Verdict.SLOWER: ChangeKind.SLOWER,
    Verdict.FASTER: ChangeKind.FASTER,
    Verdict.SAME: ChangeKind.SAME,
    Verdict.UNDECIDED: ChangeKind.UNDECIDED,
}
_ORDER = {kind: index for index, kind in enumerate(ChangeKind)}
# Below that a share of operators placed is the same: runtimes differ by one constant folded more or less.
_PLACEMENT_STEP = 0.0005
_FACTS = frozenset((*LASTING_FACTS, "emulator"))
_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """One cell now and before, as rows in the JSON of `latency`; at least one of them is there."""

    now: _Row | None
    before: _Row | None
    # The run that `before` is of.
    baseline_run: str | None = None


def cell_of(row: _Row) -> Cell:
    """What a row is of; rows with equal cells may be compared."""
    size = row["size"] or (0, 0)
    is_count = bool(row.get("instructions_per_inference"))
    return Cell(
        device=row["device"],
        backend=row["backend"],
        model=model_of(row),
        size=(size[0], size[1]),
        batch=row["batch"],
        precision=row["precision"],
        threads=row["threads"] or 0,
        region=INSTRUCTIONS if is_count else row["region"] or "",
        protocol_hash=row["protocol_hash"] or "",
    )


def paired(now: Sequence[_Row], before: Sequence[_Row], baseline_run: str | None = None) -> tuple[Pair, ...]:
    """Rows of two runs, one pair a cell; of several rows of one cell the last given counts.

    What failed before its size was known is paired with a row that is like it in all else.
    """
    mine, other = ({cell_of(row): row for row in rows} for rows in (now, before))
    mine, other = (
        {place: rows[cell] for cell, place in standing(rows, others).items()}
        for rows, others in ((mine, other), (other, mine))
    )
    return tuple(Pair(mine.get(cell), other.get(cell), baseline_run) for cell in dict.fromkeys((*mine, *other)))


def standing(rows: Mapping[Cell, _Row], others: Mapping[Cell, _Row]) -> dict[Cell, Cell]:
    """Where each of `rows` stands: those that failed before their size was known at the cell of `others` that they can
    be, all else at their own."""
    free: dict[Cell, Cell] = {}
    for cell in others:
        if cell not in rows:
            free.setdefault(_without_size(cell), cell)
    return {
        cell: cell if cell in others or row["size"] or row["outcome"] == "ok" else free.get(_without_size(cell), cell)
        for cell, row in rows.items()
    }


def _without_size(cell: Cell) -> Cell:
    # Nor is it known of a failure whether instructions would have been counted.
    return replace(cell, size=(0, 0), region="")


def changes(pairs: Sequence[Pair]) -> tuple[Change, ...]:
    """One change for each pair, in the order given; the intervals of all of them are widened together."""
    first = [_without_verdict(pair) for pair in pairs]
    judged = iter(holm([one[1] for one in first if isinstance(one, tuple)]))
    return tuple(one if isinstance(one, Change) else _decided(one[0], *next(judged)) for one in first)


def worst_first(found: Iterable[Change]) -> tuple[Change, ...]:
    """What broke, then the slower from the slowest, …, as `ChangeKind` is ordered; what stayed the same last."""
    return tuple(sorted(found, key=lambda one: (_ORDER[one.kind], -_distance(one), one.cell, one.baseline_run or "")))


def placement_changes(pairs: Sequence[Pair]) -> tuple[PlacementChange, ...]:
    """Cells of which another share runs where asked, the largest loss first."""
    found = [
        PlacementChange(cell_of(pair.now), pair.baseline_run or "", *_shares(pair, "ops"), *_shares(pair, "macs"))
        for pair in pairs
        if pair.now and pair.before and (_moved(pair, "ops") or _moved(pair, "macs"))
    ]
    return tuple(sorted(found, key=lambda one: ((one.ops_now or 0) - (one.ops_before or 0), one.cell)))


def environment_changes(pairs: Sequence[Pair]) -> tuple[EnvironmentChange, ...]:
    """Facts that differ between the two measurements of cells, each once, with how many cells it concerns."""
    counts = Counter(
        fact for pair in pairs if pair.now and pair.before for fact in _differing_facts(pair.now, pair.before)
    )
    found = [EnvironmentChange(*fact, rows) for fact, rows in counts.items()]
    return tuple(sorted(found, key=lambda one: (one.device, one.backend or "", one.name, one.before, one.now)))


def facts_of(row: _Row) -> Mapping[str, Any]:
    """What stays of a row's machine while it measures."""
    before = (row["environment"] or {}).get("before") or {}
    return {name: value for name, value in before.items() if name in _FACTS and value is not None}


def _without_verdict(pair: Pair) -> Change | tuple[Change, Interval]:
    """The change; where a verdict is due, the change without it and the ratio."""
    now, before = pair.now, pair.before
    if now is None or before is None:
        return Change(
            ChangeKind.NEW if now else ChangeKind.GONE,
            cell_of(now or before or {}),
            baseline_run=pair.baseline_run if before else None,
            detail=trouble_of(now) if now else "",
        )
    cell, told = cell_of(now), trouble_of(now)
    was = trouble_of(before)
    if told or was:
        kind = ChangeKind.STILL_BROKEN if told and was else ChangeKind.BROKE if told else ChangeKind.MENDED
        return Change(kind, cell, baseline_run=pair.baseline_run, detail=told or f"before: {was}")
    if now.get("instructions_per_inference") and before.get("instructions_per_inference"):
        return Change(ChangeKind.SAME, cell, baseline_run=pair.baseline_run), _of_counts(now, before)
    return _of_times(pair, now, before)


def _of_times(pair: Pair, now: _Row, before: _Row) -> Change | tuple[Change, Interval]:
    cell = cell_of(now)
    # Counts are not compared here, and take half the time of a point.
    mine, other = (
        point_from_row({**row, "cost": None}, run) for row, run in ((before, pair.baseline_run), (now, None))
    )
    if isinstance(mine, LeftOut) or isinstance(other, LeftOut):
        reason = next(one.reason for one in (other, mine) if isinstance(one, LeftOut))
        return Change(ChangeKind.NOT_COMPARED, cell, baseline_run=pair.baseline_run, detail=reason)
    # Called pair by pair: who widens for their number sees all of them.
    [verdict] = pair_verdicts([mine], [other], baseline="before", candidate="now")
    reason = why_not_compared(now, before)
    if reason or verdict.ratio is None:
        return Change(ChangeKind.NOT_COMPARED, cell, baseline_run=pair.baseline_run, detail=reason)
    change = Change(ChangeKind.SAME, cell, baseline_run=pair.baseline_run, confounders=verdict.confounders)
    return change, verdict.ratio


def why_not_compared(now: _Row, before: _Row) -> str:
    """Why the two times have no ratio to each other; "" where they have."""
    if now["protocol_hash"] != before["protocol_hash"]:
        protocols = (before["protocol_hash"] or NOT_KNOWN, now["protocol_hash"] or NOT_KNOWN)
        return f"another protocol: {protocols[0]} before, {protocols[1]} now"
    references = [(row["relative"] or {}).get("reference") for row in (before, now)]
    if not all(references):
        return "no reference ran beside it, and raw times of two runs are not compared"
    if references[0] != references[1]:
        return f"another reference: {references[0]} before, {references[1]} now"
    for name, was, is_now in _differing(now, before):
        if name in IDENTITY:
            return f"another machine: {name} {was} before, {is_now} now"
    return ""


def _of_counts(now: _Row, before: _Row) -> Interval:
    mine, other = before["instructions_per_inference"], now["instructions_per_inference"]
    ratio = other["value"] / mine["value"]
    # The calls of one run lie that far apart at most.
    spread = 1 + mine["spread"] + other["spread"]
    return Interval(ratio, ratio / spread, ratio * spread)


def _decided(change: Change, ratio: Interval, verdict: Verdict) -> Change:
    return Change(_KINDS[verdict], change.cell, ratio, change.baseline_run, change.detail, change.confounders)


def trouble_of(row: _Row) -> str:
    """Why a row has no sound number; "" for one that has."""
    if row["outcome"] != "ok":
        failure = row.get("failure") or {}
        return f"failed at {failure.get('stage', 'run')}: {failure.get('error', 'no reason is kept')}"
    if (row["parity"] or {}).get("verdict") == ParityVerdict.BROKEN:
        return "parity broken: its outputs are not the model's"
    return ""


def _distance(change: Change) -> float:
    """How far from the same; of the undecided, how far the interval reaches to the slow side."""
    if change.ratio is None:
        return 0.0
    if change.kind is ChangeKind.UNDECIDED:
        return math.log(change.ratio.high or change.ratio.value)
    return abs(math.log(change.ratio.value))


def _shares(pair: Pair, name: str) -> tuple[float | None, float | None]:
    before, now = (((row or {}).get("placement") or {}).get(name) for row in (pair.before, pair.now))
    return before, now


def _moved(pair: Pair, name: str) -> bool:
    before, now = _shares(pair, name)
    return before is not None and now is not None and abs(now - before) > _PLACEMENT_STEP


def _differing_facts(now: _Row, before: _Row) -> list[tuple[str, str | None, str, str, str]]:
    named: list[tuple[str | None, str, Any, Any]] = [(None, *fact) for fact in _differing(now, before)]
    named.append((now["backend"], "backend version", before["backend_version"], now["backend_version"]))
    named.append((None, "vitprof", before["vitprof_version"], now["vitprof_version"]))
    return [
        (now["device"], backend, name, str(old), str(new))
        for backend, name, old, new in named
        if old is not None and new is not None and old != new
    ]


def _differing(now: _Row, before: _Row) -> list[tuple[str, Any, Any]]:
    """Facts that both machines tell and that are not the same: the name, then before and now."""
    if now["environment"] == before["environment"]:
        return []
    was, is_now = facts_of(before), facts_of(now)
    return [
        (name, was[name], is_now[name])
        for name in LASTING_FACTS
        if was.get(name) != is_now.get(name) and name in was and name in is_now
    ]
