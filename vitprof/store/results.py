"""The results store: every row that was measured or imported, in a database that several processes may write to.

Its own file, and the one that everything else talks to: it is imported when a result is written or read, never on the
way to a measurement. Rows come and go as the JSON of `latency`, so that the store knows nothing of how they were made.
How a row lies in the tables is in `columns`, what is looked for in `searching`.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, exists, func, insert, select, update

from vitprof.comparisons import Point, ProfiledModel
from vitprof.counts import Kind
from vitprof.errors import UsageError, VitprofError
from vitprof.places import shown_store
from vitprof.store import inserting, packing, searching
from vitprof.store.columns import columns_of
from vitprof.store.database import chunks, compact, insert_new, locked, size_bytes, storable, told, writer
from vitprof.store.inserting import Incoming
from vitprof.store.opening import opened_store
from vitprof.store.runs import GATE, IMPORT, Gate, Origin, StoredRun
from vitprof.store.schema import (
    CELLS,
    META,
    PROFILES,
    PROTOCOLS,
    REFERENCE_TIMES,
    RESULTS,
    RUNS,
    SAMPLES,
    SWEEP_CELLS,
)
from vitprof.store.searching import StoredRow
from vitprof.store.wanted import Wanted, nearest

__all__ = ["Incoming", "Store", "StoredRow", "Wanted", "open_store"]
_Row = Mapping[str, Any]


@dataclass(frozen=True)
class ReferenceTime:
    """What one run saw of a reference cell: the median of so many blocks."""

    machine: str
    reference: str
    p50_ns: float
    blocks: int
    at: str


class Store:
    """An open results store; a context manager. Every method is one transaction."""

    def __init__(self, engine: Engine, shown: str) -> None:
        self._engine = engine
        self._writer = writer(engine)
        self.shown = shown

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the database."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for one look at the tables."""
        with told(self.shown), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, is_alone: bool = False) -> Iterator[Connection]:
        """A connection for one change of the tables: all of it or nothing.

        `is_alone`: nobody else changes anything meanwhile, which adding rows does not need.
        """
        with told(self.shown), self._writer.begin() as connection:
            locked(connection, is_alone=is_alone)
            yield connection

    # Rows.

    def add(
        self,
        run: StoredRun,
        rows: Sequence[_Row],
        origin: Origin = Origin.MEASURED,
        samples: Sequence[_Row | None] | None = None,
        sweep_numbers: Sequence[int] | None = None,
    ) -> None:
        """Adds the rows of a run, all or none; a run may be added to as often as it has rows.

        `samples`: of each row as `raw_samples` has them. `sweep_numbers`: the cell of the run's sweep that each row
        fills; a row whose cell is filled already is not added.
        """
        if not rows:
            return
        values = [columns_of(run, row, origin) for row in rows]
        raw = list(samples or [None] * len(rows))
        with self.writing() as connection:
            if sweep_numbers is None:
                inserting.insert_rows(connection, run, values, raw)
                return
            free = inserting.free_numbers(connection, run, sweep_numbers)
            chosen = [index for index, number in enumerate(sweep_numbers) if number in free]
            open_values, open_samples = [values[index] for index in chosen], [raw[index] for index in chosen]
            ids = inserting.insert_rows(connection, run, open_values, open_samples)
            filled = [{"of": sweep_numbers[index], "by": id} for index, id in zip(chosen, ids, strict=True)]
            if filled:
                of_run = (SWEEP_CELLS.c.run == run.id, SWEEP_CELLS.c.number == bindparam("of"))
                connection.execute(update(SWEEP_CELLS).where(*of_run).values(result=bindparam("by")), filled)

    def add_missing(self, files: Sequence[Iterable[Incoming]]) -> tuple[int, ...]:
        """Adds the rows of files that are not in the store yet, all or none; returns how many of each file were added.

        A row that a file holds twice is there twice afterwards, however often the file is imported.
        """
        added = []
        # Whoever imports the same file at once must not find its rows missing, too.
        with self.writing(is_alone=True) as connection:
            for parts in files:
                seen: Counter[str] = Counter()
                added.append(sum(inserting.insert_missing(connection, part, seen) for part in parts))
        return tuple(added)

    def rows(
        self,
        model: str = "*",
        *,
        backends: Sequence[str] = (),
        devices: Sequence[str] = (),
        run: str | None = None,
        is_all: bool = False,
        limit: int | None = None,
        before: str | None = None,
    ) -> tuple[StoredRow, ...]:
        """Rows of models that match the glob, newest first; of one cell the latest only, unless `is_all`.

        `before`: only rows that began before this moment (ISO 8601).
        """
        return self.find(Wanted(model, tuple(backends), tuple(devices), run, is_all=is_all, limit=limit, before=before))

    def find(self, wanted: Wanted) -> tuple[StoredRow, ...]:
        """The same of what is wanted as a value."""
        with self.reading() as connection:
            return searching.rows(connection, wanted)

    def each(self, wanted: Wanted, *, with_samples: bool = True) -> Iterator[tuple[StoredRow, dict[str, Any] | None]]:
        """Every row in the order in which they came, with its raw samples: a few at a time, however many there are."""
        after: int | None = 0
        while after is not None:
            with self.reading() as connection:
                found, after = searching.page(connection, wanted, after)
                samples = _samples_of(connection, [one.id for one in found] if with_samples else [])
            yield from ((one, samples.get(one.id)) for one in found)

    def row(self, id: int) -> StoredRow | None:
        """The row of that number."""
        with self.reading() as connection:
            return next(iter(searching.documents(connection, [id])), None)

    def samples_of(self, id: int) -> dict[str, Any] | None:
        """The raw samples of a row, as `raw_samples` has them; None where none were kept."""
        return self.samples_of_all([id]).get(id)

    def samples_of_all(self, ids: Sequence[int]) -> Mapping[int, dict[str, Any]]:
        """The same of many rows at once, by their numbers: of those that have any."""
        with self.reading() as connection:
            return _samples_of(connection, ids)

    def earlier(self, ids: Sequence[int]) -> Mapping[int, StoredRow]:
        """For each row that has one: the latest row of its cell that began before it and is of another run."""
        with self.reading() as connection:
            return searching.earlier(connection, ids)

    def only_in(self, run: str, other: str) -> tuple[StoredRow, ...]:
        """The rows of `run` in cells of which `other` has none, oldest first."""
        with self.reading() as connection:
            return tuple(searching.only_in(connection, run, other))

    def protocol_of(self, hash: str) -> dict[str, Any] | None:
        """How the rows with this protocol hash were measured, by field; None where that is not known."""
        with self.reading() as connection:
            text = connection.scalar(select(PROTOCOLS.c.document).where(PROTOCOLS.c.hash == hash))
            return None if text is None else dict(packing.value_of(text))

    # Runs.

    def runs(self) -> tuple[StoredRun, ...]:
        """Every run that brought rows, the newest first."""
        order = (RUNS.c.started_at.desc(), RUNS.c.id.desc())
        with self.reading() as connection:
            return tuple(StoredRun(**one) for one in connection.execute(select(RUNS).order_by(*order)).mappings())

    def run(self, text: str) -> StoredRun:
        """The run of an id, of the beginning of one, or `latest`: the newest that measured something.

        `UsageError` where there is none, or several begin so.
        """
        found = self._run(text)
        if found is not None:
            return found
        known = [] if text == "latest" else [run.id for run in self.runs()]
        if not known:
            remedy = "measure something (vitprof latency MODEL), or bring results: vitprof results import FILE"
            raise UsageError(f"{self.shown} has no results", remedy=remedy)
        raise UsageError(
            f"{self.shown} has no run '{text}'",
            remedy=f"nearest to that: {', '.join(nearest(text, known))}; 'latest' is the newest one",
        )

    def latest(self) -> StoredRun:
        """The newest run with rows that neither came from a file nor were measured by gate, to be sure of others.

        Where there is none, whatever `run("latest")` finds; `UsageError` where that is nothing.
        """
        others = (~RUNS.c.command.startswith(IMPORT), ~RUNS.c.command.startswith(GATE))
        chosen = select(RUNS).where(*others, exists().where(RESULTS.c.run == RUNS.c.id))
        with self.reading() as connection:
            newest = connection.execute(chosen.order_by(RUNS.c.started_at.desc(), RUNS.c.id.desc()).limit(1))
            found = newest.mappings().first()
        return self.run("latest") if found is None else StoredRun(**found)

    def meant(self, wanted: Wanted) -> Wanted:
        """The same with the whole id of its run, where that was given by its beginning or as `latest`.

        `UsageError` where there is none of that name, or several begin so.
        """
        return wanted if wanted.run is None else replace(wanted, run=self.run(wanted.run).id)

    def held(self) -> tuple[tuple[str, str, str], ...]:
        """(model as it is typed, backend, device) of every cell, each once, in order."""
        with self.reading() as connection:
            return tuple(searching.held(connection))

    def _run(self, text: str) -> StoredRun | None:
        order = (RUNS.c.command.startswith(IMPORT), RUNS.c.started_at.desc(), RUNS.c.id.desc())
        chosen = select(RUNS).order_by(*order).limit(2)
        if text == "latest":
            # A sweep that was not finished may have none.
            chosen = chosen.where(exists().where(RESULTS.c.run == RUNS.c.id))
        else:
            # LIKE takes capitals for small letters in SQLite.
            chosen = chosen.where(func.substr(RUNS.c.id, 1, len(text)) == storable(text))
        with self.reading() as connection:
            exact = connection.execute(select(RUNS).where(RUNS.c.id == storable(text))).mappings().first()
            found = [StoredRun(**one) for one in connection.execute(chosen).mappings()]
        if exact:
            return StoredRun(**exact)
        if len(found) > 1 and text != "latest":
            begins = ", ".join(one.id for one in found)
            raise UsageError(f"several runs begin with '{text}': {begins}, …", remedy="give more of the run's id")
        return next(iter(found), None)

    def start(self, run: StoredRun) -> None:
        """Keeps a run before it has rows; one that is there already stays as it is."""
        with self.writing() as connection:
            inserting.insert_run(connection, run)

    def finish(self, run: str) -> None:
        """Notes that a run is over, at this moment."""
        self._set(run, finished_at=datetime.now(UTC).isoformat(timespec="seconds"))

    def judge(self, run: str, gate: Gate | str) -> None:
        """Notes what the regression gate said of a run."""
        self._set(run, gate=Gate(gate).value)

    def _set(self, run: str, **values: str) -> None:
        with self.writing() as connection:
            connection.execute(update(RUNS).where(RUNS.c.id == run).values(**values))

    # Profiles and reference times.

    def add_profile(self, profiled: ProfiledModel) -> None:
        """Keeps where the time of a model goes, by kind of operator."""
        _, _, height, width = profiled.input_shape
        values = {
            **{
                "model": storable(profiled.spec.typed_name),
                "height": height,
                "width": width,
                "batch": profiled.spec.batch,
            },
            **{"precision": profiled.spec.precision.value, "device": profiled.device, "backend": profiled.backend},
            **{"threads": profiled.threads, "started_at": datetime.now(UTC).isoformat(timespec="seconds")},
            "time_shares": packing.text_of({kind.value: share for kind, share in profiled.profile.time_shares.items()}),
        }
        with self.writing() as connection:
            connection.execute(insert(PROFILES), [values])

    def with_time_shares(self, points: Sequence[Point]) -> tuple[Point, ...]:
        """The points, each with where its time goes if a layer profile of the same cell was kept."""
        with self.reading() as connection:
            rows = connection.execute(select(PROFILES).order_by(PROFILES.c.started_at, PROFILES.c.id)).mappings()
            kept = {_profiled_cell(dict(row)): row["time_shares"] for row in rows}
        found = [kept.get(_point_cell(point)) for point in points]
        return tuple(
            replace(point, time_shares={Kind(name): share for name, share in packing.value_of(text).items()})
            if text
            else point
            for point, text in zip(points, found, strict=True)
        )

    def reference_times(self, machine: str, reference: str) -> tuple[ReferenceTime, ...]:
        """What runs on a machine saw of a reference, in the order in which they came."""
        columns = [column for column in REFERENCE_TIMES.c if column.name != "id"]
        asked = (REFERENCE_TIMES.c.machine == machine, REFERENCE_TIMES.c.reference == storable(reference))
        with self.reading() as connection:
            rows = connection.execute(select(*columns).where(*asked).order_by(REFERENCE_TIMES.c.id))
            return tuple(ReferenceTime(**row) for row in rows.mappings())

    def add_reference_times(self, times: Sequence[ReferenceTime], *, once_as: str | None = None) -> None:
        """Keeps them; of what is called the same `once_as` only the first."""
        with self.writing(is_alone=once_as is not None) as connection:
            if once_as is not None:
                if connection.scalar(select(META.c.value).where(META.c.name == once_as)) is not None:
                    return
                insert_new(connection, META, [{"name": once_as, "value": str(len(times))}])
            if times:
                connection.execute(insert(REFERENCE_TIMES), [asdict(one) for one in times])

    def has_taken(self, once_as: str) -> bool:
        """Whether times were kept under that name."""
        with self.reading() as connection:
            return connection.scalar(select(META.c.value).where(META.c.name == once_as)) is not None

    @property
    def size_bytes(self) -> int | None:
        """What the store takes on this machine's disk; None of a server."""
        return size_bytes(self._engine)

    def compact(self) -> None:
        """Gives the space of what was removed back to the disk, unless somebody uses the store right now."""
        compact(self._engine, self.shown)


def open_store(address: str | Path) -> Store:
    """The store in a file, or at a database URL; it is made where there is none, and brought to this version.

    `UsageError` for a path that cannot be a file, `UnreachableError` for a server that does not let us in,
    `VitprofError` for a file that is no store or one of a newer version.
    """
    return Store(opened_store(str(address)), shown_store(str(address)))


def _profiled_cell(row: Mapping[str, Any]) -> tuple[object, ...]:
    names = ("model", "height", "width", "batch", "precision", "device", "backend", "threads")
    return tuple(row[name] for name in names)


def _point_cell(point: Point) -> tuple[object, ...]:
    size = point.size or (None, None)
    return (point.model, *size, point.batch, point.precision, point.device, point.backend, point.threads)


def _samples_of(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """By row, those that have samples; each with its protocol where that is known."""
    found: dict[int, dict[str, Any]] = {}
    for part in chunks(ids):
        asked = (
            select(SAMPLES.c.result, RESULTS.c.run, SAMPLES.c.document, PROTOCOLS.c.document)
            .join(RESULTS, RESULTS.c.id == SAMPLES.c.result)
            .join(CELLS, CELLS.c.id == RESULTS.c.cell)
            .join(PROTOCOLS, PROTOCOLS.c.hash == CELLS.c.protocol_hash, isouter=True)
            .where(SAMPLES.c.result.in_(part))
        )
        for id, run, blob, protocol in connection.execute(asked):
            try:
                known = {"protocol": packing.value_of(protocol)} if protocol else {}
                found[id] = {**packing.unpacked(blob), **known}
            except (ValueError, TypeError) as error:
                raise VitprofError(
                    f"the raw samples of row {id}, of run {run}, cannot be read: {error}",
                    remedy=f"remove them (vitprof results prune --run {shlex.quote(run)} --keep 0 --samples), "
                    "or leave all out: vitprof results export --no-samples",
                    stage="store",
                ) from error
    return found
