from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.series import samples_from_ratios
from vitprof.analysis.summary import summarise
from vitprof.measurements import Grade, Samples
from vitprof.protocols import protocol


def _with_last_block(sensors: dict[str, object]) -> Samples:
    steady = np.random.default_rng(0).normal(2.0, 0.005, 40)
    samples = samples_from_ratios([steady, steady, steady])
    *others, last = samples.sets[-1].rounds
    last = replace(last, block=replace(last.block, sensors=sensors))
    return replace(samples, sets=(*samples.sets[:-1], replace(samples.sets[-1], rounds=(*others, last))))


@pytest.mark.parametrize(
    ("sensors", "grade", "codes"),
    [
        ({"page_hidden": False}, Grade.A, []),
        ({"page_hidden": True}, Grade.C, ["page hidden"]),
        ({"page_hidden": False, "asleep_ns": 2_000_000_000}, Grade.C, ["page hidden"]),
    ],
)
def test_one_block_of_a_hidden_page_or_a_sleeping_device_is_told_and_graded_c(
    sensors: dict[str, object], grade: Grade, codes: list[str]
) -> None:
    summary = summarise(_with_last_block(sensors), protocol(), batch=1, macs_per_image=1, reference_long_run_ns=None)
    assert summary is not None and summary.relative is not None
    assert (summary.grade, summary.relative.grade) == (grade, grade)
    assert [doubt.code for doubt in summary.warnings] == codes
    for doubt in summary.warnings:
        assert "1 of 120 blocks" in doubt.detail and "in front" in doubt.remedy
