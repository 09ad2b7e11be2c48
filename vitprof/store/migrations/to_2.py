"""Version 1 to 2: cells, environments and compressed documents; runs, samples, sweeps and reference times made ready.

The tables are written out as version 2 had them, so that this step does the same whatever `schema` becomes. Rows keep
their numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from alembic.operations import Operations
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    text,
)

from vitprof.errors import VitprofError
from vitprof.store import packing

_ROWS_PER_STATEMENT = 500
_ID = BigInteger().with_variant(Integer, "sqlite")
# An index keeps its name when its table is renamed.
_OLD_INDICES = ("run", "model", "device", "backend", "content_hash")


def upgrade(operations: Operations) -> None:
    """Changes the tables of the connection that `operations` have, and everything in them."""
    for name, kind in (("plan_hash", String), ("plan", Text), ("finished_at", String), ("gate", String)):
        operations.add_column("runs", Column(name, kind()))
    operations.drop_index("ix_profiles_model", "profiles")
    for name in _OLD_INDICES:
        operations.drop_index(f"ix_results_{name}", "results")
    operations.rename_table("results", "results_of_1")
    cells, environments, results = _made(operations)
    connection = operations.get_bind()
    _moved(connection, cells, environments, results)
    operations.drop_table("results_of_1")
    operations.create_index("ix_results_run", "results", ["run"])
    operations.create_index("ix_results_content_hash", "results", ["content_hash"])
    operations.create_index("ix_results_cell", "results", ["cell", "started_at", "id"])
    if connection.dialect.name == "postgresql":
        for name in ("results", "cells"):
            _count_on(connection, name)


def _made(operations: Operations) -> tuple[Table, Table, Table]:
    """The new tables; those that rows are moved into are returned."""
    cells = operations.create_table(
        "cells",
        Column("id", _ID, primary_key=True),
        Column("key", String, nullable=False),
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
        UniqueConstraint("key"),
    )
    environments = operations.create_table(
        "environments",
        Column("hash", String, primary_key=True),
        Column("document", LargeBinary, nullable=False),
    )
    operations.create_table(
        "protocols",
        Column("hash", String, primary_key=True),
        Column("document", Text, nullable=False),
    )
    results = operations.create_table(
        "results",
        Column("id", _ID, primary_key=True),
        Column("run", String, ForeignKey("runs.id"), nullable=False),
        Column("cell", _ID, ForeignKey("cells.id"), nullable=False),
        Column("started_at", String, nullable=False),
        Column("outcome", String, nullable=False),
        Column("origin", String, nullable=False),
        Column("content_hash", String, nullable=False),
        Column("environment", String, ForeignKey("environments.hash"), nullable=False),
        Column("document", LargeBinary, nullable=False),
    )
    operations.create_table(
        "samples",
        Column("result", _ID, ForeignKey("results.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
        Column("document", LargeBinary, nullable=False),
    )
    operations.create_table(
        "sweep_cells",
        Column("run", String, ForeignKey("runs.id"), primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("group_number", Integer, nullable=False),
        Column("ask", Text, nullable=False),
        Column("result", _ID, ForeignKey("results.id", ondelete="SET NULL")),
    )
    operations.create_index("ix_sweep_cells_result", "sweep_cells", ["result"])
    operations.create_table(
        "reference_times",
        Column("id", _ID, primary_key=True),
        Column("machine", String, nullable=False),
        Column("reference", Text, nullable=False),
        Column("p50_ns", Float, nullable=False),
        Column("blocks", Integer, nullable=False),
        Column("at", String, nullable=False),
    )
    operations.create_index("ix_reference_times_machine", "reference_times", ["machine"])
    return cells, environments, results


def _moved(connection: Connection, cells: Table, environments: Table, results: Table) -> None:
    cell_ids: dict[str, int] = {}
    hashes: set[str] = set()
    for rows in _old_rows(connection):
        new_cells, new_environments, moved = [], [], []
        for row in rows:
            cell, lasting, result = _parts(row)
            if cell["key"] not in cell_ids:
                cell_ids[cell["key"]] = len(cell_ids) + 1
                new_cells.append({"id": cell_ids[cell["key"]], **cell})
            if result["environment"] not in hashes:
                hashes.add(result["environment"])
                new_environments.append({"hash": result["environment"], "document": packing.packed(lasting)})
            moved.append({**result, "cell": cell_ids[cell["key"]]})
        for table, entries in ((cells, new_cells), (environments, new_environments), (results, moved)):
            if entries:
                connection.execute(insert(table), entries)


def _parts(row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Of an old row: its cell, its environment, and what else there is of it."""
    try:
        document = json.loads(row["document"])
        lasting, moving = packing.lasting(document["environment"]), packing.moving(document["environment"])
        result = {
            **{name: row[name] for name in ("id", "run", "started_at", "outcome", "origin")},
            "content_hash": packing.content_hash(document),
            "environment": packing.hash_of(lasting),
            "document": packing.packed_row({**document, "environment": moving}),
        }
        return packing.cell_columns(document), lasting, result
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VitprofError(
            f"row {row['id']} of the results store cannot be read ({type(error).__name__}: {error}): "
            "nothing was brought up to date",
            remedy=f"take it out: DELETE FROM results WHERE id = {row['id']}",  # noqa: S608 - told, not run
            stage="store",
        ) from error


def _old_rows(connection: Connection) -> Iterator[list[dict[str, Any]]]:
    names = ("id", "run", "started_at", "outcome", "origin", "document")
    columns: list[Column[Any]] = [Column(name) for name in names]
    old = Table("results_of_1", MetaData(), *columns)
    after = 0
    while True:
        asked = old.select().where(old.c.id > after).order_by(old.c.id).limit(_ROWS_PER_STATEMENT)
        rows = [dict(row) for row in connection.execute(asked).mappings()]
        if not rows:
            return
        yield rows
        after = rows[-1]["id"]


def _count_on(connection: Connection, name: str) -> None:
    """PostgreSQL numbers from a sequence, which knows nothing of rows that brought their numbers."""
    asked = f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))"  # noqa: S608
    connection.execute(text(asked))
