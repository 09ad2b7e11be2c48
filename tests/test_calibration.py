"""Peaks from rows made by hand, from the models that are shipped for it, and once for real."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from tests.report.samples import MATCH, PROTOCOL, artifact, samples, summary
from vitprof.calibration import calibrate, calibration_from_results
from vitprof.devices.profiles import calibration_models, device
from vitprof.errors import ExitCode, UsageError
from vitprof.measurements import Grade, Round, Samples, SetSamples, StopReason
from vitprof.places import Places
from vitprof.protocols import Effort, protocol
from vitprof.records import Calibration, Cost, ModelSpec, Parity, ParityVerdict, Precision, Result, Source
from vitprof.report.progress import NoProgress
from vitprof.rows import blank_row
from vitprof.runner.wire import Block, Failure
from vitprof.store import peaks
from vitprof.units import Amount

NAMES = ("gemm", "conv", "copy", "launch")
QUICK = protocol(Effort.QUICK, measure=Amount(calls=30))


# The two sets differ by this on the log scale, in opposite directions.
_APART = 0.001


def _samples(fastest_ms: float) -> Samples:
    """Two sets, each with a slower block before its fastest one and a warm-up block that is faster than both."""
    made = samples()
    ready = dataclasses.replace(made.sets[0].ready, calls_per_sample=1)

    def block(ms: float, *, is_warm_up: bool = False) -> Round:
        return Round(Block(0, 0, (), (round(ms * 1e6),) * 3), None, None, is_warm_up)

    sets = tuple(
        SetSamples(ready, (block(ms / 2, is_warm_up=True), block(ms * 1.5), block(ms)), is_warm=True)
        for ms in (fastest_ms * math.exp(-_APART), fastest_ms * math.exp(_APART))
    )
    return dataclasses.replace(made, sets=sets)


def _row(name: str, p50_ms: float, cost: Cost, shape: tuple[int, ...] = (1, 1, 1, 1), **changes: object) -> Result:
    spec = ModelSpec(f"calibration.py:{name}", Source.PYTHON, path="calibration.py", factory=name)
    blank = dataclasses.replace(blank_row(spec, "ort", 1, device("local"), PROTOCOL), backend_version="1.31.1")
    made = dataclasses.replace(artifact(spec, None, 0), cost=cost, input_shape=shape)
    row = dataclasses.replace(blank, artifact=made, samples=_samples(p50_ms), summary=summary(2 * p50_ms), parity=MATCH)
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]


def _rows() -> dict[str, Result]:
    return {
        # 1 GMAC in 25 ms: 40 GMAC/s; 2 GMAC in 40 ms: 50 GMAC/s.
        "gemm": _row("gemm", 25, Cost(0, 10**9, 0, 0, 1)),
        "conv": _row("conv", 40, Cost(0, 2 * 10**9, 0, 0, 1)),
        # 4 x 5 M values read, 20 MB of weights, 20 MB written: 60 MB in 3 ms are 20 GB/s.
        "copy": _row("copy", 3, Cost(5_000_000, 0, 20_000_000, 20_000_000, 1), (1, 5, 1000, 1000)),
        # 200 operators in 0.1 ms: 500 ns each.
        "launch": _row("launch", 0.1, Cost(0, 0, 0, 0, 200)),
    }


def _calibration(**changed: Result) -> Calibration:
    return calibration_from_results([*{**_rows(), **changed}.values()], Precision.FP32)


def test_peaks_are_work_by_time_and_the_faster_of_both_products_counts() -> None:
    found = _calibration().peaks
    assert found and found.launch_ns
    assert found.macs_per_s.value == pytest.approx(50e9, rel=1e-5) and found.macs_per_s.source.endswith(
        "ort 1.31.1, 1 thread, conv"
    )
    assert found.bytes_per_s.value == pytest.approx(20e9, rel=1e-5)
    assert found.launch_ns.value == pytest.approx(500, rel=1e-3)


def test_the_interval_of_a_rate_is_that_of_the_time_turned_round() -> None:
    found = _calibration().peaks
    assert found and found.launch_ns
    # Logs of -d and +d: a deviation of d x sqrt(2), by sqrt(2) sets, times Student's 12.706 at one degree of freedom.
    wide = math.exp(12.706 * _APART)
    assert (found.macs_per_s.low, found.macs_per_s.high) == pytest.approx((50e9 / wide, 50e9 * wide), rel=1e-5)
    assert (found.launch_ns.low, found.launch_ns.high) == pytest.approx((500 / wide, 500 * wide), rel=1e-3)


def test_the_grade_is_the_worst_and_warnings_name_what_they_are_of() -> None:
    copy = _rows()["copy"]
    assert copy.summary
    found = _calibration(copy=dataclasses.replace(copy, summary=dataclasses.replace(copy.summary, grade=Grade.C)))
    assert _calibration().grade is Grade.A and found.grade is Grade.C


def test_a_model_that_failed_leaves_no_peaks() -> None:
    failed = dataclasses.replace(_rows()["copy"], failure=Failure("load", "broke", "mend it"))
    found = _calibration(copy=failed)
    assert found.peaks is None and found.failure == Failure("load", "copy: broke", "mend it")


def test_peaks_of_wrong_outputs_are_none() -> None:
    broken = dataclasses.replace(_rows()["conv"], parity=Parity(ParityVerdict.BROKEN, "device", 0.8, 0.1, 0.2))
    found = _calibration(conv=broken)
    assert found.peaks is None and found.failure and found.failure.stage == "parity"


def test_an_interrupted_calibration_says_so() -> None:
    cut_short = dataclasses.replace(_rows()["copy"], samples=samples(StopReason.INTERRUPTED))
    without_copy = calibration_from_results([_rows()["gemm"], _rows()["conv"]], Precision.FP32)
    for found in (without_copy, _calibration(copy=cut_short)):
        assert found.peaks is None and found.failure and "interrupted" in found.failure.error


def test_a_copy_that_a_cache_could_hold_is_doubted() -> None:
    # 12 KB: less than any last-level cache.
    small = _row("copy", 1, Cost(1_000, 0, 4_000, 4_000, 1), (1, 1, 1, 1000))
    if not list(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")):
        pytest.skip("this system does not tell how large its caches are")
    assert "cached copy" in {doubt.code for doubt in _calibration(copy=small).warnings}


def test_the_shipped_models_do_the_work_that_they_are_meant_to_do() -> None:
    from vitprof.cost.count import count
    from vitprof.models.load import load

    path = calibration_models()
    loaded = {name: load(ModelSpec(name, Source.PYTHON, path=str(path), factory=name)) for name in NAMES}
    costs = {name: count(one.module, one.input_shape) for name, one in loaded.items()}
    assert costs["gemm"].macs == 1024**3
    # Input and output channels, window, output pixels.
    assert costs["conv"].macs == 256 * 256 * 9 * 56 * 56
    # 6 x 1024 x 1024 values of 4 bytes: image, parameter and sum have 25,165,824 bytes each.
    assert costs["copy"].activation_bytes == costs["copy"].weight_bytes == 25_165_824
    assert (costs["copy"].ops, costs["launch"].ops) == (1, 200)


def test_a_backend_is_calibrated_and_later_results_have_its_peaks(here: Places, tmp_path: Path) -> None:
    places = Places(here.cache_root, tmp_path)
    done = calibrate("local", ("ort",), places, NoProgress(), protocol=QUICK, threads=1)
    assert done.exit_codes == {ExitCode.OK} and not done.troubles
    [found] = done.calibrations
    assert found.failure is None and found.peaks
    assert peaks.peaks_for(tmp_path, device("local"), "ort", Precision.FP32, 1) == found.peaks
    assert peaks.peaks_for(tmp_path, device("local"), "ort", Precision.FP32, 2) is None
    # The models of the calibration are nobody's results.
    assert not (tmp_path / "results.sqlite").exists()


def test_what_cannot_run_is_a_calibration_with_its_reason(here: Places, tmp_path: Path) -> None:
    places = Places(here.cache_root, tmp_path)
    done = calibrate("local", ("torch",), places, NoProgress(), protocol=QUICK, precision=Precision.INT8, threads=1)
    [found] = done.calibrations
    assert found.peaks is None and found.failure and "int8" in found.failure.error
    assert ExitCode.USAGE in done.exit_codes and peaks.measured(tmp_path, device("local")) == ()


def test_an_unknown_device_is_refused(here: Places) -> None:
    with pytest.raises(UsageError, match="unknown device 'toaster'"):
        calibrate("toaster", (), here, NoProgress(), protocol=QUICK)
