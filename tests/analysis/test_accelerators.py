"""What an accelerator tells, in a summary: its own clock, its memory, its throttling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.analysis.series import samples_from_ratios
from vitprof.analysis.summary import summarise
from vitprof.measurements import Energy, Grade, Samples, Summary
from vitprof.protocols import protocol
from vitprof.runner.wire import End


def _with_blocks(changes: Sequence[Sequence[dict[str, Any]]]) -> Samples:
    """As many sets and rounds as `changes` has, each block changed so."""
    steady = np.random.default_rng(0).normal(2.0, 0.005, len(changes[0]))
    samples = samples_from_ratios([steady] * len(changes))
    sets = []
    for one, of_set in zip(samples.sets, changes, strict=True):
        counted = iter(of_set)
        rounds = tuple(
            round_ if round_.is_warm_up else replace(round_, block=replace(round_.block, **next(counted)))
            for round_ in one.rounds
        )
        sets.append(replace(one, rounds=rounds))
    return replace(samples, sets=tuple(sets))


def _summary(samples: Samples) -> Summary:
    summary = summarise(samples, protocol(), batch=1, macs_per_image=1, reference_long_run_ns=None)
    assert summary is not None
    return summary


def test_the_device_s_median_is_over_all_its_calls_and_none_without_any() -> None:
    samples = _with_blocks([[{"device_ns": (3, 1, 2)}] + [{"device_ns": (2,)}] * 39])
    assert _summary(samples).device_p50_ns == 2
    assert _summary(_with_blocks([[{}] * 40])).device_p50_ns is None


def test_the_peak_is_the_largest_of_all_sets_and_the_energy_their_median() -> None:
    samples = _with_blocks([[{}] * 40] * 3)
    ends = [End(1, {}, 500, 0.25), End(1, {}, 700, 0.75), None]
    sets = tuple(replace(one, end=end) for one, end in zip(samples.sets, ends, strict=True))
    summary = _summary(replace(samples, sets=sets))
    assert summary.peak_device_bytes == 700
    # The median of 0.25 and 0.75 J, of one image; a runner of an older version says no more.
    assert summary.energy == Energy(None, 0.5, None, None, None)
    assert _summary(samples).peak_device_bytes is None and _summary(samples).energy is None


def test_the_energy_above_rest_is_of_an_image_and_rest_is_the_least_that_was_seen() -> None:
    samples = _with_blocks([[{}] * 40] * 3)
    watched = (
        # 8 J a call at 4 W: the call took 2 s, of which rest at 1 W has 2 J: 6 J above it.
        {"call_energy_j": 8.0, "power_w": 4.0, "idle_power_w": 1.0},
        # 1 s of 10 W, 1 J of rest: 9 J. The device was still warm from the set before: 3 W are no rest.
        {"call_energy_j": 10.0, "power_w": 10.0, "idle_power_w": 3.0},
        # Rest was not seen. 2 s of 6 W, 2 J of rest: 10 J.
        {"call_energy_j": 12.0, "power_w": 6.0},
    )
    ends = [End(1, energy_source="RAPL: package-0", **one) for one in watched]  # type: ignore[arg-type]
    sets = tuple(replace(one, end=end) for one, end in zip(samples.sets, ends, strict=True))
    found = summarise(replace(samples, sets=sets), protocol(), batch=4, macs_per_image=1, reference_long_run_ns=None)
    assert found is not None
    # Medians of 8, 10, 12 J; 4, 10, 6 W; 6, 9, 10 J; of four images.
    assert found.energy == Energy("RAPL: package-0", 2.5, 6.0, 1.0, 9 / 4)


def test_each_kind_of_memory_has_the_largest_of_the_processes() -> None:
    samples = _with_blocks([[{}] * 40] * 2)
    ends = [
        End(900, peak_rss_measuring_bytes=300, peak_device_nvml_bytes=50),
        End(800, peak_rss_measuring_bytes=400, peak_device_bytes=20),
    ]
    sets = tuple(replace(one, end=end) for one, end in zip(samples.sets, ends, strict=True))
    summary = _summary(replace(samples, sets=sets))
    assert (summary.peak_rss_bytes, summary.peak_rss_measuring_bytes) == (900, 400)
    assert (summary.peak_device_bytes, summary.peak_device_nvml_bytes) == (20, 50)


def test_the_share_of_launching_is_the_median_of_the_processes_that_could_tell() -> None:
    samples = _with_blocks([[{}] * 40] * 3)
    shares = (0.25, None, 0.75)
    sets = tuple(replace(one, end=End(1, launch_share=of)) for one, of in zip(samples.sets, shares, strict=True))
    assert _summary(replace(samples, sets=sets)).launch_share == 0.5
    assert _summary(samples).launch_share is None


def test_a_gpu_s_throttle_count_begins_anew_in_each_process() -> None:
    def counting(counts: Sequence[int]) -> list[dict[str, Any]]:
        return [{"sensors": {"gpu_throttle_count": count}} for count in counts]

    # Ten processes that each had counted one before the first block: nothing happened in any.
    assert _summary(_with_blocks([counting([1] * 40), counting([0] * 40)])).grade is not Grade.C
    throttled = _summary(_with_blocks([counting([0] * 20 + [1] * 20), counting([0] * 40)]))
    assert throttled.grade is Grade.C and "throttled" in [doubt.code for doubt in throttled.warnings]


def test_builds_are_told_apart_where_every_set_made_its_own() -> None:
    ratios = [np.full(40, value) for value in (2.0, 2.1, 2.2)]
    samples = samples_from_ratios(ratios)

    def built(build_ns: Sequence[int | None]) -> float | None:
        pairs = zip(samples.sets, build_ns, strict=True)
        sets = tuple(replace(one, ready=replace(one.ready, build_ns=each)) for one, each in pairs)
        return _summary(replace(samples, sets=sets)).build_spread

    # 2.2 / 2.0 - 1.
    assert built([9, 9, 9]) == pytest.approx(0.1)
    assert built([9, None, None]) is None, "the others loaded the engine of the first"
