"""The CSV has one fixed header, a row for every cell and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import dataclasses
import io

import pytest

from vitprof.measurements import Energy, Instructions
from vitprof.records import Result
from vitprof.report.csv_table import COLUMNS, csv_text

from . import samples


def read(*results: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(results))))


def test_every_cell_is_a_row_under_the_same_header() -> None:
    found = read(*samples.several())
    assert [row["model"] for row in found] == [result.spec.name for result in samples.several()]
    assert all(list(row) == [name for name, _ in COLUMNS] and None not in row for row in found)
    assert csv_text([]).splitlines() == [",".join(name for name, _ in COLUMNS)]


def test_every_column_is_filled_by_some_result() -> None:
    corrected = dataclasses.replace(
        samples.summary(2.0, 10),
        drift_corrected_ns=2e6,
        cold_build_ns=5,
        peak_rss_measuring_bytes=1,
        peak_device_bytes=2,
        peak_device_nvml_bytes=3,
        energy=Energy("RAPL: package-0", 4.0, 5.0, 1.0, 3.0),
    )
    size = dataclasses.replace(samples.ok(), summary=corrected)
    counted = dataclasses.replace(samples.ok(), summary=None, instructions=Instructions(7, 0.0, 5, "qemu"))
    as_built = dataclasses.replace(samples.ok(), spec=dataclasses.replace(samples.ok().spec, reparam=False))
    found = read(size, counted, as_built, *samples.several())
    assert [row["as_built"] for row in found[:3]] == ["", "", "true"]
    assert [name for name, _ in COLUMNS if not any(row[name] for row in found)] == []


def test_a_failed_row_says_why_and_leaves_the_rest_empty() -> None:
    (row,) = read(samples.failed())
    assert (row["outcome"], row["failure_error"]) == ("failed", "no ONNX operator for aten::fft_rfft2")
    assert row["latency_p50_ns"] == row["macs"] == row["grade"] == ""


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", " @", "\x1b[31m="])
def test_a_cell_that_a_spreadsheet_would_run_is_made_text(start: str) -> None:
    (row,) = read(samples.result(f"{start}cmd|'/c calc'!A0"))
    assert row["model"].startswith("'")


def test_names_otherwise_stay_as_they_are() -> None:
    (row,) = read(samples.hostile())
    assert row["model"] == samples.HOSTILE_NAME
    assert "\x1b" not in csv_text([samples.hostile()])


def test_the_golden_table() -> None:
    samples.check("several.csv", csv_text(samples.several()))
