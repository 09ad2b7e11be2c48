"""The peaks that were measured on this machine: what turns counted work into a roofline and a utilisation.

A small file of JSON lines beside the reference times, one a calibration of a backend. The latest of a machine, device,
backend, precision and number of threads holds; the older ones stay for whoever wants to see how steady they are.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vitprof.errors import VitprofError
from vitprof.measurements import Grade
from vitprof.records import Calibration, Device, Peak, Peaks, Precision
from vitprof.store.reference_times import machine_id


@dataclass(frozen=True)
class _Entry:
    machine: str
    calibration: Calibration


def peaks_for(data_root: Path, device: Device, backend: str, precision: Precision, threads: int | None) -> Peaks | None:
    """What `backend` reaches at most: as measured here, else as the device's profile has it, else None.

    The profile's are those of the whole device, whatever the backend and its threads.
    """
    for one in measured(data_root, device):
        if (one.backend, one.precision, one.threads) == (backend, precision, threads):
            return one.peaks
    macs_per_s = device.peak_macs_per_s.get(precision)
    if macs_per_s is None or device.peak_bytes_per_s is None:
        return None
    return Peaks(macs_per_s, device.peak_bytes_per_s)


def measured(data_root: Path, device: Device) -> tuple[Calibration, ...]:
    """The latest calibration of each backend, precision and number of threads of `device`; all have peaks."""
    machine = _machine(device)
    found = [entry.calibration for entry in _entries(data_root) if entry.machine == machine]
    of_device = [one for one in found if one.device == device.name]
    latest = {(one.backend, one.precision, one.threads): one for one in of_device}
    return tuple(latest[key] for key in sorted(latest))


def add(data_root: Path, device: Device, calibration: Calibration) -> None:
    """Remembers a calibration that gave peaks; one without them leaves those from before."""
    if calibration.peaks is None:
        return
    entry = {
        "machine": _machine(device),
        "device": calibration.device,
        "backend": calibration.backend,
        "precision": calibration.precision.value,
        "threads": calibration.threads,
        **asdict(calibration.peaks),
        "grade": calibration.grade.value if calibration.grade else None,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path = _path(data_root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            # One write of one short line: appends of several processes do not mix.
            file.write(json.dumps(entry) + "\n")
    except OSError as error:
        raise VitprofError(
            f"cannot write the measured peaks to {path}: {error.strerror}",
            remedy="free space there, or set VITPROF_DATA_DIR to a writable folder",
            stage="store",
        ) from error


def _machine(device: Device) -> str:
    # A data folder may be shared by machines, each of which is 'local' to itself.
    return machine_id() if device.host is None else device.host


def _path(data_root: Path) -> Path:
    return data_root / "peaks.jsonl"


def _entries(data_root: Path) -> list[_Entry]:
    try:
        # A byte that is no text damages its line and no other.
        lines = _path(data_root).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        # What cannot be read was not measured: a calibration that cannot be kept says why.
        return []
    return [entry for line in lines if (entry := _entry(line))]


def _entry(line: str) -> _Entry | None:
    try:
        read = json.loads(line)
        peaks = Peaks(
            _peak(read["macs_per_s"]),
            _peak(read["bytes_per_s"]),
            _peak(read["launch_ns"]) if read["launch_ns"] else None,
        )
        grade = Grade(read["grade"]) if read["grade"] else None
        key = (str(read["device"]), str(read["backend"]), Precision(read["precision"]), int(read["threads"]))
        return _Entry(str(read["machine"]), Calibration(*key, peaks, grade))
    except (ValueError, TypeError, KeyError):
        # A line that a crash cut short says nothing; the others still do.
        return None


def _peak(read: dict[str, Any]) -> Peak:
    low, high = (None if read[name] is None else float(read[name]) for name in ("low", "high"))
    value = float(read["value"])
    if not value > 0:
        raise ValueError(f"a peak of {value}")
    return Peak(value, str(read["source"]), low, high)
