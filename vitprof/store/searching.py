"""Finding rows in the results store: by glob, backend, device and run; of one cell the latest.

Its own file because it is what has to stay quick with a million rows. First the numbers of the rows, from indices
alone; then their documents, a few hundred a statement. Both databases are asked the same, in words that either answers
from an index: for each cell the first entry of (cell, started_at, id) from its end.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select

from vitprof.errors import VitprofError
from vitprof.records import AS_BUILT, typed_name
from vitprof.store import packing
from vitprof.store.columns import row_from_columns
from vitprof.store.database import chunks, storable
from vitprof.store.runs import Origin, utc_text
from vitprof.store.schema import CELLS, ENVIRONMENTS, RESULTS
from vitprof.store.wanted import Wanted

# So many rows at a time for who reads them all.
_PAGE = 500
_NEWEST_FIRST = (RESULTS.c.started_at.desc(), RESULTS.c.id.desc())


@dataclass(frozen=True)
class StoredRow:
    """One row with where it came from; `document` is it in the JSON of `latency`."""

    id: int
    run: str
    origin: Origin
    document: dict[str, Any]


def rows(connection: Connection, wanted: Wanted) -> tuple[StoredRow, ...]:
    """The rows, newest first."""
    conditions = conditions_on_cells(connection, wanted)
    found = [entry for cells in conditions for entry in _entries(connection, wanted, cells)]
    found.sort(reverse=True)
    order = [id for _, id in found[: wanted.limit]]
    by_id = {one.id: one for one in documents(connection, order)}
    return tuple(by_id[id] for id in order if id in by_id)


def page(connection: Connection, wanted: Wanted, after: int) -> tuple[list[StoredRow], int | None]:
    """The next rows with numbers above `after`, in order, of each cell all; and up to which number was looked.

    None there: nothing is left. The glob is matched here: more names may match than fit into a statement.
    """
    asked = select(RESULTS.c.id.label("result"), CELLS).join(CELLS, CELLS.c.id == RESULTS.c.cell)
    asked = asked.where(*_of_cells(wanted), *_of_results(wanted), RESULTS.c.id > after).order_by(RESULTS.c.id)
    found = connection.execute(asked.limit(_PAGE)).all()
    ids = [one.result for one in found if _is_named(one, wanted.model)]
    return documents(connection, ids), found[-1].result if found else None


def documents(connection: Connection, ids: Iterable[int]) -> list[StoredRow]:
    """The rows of these numbers, in their order within each few hundred; those that are gone are left out."""
    found: list[Row[tuple[int, str, str, bytes, str]]] = []
    for part in chunks(ids):
        columns = (RESULTS.c.id, RESULTS.c.run, RESULTS.c.origin, RESULTS.c.document, RESULTS.c.environment)
        found += connection.execute(select(*columns).where(RESULTS.c.id.in_(part)).order_by(RESULTS.c.id))
    environments = _environments(connection, {one.environment for one in found})
    return [_stored(one, environments.get(one.environment)) for one in found]


def _stored(row: Row[tuple[int, str, str, bytes, str]], environment: Mapping[str, Any] | None) -> StoredRow:
    try:
        return StoredRow(row.id, row.run, Origin(row.origin), row_from_columns(row.document, environment))
    except ValueError as error:
        raise VitprofError(
            f"row {row.id} of the results store, of run {row.run}, cannot be read: {error}",
            remedy=f"take out that run (vitprof results prune --run {shlex.quote(row.run)} --keep 0), "
            "or name another file with --store",
            stage="store",
        ) from error


def held(connection: Connection) -> list[tuple[str, str, str]]:
    """(model as it is typed, backend, device) of every cell, each once, in order."""
    asked = select(CELLS.c.model, CELLS.c.source, CELLS.c.backend, CELLS.c.device).distinct()
    return sorted({(typed_name(model, source), *place) for model, source, *place in connection.execute(asked)})


def earlier(connection: Connection, ids: Sequence[int]) -> Mapping[int, StoredRow]:
    """By row: the latest of its cell that began before it and is of another run, where there is one.

    What failed before its size was known is of that model's other cell as well.
    """
    other = RESULTS.alias()
    of_cell = (other.c.cell == RESULTS.c.cell, other.c.run != RESULTS.c.run, other.c.started_at < RESULTS.c.started_at)
    latest = (
        select(other.c.id)
        .where(*of_cell)
        .order_by(other.c.started_at.desc(), other.c.id.desc())
        .limit(1)
        .correlate(RESULTS)
        .scalar_subquery()
    )
    pairs: dict[int, int] = {}
    for part in chunks(ids):
        asked = select(RESULTS.c.id, latest.label("earlier")).where(RESULTS.c.id.in_(part))
        pairs.update((id, before) for id, before in connection.execute(asked) if before is not None)
    pairs.update(_earlier_of_unknown_size(connection, [id for id in ids if id not in pairs]))
    by_id = {one.id: one for one in documents(connection, sorted(set(pairs.values())))}
    return {id: by_id[before] for id, before in pairs.items() if before in by_id}


def _earlier_of_unknown_size(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    """The same of rows whose cell has none: one of the two failed before its size was known, and all else agrees."""
    known, unknown = CELLS.alias(), CELLS.alias()
    names = ("model", "source", "batch", "precision", "device", "backend", "threads", "protocol_hash")
    twins = select(known.c.id, unknown.c.id).where(unknown.c.height.is_(None), known.c.height.is_not(None))
    others: dict[int, list[int]] = {}
    unknowns = set()
    if ids:
        pairs = connection.execute(twins.where(*(known.c[name] == unknown.c[name] for name in names))).all()
        # What no column says.
        as_built = _cells_as_built(connection, {cell for pair in pairs for cell in pair})
        for one, other in pairs:
            if (one in as_built) is (other in as_built):
                others.setdefault(one, []).append(other)
                others.setdefault(other, []).append(one)
                unknowns.add(other)
    found = {}
    for part in chunks(ids if others else []):
        columns = (RESULTS.c.id, RESULTS.c.run, RESULTS.c.cell, RESULTS.c.started_at, RESULTS.c.outcome)
        for row in connection.execute(select(*columns).where(RESULTS.c.id.in_(part))).all():
            is_unknown = row.cell in unknowns
            if row.cell not in others or (is_unknown and row.outcome == "ok"):
                continue
            earlier = (RESULTS.c.run != row.run, RESULTS.c.started_at < row.started_at)
            failed = () if is_unknown else (RESULTS.c.outcome != "ok",)
            asked = select(RESULTS.c.id).where(RESULTS.c.cell.in_(others[row.cell]), *earlier, *failed)
            before = connection.scalar(asked.order_by(*_NEWEST_FIRST).limit(1))
            if before is not None:
                found[row.id] = before
    return found


def _cells_as_built(connection: Connection, ids: Iterable[int]) -> set[int]:
    """Of the cells of these numbers those of models as built."""
    rows = (row for part in chunks(ids) for row in connection.execute(select(CELLS).where(CELLS.c.id.in_(part))))
    return {row.id for row in rows if packing.is_as_built(row._asdict())}


def only_in(connection: Connection, run: str, other: str) -> list[StoredRow]:
    """The rows of a run in cells of which another run has none, oldest first."""
    cells = select(RESULTS.c.cell).where(RESULTS.c.run == other)
    asked = select(RESULTS.c.id).where(RESULTS.c.run == run, RESULTS.c.cell.not_in(cells))
    ids = list(connection.scalars(asked.order_by(RESULTS.c.started_at, RESULTS.c.id)))
    by_id = {one.id: one for one in documents(connection, ids)}
    return [by_id[id] for id in ids if id in by_id]


def _of_cells(wanted: Wanted) -> list[ColumnElement[bool]]:
    named = ((CELLS.c.backend, wanted.backends), (CELLS.c.device, wanted.devices))
    conditions = [column.in_([storable(name) for name in names]) for column, names in named if names]
    return conditions + [CELLS.c[name].is_not_distinct_from(value) for name, value in wanted.shape]


def _of_results(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [] if wanted.run is None else [RESULTS.c.run == storable(wanted.run)]
    return conditions + ([] if wanted.before is None else [RESULTS.c.started_at < utc_text(wanted.before)])


def conditions_on_cells(connection: Connection, wanted: Wanted) -> list[list[ColumnElement[bool]]]:
    """Conditions on the cells: of each statement that is needed."""
    conditions = _of_cells(wanted)
    if wanted.model == "*":
        return [conditions]
    known = connection.execute(select(CELLS).where(*conditions))
    return [[CELLS.c.id.in_(part)] for part in chunks(cell.id for cell in known if _is_named(cell, wanted.model))]


def _is_named(cell: Row[Any], glob: str) -> bool:
    """Whether a cell's model is one of the glob's, by its bare name or by one that is typed for it."""
    pattern = storable(glob)
    bare = pattern.removesuffix(AS_BUILT)
    if bare != pattern and not packing.is_as_built(cell._asdict()):
        return False
    # Names of timm's stand for themselves, and are typed with its own at times.
    names = (
        cell.model,
        typed_name(cell.model, cell.source),
        *([f"timm:{cell.model}"] if cell.source == "timm" else []),
    )
    # The name of a file may look like a glob that does not match it.
    return bare in names or any(fnmatchcase(name, bare) for name in names)


def _entries(connection: Connection, wanted: Wanted, cells: Sequence[ColumnElement[bool]]) -> list[tuple[str, int]]:
    """When each of the rows began, and its number."""
    of_results = _of_results(wanted)
    entries = select(RESULTS.c.started_at, RESULTS.c.id)
    joined = entries.join(CELLS, CELLS.c.id == RESULTS.c.cell).where(*cells, *of_results)
    if wanted.is_all:
        asked = joined.order_by(*_NEWEST_FIRST).limit(wanted.limit)
    elif wanted.run is not None:
        # A run has few rows of each cell; looking through those of all other runs would take long.
        place = func.row_number().over(partition_by=RESULTS.c.cell, order_by=_NEWEST_FIRST).label("place")
        ranked = joined.add_columns(place).subquery()
        asked = select(ranked.c.started_at, ranked.c.id).where(ranked.c.place == 1)
    else:
        latest = (
            select(RESULTS.c.id)
            .where(RESULTS.c.cell == CELLS.c.id, *of_results)
            .order_by(*_NEWEST_FIRST)
            .limit(1)
            .correlate(CELLS)
            .scalar_subquery()
        )
        ids = [id for id in connection.scalars(select(latest).select_from(CELLS).where(*cells)) if id is not None]
        parts = [entries.where(RESULTS.c.id.in_(part)) for part in chunks(ids)]
        return [(began, id) for part in parts for began, id in connection.execute(part)]
    return [(began, id) for began, id in connection.execute(asked)]


def _environments(connection: Connection, hashes: Iterable[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for part in chunks(hashes):
        asked = select(ENVIRONMENTS.c.hash, ENVIRONMENTS.c.document).where(ENVIRONMENTS.c.hash.in_(part))
        for hash, blob in connection.execute(asked):
            # One that is damaged is missed by its rows, and they say which they are.
            with suppress(ValueError):
                found[hash] = packing.unpacked(blob)
    return found
