"""Measured rows against made-up peaks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.analysis.series import samples_from_ratios
from tests.report.samples import PROTOCOL, artifact
from vitprof.cells import CellSamples
from vitprof.counts import Kind, OpRow
from vitprof.devices.profiles import device
from vitprof.records import ModelSpec, Peak, Peaks, Precision, Result, Source
from vitprof.rows import blank_row, measured_row

# 1 GMAC in 40 ms (ten times a reference of 4 ms): 25 GMAC/s.
MACS = 1_000_000_000
PEAKS = Peaks(Peak(1e11, "made up"), Peak(1e10, "made up"))
ROW = OpRow("add", Kind.ELEMENTWISE, "", 1, 0, bytes_in=3_000, bytes_out=1_000, shape_out=(1,), weight_bytes=2_000)


def _row(peaks: Peaks | None, *rows: OpRow, macs: int | None = MACS, **changes: object) -> Result:
    spec = dataclasses.replace(ModelSpec("m", Source.TIMM), **changes)  # type: ignore[arg-type]
    made = artifact(spec, macs, 1_000)
    made = dataclasses.replace(made, expected=None, cost=dataclasses.replace(made.cost, rows=rows))
    samples = samples_from_ratios([np.full(20, 10.0)] * 2)
    return measured_row(
        made,
        CellSamples(samples, None),
        blank_row(spec, "ort", 1, device("local"), PROTOCOL),
        outputs_file=None,
        reference_long_run_ns=None,
        reference_failure=None,
        peaks=peaks,
    )


def _codes(row: Result) -> set[str]:
    return {doubt.code for doubt in row.summary.warnings} if row.summary else set()


def test_utilisation_is_the_share_of_the_peak_that_was_achieved() -> None:
    row = _row(PEAKS)
    assert row.utilisation == pytest.approx(0.25) and "above the peak" not in _codes(row)
    # Eight images in the same time.
    assert _row(Peaks(Peak(1e12, ""), PEAKS.bytes_per_s), batch=8).utilisation == pytest.approx(0.2)


def test_operators_that_ran_elsewhere_are_a_warning() -> None:
    made = artifact(ModelSpec("m", Source.TIMM), MACS, 1_000)
    made = dataclasses.replace(made, expected=None)
    samples = samples_from_ratios([np.full(20, 10.0)] * 2)
    blank = blank_row(made.spec, "ort", 1, device("local"), PROTOCOL)
    for share, warns in ((0.4, True), (1.0, False), (None, False)):
        sets = tuple(
            dataclasses.replace(one, ready=dataclasses.replace(one.ready, placement_ops_share=share))
            for one in samples.sets
        )
        row = measured_row(
            made,
            CellSamples(dataclasses.replace(samples, sets=sets), None),
            blank,
            outputs_file=None,
            reference_long_run_ns=None,
            reference_failure=None,
            peaks=None,
        )
        assert ("placed elsewhere" in _codes(row)) == warns


def test_what_is_not_known_stays_unknown() -> None:
    assert _row(None, ROW).utilisation is None and _row(None, ROW).roofline is None
    assert _row(PEAKS, macs=None).utilisation is None
    # No operators: no roofline, but a peak to compare with.
    assert _row(PEAKS).roofline is None


def test_more_than_the_peak_is_all_of_it_and_a_warning() -> None:
    row = _row(Peaks(Peak(2e10, "too low"), PEAKS.bytes_per_s))
    assert row.utilisation == 1.0 and "above the peak" in _codes(row)


def test_the_noise_of_a_machine_is_not_more_than_the_peak() -> None:
    row = _row(Peaks(Peak(2.4e10, "4 % too low"), PEAKS.bytes_per_s))
    assert row.utilisation == 1.0 and "above the peak" not in _codes(row)


@pytest.mark.parametrize(
    ("changes", "total_ns"),
    [
        # 4,000 bytes at 10 GB/s; for two images the 2,000 bytes of weights are read once all the same.
        ({}, 400),
        ({"batch": 2}, 600),
        ({"precision": Precision.FP16}, 200),
        ({"precision": Precision.INT8}, 100),
    ],
)
def test_the_roofline_is_that_of_the_batch_and_the_precision(changes: dict[str, object], total_ns: float) -> None:
    found = _row(PEAKS, ROW, **changes).roofline
    assert found and found.total_ns == pytest.approx(total_ns) and found.bound == "memory"
