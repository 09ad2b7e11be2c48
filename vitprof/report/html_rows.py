"""One row of a report as the page knows it, flat, and many of them as columns.

Its own file beside `html_data`, which knows the rest of a report: what of a row can be an axis, a column of the table
or a line of its details is here. A column that repeats itself holds each value once: ten thousand rows with everything
that is known of them take 4 MB instead of 30.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from vitprof.comparisons import Point
from vitprof.points import LeftOut
from vitprof.report import outside
from vitprof.report.plot_style import family_of
from vitprof.reports import ReportRow
from vitprof.units import text_from_bytes, text_from_share

# As `Report.accuracies`.
Accuracies = Mapping[tuple[str, tuple[int, int]], float]
# A column is written as an index into its distinct values where these are fewer than so many of its rows.
_WORTH_SHARING = 0.5
_Row = Mapping[str, Any]
# The same few names stand in every row.
plain = functools.lru_cache(maxsize=10_000)(outside.plain)


def flat(row: ReportRow, point: Point | LeftOut, accuracies: Accuracies) -> dict[str, Any]:
    """What the page knows of a row, whose point is given, by the names of its script; None for what is not known."""
    document, cell = row.document, row.cell
    model = plain(cell.model)
    size = document["size"] or (None, None)
    return {
        "model": model,
        "family": family_of(model),
        **{"height": size[0], "width": size[1], "batch": cell.batch, "precision": plain(cell.precision)},
        **{"device": plain(cell.device), "backend": plain(cell.backend), "threads": document["threads"]},
        "backend_version": text_or_none(document["backend_version"]),
        "region": text_or_none(cell.region),
        "protocol_hash": text_or_none(cell.protocol_hash),
        "outcome": "broken" if row.is_broken else document["outcome"],
        "grade": document["grade"],
        # Why its time is compared with nothing.
        "void": plain(point.reason) if isinstance(point, LeftOut) else None,
        "image_ns": round(point.image_ns) if isinstance(point, Point) else None,
        "change": row.change.kind.value if row.change else None,
        "top1": accuracies.get((cell.model, cell.size)),
        **_times(document),
        **_work(document),
        **_machine(document),
        "run": plain(row.run),
        "origin": row.origin,
        "started_at": document["started_at"],
    }


def _times(document: _Row) -> dict[str, Any]:
    latency: _Row = document["latency_ns"] or {}
    relative: _Row = document["relative"] or {}
    cold: _Row = document["cold_ns"] or {}
    low, high = latency.get("ci95") or (None, None)
    ratio_low, ratio_high = relative.get("ci95") or (None, None)
    counted: _Row = document["instructions_per_inference"] or {}
    return {
        **{f"{name}_ns": latency.get(name) for name in ("p50", "p90", "p99")},
        **{"low_ns": low, "high_ns": high},
        **{name: latency.get(name) for name in ("samples", "sets", "rounds", "stop_reason")},
        "reference": text_or_none(relative.get("reference")),
        **{"ratio": relative.get("ratio"), "ratio_low": ratio_low, "ratio_high": ratio_high},
        "ratio_grade": relative.get("grade"),
        "drift_corrected_ns": document["drift_corrected_ns"],
        "images_per_s": document["throughput_images_per_s"],
        **{f"{name}_ns": cold.get(name) for name in ("load", "build", "first_call")},
        "instructions": counted.get("value"),
    }


def _work(document: _Row) -> dict[str, Any]:
    cost: _Row = document["cost"] or {}
    kinds: Mapping[str, _Row] = cost.get("kinds") or {}
    moved = {name: kind["bytes_in"] + kind["bytes_out"] for name, kind in kinds.items()}
    return {
        **{name: cost.get(name) for name in ("params", "macs", "weight_bytes", "activation_bytes", "ops")},
        "moved_bytes": sum(moved.values()) if kinds else None,
        "kinds": {name: [kind["calls"], kind["macs"], moved[name]] for name, kind in kinds.items()} or None,
        "uncounted": _uncounted(cost),
        "achieved": document["achieved_macs_per_s"],
        "utilisation": document["utilisation"],
        "bound": text_or_none(document["bound"]),
        "roofline_ns": document["roofline_ns"],
        "launch_share": document["launch_share"],
    }


def _machine(document: _Row) -> dict[str, Any]:
    memory: _Row = document["memory"] or {}
    energy: _Row = document.get("energy") or {}
    failure: _Row | None = document.get("failure")
    return {
        "rss_bytes": memory.get("peak_rss_bytes"),
        "rss_measuring_bytes": memory.get("peak_rss_measuring_bytes"),
        "device_bytes": memory.get("peak_device_bytes"),
        "nvml_bytes": memory.get("peak_device_nvml_bytes"),
        "joules": document["energy_j_per_image"],
        "joules_above_idle": energy.get("j_above_idle_per_image"),
        "power_w": energy.get("power_w"),
        "idle_power_w": energy.get("idle_power_w"),
        "energy_source": text_or_none(energy.get("source")),
        "placed_share": (document["placement"] or {}).get("ops"),
        "parity": _parity(document["parity"]),
        "artifact": _artifact(document["artifact"]),
        "fixups": "; ".join(plain(text) for text in (document["artifact"] or {}).get("fixups", ())) or None,
        "failure": _failure(failure) if failure else None,
        "warnings": [_texts(one, "code", "detail", "remedy") for one in document["warnings"]] or None,
    }


def _failure(failure: _Row) -> dict[str, str]:
    kind = failure.get("kind")
    told = _texts(failure, "stage", "error", "remedy")
    return {**told, "stage": f"{told['stage']}, {plain(kind)}"} if kind else told


def _texts(part: _Row, *names: str) -> dict[str, str]:
    return {name: plain(part[name] or "") for name in names}


def _uncounted(cost: _Row) -> str | None:
    if not cost.get("uncounted_ops"):
        return None
    names = ", ".join(f"{plain(name)} ({count})" for name, count in sorted(cost["uncounted_ops"].items()))
    bound = "a lower bound of the MACs; " if cost.get("is_lower_bound") else ""
    return f"{bound}not counted: {names}"


def _parity(parity: _Row | None) -> str | None:
    if not parity:
        return None
    figures = [
        f"max relative error {parity['max_rel_error']:.1e}" if parity["max_rel_error"] is not None else "",
        f"top-1 agreement {text_from_share(parity['top1_agreement'])}" if parity["top1_agreement"] is not None else "",
        plain(parity["reason"] or ""),
    ]
    return ", ".join([parity["verdict"], *(one for one in figures if one)])


def _artifact(artifact: _Row | None) -> str | None:
    if not artifact:
        return None
    return ", ".join(
        [plain(artifact["format"]), text_from_bytes(artifact["bytes"]), plain(artifact["exporter"] or "")]
    ).rstrip(", ")


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows as `count` and `columns` by name, each {values} or {values, at}."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {"count": len(rows), "columns": {name: _column([row.get(name) for row in rows]) for name in names}}


def _column(values: Sequence[Any]) -> dict[str, Any]:
    """`values` as they are, or as places `at` in a shorter list of them; None has no place."""
    keys = [_key(value) for value in values]
    first = {key: value for key, value in zip(keys, values, strict=True) if key is not None}
    if len(first) > _WORTH_SHARING * len(values):
        return {"values": list(values)}
    places = {key: at for at, key in enumerate(first)}
    return {"values": list(first.values()), "at": [None if key is None else places[key] for key in keys]}


def _key(value: Any) -> object:
    return (json.dumps(value, sort_keys=True),) if isinstance(value, dict | list) else value


def text_or_none(text: str | None) -> str | None:
    return plain(text) or None if text else None
