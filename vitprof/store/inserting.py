"""Rows into the tables of the results store, each with its run, cell, environment, protocol and raw samples.

Its own file because several writers do this at once: what more than one of them may bring is inserted unless it is
there, always in the same order of tables and keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, exists, func, insert, select, update

from vitprof.errors import VitprofError
from vitprof.store import packing
from vitprof.store.columns import ResultColumns, columns_of
from vitprof.store.database import chunks, insert_new, storable
from vitprof.store.runs import Origin, StoredRun, utc_text
from vitprof.store.schema import CELLS, ENVIRONMENTS, PROTOCOLS, RESULTS, RUNS, SAMPLES, SWEEP_CELLS

_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Incoming:
    """Rows that one run brings from a file; `samples`: of each of them, or None where it has none."""

    run: StoredRun
    rows: Sequence[_Row]
    samples: Sequence[_Row | None] | None = None
    origins: Sequence[Origin] | None = None


def insert_run(connection: Connection, run: StoredRun) -> None:
    texts = {name: storable(text) if text is not None else None for name, text in asdict(run).items()}
    if connection.scalar(select(RUNS.c.id).where(RUNS.c.id == run.id)) is None:
        insert_new(connection, RUNS, [texts])


def insert_rows(
    connection: Connection, run: StoredRun, values: Sequence[ResultColumns], samples: Sequence[_Row | None]
) -> list[int]:
    """Their numbers, in order."""
    if not values:
        return []
    insert_run(connection, run)
    environments = {one.environment_hash: one.environment for one in values}
    _insert_environments(connection, environments)
    _insert_protocols(connection, values, samples)
    cells = _cell_ids(connection, {one.cell["key"]: one.cell for one in values})
    rows = [{**one.result, "cell": cells[one.cell["key"]], "environment": one.environment_hash} for one in values]
    numbered = insert(RESULTS).returning(RESULTS.c.id, sort_by_parameter_order=True)
    ids = list(connection.scalars(numbered, rows))
    told_samples = [
        # The protocol is kept once, by its hash.
        {"result": id, "document": packing.packed({name: part for name, part in one.items() if name != "protocol"})}
        for id, one in zip(ids, samples, strict=True)
        if one is not None
    ]
    if told_samples:
        connection.execute(insert(SAMPLES), told_samples)
    return ids


def _insert_environments(connection: Connection, environments: Mapping[str, _Row]) -> None:
    known: set[str] = set()
    for part in chunks(environments):
        known |= set(connection.scalars(select(ENVIRONMENTS.c.hash).where(ENVIRONMENTS.c.hash.in_(part))))
    missing = [
        {"hash": hash, "document": packing.packed(document)}
        for hash, document in environments.items()
        if hash not in known
    ]
    insert_new(connection, ENVIRONMENTS, missing)


def _insert_protocols(connection: Connection, values: Sequence[ResultColumns], samples: Sequence[_Row | None]) -> None:
    protocols = {
        one.cell["protocol_hash"]: packing.text_of(raw["protocol"], sort_keys=True)
        for one, raw in zip(values, samples, strict=True)
        if raw is not None and raw.get("protocol") and one.cell["protocol_hash"]
    }
    known: set[str] = set()
    for part in chunks(protocols):
        known |= set(connection.scalars(select(PROTOCOLS.c.hash).where(PROTOCOLS.c.hash.in_(part))))
    missing = [{"hash": hash, "document": text} for hash, text in protocols.items() if hash not in known]
    insert_new(connection, PROTOCOLS, missing)


def _cell_ids(connection: Connection, cells: Mapping[str, _Row]) -> dict[str, int]:
    """By key; those that nobody measured before are added."""
    found: dict[str, int] = {}

    def look() -> None:
        for part in chunks(key for key in cells if key not in found):
            rows = connection.execute(select(CELLS.c.key, CELLS.c.id).where(CELLS.c.key.in_(part)))
            found.update((key, id) for key, id in rows)

    look()
    missing = [cell for key, cell in cells.items() if key not in found]
    if missing:
        insert_new(connection, CELLS, missing)
        look()
    return found


def free_numbers(connection: Connection, run: StoredRun, numbers: Sequence[int]) -> set[int]:
    """Those of a sweep's cells that no row fills yet; nobody else fills them meanwhile."""
    free: set[int] = set()
    for part in chunks(numbers):
        asked = (SWEEP_CELLS.c.run == run.id, SWEEP_CELLS.c.number.in_(part), SWEEP_CELLS.c.result.is_(None))
        # In order: two that wait for each other's cells would wait for ever.
        numbered = select(SWEEP_CELLS.c.number).where(*asked).order_by(SWEEP_CELLS.c.number)
        free |= set(connection.scalars(numbered.with_for_update()))
    return free


def insert_missing(connection: Connection, part: Incoming, seen: Counter[str]) -> int:
    """Adds those rows that the store does not hold as often as the file has given them so far; returns how many."""
    origins = part.origins or [Origin.IMPORTED] * len(part.rows)
    values = [columns_of(part.run, row, origin) for row, origin in zip(part.rows, origins, strict=True)]
    samples = part.samples or [None] * len(values)
    _check_run(connection, part.run)
    _complete_run(connection, part.run)
    held = _held(connection, {one.result["content_hash"] for one in values})
    missing = []
    for index, one in enumerate(values):
        content_hash = one.result["content_hash"]
        seen[content_hash] += 1
        if held[content_hash] < seen[content_hash]:
            held[content_hash] += 1
            missing.append(index)
    insert_rows(connection, part.run, [values[index] for index in missing], [samples[index] for index in missing])
    return len(missing)


def _check_run(connection: Connection, run: StoredRun) -> None:
    """`VitprofError` where the store has another run of that id, whose rows these would pass for."""
    began = connection.scalar(select(RUNS.c.started_at).where(RUNS.c.id == storable(run.id)))
    if began is not None and utc_text(began) != utc_text(run.started_at):
        raise VitprofError(
            f"the results store has another run {run.id!r}, begun {began} and not {run.started_at}",
            remedy="import the file into a store of its own: --store FILE",
            stage="import",
        )


def _complete_run(connection: Connection, run: StoredRun) -> None:
    """What became of a run after it was imported first; of a sweep of this store only this store knows."""
    told = {"finished_at": run.finished_at, "gate": run.gate}
    is_other = (RUNS.c.id == run.id, ~exists().where(SWEEP_CELLS.c.run == RUNS.c.id))
    for name, text in told.items():
        if text is not None:
            connection.execute(update(RUNS).where(*is_other, RUNS.c[name].is_(None)).values({name: text}))


def _held(connection: Connection, hashes: Iterable[str]) -> Counter[str]:
    held: Counter[str] = Counter()
    for part in chunks(hashes):
        asked = RESULTS.c.content_hash.in_(part)
        counted = select(RESULTS.c.content_hash, func.count()).where(asked).group_by(RESULTS.c.content_hash)
        for content_hash, count in connection.execute(counted):
            held[content_hash] += count
    return held
