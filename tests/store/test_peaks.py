from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from vitprof.errors import VitprofError
from vitprof.measurements import Grade
from vitprof.records import Calibration, Device, Peak, Peaks, Precision
from vitprof.store import peaks

LOCAL = Device("local", "x86-cpu", "chip", "local", ("ort",))


def _calibration(macs_per_s: float, **changes: object) -> Calibration:
    found = Peaks(Peak(macs_per_s, "here", 1.0, None), Peak(2e10, "here"), Peak(500.0, "here", 400.0, 600.0))
    made = Calibration("local", "ort", Precision.FP32, 1, found, Grade.B)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def _macs_per_s(root: Path, *key: object, device: Device = LOCAL) -> float | None:
    found = peaks.peaks_for(root, device, *key)  # type: ignore[arg-type]
    return found.macs_per_s.value if found else None


def test_what_was_measured_is_read_back_as_it_was(tmp_path: Path) -> None:
    calibration = _calibration(5e10)
    peaks.add(tmp_path, LOCAL, calibration)
    assert peaks.measured(tmp_path, LOCAL) == (calibration,)


def test_the_latest_of_a_backend_a_precision_and_a_number_of_threads_holds(tmp_path: Path) -> None:
    assert _macs_per_s(tmp_path, "ort", Precision.FP32, 1) is None
    for one in (
        _calibration(1.0),
        _calibration(2.0),
        _calibration(3.0, threads=2),
        _calibration(4.0, precision=Precision.INT8),
        _calibration(5.0, backend="torch"),
        _calibration(6.0, device="phone"),
    ):
        peaks.add(tmp_path, LOCAL, one)
    assert _macs_per_s(tmp_path, "ort", Precision.FP32, 1) == 2.0
    assert _macs_per_s(tmp_path, "ort", Precision.FP32, 2) == 3.0
    assert _macs_per_s(tmp_path, "ort", Precision.INT8, 1) == 4.0
    assert _macs_per_s(tmp_path, "torch", Precision.FP32, 1) == 5.0
    assert _macs_per_s(tmp_path, "ort", Precision.FP32, 4) is None
    assert len(peaks.measured(tmp_path, LOCAL)) == 4


def test_a_calibration_that_failed_leaves_the_peaks_from_before(tmp_path: Path) -> None:
    peaks.add(tmp_path, LOCAL, _calibration(1.0))
    peaks.add(tmp_path, LOCAL, _calibration(2.0, peaks=None))
    assert _macs_per_s(tmp_path, "ort", Precision.FP32, 1) == 1.0


def test_measured_peaks_come_before_those_of_the_profile(tmp_path: Path) -> None:
    told = dataclasses.replace(
        LOCAL, peak_macs_per_s={"fp32": Peak(9.0, "data sheet")}, peak_bytes_per_s=Peak(8.0, "data sheet")
    )
    found = peaks.peaks_for(tmp_path, told, "ort", Precision.FP32, 1)
    # Nobody's data sheet says what starting an operator costs.
    assert found == Peaks(Peak(9.0, "data sheet"), Peak(8.0, "data sheet"), None)
    assert _macs_per_s(tmp_path, "ort", Precision.FP16, 1, device=told) is None
    peaks.add(tmp_path, told, _calibration(1.0))
    assert _macs_per_s(tmp_path, "ort", Precision.FP32, 1, device=told) == 1.0


def test_another_machine_with_the_same_data_folder_has_peaks_of_its_own(tmp_path: Path) -> None:
    peaks.add(tmp_path, LOCAL, _calibration(1.0))
    file = tmp_path / "peaks.jsonl"
    entry = json.loads(file.read_text())
    file.write_text(json.dumps({**entry, "machine": "elsewhere"}) + "\n")
    assert peaks.measured(tmp_path, LOCAL) == ()


@pytest.mark.parametrize("line", [b'{"machine": "x", "dev', b"[]", b"{}", b"null", b"\xff\x00"])
def test_a_line_that_says_nothing_is_passed_over(tmp_path: Path, line: bytes) -> None:
    peaks.add(tmp_path, LOCAL, _calibration(1.0))
    with (tmp_path / "peaks.jsonl").open("ab") as file:
        file.write(line + b"\n")
    assert len(peaks.measured(tmp_path, LOCAL)) == 1


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_peak_that_nothing_can_be_divided_by_is_passed_over(tmp_path: Path, value: float) -> None:
    peaks.add(tmp_path, LOCAL, _calibration(value))
    assert peaks.measured(tmp_path, LOCAL) == ()


def test_what_cannot_be_read_was_not_measured(tmp_path: Path) -> None:
    (tmp_path / "peaks.jsonl").mkdir()
    assert peaks.measured(tmp_path, LOCAL) == ()


def test_a_folder_that_cannot_be_written_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VitprofError) as caught:
        peaks.add(tmp_path / "file", LOCAL, _calibration(1.0))
    assert "VITPROF_DATA_DIR" in caught.value.remedy
