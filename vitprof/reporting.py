"""`vitprof report`: from the results store to all that a report says.

    rows of the run ── the last of each cell before it ──► what changed, placement, environment
          └─ sound ones, by what may be compared ────────► disagreement, fronts

Its own file, one level above the store, the analysis and the reports, since it brings them together. Nothing is
measured here, and nothing of this machine gets in: rows are cleaned of its folders before anything else is done.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from vitprof.analysis.changes import (
    Pair,
    cell_of,
    changes,
    environment_changes,
    facts_of,
    placement_changes,
    trouble_of,
    worst_first,
)
from vitprof.analysis.comparison import EQUIVALENCE_SHARE
from vitprof.analysis.ranked import AccuracyOf, fronts, ranked_groups
from vitprof.comparisons import Point
from vitprof.errors import UsageError
from vitprof.places import Places
from vitprof.points import LeftOut, point_from_row
from vitprof.report.paths import name_without_folders, without_folders
from vitprof.report.reading import filled_row
from vitprof.report.report_words import Names
from vitprof.reports import (
    Cell,
    ProtocolFacts,
    Report,
    ReportRow,
    RunFacts,
    Trouble,
    Versions,
)
from vitprof.store.tables import Accuracies

if TYPE_CHECKING:
    from vitprof.store.results import Store, StoredRow
    from vitprof.store.runs import StoredRun

_SAMPLES = ("samples_ns", "warm_up_samples_ns", "set_aside_samples_ns")
_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """What is reported: the rows of `run` (an id, the beginning of one, `latest`), or the latest of every cell."""

    run: str = "latest"
    is_all: bool = False
    accuracies: Accuracies | None = None


@dataclass(frozen=True)
class _Read:
    """A stored row, cleaned, and the last one of its cell before it."""

    stored: StoredRow
    row: _Row
    before: StoredRow | None
    row_before: _Row | None

    @property
    def pair(self) -> Pair:
        return Pair(self.row, self.row_before, self.before.run if self.before else None)


def report_of(question: Question, places: Places) -> Report:
    """The report; `UsageError` where the store has no such run, or nothing at all."""
    if not places.has_store:
        # Looking must not make a store.
        raise UsageError(f"there is no results store {places.shown_store}", remedy="vitprof latency MODEL… makes one")
    from vitprof.store.results import open_store

    with open_store(places.ready_store()) as store:
        # The latest is not what gate has measured once more: that is a part of the run before.
        run = None if question.is_all else store.latest() if question.run == "latest" else store.run(question.run)
        rows = store.rows(run=run.id) if run else store.rows()
        if not rows:
            raise _nothing(places, run)
        read = sorted(_read(store, rows), key=_place)
        hashes = sorted({one.row["protocol_hash"] for one in read if one.row["protocol_hash"]})
        material = _Material(
            read,
            # What a sweep has yet to measure is not gone.
            [] if run is None or run.is_unfinished else _gone(store, read, run.id),
            _points(store, read),
            {one.id: one for one in store.runs()},
            {hash: store.protocol_of(hash) or {} for hash in hashes},
        )
    return _report(run.id if run else "", material, question.accuracies)


@dataclass(frozen=True)
class _Material:
    """What the store gave: rows, what is no longer there, points, runs by their ids, protocols by their hashes."""

    read: Sequence[_Read]
    gone: Sequence[Pair]
    points: Sequence[Point | LeftOut]
    runs: Mapping[str, StoredRun]
    protocols: Mapping[str, Mapping[str, Any]]


def _report(subject: str, material: _Material, accuracies: Accuracies | None) -> Report:
    pairs = [*(one.pair for one in material.read), *material.gone]
    found = changes(pairs)
    rows = [
        ReportRow(cell_of(one.row), one.row, one.stored.run, one.stored.origin.value, change)
        for one, change in zip(material.read, found, strict=False)
    ]
    groups = ranked_groups([one for one in material.points if isinstance(one, Point)])
    return Report(
        subject,
        runs=_runs([one.stored.run for one in material.read], material.runs),
        baseline_runs=_runs([one.baseline_run for one in pairs if one.before and one.baseline_run], material.runs),
        rows=tuple(rows),
        changes=worst_first(found),
        band_share=EQUIVALENCE_SHARE,
        groups=groups,
        fronts=fronts(groups, _accuracy_of(accuracies)),
        accuracies=_known_accuracies(rows, accuracies),
        placements=placement_changes(pairs),
        environment=environment_changes(pairs),
        failures=_troubles(_failures(rows)),
        broken=_troubles(_broken(rows)),
        warnings=_troubles(_warnings(rows)),
        protocols=_protocols(rows, material.protocols),
        versions=_versions(rows),
        vitprof_versions=_distinct(row.document["vitprof_version"] for row in rows),
        left_out=tuple(sorted({_left_out(one) for one in material.points if isinstance(one, LeftOut)})),
        is_unfinished=subject in material.runs and material.runs[subject].is_unfinished,
    )


def _place(one: _Read) -> tuple[object, ...]:
    """By cell: of two comparisons that are equally clear the first one counts as the clearer.

    Two files of one name are told apart by the folder, which is not shown: their order must not be that of the store.
    """
    return (cell_of(one.row), one.row["started_at"] or "", one.stored.run, one.stored.document["model"])


def _read(store: Store, rows: Sequence[StoredRow]) -> list[_Read]:
    earlier = store.earlier([one.id for one in rows])
    before = [earlier.get(one.id) for one in rows]
    return [
        _Read(stored, _clean(stored.document), old, _clean(old.document) if old else None)
        for stored, old in zip(rows, before, strict=True)
    ]


def _gone(store: Store, read: Sequence[_Read], run: str) -> list[Pair]:
    """What the run that most baselines are from has measured, and this one has not."""
    counts = Counter(one.before.run for one in read if one.before)
    if not counts:
        return []
    # The newest of equals: ids begin with the time.
    main = max(counts, key=lambda one: (counts[one], one))
    compared = {one.before.id for one in read if one.before}
    # Not by the cells of the report: two files of one name in two folders are told apart by the folders alone.
    rows = {
        cell_of(one.document): _clean(one.document)
        for one in store.only_in(main, run)
        # What failed before its size was known may be here by its size.
        if one.id not in compared and (one.document["size"] or one.document["outcome"] == "ok")
    }
    if len(rows) > counts[main]:
        # Another question was asked: one model after a sweep of hundreds does not mean that these are gone.
        return []
    return [Pair(None, row, main) for _, row in sorted(rows.items(), key=itemgetter(0))]


def _points(store: Store, read: Sequence[_Read]) -> list[Point | LeftOut]:
    """A point, with where its time goes if that is known, for each sound row; why not, for those that give none."""
    found = [point_from_row(one.stored.document, one.stored.run) for one in read if not trouble_of(one.row)]
    # The store knows profiles by the name that was typed, folders and all.
    points = store.with_time_shares([one for one in found if isinstance(one, Point)])
    told: list[Point | LeftOut] = [*points, *(one for one in found if isinstance(one, LeftOut))]
    return [_without_folders(one) for one in told]


def _without_folders(one: Point | LeftOut) -> Point | LeftOut:
    model = name_without_folders(one.model)
    return one if model == one.model else dataclasses.replace(one, model=model)


def _clean(document: _Row) -> _Row:
    """The row with every field of today's `latency`, without samples, folders and what changes while one measures."""
    row = {name: value for name, value in filled_row(document).items() if name not in _SAMPLES}
    row["environment"] = {"before": dict(facts_of(row))}
    model = row["model"]
    row["model"] = name_without_folders(model)
    for part, names in (("failure", ("error", "remedy")), ("parity", ("reason",)), ("artifact", ("exporter",))):
        if row.get(part):
            texts = {name: without_folders(row[part][name], model) for name in names if row[part][name]}
            row[part] = {**row[part], **texts}
    if row["artifact"]:
        fixups = [without_folders(text, model) for text in row["artifact"]["fixups"]]
        row["artifact"] = {**row["artifact"], "fixups": fixups}
    row["warnings"] = [
        {**one, **{name: without_folders(one[name], model) for name in ("detail", "remedy")}} for one in row["warnings"]
    ]
    return row


def _accuracy_of(accuracies: Accuracies | None) -> AccuracyOf | None:
    if accuracies is None:
        return None

    def top1_percent(model: str, size: tuple[int, int] | None) -> float | None:
        found = accuracies.accuracy_of(model, size)
        return found.top1_percent if found else None

    return top1_percent


def _known_accuracies(
    rows: Iterable[ReportRow], accuracies: Accuracies | None
) -> Mapping[tuple[str, tuple[int, int]], float]:
    sizes = {(row.cell.model, row.cell.size): row.document["size"] for row in rows}
    found = {
        key: accuracies.accuracy_of(key[0], key[1] if size else None) if accuracies else None
        for key, size in sizes.items()
    }
    return {key: one.top1_percent for key, one in found.items() if one is not None}


def _runs(ids: Iterable[str], known: Mapping[str, StoredRun]) -> tuple[RunFacts, ...]:
    """The runs that rows are of, the newest first."""
    # One that somebody removes at this moment has no facts any more.
    counts = Counter(run for run in ids if run in known)
    found = [
        RunFacts(
            run,
            known[run].started_at,
            without_folders(known[run].command),
            known[run].vitprof_version,
            rows,
            known[run].gate,
        )
        for run, rows in counts.items()
    ]
    return tuple(sorted(found, key=lambda one: (one.started_at, one.id), reverse=True))


def _failures(rows: Sequence[ReportRow]) -> Iterable[tuple[str, Cell, str, str]]:
    for row in rows:
        if row.document["outcome"] != "ok":
            failure = row.document.get("failure") or {}
            stage = failure.get("stage", "run")
            yield f"failed at {stage}", row.cell, failure.get("error") or "", failure.get("remedy") or ""


def _broken(rows: Sequence[ReportRow]) -> Iterable[tuple[str, Cell, str, str]]:
    for row in rows:
        if row.is_broken:
            parity = row.document["parity"]
            figures = [
                f"{name} {parity[field]:.6g}"
                for name, field in (
                    *(("max relative error", "max_rel_error"), ("cosine", "cosine")),
                    ("top-1 agreement", "top1_agreement"),
                )
                if parity[field] is not None
            ]
            facts = ", ".join([*figures, *([parity["reason"]] if parity["reason"] else [])])
            yield "outputs are not the model's", row.cell, facts, ""


def _warnings(rows: Sequence[ReportRow]) -> Iterable[tuple[str, Cell, str, str]]:
    for row in rows:
        for warning in row.document["warnings"]:
            yield warning["code"], row.cell, warning["detail"], warning["remedy"]


def _troubles(found: Iterable[tuple[str, Cell, str, str]]) -> tuple[Trouble, ...]:
    """One for all cells with one title and remedy, those that concern most cells first."""
    groups: dict[tuple[str, str], list[tuple[Cell, str]]] = {}
    for title, cell, fact, remedy in found:
        groups.setdefault((title, remedy), []).append((cell, fact))
    troubles = [
        Trouble(title, tuple(cell for cell, _ in told), _facts(told), remedy)
        for (title, remedy), told in groups.items()
    ]
    return tuple(sorted(troubles, key=lambda one: (-len(one.cells), one.title, one.remedy)))


def _facts(told: Sequence[tuple[Cell, str]]) -> tuple[str, ...]:
    """Each fact once; where they differ, with the models that it is of: `a and 3 more: no operator for fft`.

    A model of which several are told, by its backend, batch, …, is named with what tells its cells apart.
    """
    names = Names(cell for cell, _ in told)
    of_models: dict[str, set[str]] = {}
    for cell, fact in told:
        of_models.setdefault(cell.model, set()).add(fact)
    owners: dict[str, list[str]] = {}
    for cell, fact in told:
        owners.setdefault(fact, []).append(cell.model if len(of_models[cell.model]) == 1 else names.name(cell))
    known = {fact: list(dict.fromkeys(of)) for fact, of in owners.items() if fact}
    if len(owners) < 2 or len({cell for cell, _ in told}) < 2:
        return tuple(sorted(known))
    named = (f"{of[0]}{f' and {len(of) - 1:,} more' if len(of) > 1 else ''}: {fact}" for fact, of in known.items())
    return tuple(sorted(named))


def _protocols(rows: Sequence[ReportRow], known: Mapping[str, Mapping[str, Any]]) -> tuple[ProtocolFacts, ...]:
    by_hash: dict[tuple[str, str], list[ReportRow]] = {}
    for row in rows:
        if row.cell.protocol_hash:
            by_hash.setdefault((row.cell.protocol_hash, row.cell.region), []).append(row)
    return tuple(
        ProtocolFacts(
            hash,
            region,
            _distinct((row.document["relative"] or {}).get("reference") for row in members),
            len(members),
            effort=known[hash].get("effort"),
            sets=known[hash].get("sets"),
        )
        for (hash, region), members in sorted(by_hash.items())
    )


def _versions(rows: Sequence[ReportRow]) -> tuple[Versions, ...]:
    found: dict[tuple[str, str], list[str | None]] = {}
    for row in rows:
        found.setdefault((row.cell.device, row.cell.backend), []).append(row.document["backend_version"])
    return tuple(Versions(*key, _distinct(versions)) for key, versions in sorted(found.items()))


def _distinct(texts: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({text for text in texts if text}))


def _left_out(one: LeftOut) -> str:
    return f"{one.model} on {one.device}, {one.backend}: {without_folders(one.reason)}"


def _nothing(places: Places, run: StoredRun | None) -> UsageError:
    what = f"run {run.id} has no results" if run else f"the store {places.shown_store} holds no results"
    return UsageError(what, remedy="vitprof results list shows what there is; vitprof latency MODEL… measures")
