"""Rows in the JSON of `latency` to the points that comparisons are made of.

Its own file because a comparison must not care whether a row was measured now, read from the store or imported, and
all three have one form in common: the JSON row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vitprof.comparisons import Point
from vitprof.counts import Kind, KindSum
from vitprof.measurements import Interval
from vitprof.records import ParityVerdict, typed_name


@dataclass(frozen=True)
class LeftOut:
    """A row that gives no point, and why."""

    model: str
    backend: str
    device: str
    reason: str


def points_from_document(
    rows: Iterable[Mapping[str, Any]], run: str | None = None
) -> tuple[tuple[Point, ...], tuple[LeftOut, ...]]:
    """The points of the rows, and the rows that give none; both in the order of the rows, all of them of `run`."""
    read = [point_from_row(row, run) for row in rows]
    points = tuple(one for one in read if isinstance(one, Point))
    return points, tuple(one for one in read if isinstance(one, LeftOut))


def point_from_row(row: Mapping[str, Any], run: str | None = None) -> Point | LeftOut:
    """The point of one row; `LeftOut` for one that failed, that gives other outputs, or that has no time."""
    reason = _why_left_out(row)
    if reason is not None:
        return LeftOut(model_of(row), row["backend"], row["device"], reason)
    cost: Mapping[str, Any] = row["cost"] or {}
    relative: Mapping[str, Any] = row["relative"] or {}
    activations = cost.get("activations")
    height_and_width = row["size"]
    return Point(
        model=model_of(row),
        size=(height_and_width[0], height_and_width[1]) if height_and_width else None,
        batch=row["batch"],
        precision=row["precision"],
        device=row["device"],
        backend=row["backend"],
        image_ns=_image_ns(row),
        latency_ns=_interval(row["latency_ns"], "p50"),
        ratio=_interval(relative, "ratio"),
        reference=relative.get("reference"),
        macs=cost.get("macs"),
        params=cost.get("params"),
        activations=cost.get("activation_bytes") if activations is None else activations,
        roofline_ns=None if row["roofline_ns"] is None else row["roofline_ns"] / row["batch"],
        memory_bytes=_memory_bytes(row["memory"] or {}),
        ops=cost.get("ops"),
        kinds=_kinds(cost.get("kinds")),
        placement_ops_share=(row["placement"] or {}).get("ops"),
        grade=row["grade"],
        ratio_grade=relative.get("grade"),
        protocol_hash=row["protocol_hash"],
        backend_version=row["backend_version"],
        threads=row["threads"],
        run=run,
        started_at=row["started_at"],
        environment=row["environment"].get("before") or {},
    )


def model_of(row: Mapping[str, Any]) -> str:
    """What one types to mean the network that the row is of."""
    return typed_name(row["model"], row["source"], as_built=bool(row.get("as_built")))


def _why_left_out(row: Mapping[str, Any]) -> str | None:
    if row["outcome"] != "ok":
        failure = row.get("failure") or {}
        return f"failed at {failure.get('stage', 'run')}: {failure.get('error', 'no reason is kept')}"
    parity = row["parity"] or {}
    if parity.get("verdict") == ParityVerdict.BROKEN:
        return "parity is broken: the time is not that of the model"
    if row.get("instructions_per_inference"):
        return "its instructions were counted, its time was not measured"
    emulator = ((row["environment"] or {}).get("before") or {}).get("emulator")
    if emulator:
        return f"its times are those of an emulator ({emulator}), which say nothing of a board"
    if not 0 < _image_ns(row) < math.inf:
        return "it has no time"
    return None


def _image_ns(row: Mapping[str, Any]) -> float:
    """Of one inference divided by its images, else the throughput inverted; 0 where there is neither."""
    if row["latency_ns"]:
        return float(row["latency_ns"]["p50"]) / int(row["batch"])
    throughput = row["throughput_images_per_s"]
    return 1e9 / throughput if throughput else 0.0


def _interval(part: Mapping[str, Any] | None, name: str) -> Interval | None:
    if not part:
        return None
    low, high = part["ci95"] or (None, None)
    return Interval(part[name], low, high)


def _memory_bytes(memory: Mapping[str, Any]) -> int | None:
    """Of the accelerator where one ran it: what the model takes there is what runs short."""
    names = ("peak_device_bytes", "peak_device_nvml_bytes", "peak_rss_bytes")
    return next((memory[name] for name in names if memory.get(name) is not None), None)


def _kinds(parts: Mapping[str, Mapping[str, Any]] | None) -> tuple[KindSum, ...]:
    return tuple(KindSum(Kind(name), **part) for name, part in (parts or {}).items())
