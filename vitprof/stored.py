"""Questions about stored rows: everything there is of one, what differs between two or two runs, why there is none.

    ID | RUN ─ rows with protocol and samples ─► ShownDocument
    A, B     ─ rows ─ paired by cell ─ changes ─► DifferenceDocument
    Wanted   ─ names that the store has ─► why no row is wanted

Above the store, the analysis and the reports, which do not know each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from vitprof.analysis.changes import Pair, changes, paired, worst_first
from vitprof.errors import ExitCode, UsageError
from vitprof.measurements import Samples, SetSamples
from vitprof.report.outside import encodable
from vitprof.report.schema_store import (
    ChangePart,
    DifferenceDocument,
    RunPart,
    SamplesPart,
    SetPart,
    ShownDocument,
    ShownPart,
)
from vitprof.reports import Change, ChangeKind
from vitprof.store.raw_samples import samples_from_document
from vitprof.store.results import Store, StoredRow
from vitprof.store.runs import StoredRun
from vitprof.store.wanted import Wanted, nearest
from vitprof.units import six_digits

# What a script is told of, where a difference is for the worse.
_WORSE = (ChangeKind.SLOWER, ChangeKind.BROKE)


@dataclass(frozen=True)
class Chosen:
    """The rows of a run, or one row by its number."""

    text: str
    run: StoredRun | None
    rows: tuple[StoredRow, ...]


def chosen(store: Store, text: str) -> Chosen:
    """What `text` names: the number of a row, the id of a run or its beginning, or `latest`.

    `UsageError` where there is none of that name.
    """
    if text.isdecimal() and len(text) < 19:
        row = store.row(int(text))
        if row is None:
            raise UsageError(
                f"{store.shown} has no row {text}",
                remedy="list rows with their numbers: vitprof results list; of a run's id give more than its digits",
            )
        return Chosen(text, None, (row,))
    run = store.run(text)
    return Chosen(run.id, run, tuple(sorted(store.rows(run=run.id, is_all=True), key=lambda row: row.id)))


def shown(store: Store, text: str) -> ShownDocument:
    """Everything that the store has of a row, or of all rows of a run."""
    found = chosen(store, text)
    of_rows = {row.run for row in found.rows}
    runs = (found.run,) if found.run else tuple(one for one in store.runs() if one.id in of_rows)
    hashes = dict.fromkeys(row.document["protocol_hash"] for row in found.rows)
    protocols = {hash: store.protocol_of(hash) for hash in hashes if hash}
    samples = store.samples_of_all([row.id for row in found.rows])
    rows = (_shown(row, samples.get(row.id), protocols.get(row.document["protocol_hash"])) for row in found.rows)
    return ShownDocument(runs=tuple(map(_run, runs)), rows=tuple(rows))


def difference(store: Store, before: str, now: str) -> tuple[DifferenceDocument, ExitCode]:
    """What became of every cell from one run, or row, to another; and whether something is worse.

    Two rows are compared whichever cells they are of, as far as their protocol and reference allow it.
    """
    was, is_now = chosen(store, before), chosen(store, now)
    if was.run is None and is_now.run is None:
        pairs: Sequence[Pair] = [Pair(is_now.rows[0].document, was.rows[0].document, was.text)]
    else:
        pairs = paired([row.document for row in is_now.rows], [row.document for row in was.rows], was.text)
    found = worst_first(changes(pairs))
    is_worse = any(one.kind in _WORSE for one in found)
    document = DifferenceDocument(before=was.text, now=is_now.text, changes=tuple(map(_change, found)))
    return document, ExitCode.REGRESSION if is_worse else ExitCode.OK


def why_none(store: Store, wanted: Wanted) -> str | None:
    """Which of the wanted names the store lacks, with those it has that are nearest; None where it has such rows.

    None as well where every row is wanted: then there is simply nothing yet.
    """
    if wanted.is_every or store.find(replace(wanted, limit=1)):
        return None
    held = store.held()
    if not held:
        return f"{store.shown} holds no results yet"
    models, backends, devices = (sorted(set(names)) for names in zip(*held, strict=True))
    lacking = [("model", wanted.model, models)] if not store.find(Wanted(wanted.model, limit=1)) else []
    lacking += [("backend", name, backends) for name in wanted.backends if name not in backends]
    lacking += [("device", name, devices) for name in wanted.devices if name not in devices]
    said = (f"no {kind} '{name}' (nearest: {', '.join(nearest(name, known))})" for kind, name, known in lacking)
    return f"{store.shown} has {' and '.join(said) or 'no result that all of this holds for'}"


def _run(run: StoredRun) -> RunPart:
    return RunPart(
        id=encodable(run.id),
        started_at=run.started_at,
        finished_at=run.finished_at,
        command=encodable(run.command),
        vitprof_version=encodable(run.vitprof_version),
        gate=run.gate,
        plan=run.plan,
    )


def _shown(row: StoredRow, samples: Mapping[str, Any] | None, protocol: dict[str, Any] | None) -> ShownPart:
    return ShownPart(
        id=row.id,
        run=row.run,
        origin=row.origin.value,
        result=row.document,
        protocol=protocol,
        samples_ns=_samples(samples_from_document(samples)) if samples else None,
    )


def _samples(samples: Samples) -> SamplesPart:
    return SamplesPart(stop_reason=samples.stop_reason.value, sets=tuple(map(_set, samples.sets)))


def _set(one: SetSamples) -> SetPart:
    counted = [round_ for round_ in one.rounds if not round_.is_warm_up]
    calls = [value / one.ready.calls_per_sample for round_ in counted for value in round_.block.samples_ns]
    neighbours = [(round_.reference_before_ns, round_.reference_after_ns) for round_ in counted]
    reference = [value for pair in neighbours for value in pair if value]
    return SetPart(
        rounds=len(counted),
        warm_up_rounds=len(one.rounds) - len(counted),
        is_warm=one.is_warm,
        calls=len(calls),
        p50=round(median(calls)) if calls else None,
        min=round(min(calls)) if calls else None,
        max=round(max(calls)) if calls else None,
        reference_p50=round(median(reference)) if reference else None,
    )


def _change(change: Change) -> ChangePart:
    cell, ratio = change.cell, change.ratio
    has_interval = ratio is not None and ratio.low is not None and ratio.high is not None
    key: dict[str, Any] = {
        "model": encodable(cell.model),
        "size": cell.size if any(cell.size) else None,
        "batch": cell.batch,
        "precision": encodable(cell.precision),
        "device": encodable(cell.device),
        "backend": encodable(cell.backend),
        "threads": cell.threads or None,
        "region": cell.region or None,
        "protocol_hash": cell.protocol_hash or None,
    }
    return ChangePart(
        kind=change.kind.value,
        **key,
        ratio=six_digits(ratio.value) if ratio else None,
        ci95=(six_digits(ratio.low), six_digits(ratio.high)) if has_interval and ratio else None,  # type: ignore[arg-type]
        detail=encodable(change.detail),
        confounders=tuple(map(encodable, change.confounders)),
    )
