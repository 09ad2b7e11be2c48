"""A results store as vitprof wrote it in version 1 of the tables: their definitions as they were, and rows in them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

_TABLES = """
CREATE TABLE meta (name VARCHAR NOT NULL, value VARCHAR NOT NULL, PRIMARY KEY (name));
CREATE TABLE profiles (
    id {id} NOT NULL, model VARCHAR NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL, batch INTEGER NOT NULL,
    precision VARCHAR NOT NULL, device VARCHAR NOT NULL, backend VARCHAR NOT NULL, threads INTEGER NOT NULL,
    started_at VARCHAR NOT NULL, time_shares TEXT NOT NULL, PRIMARY KEY (id)
);
CREATE INDEX ix_profiles_model ON profiles (model);
CREATE TABLE runs (
    id VARCHAR NOT NULL, started_at VARCHAR NOT NULL, vitprof_version VARCHAR NOT NULL, command VARCHAR NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE results (
    id {id} NOT NULL, run VARCHAR NOT NULL, model VARCHAR NOT NULL, source VARCHAR NOT NULL, height INTEGER,
    width INTEGER, batch INTEGER NOT NULL, precision VARCHAR NOT NULL, device VARCHAR NOT NULL,
    backend VARCHAR NOT NULL, threads INTEGER, protocol_hash VARCHAR, started_at VARCHAR NOT NULL,
    outcome VARCHAR NOT NULL, origin VARCHAR NOT NULL, content_hash VARCHAR NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (id), FOREIGN KEY(run) REFERENCES runs (id)
);
CREATE INDEX ix_results_backend ON results (backend);
CREATE INDEX ix_results_content_hash ON results (content_hash);
CREATE INDEX ix_results_device ON results (device);
CREATE INDEX ix_results_model ON results (model);
CREATE INDEX ix_results_run ON results (run);
INSERT INTO meta VALUES ('schema_version', '1');
INSERT INTO runs VALUES ('early', '2026-05-09T11:00:00+00:00', '0.1.0', 'latency');
INSERT INTO profiles (model, height, width, batch, precision, device, backend, threads, started_at, time_shares)
    VALUES ('net', 96, 64, 1, 'fp32', 'local', 'ort', 1, '2026-05-09T11:00:00+00:00', '{{"pool":0.25}}');
"""
_COPIED = ("model", "source", "batch", "precision", "device", "backend", "threads", "protocol_hash", "outcome")


def make(address: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A store of version 1 at a file or a URL, with these rows of a run `early`."""
    values = [_values(row) for row in rows]
    names = list(_values({**dict.fromkeys(_COPIED), "size": None, "started_at": ""}))
    entries = [tuple(one.values()) for one in values]
    if "://" in address:
        import psycopg

        with psycopg.connect(address) as server, server.cursor() as cursor:
            server.execute(_TABLES.format(id="BIGSERIAL").encode())
            cursor.executemany(_insertion(names, "%s").encode(), entries)
        return
    connection = sqlite3.connect(address)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(_TABLES.format(id="INTEGER"))
    connection.executemany(_insertion(names, "?"), entries)
    connection.commit()
    connection.close()


def _insertion(names: Sequence[str], mark: str) -> str:
    marks = ", ".join([mark] * len(names))
    return f"INSERT INTO results ({', '.join(names)}) VALUES ({marks})"  # noqa: S608


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    height, width = row["size"] or (None, None)
    document = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    return {
        **{name: row[name] for name in _COPIED},
        "run": "early",
        "height": height,
        "width": width,
        "started_at": row["started_at"],
        "origin": "measured",
        "content_hash": hashlib.sha256(document.encode()).hexdigest(),
        "document": document,
    }
