"""Rows of the results store as lines of JSON: what `results export` writes, and what is kept where a store fails.

Its own file because the latter must need neither a database nor the reports.

    {"vitprof": "results", "version": 1}
    {"run": {…}}                                            before its first row
    {"row": {…}, "of_run": "…", "origin": "…", "samples": {…}}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitprof.store.runs import Origin, StoredRun

HEAD = {"vitprof": "results", "version": 1}
_Row = Mapping[str, Any]


def line_from_value(value: _Row) -> str:
    """One line; `ValueError` for a number that JSON has not."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def line_from_run(run: StoredRun) -> str:
    return line_from_value({"run": dataclasses.asdict(run)})


def line_from_row(row: _Row, run: str, origin: Origin, samples: _Row | None) -> str:
    """Of a row in the JSON of `latency`; `samples` as `raw_samples` has them."""
    raw = {"samples": samples} if samples else {}
    return line_from_value({"row": row, "of_run": run, "origin": origin.value, **raw})


def append_rows(file: Path, run: StoredRun, rows: Sequence[_Row], samples: Sequence[_Row | None]) -> None:
    """Adds measured rows of a run to a file that `results import` takes in; `OSError` where that cannot be written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8", newline="") as opened:
        if not opened.tell():
            opened.write(line_from_value(HEAD) + line_from_run(run))
        for row, raw in zip(rows, samples, strict=True):
            opened.write(line_from_row(row, run.id, Origin.MEASURED, raw))
