"""The tables of the results store.

Its own file because a change here is a change of the format: raise `VERSION` with it, say below what changed, and add
the step to `migrations`.

    version 1   runs, results, profiles, meta
    version 2   cells, environments, protocols and samples of their own; documents and samples compressed; what a run
                was asked for and what became of it; reference times; the cells of sweeps

What a row measured is its cell; a row's JSON document is kept whole, the columns repeat what is looked for. Nothing
here is special to one database.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

VERSION = 2
# The name of the version's row in `meta`.
VERSION_KEY = "schema_version"
# SQLite counts up by itself only where the type is exactly INTEGER.
_ID = BigInteger().with_variant(Integer, "sqlite")

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
    # Of a sweep: its plan as text, and the hash by which an unfinished run of it is found again.
    Column("plan_hash", String),
    Column("plan", Text),
    # In UTC; NULL: it was not finished, or nobody said so.
    Column("finished_at", String),
    # What `vitprof gate` said of it: `accepted` or `rejected`.
    Column("gate", String),
)
# What can be measured again and compared: of the rows of one cell the latest counts.
CELLS = Table(
    "cells",
    METADATA,
    Column("id", _ID, primary_key=True),
    # Of all the other columns and of whether the model is as built (`packing`): two NULLs differ to a database, and a
    # name can be too long for an index.
    Column("key", String, nullable=False, unique=True),
    Column("model", Text, nullable=False),
    Column("source", String, nullable=False),
    Column("height", Integer),
    Column("width", Integer),
    Column("batch", Integer, nullable=False),
    Column("precision", String, nullable=False),
    Column("device", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("threads", Integer),
    Column("protocol_hash", String),
)
# The facts of a machine that last, once for all rows that have them; those that move are in the rows.
ENVIRONMENTS = Table(
    "environments",
    METADATA,
    Column("hash", String, primary_key=True),
    Column("document", LargeBinary, nullable=False),
)
# How a row was measured, in full; JSON.
PROTOCOLS = Table(
    "protocols",
    METADATA,
    Column("hash", String, primary_key=True),
    Column("document", Text, nullable=False),
)
RESULTS = Table(
    "results",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("run", String, ForeignKey("runs.id"), nullable=False, index=True),
    Column("cell", _ID, ForeignKey("cells.id"), nullable=False),
    # In UTC, so that order of text is order of time; the run's where the row has none of its own.
    Column("started_at", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("origin", String, nullable=False),
    # Of the document, to know a row again that is imported twice.
    Column("content_hash", String, nullable=False, index=True),
    Column("environment", String, ForeignKey("environments.hash"), nullable=False),
    # The JSON of `latency` without its environment's lasting facts and without samples; see `packing`.
    Column("document", LargeBinary, nullable=False),
    # Of one cell in order of time.
    Index("ix_results_cell", "cell", "started_at", "id"),
)
# Everything that the summary of a row is computed from; see `raw_samples`.
SAMPLES = Table(
    "samples",
    METADATA,
    Column("result", _ID, ForeignKey("results.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("document", LargeBinary, nullable=False),
)
# The cells of a sweep, those that are still to be measured among them (`result` NULL).
SWEEP_CELLS = Table(
    "sweep_cells",
    METADATA,
    Column("run", String, ForeignKey("runs.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    # Cells of one group are measured together.
    Column("group_number", Integer, nullable=False),
    # JSON: what is to be measured.
    Column("ask", Text, nullable=False),
    # A row that `results prune` takes away leaves its cell to an end that came before.
    Column("result", _ID, ForeignKey("results.id", ondelete="SET NULL"), index=True),
)
# How long the reference cell took, once a run: what turns ratios into steady milliseconds.
REFERENCE_TIMES = Table(
    "reference_times",
    METADATA,
    Column("id", _ID, primary_key=True),
    # A store may be shared by machines.
    Column("machine", String, nullable=False),
    Column("reference", Text, nullable=False),
    Column("p50_ns", Float, nullable=False),
    # So many blocks it saw.
    Column("blocks", Integer, nullable=False),
    Column("at", String, nullable=False),
    Index("ix_reference_times_machine", "machine"),
)
# Where the time of a model goes, by kind of operator; of one cell the latest counts.
PROFILES = Table(
    "profiles",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("model", Text, nullable=False),
    Column("height", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("precision", String, nullable=False),
    Column("device", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("threads", Integer, nullable=False),
    Column("started_at", String, nullable=False),
    # JSON: a share of the operators' time by kind.
    Column("time_shares", Text, nullable=False),
)
