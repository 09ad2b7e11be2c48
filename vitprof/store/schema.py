"""The tables of the results store.

Its own file because a change here is a change of the format: raise `VERSION` with it and say below what changed.

    version 1   runs, results, profiles, meta

A row's JSON document is kept whole, as text; the other columns repeat what is looked for. Nothing here is special to
one database.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, String, Table, Text

VERSION = 1
# The name of the version's row in `meta`.
VERSION_KEY = "schema_version"

METADATA = MetaData()

META = Table(
    "meta",
    METADATA,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)
RUNS = Table(
    "runs",
    METADATA,
    Column("id", String, primary_key=True),
    Column("started_at", String, nullable=False),
    Column("vitprof_version", String, nullable=False),
    # `latency`, or `import FILE`.
    Column("command", String, nullable=False),
)
RESULTS = Table(
    "results",
    METADATA,
    # SQLite counts up by itself only where the type is exactly INTEGER.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("run", String, ForeignKey("runs.id"), nullable=False, index=True),
    Column("model", String, nullable=False, index=True),
    Column("source", String, nullable=False),
    Column("height", Integer),
    Column("width", Integer),
    Column("batch", Integer, nullable=False),
    Column("precision", String, nullable=False),
    Column("device", String, nullable=False, index=True),
    Column("backend", String, nullable=False, index=True),
    Column("threads", Integer),
    Column("protocol_hash", String),
    # In UTC, so that order of text is order of time; the run's where the row has none of its own.
    Column("started_at", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("origin", String, nullable=False),
    # Of the document, to know a row again that is imported twice.
    Column("content_hash", String, nullable=False, index=True),
    Column("document", Text, nullable=False),
)
# Where the time of a model goes, by kind of operator; of one cell the latest counts.
PROFILES = Table(
    "profiles",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("model", String, nullable=False, index=True),
    Column("height", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("precision", String, nullable=False),
    Column("device", String, nullable=False),
    Column("backend", String, nullable=False),
    Column("threads", Integer, nullable=False),
    Column("started_at", String, nullable=False),
    # JSON: a share of the operators' time by kind.
    Column("time_shares", Text, nullable=False),
)
# Rows that are equal in these measure the same thing in the same way: of them the latest counts.
CELL = tuple(
    RESULTS.c[name]
    for name in (
        *("model", "source", "height", "width", "batch", "precision"),
        *("device", "backend", "threads", "protocol_hash"),
    )
)
