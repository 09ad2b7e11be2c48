"""Brings an old results store to this version: a copy of it first, then step by step in one transaction.

Its own package, with a file for each step, because a step is never changed once a store was written by it, while the
tables of `schema` go on. Loaded, and Alembic with it, only when a store is old. A migration that is killed leaves the
store as it was: nothing of it stands before all of it does.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from glob import escape
from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, Engine, inspect, text, update

from vitprof.errors import VitprofError
from vitprof.store.database import locked, writer
from vitprof.store.migrations import to_2
from vitprof.store.opening import version_of
from vitprof.store.schema import META, VERSION, VERSION_KEY

# By the version that it leads to.
_STEPS: Mapping[int, Callable[[Operations], None]] = {2: to_2.upgrade}


def migrate(engine: Engine, shown: str) -> None:
    """Makes the store one of this version; who comes while another process does so waits for it, and does nothing."""
    copy = None
    try:
        with writer(engine).begin() as connection:
            locked(connection, is_alone=True)
            version = version_of(connection, shown)
            if version == VERSION:
                return
            if connection.dialect.name == "sqlite":
                copy = _copy_file(Path(str(engine.url.database)), version)
            else:
                _copy_tables(connection, version)
            operations = Operations(MigrationContext.configure(connection))
            for step in range(version + 1, VERSION + 1):
                _STEPS[step](operations)
            connection.execute(update(META).where(META.c.name == VERSION_KEY).values(value=str(VERSION)))
    except BaseException:
        # The store is what it was: every further try would leave another copy of it.
        if copy:
            copy.unlink(missing_ok=True)
        raise


def backup_of(file: Path, version: int) -> Path:
    """Where the copy of a store's file is left that was of `version`: beside it, under a name that is free."""
    plain = file.with_name(f"{file.name}.v{version}-backup")
    names = (plain, *(plain.with_name(f"{plain.name}-{number}") for number in range(2, 1000)))
    return next((name for name in names if not name.exists()), plain)


def _copy_file(file: Path, version: int) -> Path:
    """While the transaction lasts nobody writes: another connection reads what stands."""
    copy = backup_of(file, version)
    partial = copy.with_name(f".{copy.name}.{os.getpid()}")
    try:
        # Of those who were killed while they copied: nobody else does so now.
        for left_over in file.parent.glob(f".{escape(file.name)}.v*-backup*"):
            left_over.unlink(missing_ok=True)
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(partial)) as target:
            source.backup(target)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.rename(copy)
        return copy
    except (sqlite3.Error, OSError) as error:
        partial.unlink(missing_ok=True)
        raise VitprofError(
            f"cannot copy the results store {file} to {copy.name} before it is brought up to date: {error}",
            remedy=f"free space in {file.parent}, or make it writable, then run this again",
            stage="store",
        ) from error


def _copy_tables(connection: Connection, version: int) -> None:
    """Into a schema of their own, in the transaction that changes them: both appear together or not at all."""
    names = inspect(connection).get_table_names()
    taken = set(inspect(connection).get_schema_names())
    plain = f"vitprof_v{version}_backup"
    schema = next(name for name in (plain, *(f"{plain}_{number}" for number in range(2, 1000))) if name not in taken)
    connection.execute(text(f'CREATE SCHEMA "{schema}"'))
    quote = connection.dialect.identifier_preparer.quote_identifier
    for name in names:
        connection.execute(text(f"CREATE TABLE {quote(schema)}.{quote(name)} AS SELECT * FROM {quote(name)}"))  # noqa: S608
