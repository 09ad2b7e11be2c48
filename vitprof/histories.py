"""`vitprof history`: what the store holds of a model's cells, over time, with what changed between two measurements.

Its own file above the store and the analysis: rows are ordered here, what two of them differ in is `analysis.changes`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from vitprof.analysis.changes import Pair, cell_of, environment_changes, trouble_of
from vitprof.analysis.verdicts import IDENTITY
from vitprof.errors import UsageError
from vitprof.gates import Moment, Series, Unit
from vitprof.gating.baselines import key_of, why_apart
from vitprof.measurements import Interval
from vitprof.places import Places
from vitprof.points import model_of
from vitprof.records import typed_name

if TYPE_CHECKING:
    from vitprof.reports import Cell
    from vitprof.store.results import StoredRow

_Row = Mapping[str, Any]
_HASH_DIGITS = 8


def history(
    model: str, places: Places, *, backends: Sequence[str] = (), devices: Sequence[str] = ()
) -> tuple[Series, ...]:
    """One series for each cell of models that match the glob `model`, by device, backend, then model.

    `UsageError` where the store holds nothing of it.
    """
    from vitprof.store.results import open_store

    bare = model.removeprefix("timm:")
    with open_store(places.ready_store()) as store:
        # The store keeps names without the library that they are from.
        found = store.rows(bare.removeprefix("torchvision:"), backends=backends, devices=devices, is_all=True)
        judged = {run.id: run.gate for run in store.runs()}
    rows: dict[Cell, list[StoredRow]] = {}
    for row in reversed(found):
        typed = typed_name(row.document["model"], row.document["source"])
        # A model as built is meant by the name that it shares with the fused one, and by its own.
        if typed == bare or any(fnmatchcase(name, bare) for name in (typed, model_of(row.document))):
            rows.setdefault(key_of(row.document), []).append(row)
    if not rows:
        asked = " on ".join((model, *(", ".join(names) for names in (backends, devices) if names)))
        raise UsageError(
            f"the store {places.shown_store} holds nothing of {asked}",
            remedy="see what it holds with: vitprof results list, or measure: vitprof latency MODEL",
        )
    return tuple(_series(rows[key], judged) for key in sorted(rows))


def _series(rows: Sequence[StoredRow], judged: Mapping[str, str | None]) -> Series:
    documents = [row.document for row in rows]
    unit = _unit(documents)
    values = [_value(document, unit) for document in documents]
    before: list[_Row | None] = [None, *documents[:-1]]
    # With the last one before that has a value: between the two there may be failures.
    known: list[_Row | None] = [None]
    for document, value in zip(documents, values, strict=True):
        known.append(document if value else known[-1])
    moments = tuple(
        Moment(
            run=row.run,
            started_at=row.document["started_at"],
            value=value,
            latency_p50_ns=(row.document["latency_ns"] or {}).get("p50"),
            grade=_grade(row.document, unit),
            outcome=_outcome(row.document),
            judged=judged.get(row.run),
            changed=_changed(row.document, earlier) if earlier else (),
            is_apart=bool(value and comparable and _is_apart(row.document, comparable, unit)),
        )
        for row, value, earlier, comparable in zip(rows, values, before, known[:-1], strict=True)
    )
    references = [(row["relative"] or {}).get("reference") for row in documents]
    reference = next((one for one in reversed(references) if one), None)
    return Series(cell_of(documents[-1]), unit, reference if unit is Unit.RATIO else None, moments)


def _outcome(row: _Row) -> str:
    return "parity broken" if row["outcome"] == "ok" and trouble_of(row) else str(row["outcome"])


def _unit(rows: Sequence[_Row]) -> Unit:
    if any(row.get("instructions_per_inference") for row in rows):
        return Unit.INSTRUCTIONS
    return Unit.RATIO if any(row["relative"] for row in rows) else Unit.NS


def _value(row: _Row, unit: Unit) -> Interval | None:
    """None for a row that has no sound number in the unit."""
    if trouble_of(row):
        return None
    if unit is Unit.INSTRUCTIONS:
        counted = row.get("instructions_per_inference")
        return Interval(counted["value"], None, None) if counted else None
    part, name = (row["relative"], "ratio") if unit is Unit.RATIO else (row["latency_ns"], "p50")
    if not part:
        return None
    low, high = part["ci95"] or (None, None)
    return Interval(part[name], low, high)


def _grade(row: _Row, unit: Unit) -> str | None:
    """Of the number that is shown."""
    grade = row["relative"]["grade"] if unit is Unit.RATIO and row["relative"] else row["grade"]
    return None if grade is None else str(grade)


def _is_apart(now: _Row, before: _Row, unit: Unit) -> bool:
    if unit is not Unit.NS:
        return bool(why_apart(before, now))
    is_moved = any(one.name in IDENTITY for one in environment_changes([Pair(now, before)]))
    return is_moved or bool(now["protocol_hash"] != before["protocol_hash"])


def _changed(now: _Row, before: _Row) -> tuple[str, ...]:
    told = [
        ("protocol", before["protocol_hash"], now["protocol_hash"]),
        ("reference", *((row["relative"] or {}).get("reference") for row in (before, now))),
        ("file", *(((row["artifact"] or {}).get("sha256") or "")[:_HASH_DIGITS] or None for row in (before, now))),
    ]
    texts = [f"{name} {was} before, {is_now} now" for name, was, is_now in told if was and is_now and was != is_now]
    facts = environment_changes([Pair(now, before)])
    return (*texts, *(f"{one.name} {one.before} before, {one.now} now" for one in facts))
