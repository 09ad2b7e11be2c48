from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tests.analysis.series import samples_from_ratios
from vitprof.analysis.summary import summarise
from vitprof.measurements import Grade, Samples, Summary
from vitprof.points import LeftOut, point_from_row
from vitprof.protocols import protocol

EMULATOR = "qemu-aarch64 10.0.13, cortex-a72"


def _steady() -> Samples:
    steady = np.random.default_rng(0).normal(2.0, 0.005, 40)
    return samples_from_ratios([steady, steady, steady])


def _summary(samples: Samples) -> Summary:
    summary = summarise(samples, protocol(), batch=1, macs_per_image=1, reference_long_run_ns=None)
    assert summary is not None and summary.relative is not None
    return summary


def test_an_emulated_time_is_told_and_graded_c_however_steady() -> None:
    samples = _steady()
    sets = tuple(
        replace(one, ready=replace(one.ready, environment={**one.ready.environment, "emulator": EMULATOR}))
        for one in samples.sets
    )
    emulated = _summary(replace(samples, sets=sets))
    assert (emulated.grade, emulated.relative and emulated.relative.grade) == (Grade.C, Grade.C)
    assert [doubt.code for doubt in emulated.warnings] == ["emulated"]
    assert EMULATOR in emulated.warnings[0].detail and "--metric instructions" in emulated.warnings[0].remedy
    assert _summary(samples).grade is Grade.A


def test_a_raspberry_pi_that_was_throttled_from_the_start_is_graded_c() -> None:
    samples = _steady()
    for sensors, grade in (
        ({"throttle_count": 2}, Grade.A),
        ({"throttle_count": 2, "throttled_now": "under-voltage"}, Grade.C),
    ):
        sets = tuple(
            replace(
                one,
                rounds=tuple(replace(each, block=replace(each.block, sensors=sensors)) for each in one.rounds),
            )
            for one in samples.sets
        )
        assert _summary(replace(samples, sets=sets)).grade is grade


def test_no_comparison_takes_a_time_from_an_emulator_or_a_count_for_a_time() -> None:
    row: dict[str, Any] = {
        **{"model": "m", "source": "timm", "size": [224, 224], "batch": 1, "precision": "fp32", "device": "d"},
        **{"backend": "ort", "backend_version": "1", "threads": 1, "outcome": "ok", "parity": None, "relative": None},
        **{"latency_ns": {"p50": 5, "ci95": None}, "cost": None, "roofline_ns": None, "memory": None, "grade": "A"},
        **{"placement": None, "protocol_hash": "x", "started_at": "2026-01-01T00:00:00+00:00"},
    }
    assert not isinstance(point_from_row({**row, "environment": {"before": {"machine": "aarch64"}}}), LeftOut)
    left = point_from_row({**row, "environment": {"before": {"emulator": EMULATOR}}})
    assert isinstance(left, LeftOut) and "say nothing of a board" in left.reason
    counted = point_from_row({**row, "environment": {}, "instructions_per_inference": {"value": 1}})
    assert isinstance(counted, LeftOut) and "instructions were counted" in counted.reason
