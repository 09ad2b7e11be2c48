"""Shares of time that a runtime estimates are called an estimate in every form, and are not kept as measured ones."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

from tests.report.test_layers import MODEL, PROFILE, _shown
from vitprof.layers import keep
from vitprof.places import Places
from vitprof.report.by import By
from vitprof.report.document import json_text
from vitprof.report.layers import csv_text, document

PLACED = tuple(dataclasses.replace(op, placed=unit) for op, unit in zip(PROFILE.ops, ("cpu", "ane", None), strict=True))
ESTIMATED = dataclasses.replace(
    MODEL, backend="coreml", profile=dataclasses.replace(PROFILE, ops=PLACED, is_estimate=True)
)


def test_a_table_says_that_its_shares_are_estimated_and_where_operators_run() -> None:
    text = _shown(ESTIMATED, By.OP)
    assert "ESTIMATED" in text and "time, est." in text and "more of the estimated time" in text
    assert "profiler" not in text
    lines = [line.split() for line in text.splitlines() if "stem.conv " in line]
    assert "ane" in lines[0] and "cpu" in lines[1]
    assert "ESTIMATED" in _shown(ESTIMATED, By.KIND) and "ESTIMATED" in _shown(ESTIMATED, By.MODULE)


def test_measured_shares_are_not_called_so() -> None:
    text = _shown(MODEL, By.OP)
    assert "estimated" not in text.lower() and "est." not in text and "runs on" not in text and "profiler" in text


def test_json_and_csv_say_it_too() -> None:
    read = json.loads(json_text(document(ESTIMATED)))
    assert read["estimated"] is True and [op["placed"] for op in read["ops"]] == ["cpu", "ane", None]
    assert json.loads(json_text(document(MODEL)))["estimated"] is False
    rows = list(csv.DictReader(io.StringIO(csv_text(ESTIMATED.profile))))
    assert [(row["placed"], row["estimated"]) for row in rows] == [("cpu", "yes"), ("ane", "yes"), ("", "yes")]
    assert next(csv.DictReader(io.StringIO(csv_text(PROFILE))))["estimated"] == "no"


def test_the_store_keeps_measured_shares_only(tmp_path: Path) -> None:
    places = Places(tmp_path / "cache", tmp_path / "data", 0, None)
    keep(ESTIMATED, places)
    assert not (tmp_path / "data").exists()
    keep(MODEL, places)
    assert (tmp_path / "data" / "results.sqlite").exists()
