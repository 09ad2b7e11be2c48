"""A cell over time: the table with its small pictures, CSV, JSON and the drawn one."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import time
from pathlib import Path

import pytest

from tests.report import samples
from vitprof.errors import VitprofError
from vitprof.gates import Moment, Series, Unit
from vitprof.measurements import Interval
from vitprof.report.document import json_text
from vitprof.report.history import document_from_history, history_csv, history_sections, sparkline
from vitprof.report.plot_history import history_plot
from vitprof.report.sections import sections_text
from vitprof.reports import Cell

CELL = Cell("local", "ort", "lowformer_b1", (224, 224), 1, "fp32", 2, "call", "ab12")


def moment(day: int, value: float | None, **changes: object) -> Moment:
    interval = None if value is None else Interval(value, value * 0.99, value * 1.01)
    facts: dict[str, object] = {
        "run": f"run-{day}",
        "started_at": f"2026-05-{day:02}T12:00:00+00:00",
        "value": interval,
        "latency_p50_ns": None if value is None else round(value * 4e6),
        "grade": None if value is None else "A",
        "outcome": "failed" if value is None else "ok",
        "judged": None,
    }
    return Moment(**{**facts, **changes})  # type: ignore[arg-type]


SERIES = Series(
    CELL,
    Unit.RATIO,
    "cpu-ref-1",
    (
        moment(1, 3.0),
        moment(2, 3.02),
        moment(3, None),
        moment(4, 3.3, judged="rejected", changed=("backend version 1.30 before, 1.31 now",)),
        moment(5, 2.0, is_apart=True, changed=("protocol ab before, cd now", "=cmd<b>|\x1b[31m before, x now")),
        moment(6, 2.02),
    ),
)


def test_a_sparkline_has_a_step_for_each_value() -> None:
    assert sparkline([1.0, None, 2.0, 1.5]) == "▁·█▅"
    assert sparkline([1.0, 1.0]) == "▁▁" and sparkline([]) == ""


def test_the_table_shows_the_series_and_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        text = sections_text(history_sections([SERIES]))
    time.tzset()
    samples.check("history.md", text)
    # Only the one measurement since the protocol changed can be compared with.
    assert "+1.0% against the median of the 1 comparable before it" in text
    assert "not to be compared with the one before" in text and "rejected" in text


def test_the_csv_has_a_line_a_measurement_and_runs_nothing() -> None:
    rows = list(csv.DictReader(io.StringIO(history_csv([SERIES]))))
    assert [row["value"] for row in rows] == ["3.0", "3.02", "", "3.3", "2.0", "2.02"]
    assert rows[3]["judged"] == "rejected" and rows[2]["outcome"] == "failed"
    assert (
        rows[0]["unit"] == "ratio"
        and rows[0]["reference"] == "cpu-ref-1"
        and float(rows[0]["ci95_low"]) == pytest.approx(2.97)
    )
    assert "\x1b" not in history_csv([SERIES])


def test_the_json_keeps_counts_to_the_last_digit() -> None:
    counts = Series(
        CELL, Unit.INSTRUCTIONS, None, (dataclasses.replace(moment(1, None), value=Interval(81_525_361, None, None)),)
    )
    [series] = json.loads(json_text(document_from_history([counts])))["series"]
    assert series["unit"] == "instructions" and series["points"][0]["value"] == 81_525_361
    assert series["points"][0]["ci95"] is None and series["model"] == "lowformer_b1"


def test_the_picture_marks_what_changed_and_is_the_same_again(tmp_path: Path) -> None:
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    history_plot([SERIES, SERIES], first)
    history_plot([SERIES, SERIES], second)
    text = first.read_text()
    assert text == second.read_text()
    assert "ratio to cpu-ref-1" in text and "backend version 1.30 before" in text and "rejected by gate" in text
    assert "<b>" not in text
    assert "not drawn" not in text
    history_plot([SERIES] * 10, first)
    assert "2 more cells are not drawn" in first.read_text()
    with pytest.raises(VitprofError):
        history_plot([Series(CELL, Unit.RATIO, None, (moment(1, None),))], first)


def test_dates_under_the_picture_are_those_of_utc(tmp_path: Path) -> None:
    late = dataclasses.replace(moment(1, 3.0), started_at="2026-05-01T01:00:00+02:00")
    history_plot([dataclasses.replace(SERIES, moments=(late, moment(2, 3.0)))], tmp_path / "a.svg")
    assert "2026-04-30" in (tmp_path / "a.svg").read_text()
