from __future__ import annotations

import dataclasses
import io
import json

from rich.console import Console

from tests.report.samples import ok
from vitprof.measurements import Doubt, Grade
from vitprof.records import Calibration, Device, Peak, Peaks, Precision, Roofline
from vitprof.report.block import lines_of
from vitprof.report.document import document_from_calibrations, json_text, rows_from_results
from vitprof.report.terminal import show_calibrations, show_device
from vitprof.runner.wire import Failure

PEAKS = Peaks(
    Peak(53.5e9, "measured", 50e9, 57e9),
    Peak(28.6e9, "measured", 28e9, 29.123e9),
    Peak(610.4, "measured", 500.0, 700.0),
)
BUSY = Doubt("busy machine", "gemm: load 3 on 2 cores", "close other programs")
MEASURED = Calibration("local", "ort", Precision.FP32, 1, PEAKS, Grade.B, (BUSY,))
FAILED = Calibration("local", "torch", Precision.INT8, 1, None, failure=Failure("export", "no \x1b[31mint8", "use ort"))


def _shown(*calibrations: Calibration) -> str:
    file = io.StringIO()
    show_calibrations(calibrations, Console(file=file))
    return file.getvalue()


def test_a_table_has_one_unit_a_column_and_an_interval_beside_each_peak() -> None:
    head, row = _shown(dataclasses.replace(MEASURED, warnings=())).splitlines()
    assert head.split("  ")[0] == "backend" and "GMAC/s" in head and "launch µs" in head
    assert row.split(maxsplit=3)[3] == "53.50   [50.00, 57.00]  28.60  [28.00, 29.12]  0.6104     [0.5000, 0.7000]  B"


def test_failures_and_warnings_come_with_what_to_do() -> None:
    text = _shown(MEASURED, FAILED)
    assert "busy machine: ort" in text and "remedy: close other programs" in text
    assert "failed at export: torch" in text and "remedy: use ort" in text and "\x1b" not in text


def test_a_device_shows_what_was_measured_on_it() -> None:
    file = io.StringIO()
    show_device(Device("local", "x86-cpu", "chip", "local", ("ort",)), (MEASURED,), None, Console(file=file))
    assert "53.50 [50.00, 57.00] GMAC/s  (measured)" in file.getvalue()
    assert "0.6104 [0.5000, 0.7000] µs an operator" in file.getvalue()


def test_the_document_holds_peaks_or_why_there_are_none() -> None:
    measured, failed = json.loads(json_text(document_from_calibrations((MEASURED, FAILED))))["calibrations"]
    assert measured["outcome"] == "ok" and "failure" not in measured
    assert measured["peaks"]["bytes_per_s"] == {"value": 28.6e9, "ci95": [28e9, 29.123e9], "source": "measured"}
    assert measured["peaks"]["launch_ns"]["value"] == 610
    assert failed["outcome"] == "failed" and failed["peaks"] is None and failed["failure"]["stage"] == "export"


def test_a_result_tells_its_roofline_where_one_is_known() -> None:
    result = dataclasses.replace(ok(), roofline=Roofline(3.1e6, 1e6, 2e6, 1e5), utilisation=0.214)
    [line] = [line for line in lines_of(result) if line.label == "roofline"]
    assert line.phrases == ("3.100 ms", "memory-bound", "21.4% of the peak MAC/s")
    [row] = rows_from_results([result], with_samples=False).results
    assert (row.utilisation, row.bound, row.roofline_ns) == (0.214, "memory", 3_100_000)


def test_a_share_of_the_peak_is_told_without_a_roofline() -> None:
    result = dataclasses.replace(ok(), utilisation=0.214)
    [line] = [line for line in lines_of(result) if line.label == "roofline"]
    assert line.phrases == ("21.4% of the peak MAC/s",)
    assert not [line for line in lines_of(ok()) if line.label == "roofline"]
