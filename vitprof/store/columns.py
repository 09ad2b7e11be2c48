"""A row in the JSON of `latency` as what the tables of the results store hold of it, and back.

Its own file because both directions must agree, whoever writes and whoever reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitprof.store import packing
from vitprof.store.database import storable
from vitprof.store.runs import Origin, StoredRun, utc_text


@dataclass(frozen=True)
class ResultColumns:
    """One row: `result` lacks the numbers of its cell and its environment, which the database gives."""

    result: Mapping[str, Any]
    cell: Mapping[str, Any]
    environment: Mapping[str, Any]
    environment_hash: str


def columns_of(run: StoredRun, row: Mapping[str, Any], origin: Origin) -> ResultColumns:
    """The columns of a row; `ValueError` for one without a batch, or with a time or a number that is none."""
    if not isinstance(row["batch"], int):
        raise ValueError(f"a result needs a batch, and {row['model']} has {row['batch']!r}")
    environment = packing.lasting(row["environment"] or {})
    result = {
        "run": run.id,
        "started_at": utc_text(row["started_at"] or run.started_at),
        "outcome": row["outcome"],
        "origin": origin.value,
        "content_hash": packing.content_hash(row),
        "document": packing.packed_row({**row, "environment": packing.moving(row["environment"] or {})}),
    }
    cell = {
        name: storable(value) if isinstance(value, str) else value for name, value in packing.cell_columns(row).items()
    }
    return ResultColumns(result, cell, environment, packing.hash_of(environment))


def row_from_columns(document: bytes, environment: Mapping[str, Any] | None) -> dict[str, Any]:
    """The row again; `ValueError` where the bytes hold none, or its environment is not there."""
    if environment is None:
        raise ValueError("a row is damaged: its environment is missing, or cannot be read either")
    try:
        row: dict[str, Any] = packing.unpacked(document)
        return {**row, "environment": packing.joined(environment, row["environment"])}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a row is damaged ({type(error).__name__}: {error})") from error
