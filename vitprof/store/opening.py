"""A results store opened for use: made where there is none, brought to this version where it is older.

Its own file because what happens here happens once a process and before anything is looked for: whose database it is,
and of which version.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, insert, inspect, select

from vitprof.errors import VitprofError
from vitprof.store.database import ELSEWHERE, locked, opened, told, use_wal, writer
from vitprof.store.schema import META, METADATA, RESULTS, RUNS, VERSION, VERSION_KEY

# Others have a table `meta`, too.
_OF_EVERY_VERSION = {META.name, RUNS.name, RESULTS.name}


def opened_store(address: str) -> Engine:
    """The database of a store of this version.

    `UsageError` for an address that can be none, `UnreachableError` for a server that does not let us in,
    `VitprofError` for a database that is no store, or one of a newer version.
    """
    engine, shown = opened(address)
    try:
        with told(shown):
            _prepare(engine, shown)
    except BaseException:
        engine.dispose()
        raise
    return engine


def version_of(connection: Connection, shown: str) -> int:
    """Of which version the store is; `VitprofError` for one that does not say so, or a newer one."""
    found = connection.scalar(select(META.c.value).where(META.c.name == VERSION_KEY))
    if found is None or not found.isdecimal() or int(found) < 1:
        raise VitprofError(f"{shown} does not say which version of the store it is", remedy=ELSEWHERE, stage="store")
    if int(found) > VERSION:
        raise VitprofError(
            f"{shown} was written by a newer vitprof: version {found} of the store, this one knows {VERSION}",
            remedy="pip install --upgrade vitprof, or name another file with --store",
            stage="store",
        )
    return int(found)


def _prepare(engine: Engine, shown: str) -> None:
    with engine.connect() as connection:
        names = set(inspect(connection).get_table_names())
        version = version_of(connection, shown) if names >= _OF_EVERY_VERSION else None
    if version == VERSION:
        return
    if version is not None:
        # Not before a store is old: Alembic takes its time to load.
        from vitprof.store.migrations import migrate

        migrate(engine, shown)
        return
    if names:
        raise VitprofError(f"{shown} is a database, but no results store", remedy=ELSEWHERE, stage="store")
    if engine.dialect.name == "sqlite":
        use_wal(engine)
    with writer(engine).begin() as connection:
        locked(connection, is_alone=True)
        METADATA.create_all(connection)
        if connection.scalar(select(META.c.value).where(META.c.name == VERSION_KEY)) is None:
            connection.execute(insert(META).values(name=VERSION_KEY, value=str(VERSION)))
