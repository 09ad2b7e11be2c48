"""Samples of a tool that tells no single calls, on a phone that tells how hot it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.series import samples_from_ratios
from vitprof.analysis.summary import summarise
from vitprof.measurements import Samples, Summary
from vitprof.protocols import protocol


def _told_by_a_tool(calls: int, thermal_status: tuple[int, int] = (0, 0)) -> Samples:
    """Each sample the time of `calls` calls; the phone's thermal status in the first half, and in the second."""
    samples = samples_from_ratios([np.random.default_rng(0).normal(2.0, 0.005, 40)])
    [one] = samples.sets
    rounds = []
    for place, round_ in enumerate(one.rounds):
        status = thermal_status[place >= len(one.rounds) // 2]
        block = replace(
            round_.block,
            samples_ns=tuple(sample * calls for sample in round_.block.samples_ns),
            sensors={"thermal_status": status},
        )
        rounds.append(replace(round_, block=block))
    ready = replace(one.ready, calls_per_sample=calls, environment={**one.ready.environment, "tool": "benchmark_model"})
    return replace(samples, sets=(replace(one, ready=ready, rounds=tuple(rounds)),))


def _summary(samples: Samples) -> Summary:
    summary = summarise(samples, protocol(), batch=1, macs_per_image=1, reference_long_run_ns=None)
    assert summary is not None
    return summary


def test_the_sum_of_many_calls_is_no_call_and_the_row_says_so() -> None:
    single, many = _summary(_told_by_a_tool(1)), _summary(_told_by_a_tool(40))
    assert many.latency.p50_ns.value == pytest.approx(single.latency.p50_ns.value)
    [doubt] = [one for one in many.warnings if one.code == "aggregates only"]
    assert "40 of them make one sample" in doubt.detail and "means" in doubt.remedy
    assert not {one.code for one in single.warnings} & {"aggregates only", "calls batched"}


def test_a_phone_whose_thermal_status_rises_is_throttled() -> None:
    assert "throttled" not in {one.code for one in _summary(_told_by_a_tool(4, (1, 1))).warnings}
    assert "throttled" in {one.code for one in _summary(_told_by_a_tool(4, (0, 2))).warnings}
