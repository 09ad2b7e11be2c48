"""A report as the data of its HTML page: one JSON value, of plain values only.

Its own file beside `html`, which makes a page of it: here is decided what the page knows, there how it is kept from
harm. Names and texts from outside are one line without terminal escapes each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vitprof.comparisons import Disagreement, Point
from vitprof.points import LeftOut, point_from_row
from vitprof.report.html_rows import columns, flat, plain, text_or_none
from vitprof.report.plot_style import PALETTE
from vitprof.report.report_words import troubles_text
from vitprof.reports import Cell, Change, ChangeKind, GroupReport, PlacementChange, Report, ReportRow, Trouble
from vitprof.units import NOT_KNOWN, six_digits, text_from_share

_TITLE = "Everything measured, the latest of each cell"


def data_from_report(report: Report) -> dict[str, Any]:
    """What the page is drawn from; names and texts from outside are one line without terminal escapes each."""
    points = [point_from_row(row.document) for row in report.rows]
    rows = [flat(row, point, report.accuracies) for row, point in zip(report.rows, points, strict=True)]
    # Two files of one name in two folders are equal cells here: which of them is meant is not known.
    counts = Counter(row.cell for row in report.rows)
    places = {row.cell: at for at, row in enumerate(report.rows) if counts[row.cell] == 1}
    of_changes = {id(row.change): at for at, row in enumerate(report.rows)}
    return {
        "title": f"Run {plain(report.subject)}" if report.subject else _TITLE,
        "subtitle": _subtitle(report),
        "shared": _shared(report),
        "palette": PALETTE,
        "band": report.band_share,
        "kinds": [kind.value for kind in ChangeKind],
        "rows": columns(rows),
        "changes": columns([_change(one, of_changes.get(id(one))) for one in report.changes]),
        "groups": _groups(report, points),
        "failures": [_trouble(one, places) for one in report.failures],
        "broken": [_trouble(one, places) for one in report.broken],
        "warnings": [_trouble(one, places) for one in report.warnings],
        **_conditions(report),
    }


def _change(change: Change, at: int | None) -> dict[str, Any]:
    ratio = change.ratio
    value, low, high = (ratio.value, ratio.low, ratio.high) if ratio else (None, None, None)
    return {
        "kind": change.kind.value,
        "at": at,
        # Of what is gone there is no row to read them from.
        **({} if at is not None else {"model": plain(change.cell.model), "cell": _cell_text(change.cell)}),
        **{"ratio": _short(value), "low": _short(low), "high": _short(high)},
        "baseline_run": text_or_none(change.baseline_run),
        "detail": plain(change.detail),
        "confounders": [plain(text) for text in change.confounders],
    }


def _groups(report: Report, points: Sequence[Point | LeftOut]) -> list[dict[str, Any]]:
    places = {_key_of_point(point): at for at, point in enumerate(points)}
    return [_group(one, places) for one in report.groups]


def _group(group: GroupReport, places: Mapping[object, int]) -> dict[str, Any]:
    told: Disagreement = group.disagreement
    return {
        **{"device": plain(told.device), "backend": plain(told.backend), "precision": plain(told.precision)},
        **{"batch": told.batch, "threads": group.threads, "protocol_hash": text_or_none(group.protocol_hash)},
        "reference": text_or_none(group.reference),
        "models": len(told.points),
        "spearman": {
            name: {"value": _short(one.value), "low": _short(one.low), "high": _short(one.high)}
            for name, one in told.spearman.items()
        },
        "best_count": told.best_count,
        "log_macs_r2": _short(told.log_macs_r2),
        "inversions_total": told.inversions_total,
        "pairs": told.pairs,
        "inversions": [
            {
                **{"slower": places[_key_of_point(one.slower)], "faster": places[_key_of_point(one.faster)]},
                **{"macs_ratio": _short(one.macs_ratio), "time_ratio": _short(one.time_ratio)},
                "reason": plain(one.reason),
            }
            for one in told.inversions
        ],
    }


def _key_of_point(point: Point | LeftOut) -> object:
    """What tells the points of a report apart; None for what is none."""
    if isinstance(point, LeftOut):
        return None
    return (
        *(point.device, point.backend, point.model, point.size, point.batch, point.precision),
        *(point.threads, point.protocol_hash, point.started_at, point.image_ns),
    )


def _trouble(trouble: Trouble, places: Mapping[Cell, int]) -> dict[str, Any]:
    return {
        "title": plain(trouble.title),
        "facts": [plain(text) for text in trouble.facts],
        "remedy": plain(trouble.remedy),
        "cells": [
            {"row": places.get(cell), "text": None if cell in places else f"{plain(cell.model)} · {_cell_text(cell)}"}
            for cell in trouble.cells
        ],
    }


def _conditions(report: Report) -> dict[str, Any]:
    runs = [("reported", one) for one in report.runs] + [("before", one) for one in report.baseline_runs]
    return {
        "runs": [
            {
                **{"id": plain(one.id), "role": role, "started_at": one.started_at, "rows": one.rows},
                **{"gate": one.gate, "vitprof_version": one.vitprof_version, "command": plain(one.command)},
            }
            for role, one in runs
        ],
        "environment": [
            {
                **{"device": plain(one.device), "backend": text_or_none(one.backend), "name": plain(one.name)},
                **{"before": plain(one.before), "now": plain(one.now), "rows": one.rows},
            }
            for one in report.environment
        ],
        "placements": [_placement(one) for one in report.placements],
        "protocols": [
            {
                **{"hash": one.hash, "region": one.region},
                "references": ", ".join(map(plain, one.references)) or "none",
                **{"effort": one.effort, "sets": one.sets, "rows": one.rows},
            }
            for one in report.protocols
        ],
        "versions": [
            {
                **{"device": plain(one.device), "backend": plain(one.backend)},
                "versions": ", ".join(map(plain, one.versions)) or NOT_KNOWN,
            }
            for one in report.versions
        ],
        "machines": _machines(report.rows),
        "left_out": [plain(text) for text in report.left_out],
    }


def _placement(one: PlacementChange) -> dict[str, Any]:
    return {
        **{"model": plain(one.cell.model), "cell": _cell_text(one.cell), "run": plain(one.baseline_run)},
        **{"before": text_from_share(one.ops_before), "now": text_from_share(one.ops_now)},
        **{"macs_before": text_from_share(one.macs_before), "macs_now": text_from_share(one.macs_now)},
    }


def _machines(rows: Iterable[ReportRow]) -> list[dict[str, Any]]:
    """The facts of every machine that rows are from, with how many."""
    counts = Counter((plain(row.cell.device), _facts_text(row.document)) for row in rows)
    return [{"device": device, "facts": facts, "rows": number} for (device, facts), number in sorted(counts.items())]


def _facts_text(document: Mapping[str, Any]) -> str:
    facts: Mapping[str, Any] = (document["environment"] or {}).get("before") or {}
    return ", ".join(f"{plain(str(name))} {plain(str(value))}" for name, value in facts.items()) or NOT_KNOWN


def _subtitle(report: Report) -> str:
    told = troubles_text(report)
    rows = f"{len(report.rows):,} row{'' if len(report.rows) == 1 else 's'}{f' ({told})' if told else ''}"
    runs = f"of {len(report.runs)} runs" if len(report.runs) != 1 else f"started {report.runs[0].started_at}"
    before = ", ".join(plain(one.id) for one in report.baseline_runs[:3])
    more = len(report.baseline_runs) - 3
    since = f"compared with run {before}{f' and {more} more' if more > 0 else ''}" if before else "no earlier run"
    versions = ", ".join(plain(one) for one in report.vitprof_versions)
    by = f"vitprof {versions}" if versions else ""
    # Nor is it told as gone.
    over = "the sweep is not over: what it has yet to measure is not here" if report.is_unfinished else ""
    return " · ".join(part for part in (rows, runs, since, by, over) if part)


def _shared(report: Report) -> str:
    """What all rows have in common, and therefore no column."""
    of: tuple[Callable[[Cell], str], ...] = (
        lambda cell: _size_text(cell.size),
        lambda cell: f"batch {cell.batch}",
        lambda cell: plain(cell.precision),
        lambda cell: plain(cell.device),
        lambda cell: plain(cell.backend),
        lambda cell: _threads_text(cell.threads),
    )
    texts = [{one(row.cell) for row in report.rows} for one in of]
    known = [next(iter(one)) for one in texts if len(one) == 1]
    shared = ", ".join(text for text in known if text)
    return f"All rows: {shared}." if shared else ""


def _cell_text(cell: Cell) -> str:
    parts = (
        *(_size_text(cell.size), f"batch {cell.batch}", plain(cell.precision), plain(cell.device)),
        *(plain(cell.backend), _threads_text(cell.threads)),
    )
    return " · ".join(part for part in parts if part)


def _size_text(size: tuple[int, int]) -> str:
    return f"{'x'.join(map(str, dict.fromkeys(size)))} px" if any(size) else ""


def _threads_text(threads: int) -> str:
    return f"{threads} thread{'' if threads == 1 else 's'}" if threads else ""


def _short(value: float | None) -> float | None:
    return None if value is None else six_digits(value)
