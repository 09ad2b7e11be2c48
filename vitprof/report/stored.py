"""The table of `results list`: rows of many runs, as columns of text.

Its own file beside `table` because these rows are JSON documents and not results with samples, come from several
protocols, and are told apart by what varies over a whole store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from vitprof.records import typed_name
from vitprof.report.columns import Column
from vitprof.report.outside import plain
from vitprof.report.schema import ResultRow
from vitprof.units import NOT_KNOWN, significant

_MS = 1e6
_MEGA = 1e6
_GIGA = 1e9


@dataclass(frozen=True)
class Listed:
    """One row of the store with the run that brought it, and whether it was measured or imported."""

    row: ResultRow
    run: str
    origin: str
    # Its number in the store, as `results show` takes it.
    id: int | None = None


def columns_of(listed: Sequence[Listed]) -> tuple[Column, ...]:
    """All columns in order, those that would be empty left out; at least one row is given."""
    rows = [one.row for one in listed]

    def texts(of: Callable[[ResultRow], str | None]) -> tuple[str, ...]:
        return tuple(plain(of(row) or "") or NOT_KNOWN for row in rows)

    def numbers(of: Callable[[ResultRow], float | None], scale: float = 1.0) -> tuple[str, ...]:
        return tuple(NOT_KNOWN if (value := of(row)) is None else significant(value / scale) for row in rows)

    columns = (
        Column("model", texts(_model), is_number=False),
        Column("size", texts(lambda row: "x".join(map(str, row.size)) if row.size else None), 8, is_number=False),
        Column("batch", texts(lambda row: str(row.batch))),
        Column("precision", texts(lambda row: row.precision), 6, is_number=False),
        Column("device", texts(lambda row: row.device), is_number=False),
        Column("backend", texts(lambda row: row.backend), is_number=False),
        Column("ms", numbers(lambda row: row.latency_ns.p50 if row.latency_ns else None, _MS), is_timing=True),
        Column("±95%", texts(_half_width), 4, is_timing=True),
        Column("grade", texts(lambda row: row.grade), is_number=False, is_timing=True),
        Column("ratio", numbers(lambda row: row.relative.ratio if row.relative else None), 5, is_timing=True),
        Column("images/s", numbers(lambda row: row.throughput_images_per_s), 3, is_timing=True),
        Column("Minstr", numbers(_instructions, _MEGA), 4, is_timing=True),
        Column("GMAC", numbers(lambda row: row.cost.macs if row.cost else None, _GIGA), 7),
        Column("outcome", texts(_outcome), is_number=False),
        Column("from", tuple(one.origin for one in listed), 9, is_number=False),
        Column("measured", texts(_moment), 10, is_number=False),
        Column("id", tuple(NOT_KNOWN if one.id is None else str(one.id) for one in listed), 2),
        Column("run", tuple(plain(one.run) for one in listed), 11, is_number=False),
    )
    return tuple(column for column in columns if column.spare == 0 or set(column.cells) != {NOT_KNOWN})


def is_void(row: ResultRow) -> bool:
    """Whether the timed artifact gives other outputs than the model."""
    return row.parity is not None and row.parity.verdict == "broken"


def _model(row: ResultRow) -> str:
    return typed_name(row.model, row.source, as_built=row.as_built)


def _half_width(row: ResultRow) -> str | None:
    if row.latency_ns is None or row.latency_ns.ci95 is None or not row.latency_ns.p50:
        return None
    low, high = row.latency_ns.ci95
    return f"{significant((high - low) / (2 * row.latency_ns.p50) * 100, 2)}%"


def _instructions(row: ResultRow) -> float | None:
    counted = row.instructions_per_inference
    return None if counted is None else counted.value


def _outcome(row: ResultRow) -> str:
    return "broken" if row.outcome == "ok" and is_void(row) else row.outcome


def _moment(row: ResultRow) -> str | None:
    """In the zone of whoever reads it; the JSON has it in UTC."""
    if row.started_at is None:
        return None
    read = datetime.fromisoformat(row.started_at)
    # Without a zone it is one of UTC, as the store has it.
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone().strftime("%Y-%m-%d %H:%M")
