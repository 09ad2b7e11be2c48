"""Measured peaks as text: the cells of a calibration's table and the lines of a device.

Its own file because both say the same in the same units, and neither has to do with results of models.
"""

from __future__ import annotations

from vitprof.records import Calibration, Peak
from vitprof.report.outside import plain
from vitprof.units import NOT_KNOWN, significant

# In one unit a column: backends of one device lie within a factor of ten of each other.
PEAK_HEADS = ("backend", "precision", "threads", "GMAC/s", "95% CI", "GB/s", "95% CI", "launch µs", "95% CI", "grade")
_GIGA, _NS_PER_US = 1e9, 1e3


def peak_cells(calibration: Calibration) -> tuple[str, ...]:
    """One row under `PEAK_HEADS`; a calibration without peaks has none known."""
    peaks = calibration.peaks
    return (
        plain(calibration.backend),
        calibration.precision.value,
        str(calibration.threads),
        *_value_and_interval(peaks.macs_per_s if peaks else None, _GIGA),
        *_value_and_interval(peaks.bytes_per_s if peaks else None, _GIGA),
        *_value_and_interval(peaks.launch_ns if peaks else None, _NS_PER_US),
        calibration.grade.value if calibration.grade else NOT_KNOWN,
    )


def peak_lines(calibration: Calibration) -> tuple[tuple[str, str], ...]:
    """(label, text) of each peak for `devices show`."""
    peaks = calibration.peaks
    if peaks is None:
        return ()
    rows = (
        (calibration.precision.value, peaks.macs_per_s, _GIGA, "GMAC/s"),
        ("memory", peaks.bytes_per_s, _GIGA, "GB/s"),
        ("launch", peaks.launch_ns, _NS_PER_US, "µs an operator"),
    )
    return tuple(
        (f"peak {label}", f"{' '.join(_value_and_interval(peak, unit))} {name}  ({plain(peak.source)})")
        for label, peak, unit, name in rows
        if peak is not None
    )


def _value_and_interval(peak: Peak | None, unit: float) -> tuple[str, str]:
    if peak is None:
        return NOT_KNOWN, NOT_KNOWN
    value = significant(peak.value / unit)
    if peak.low is None or peak.high is None:
        return value, NOT_KNOWN
    return value, f"[{significant(peak.low / unit)}, {significant(peak.high / unit)}]"
