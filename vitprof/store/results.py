"""The results store: every row that was measured or imported, in a database that several processes may write to.

Its own file, and the only one that talks to the database: it is imported when a result is written or read, never on
the way to a measurement. SQLite in a file by default. Rows come and go as the JSON of `latency`, so that the store
knows nothing of how they were made.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, create_engine, event, exc, func, insert, inspect, select
from sqlalchemy.engine import URL, make_url

from vitprof.comparisons import Point, ProfiledModel
from vitprof.counts import Kind
from vitprof.errors import UnreachableError, UsageError, VitprofError
from vitprof.places import check_store
from vitprof.records import typed_name
from vitprof.store.runs import Origin, StoredRun, utc_text
from vitprof.store.schema import CELL, META, METADATA, PROFILES, RESULTS, RUNS, VERSION, VERSION_KEY

# As long as another process may hold the file before a writer gives up; one writes for milliseconds.
_BUSY_TIMEOUT_MS = 60_000
# Databases limit the values of one statement, SQLite before 3.32 to 999.
_HASHES_PER_STATEMENT = 500
_BEGIN = "vitprof_begin"
_ELSEWHERE = "name another file with --store, or move that one away"


@dataclass(frozen=True)
class StoredRow:
    """One row with where it came from; `document` is it in the JSON of `latency`."""

    id: int
    run: str
    origin: Origin
    document: dict[str, Any]


class Store:
    """An open results store; a context manager. Every method is one transaction."""

    def __init__(self, engine: Engine, shown: str) -> None:
        self._engine = engine
        # Who reads first and writes then cannot wait for a lock in SQLite: the other has changed what was read.
        self._writer = engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self._shown = shown

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.dispose()

    def add(self, run: StoredRun, rows: Sequence[Mapping[str, Any]], origin: Origin = Origin.MEASURED) -> None:
        """Adds the rows of a run; a run may be added to as often as it has rows."""
        if not rows:
            return
        with _told(self._shown), self._writer.begin() as connection:
            _insert(connection, run, [_values(run, row, origin) for row in rows])

    def add_missing(self, files: Sequence[tuple[StoredRun, Sequence[Mapping[str, Any]]]]) -> tuple[int, ...]:
        """Adds the rows of files that are not in the store yet, all or none; returns how many of each file were added.

        A row that a file holds twice is there twice afterwards, however often the file is imported.
        """
        added = []
        with _told(self._shown), self._writer.begin() as connection:
            for run, rows in files:
                values = [_values(run, row, Origin.IMPORTED) for row in rows]
                missing = _missing(connection, values)
                if missing:
                    _insert(connection, run, missing)
                added.append(len(missing))
        return tuple(added)

    def rows(
        self,
        model: str = "*",
        *,
        backends: Sequence[str] = (),
        devices: Sequence[str] = (),
        run: str | None = None,
        is_all: bool = False,
    ) -> tuple[StoredRow, ...]:
        """Rows of models that match the glob, newest first; of one cell the latest only, unless `is_all`."""
        with _told(self._shown), self._engine.connect() as connection:
            conditions: list[ColumnElement[bool]] = []
            if model != "*":
                names = connection.scalars(select(RESULTS.c.model).distinct())
                conditions.append(RESULTS.c.model.in_([name for name in names if fnmatchcase(name, model)]))
            conditions += [RESULTS.c.backend.in_(backends)] if backends else []
            conditions += [RESULTS.c.device.in_(devices)] if devices else []
            conditions += [RESULTS.c.run == run] if run is not None else []
            order = (RESULTS.c.started_at.desc(), RESULTS.c.id.desc())
            place = func.row_number().over(partition_by=CELL, order_by=order).label("place")
            ranked = select(RESULTS.c.id, place).where(*conditions).subquery()
            wanted = select(RESULTS.c.id, RESULTS.c.run, RESULTS.c.origin, RESULTS.c.document).order_by(*order)
            wanted = (
                wanted.where(*conditions)
                if is_all
                else wanted.join(ranked, ranked.c.id == RESULTS.c.id).where(ranked.c.place == 1)
            )
            return tuple(
                StoredRow(one.id, one.run, Origin(one.origin), json.loads(one.document))
                for one in connection.execute(wanted)
            )

    def add_profile(self, profiled: ProfiledModel) -> None:
        """Keeps where the time of a model goes, by kind of operator."""
        _, _, height, width = profiled.input_shape
        values = {
            **{
                "model": typed_name(profiled.spec.name, profiled.spec.source),
                "height": height,
                "width": width,
                "batch": profiled.spec.batch,
            },
            **{"precision": profiled.spec.precision.value, "device": profiled.device, "backend": profiled.backend},
            **{"threads": profiled.threads, "started_at": datetime.now(UTC).isoformat(timespec="seconds")},
            "time_shares": _text({kind.value: share for kind, share in profiled.profile.time_shares.items()}),
        }
        with _told(self._shown), self._writer.begin() as connection:
            connection.execute(insert(PROFILES), [values])

    def with_time_shares(self, points: Sequence[Point]) -> tuple[Point, ...]:
        """The points, each with where its time goes if a layer profile of the same cell was kept."""
        with _told(self._shown), self._engine.connect() as connection:
            rows = connection.execute(select(PROFILES).order_by(PROFILES.c.started_at, PROFILES.c.id)).mappings()
            kept = {_profiled_cell(dict(row)): row["time_shares"] for row in rows}
        found = [kept.get(_point_cell(point)) for point in points]
        return tuple(
            replace(point, time_shares={Kind(name): share for name, share in json.loads(text).items()})
            if text
            else point
            for point, text in zip(points, found, strict=True)
        )

    def runs(self) -> tuple[StoredRun, ...]:
        """Every run that brought rows, the newest first."""
        order = (RUNS.c.started_at.desc(), RUNS.c.id.desc())
        with _told(self._shown), self._engine.connect() as connection:
            return tuple(StoredRun(**one) for one in connection.execute(select(RUNS).order_by(*order)).mappings())


def open_store(address: str | Path) -> Store:
    """The store in a file, or at a database URL; it is made where there is none.

    `UsageError` for a path that cannot be a file, `VitprofError` for a file that is no store or one of a newer version.
    """
    check_store(str(address))
    try:
        url = make_url(str(address)) if "://" in str(address) else URL.create("sqlite", database=str(address))
        engine = create_engine(url)
    except exc.ArgumentError as error:
        raise UsageError(f"--store {address}: {error}", remedy="name a file: --store results.sqlite") from error
    except ModuleNotFoundError as error:
        raise UnreachableError(
            f"the database of --store needs the package '{error.name}'", remedy=f"pip install {error.name}"
        ) from error
    shown = url.render_as_string(hide_password=True) if url.host else str(url.database)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
    try:
        with _told(shown):
            _prepare(engine, shown)
    except BaseException:
        engine.dispose()
        raise
    return Store(engine, shown)


def _on_sqlite_connect(connection: Any, _: object) -> None:
    # Python's driver begins transactions when it sees fit; with None it leaves that to the line below.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys = ON")


def _on_sqlite_begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


def _prepare(engine: Engine, shown: str) -> None:
    """Makes the tables in an empty database, and refuses one that is somebody else's or of a newer version."""
    with engine.connect() as connection:
        names = set(inspect(connection).get_table_names())
        if META.name in names:
            _check_version(connection, shown)
            return
    if names:
        raise VitprofError(f"{shown} is a database, but no results store", remedy=_ELSEWHERE, stage="store")
    if engine.dialect.name == "sqlite":
        _use_wal(engine)
    with engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}).begin() as connection:
        METADATA.create_all(connection)
        if connection.scalar(select(META.c.value).where(META.c.name == VERSION_KEY)) is None:
            connection.execute(insert(META).values(name=VERSION_KEY, value=str(VERSION)))


def _use_wal(engine: Engine) -> None:
    """Readers and a writer then do not wait for each other; the file remembers it."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode = WAL")
    except Exception as error:
        # Another process that makes the same file right now does it; and without it the store only waits more often.
        if "locked" not in str(error):
            raise _trouble(shown=str(engine.url.database), told=str(error)) from error
    finally:
        connection.close()


def _check_version(connection: Connection, shown: str) -> None:
    found = connection.scalar(select(META.c.value).where(META.c.name == VERSION_KEY))
    if found is None or not found.isdecimal():
        raise VitprofError(f"{shown} does not say which version of the store it is", remedy=_ELSEWHERE, stage="store")
    if int(found) > VERSION:
        raise VitprofError(
            f"{shown} was written by a newer vitprof: version {found} of the store, this one knows {VERSION}",
            remedy="pip install --upgrade vitprof, or name another file with --store",
            stage="store",
        )


def _profiled_cell(row: Mapping[str, Any]) -> tuple[object, ...]:
    names = ("model", "height", "width", "batch", "precision", "device", "backend", "threads")
    return tuple(row[name] for name in names)


def _point_cell(point: Point) -> tuple[object, ...]:
    size = point.size or (None, None)
    return (point.model, *size, point.batch, point.precision, point.device, point.backend, point.threads)


def _values(run: StoredRun, row: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    height, width = row["size"] or (None, None)
    copied = ("model", "source", "batch", "precision", "device", "backend", "threads", "protocol_hash", "outcome")
    return {
        **{name: row[name] for name in copied},
        "run": run.id,
        "height": height,
        "width": width,
        "started_at": utc_text(row["started_at"] or run.started_at),
        "origin": origin.value,
        "content_hash": _content_hash(row),
        "document": _text(row),
    }


def _content_hash(row: Mapping[str, Any]) -> str:
    """Equal for two documents of one measurement, whether or not its raw samples were asked for."""
    told = {name: value for name, value in _known(row).items() if not name.endswith("samples_ns")}
    return hashlib.sha256(_text(told, sort_keys=True).encode()).hexdigest()


def _text(value: object, *, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys)


def _known(value: Any) -> Any:
    """Without what is null: a field that a later version adds must not make old rows into other ones."""
    if isinstance(value, Mapping):
        return {name: _known(entry) for name, entry in value.items() if entry is not None}
    return [_known(entry) for entry in value] if isinstance(value, list | tuple) else value


def _insert(connection: Connection, run: StoredRun, values: list[dict[str, Any]]) -> None:
    if connection.scalar(select(RUNS.c.id).where(RUNS.c.id == run.id)) is None:
        connection.execute(insert(RUNS).values(asdict(run)))
    connection.execute(insert(RESULTS), values)


def _missing(connection: Connection, values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of `values` that the store does not hold as often as they are given."""
    hashes = list({one["content_hash"] for one in values})
    held: Counter[str] = Counter()
    for begin in range(0, len(hashes), _HASHES_PER_STATEMENT):
        asked = RESULTS.c.content_hash.in_(hashes[begin : begin + _HASHES_PER_STATEMENT])
        counted = select(RESULTS.c.content_hash, func.count()).where(asked).group_by(RESULTS.c.content_hash)
        for content_hash, count in connection.execute(counted):
            held[content_hash] += count
    missing = []
    for one in values:
        if held[one["content_hash"]] > 0:
            held[one["content_hash"]] -= 1
        else:
            missing.append(one)
    return missing


@contextmanager
def _told(shown: str) -> Iterator[None]:
    """What the database says, as an error that a person can act on."""
    try:
        yield
    except exc.DBAPIError as error:
        raise _trouble(shown, str(error.orig)) from error
    except (exc.SQLAlchemyError, ValueError) as error:
        raise _trouble(shown, str(error)) from error


def _trouble(shown: str, told: str) -> VitprofError:
    if "locked" in told:
        remedy = "wait until the other vitprof is done, then run this again"
    elif "not a database" in told or "malformed" in told:
        remedy = _ELSEWHERE
    else:
        remedy = "see that it can be written to, free space there, or name another file with --store"
    first_line = told.strip().partition("\n")[0]
    return VitprofError(f"cannot use the results store {shown}: {first_line}", remedy=remedy, stage="store")
