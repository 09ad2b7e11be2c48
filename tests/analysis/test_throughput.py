"""The search over batches on made-up curves: which batch comes next, which is best, what memory holds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.series import samples_from_ratios
from tests.curves import around, failed, out_of_memory, point
from vitprof.analysis.throughput import (
    Limits,
    best_batch,
    fits_host,
    gains,
    headroom,
    knee_batch,
    memory_line,
    next_step,
    time_ratio,
)
from vitprof.curves import ALLOCATOR, NVML, CurvePoint, DeviceBytes, PointOutcome, StoppedBy

AUTO = Limits(max_batch=1024)


def _always(_: int) -> bool:
    return True


def _searched(
    speed_of: Callable[[int], float],
    limits: Limits = AUTO,
    memory: int | None = None,
    fits: Callable[[int], bool] = _always,
) -> tuple[list[int], StoppedBy]:
    """The batches that a search tries in turn; above `memory` none fits."""
    points: list[CurvePoint] = []
    while isinstance(step := next_step(points, limits, fits), int):
        assert step not in {one.batch for one in points}
        is_too_large = memory is not None and step > memory
        points.append(out_of_memory(step) if is_too_large else point(step, speed_of(step)))
    return [one.batch for one in points], step


def test_the_batch_doubles_until_two_in_a_row_bring_less_than_3_percent() -> None:
    # 10, 16, 22, 22.5 (+2.3 %), 22.6 (+0.4 %): the second of them is the last.
    speeds = {1: 10.0, 2: 16.0, 4: 22.0, 8: 22.5, 16: 22.6}
    assert _searched(speeds.__getitem__) == ([1, 2, 4, 8, 16], StoppedBy.SATURATION)


def test_one_batch_in_a_bad_moment_does_not_end_the_search() -> None:
    # 4 is slower than 2 and 8 gains over both: what is compared with is the fastest before.
    speeds = {1: 10.0, 2: 16.0, 4: 15.0, 8: 24.0, 16: 24.1, 32: 23.0}
    assert _searched(speeds.__getitem__) == ([1, 2, 4, 8, 16, 32], StoppedBy.SATURATION)


def test_a_recovery_from_a_dip_is_no_gain() -> None:
    # 8 is 60 % faster than 4 and 0 % faster than 2.
    assert _searched({1: 10.0, 2: 16.0, 4: 10.0, 8: 16.0}.__getitem__) == ([1, 2, 4, 8], StoppedBy.SATURATION)


def test_the_cap_is_the_last_batch_that_is_tried() -> None:
    assert _searched(float, Limits(max_batch=24)) == ([1, 2, 4, 8, 16, 24], StoppedBy.CAP)
    assert _searched(float, Limits(max_batch=1)) == ([1], StoppedBy.CAP)


def test_the_gap_below_a_batch_that_does_not_fit_is_halved() -> None:
    # 64 fits and 128 does not; 96 fits, 112 and 104 do not; between 96 and 104 is less than an eighth of 96.
    batches, why = _searched(float, memory=100)
    assert (batches, why) == ([1, 2, 4, 8, 16, 32, 64, 128, 96, 112, 104], StoppedBy.MEMORY)
    assert _searched(float, memory=0) == ([1], StoppedBy.MEMORY)
    assert _searched(float, memory=1) == ([1, 2], StoppedBy.MEMORY)


def test_a_batch_that_memory_is_thought_not_to_hold_is_not_tried() -> None:
    assert _searched(float, fits=lambda batch: batch <= 20) == ([1, 2, 4, 8, 16], StoppedBy.MEMORY)


def test_only_want_of_memory_is_followed_by_a_smaller_batch() -> None:
    assert next_step([point(1, 1.0), failed(2)], AUTO, _always) is StoppedBy.FAILURE
    assert next_step([point(1, 1.0), point(2, 2.0), out_of_memory(4)], AUTO, _always) == 3


def test_given_batches_are_all_measured_up_to_one_that_does_not_fit() -> None:
    asked = Limits(1024, (1, 8, 64))
    # A flat curve and a failed batch end no list.
    assert _searched(lambda _: 5.0, asked) == ([1, 8, 64], StoppedBy.ASKED)
    assert next_step([point(1, 1.0), failed(8)], asked, _always) == 64
    assert _searched(float, asked, memory=4) == ([1, 8], StoppedBy.MEMORY)
    assert _searched(float, asked, fits=lambda batch: batch < 60) == ([1, 8], StoppedBy.MEMORY)


@given(
    knee=st.floats(0.1, 2000.0), noise=st.lists(st.floats(-0.05, 0.05), min_size=30, max_size=30),
    memory=st.none() | st.integers(0, 2000), cap=st.integers(1, 2000),
)  # fmt: skip
def test_a_search_ends_soon_and_never_above_its_cap(
    knee: float, noise: list[float], memory: int | None, cap: int
) -> None:
    batches, why = _searched(
        lambda batch: batch / (batch + knee) * (1 + noise[batch % 30]), Limits(max_batch=cap), memory
    )
    assert max(batches) <= cap and len(batches) <= math.log2(cap) + 2 + 4
    if memory is not None and max(batches) > memory:
        assert why is StoppedBy.MEMORY
        fitting, too_large = (
            max((one for one in batches if one <= memory), default=0),
            min(one for one in batches if one > memory),
        )
        assert too_large - fitting <= max(1, fitting // 8)


def test_gains_are_over_the_fastest_smaller_batch() -> None:
    assert gains([point(1, 10.0), point(2, 15.0), point(4, 12.0), out_of_memory(8)]) == pytest.approx({2: 0.5, 4: -0.2})


def test_the_best_batch_is_the_smallest_that_cannot_be_told_from_the_fastest() -> None:
    # ±2 %: 31.4 may be 31.0 to 32.0 and 32.0 may be 31.4: not to be told apart; 28 is clearly slower.
    points = [
        point(1, 10.0, 0.02),
        point(2, 20.0, 0.02),
        point(4, 28.0, 0.02),
        point(8, 31.4, 0.02),
        point(16, 32.0, 0.02),
    ]
    assert best_batch(points) == 8
    # 95 % of 32 are 30.4.
    assert knee_batch(points) == 8
    assert knee_batch([*points[:2], point(4, 30.5, 0.001), *points[3:]]) == 4
    sharp = [
        dataclasses.replace(one, images_per_reference=around(one.images_per_reference.value, 0.001))
        for one in points
        if one.images_per_reference
    ]
    assert best_batch(sharp) == 16 and knee_batch(sharp) == 8


def test_without_intervals_the_best_is_the_fastest() -> None:
    assert best_batch([point(1, 10.0, None), point(2, 10.1, None), point(4, 10.05, None)]) == 2
    assert best_batch([]) is None and knee_batch([failed(1)]) is None


def test_a_knee_is_never_above_the_best_batch() -> None:
    # So wide are the intervals that the first batch may be the fastest.
    points = [point(1, 10.0, 0.5), point(2, 15.0, 0.5)]
    assert best_batch(points) == 1 and knee_batch(points) == 1


def test_a_batch_with_broken_outputs_is_not_the_best() -> None:
    assert best_batch([point(1, 10.0), point(2, 20.0, is_broken=True)]) == 1


def test_the_reference_judges_where_every_batch_has_one_else_the_clock() -> None:
    # The machine slowed down by half in the second batch: images/s fall, images a reference call rise.
    slowed = point(2, 15.0, images_per_s=around(750.0, 0.001))
    assert gains([point(1, 10.0), slowed]) == pytest.approx({2: 0.5})
    assert gains([point(1, 10.0, images_per_reference=None), slowed]) == pytest.approx({2: -0.25})


def test_time_ratios_are_taken_round_by_round_within_a_group_and_through_the_reference_beyond() -> None:
    ratios = np.full(20, 2.0) * np.exp(np.linspace(-0.2, 0.2, 20))
    mine, other = (samples_from_ratios([factor * ratios]) for factor in (1.0, 1.1))
    together = [point(4, 2.0, 0.2, samples=mine, group=7), point(4, 1.9, 0.2, samples=other, group=7)]
    paired = time_ratio(*together)
    # Both drift alike: round by round the one takes 1.1 times as long, to the clock's rounding.
    assert paired.value == pytest.approx(1.1, rel=1e-6) and (paired.half_width_share or 1) < 1e-5
    apart = time_ratio(together[0], dataclasses.replace(together[1], group=8))
    assert apart.value == pytest.approx(2.0 / 1.9) and (apart.half_width_share or 0) > 0.2


def test_time_ratios_are_of_an_image() -> None:
    assert time_ratio(point(1, 2.0), point(8, 4.0)).value == pytest.approx(0.5)


def test_the_memory_line_goes_through_points_that_lie_on_one() -> None:
    line = memory_line([(1, 110), (2, 120), (8, 180)])
    assert line is not None
    assert (line.base_bytes, line.image_bytes) == pytest.approx((100, 10))
    assert line.at(20) == pytest.approx(300)
    assert line.largest_batch(1000) == 90
    assert memory_line([(4, 100)]) is None
    flat = memory_line([(1, 100), (2, 100)])
    assert flat is not None and flat.largest_batch(10**9) is None


def test_a_batch_that_is_predicted_beyond_what_is_free_does_not_fit() -> None:
    # 100 MB and 10 MB an image: 32 take 420 MB; nine tenths of 450 MB are 405 MB.
    points = [point(1, 1.0), point(2, 2.0)]
    assert fits_host(points, 16, 450_000_000) and not fits_host(points, 32, 450_000_000)
    assert fits_host(points[:1], 32, 1) and fits_host(points, 10**6, None)


def test_what_loading_took_does_not_hide_what_an_image_takes() -> None:
    # Loading took 500 MB whatever the batch; while it ran there were 100 MB and 10 MB an image.
    points = [
        point(batch, float(batch), peak_rss_bytes=500_000_000, running_rss_bytes=(100 + 10 * batch) * 1_000_000)
        for batch in (1, 2, 4)
    ]
    # 64 take 740 MB; nine tenths of 800 MB are 720 MB, of 830 MB 747 MB.
    assert not fits_host(points, 64, 800_000_000) and fits_host(points, 64, 830_000_000)
    # What cannot be loaded does not fit, however little it takes then.
    assert not fits_host(points, 8, 540_000_000)
    room = headroom(points, 4, 1_000_000_000, None)
    assert room is not None and (room.taken_bytes, room.largest_batch) == (500_000_000, 80)


def test_headroom_is_what_the_best_batch_leaves() -> None:
    points = [point(1, 1.0), point(2, 2.0), point(4, 2.0)]
    room = headroom(points, 2, 1_000_000_000, None)
    assert room is not None
    # 120 MB of 1,000; nine tenths of it less 100 are 800: 80 images of 10 MB.
    assert (room.memory, room.taken_bytes, room.left_bytes, room.largest_batch) == (
        "host",
        120_000_000,
        880_000_000,
        80,
    )
    assert headroom(points, None, 10**9, None) is None and headroom(points, 2, None, None) is None


def test_the_room_of_an_accelerator_is_its_own_memory() -> None:
    def taken(batch: int) -> tuple[DeviceBytes, ...]:
        return (DeviceBytes(ALLOCATOR, batch * 1000), DeviceBytes(NVML, 500 + batch * 1000))

    points = [point(batch, float(batch), device_bytes=taken(batch)) for batch in (1, 2)]
    assert [one.memory_bytes for one in points] == [1500, 2500]
    room = headroom(points, 2, 10**12, 20_500)
    # The driver's count is the larger one; 18,450 less 500 hold 17 images of 1,000.
    assert room is not None and (room.memory, room.left_bytes, room.largest_batch) == ("device", 18_000, 17)


def test_an_interrupted_point_without_figures_is_left_out() -> None:
    assert best_batch([point(1, 1.0), CurvePoint(2, PointOutcome.FAILED)]) == 1
