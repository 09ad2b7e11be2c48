"""Where results are kept, opened: a SQLite file or a PostgreSQL server, and what either says when it cannot.

Its own file because this is all that differs between the two, beside the copy that `migrations` makes. A password in
the URL is never shown.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, exc
from sqlalchemy.engine import URL, make_url

from vitprof.errors import UnreachableError, UsageError, VitprofError, first_line
from vitprof.places import check_store, shown_store

# As long as another process may hold the file before a writer gives up: it may be importing a million rows, or
# bringing the file up to date.
_BUSY_TIMEOUT_MS = 600_000
# SQLite waits in its own code, where Ctrl-C is not heard: so long at a time.
_BUSY_STEP_MS = 500
_COMPACT_TIMEOUT_MS = 5_000
# A server that does not answer within this is not there.
_CONNECT_TIMEOUT_S = 10
# One that went away while it was asked is noticed after about this, and not after the system's two hours.
_LOST_TIMEOUT_S = 60
_BEGIN = "vitprof_begin"
# Of PostgreSQL's locks by number: shared by those who add rows, alone by whoever changes more than that.
_LOCK = 0x76697470
ELSEWHERE = "name another file with --store, or move that one away"
# Databases limit the values of one statement, SQLite before 3.32 to 999.
_VALUES_PER_STATEMENT = 500
# What a PostgreSQL server and the way to it say, and what to do about it.
_REFUSALS = (
    ("password authentication failed", "check the user and the password of the URL, or ~/.pgpass"),
    ("no password supplied", "give the password in the URL, in PGPASSWORD or in ~/.pgpass"),
    ("role .* does not exist", "check the user of the URL: postgresql://USER@HOST/DATABASE"),
    ("database .* does not exist", "make it with: createdb DATABASE, or check the URL"),
    ("pg_hba.conf", "let this host and user in: pg_hba.conf of the server"),
    ("lock timeout", "wait until the other vitprof is done, then run this again"),
    ("permission denied", "grant the user of the URL the right to make tables there: GRANT CREATE ON SCHEMA public"),
)


def opened(address: str) -> tuple[Engine, str]:
    """The database of a file or a URL, not yet asked anything, and how it is called in messages.

    `UsageError` for an address that can be none, `UnreachableError` where the database's driver is not installed.
    """
    check_store(address)
    shown = shown_store(address)
    try:
        url = _url(address)
        engine = create_engine(url, **_options(url))
    except (exc.ArgumentError, ValueError) as error:
        # The latter of a port that is no number.
        raise UsageError(
            f"--store {shown} is no URL of a database",
            remedy="write it as postgresql://USER@HOST/DATABASE, or name a file: --store results.sqlite",
        ) from error
    except ImportError as error:
        # It is there and does not load: the C library that it needs is missing.
        raise UnreachableError(
            f"the package psycopg, which a results store in PostgreSQL needs, does not load: {first_line(error)}",
            remedy="pip install 'vitprof[postgres]'",
            stage="store",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
    return engine, shown


def writer(engine: Engine) -> Engine:
    """The same database for transactions that write."""
    if engine.dialect.name == "sqlite":
        # Who reads first and writes then cannot wait for a lock: the other has changed what was read.
        return engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
    # Who waited for another must see what that one wrote.
    return engine.execution_options(isolation_level="READ COMMITTED")


def locked(connection: Connection, *, is_alone: bool) -> None:
    """Keeps others from writing until the transaction ends, or with `is_alone` False only those who must be alone.

    In SQLite whoever writes is alone.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_BUSY_TIMEOUT_MS}")
        shared = "" if is_alone else "_shared"
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock{shared}({_LOCK})")


def use_wal(engine: Engine) -> None:
    """Readers and a writer then do not wait for each other; the file remembers it."""
    # Another process that makes the same file right now does it; and without it the store only waits more often.
    _if_possible(engine, str(engine.url.database), ("PRAGMA journal_mode = WAL",))


def compact(engine: Engine, shown: str) -> None:
    """Gives the space of what was removed back: to the disk, or in PostgreSQL to what comes next."""
    if engine.dialect.name == "sqlite":
        # Whoever uses it meanwhile keeps it from being done, or the lack of room for a second copy of it: the space
        # is then given back another time.
        patience = f"PRAGMA busy_timeout = {_COMPACT_TIMEOUT_MS}"
        _if_possible(engine, shown, (patience, "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"))
        return
    with told(shown), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM")


def _if_possible(engine: Engine, shown: str, statements: Sequence[str]) -> None:
    """Outside of any transaction."""
    connection = engine.raw_connection()
    try:
        for statement in statements:
            connection.cursor().execute(statement)
    except Exception as error:
        if not any(why in str(error) for why in ("locked", "is full")):
            raise _trouble(shown, str(error)) from error
    finally:
        # Not one for later: its settings are not theirs.
        connection.invalidate()


@contextmanager
def told(shown: str) -> Iterator[None]:
    """What the database says, as an error that a person can act on."""
    try:
        yield
    except exc.DBAPIError as error:
        said = str(error.orig)
        if isinstance(error, exc.OperationalError) and _is_of_server(error):
            raise _unreachable(shown, said) from error
        raise _trouble(shown, said) from error
    except (exc.SQLAlchemyError, ValueError) as error:
        raise _trouble(shown, str(error)) from error


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds the rows that are not there yet, by any of the table's unique columns, whoever else does so right now.

    In the order of their first column: two writers that wait for each other's rows would wait for ever.
    """
    if not rows:
        return
    # Each takes its time to load, and one of them is needed.
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    first = next(iter(rows[0]))
    connection.execute(insert(table).on_conflict_do_nothing(), sorted(rows, key=lambda row: str(row[first])))


def chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    """The values in as many lists as statements are needed to ask for them all."""
    every = list(values)
    for begin in range(0, len(every), _VALUES_PER_STATEMENT):
        yield every[begin : begin + _VALUES_PER_STATEMENT]


def storable(text: str) -> str:
    """`text` without the one character that PostgreSQL cannot keep."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _url(address: str) -> URL:
    if "://" not in address:
        # Absolute: SQLite keeps nothing of a database that is called `:memory:`.
        return URL.create("sqlite", database=str(Path(address).absolute()))
    url = make_url(address)
    if url.password is not None and "@" in f"{url.host}{url.database}":
        # The end of a password was taken for a host, which the server's driver would name.
        raise UsageError(
            f"--store {shown_store(address)} has an @ in its password",
            remedy="write that as %40, or give the password in PGPASSWORD or in ~/.pgpass",
        )
    return url.set(drivername="postgresql+psycopg")


def _options(url: URL) -> dict[str, Any]:
    if not url.drivername.startswith("postgresql"):
        return {}
    timeouts = {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "keepalives_idle": _LOST_TIMEOUT_S // 2,
        "keepalives_interval": _LOST_TIMEOUT_S // 6,
        "keepalives_count": 3,
        "tcp_user_timeout": _LOST_TIMEOUT_S * 1_000,
    }
    told = {name: url.query.get(name, value) for name, value in timeouts.items()}
    # Several statements that belong together then see the same rows, whoever takes some out meanwhile.
    return {"connect_args": told, "isolation_level": "REPEATABLE READ"}


def _on_sqlite_connect(connection: Any, _: object) -> None:
    # Python's driver begins transactions when it sees fit; with None it leaves that to the line below.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys = ON")
    # The file may be somebody else's: what its tables compute must not do more than that.
    connection.execute("PRAGMA trusted_schema = OFF")


def _on_sqlite_begin(connection: Connection) -> None:
    begin = connection.get_execution_options().get(_BEGIN)
    if begin is None:
        connection.exec_driver_sql("BEGIN")
        return
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {_BUSY_STEP_MS}")
    try:
        for _ in range(_BUSY_TIMEOUT_MS // _BUSY_STEP_MS - 1):
            if _has_begun(connection, begin):
                return
        connection.exec_driver_sql(begin)
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")


def _has_begun(connection: Connection, begin: str) -> bool:
    """False where somebody else wrote all the while."""
    try:
        connection.exec_driver_sql(begin)
    except exc.OperationalError as error:
        code = getattr(error.orig, "sqlite_errorcode", None)
        if code is None or code & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


def _is_of_server(error: exc.DBAPIError) -> bool:
    return type(error.orig).__module__.startswith("psycopg")


def _unreachable(shown: str, said: str) -> UnreachableError:
    # The last line is the one that says why; the first names the address tried.
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    why = next((line for line in lines if "FATAL" in line), lines[0] if lines else "it does not answer")
    remedy = next(
        (remedy for pattern, remedy in _REFUSALS if re.search(pattern, said)),
        "see that the server runs and that host and port of the URL are right, or name a file with --store",
    )
    return UnreachableError(f"cannot use the results store {shown}: {why}", remedy=remedy, stage="store")


def _trouble(shown: str, said: str) -> VitprofError:
    if "locked" in said:
        remedy = "wait until the other vitprof is done, then run this again"
    elif any(why in said for why in ("not a database", "malformed", "disk image", "damaged", "packed")):
        remedy = ELSEWHERE
    elif "readonly" in said or "read-only" in said or "unable to open" in said:
        remedy = "make it and its folder writable, or copy it elsewhere and name the copy with --store"
    elif "permission denied" in said:
        remedy = _REFUSALS[-1][1]
    elif "connection option" in said or "bad value for" in said:
        remedy = "check what stands behind the ? of the URL"
    else:
        remedy = "see that it can be written to, free space there, or name another file with --store"
    first_line = said.strip().partition("\n")[0]
    return VitprofError(f"cannot use the results store {shown}: {first_line}", remedy=remedy, stage="store")


def size_bytes(engine: Engine) -> int | None:
    """What a file takes on the disk, its write-ahead log among it; None of a server."""
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return None
    files = [Path(f"{engine.url.database}{ending}") for ending in ("", "-wal")]
    return sum(file.stat().st_size for file in files if file.exists())
