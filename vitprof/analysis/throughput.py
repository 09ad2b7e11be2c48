"""A curve of throughput against batch: which batch comes next, which is best, where it levels off, what memory allows.

Its own file because these are rules on points that are measured already, whoever measured them: they are tried on
made-up curves. Where every point has a ratio to the reference cell, a batch is judged by images in the time of one of
its calls, else by images a second: the machine's clock swings between two batches by more than a batch brings.

    search    1, 2, 4, … up to the cap, until two in a row bring under 3 % more than the fastest before them
    memory    below a batch that does not fit, the middle of the gap; before one is met, a straight line through points
    best      the smallest batch whose speed cannot be told from the highest
    knee      the smallest batch with 95 % of the highest speed, or the best where that is smaller
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vitprof.analysis.comparison import paired_ratio
from vitprof.analysis.verdicts import quotient
from vitprof.curves import CurvePoint, Headroom, PointOutcome, StoppedBy
from vitprof.measurements import Interval

LEAST_GAIN_SHARE = 0.03
KNEE_SHARE = 0.95
# How many batches in a row that bring less end the search: one may be in a bad moment, or in a dip of the runtime.
_FLAT_BATCHES = 2
# The gap below a batch that does not fit is halved until it is this part of the batch that does: three batches at
# most, each of which takes as long as a measurement does.
_GAP_PARTS = 8
# A line is known to some per cent, and the system wants a part of what it calls available.
_USABLE_SHARE = 0.9


@dataclass(frozen=True)
class Limits:
    """Which batches are tried: those in `asked`, in rising order, else a search up to `max_batch`."""

    max_batch: int
    asked: tuple[int, ...] = ()


@dataclass(frozen=True)
class MemoryLine:
    """Memory of a process as a straight line over its batch."""

    base_bytes: float
    image_bytes: float

    def at(self, batch: int) -> float:
        return self.base_bytes + self.image_bytes * batch

    def largest_batch(self, usable_bytes: float) -> int | None:
        """The largest batch below `usable_bytes`; None where the line does not rise."""
        # Less than a byte an image is rounding.
        if self.image_bytes < 1:
            return None
        return max(0, int((usable_bytes - self.base_bytes) / self.image_bytes))


def next_step(points: Sequence[CurvePoint], limits: Limits, fits: Callable[[int], bool]) -> int | StoppedBy:
    """The batch to measure after `points`, or why there is none. `fits`: whether memory holds it, as far as known."""
    no_memory = min((one.batch for one in points if one.outcome is PointOutcome.OUT_OF_MEMORY), default=None)
    if limits.asked:
        left = [batch for batch in limits.asked if batch not in {one.batch for one in points}]
        if left and (no_memory is not None or not fits(left[0])):
            return StoppedBy.MEMORY
        return left[0] if left else StoppedBy.ASKED
    if any(one.outcome is PointOutcome.FAILED for one in points):
        return StoppedBy.FAILURE
    if no_memory is not None:
        return _halved(max((one.batch for one in _measured(points)), default=0), no_memory, fits)
    return _doubled(points, limits.max_batch, fits)


def gains(points: Sequence[CurvePoint]) -> dict[int, float]:
    """By batch, how much faster it is than the fastest smaller one, as a share; none for the smallest."""
    measured = _measured(points)
    speeds = [speed.value for speed in speeds_of(measured)]
    return {point.batch: speeds[index] / max(speeds[:index]) - 1 for index, point in enumerate(measured) if index > 0}


def best_batch(points: Sequence[CurvePoint]) -> int | None:
    """The smallest batch that cannot be told from the fastest; of points whose outputs are the model's."""
    sound = _sound(points)
    if not sound:
        return None
    top = _fastest(sound)
    return next(one.batch for one in sound if one is top or _may_be_equal(one, top, sound))


def knee_batch(points: Sequence[CurvePoint]) -> int | None:
    """The smallest batch with 95 % of the speed of the fastest, by value; the best one where that is smaller.

    The best may be: with wide intervals it cannot be told from the fastest and has less than 95 % of it.
    """
    best, sound = best_batch(points), _sound(points)
    if best is None:
        return None
    speeds = [speed.value for speed in speeds_of(sound)]
    knee = next(one.batch for one, speed in zip(sound, speeds, strict=True) if speed >= KNEE_SHARE * max(speeds))
    return min(knee, best)


def speeds_of(points: Sequence[CurvePoint]) -> list[Interval]:
    """What measured points are judged by: all by the reference, or all by the clock."""
    relative = [point.images_per_reference for point in points]
    absolute = [point.images_per_s for point in points]
    known = [one for one in relative if one is not None]
    return known if len(known) == len(relative) else [one for one in absolute if one is not None]


def time_ratio(baseline: CurvePoint, candidate: CurvePoint) -> Interval:
    """Time of an image of `candidate` ÷ that of `baseline`, both measured.

    Round by round where both were measured in one group, else through the reference, else by the clock.
    """
    if baseline.group is not None and baseline.group == candidate.group and baseline.samples and candidate.samples:
        paired = paired_ratio(baseline.samples, candidate.samples)
        if paired is not None:
            return _scaled(paired, baseline.batch / candidate.batch)
    of_baseline, of_candidate = speeds_of((baseline, candidate))
    return quotient(of_baseline, of_candidate)


def memory_line(pairs: Sequence[tuple[int, int]]) -> MemoryLine | None:
    """The least-squares line through (batch, bytes); None for fewer than two batches.

    Large batches count more: where the system tells a life's peak alone, that of small ones is that of loading.
    """
    batches = [batch for batch, _ in pairs]
    if len(set(batches)) < 2:
        return None
    slope, base = np.polyfit(batches, [taken for _, taken in pairs], 1, w=batches)
    return MemoryLine(float(base), float(slope))


def host_line(points: Sequence[CurvePoint]) -> MemoryLine | None:
    """The line of the runner process while it runs."""
    taken = [(one.batch, one.running_rss_bytes or one.peak_rss_bytes) for one in _measured(points)]
    return memory_line([(batch, rss_bytes) for batch, rss_bytes in taken if rss_bytes])


def host_bytes(points: Sequence[CurvePoint], batch: int) -> float | None:
    """What a runner of `batch` is thought to take: by the line, and no less than any has taken to load."""
    line = host_line(points)
    return None if line is None else max(line.at(batch), *(one.peak_rss_bytes or 0 for one in points))


def fits_host(points: Sequence[CurvePoint], batch: int, free_bytes: int | None) -> bool:
    """Whether a runner of `batch` is thought to find room in `free_bytes` of memory; yes where nothing is known."""
    taken = host_bytes(points, batch)
    return taken is None or free_bytes is None or taken <= _USABLE_SHARE * free_bytes


def headroom(
    points: Sequence[CurvePoint], best: int | None, usable_host_bytes: int | None, usable_device_bytes: int | None
) -> Headroom | None:
    """What batch `best` leaves of an accelerator's memory, where it has its own, else of the host's."""
    measured = _measured(points)
    point = next((one for one in measured if one.batch == best), None)
    if point is None:
        return None
    memory, usable = ("device", usable_device_bytes) if point.device_bytes else ("host", usable_host_bytes)
    if usable is None or point.memory_bytes is None:
        return None
    on_device = [(one.batch, one.memory_bytes) for one in measured if one.device_bytes and one.memory_bytes]
    line = memory_line(on_device) if point.device_bytes else host_line(points)
    return Headroom(memory, usable, point.memory_bytes, line.largest_batch(_USABLE_SHARE * usable) if line else None)


def _doubled(points: Sequence[CurvePoint], max_batch: int, fits: Callable[[int], bool]) -> int | StoppedBy:
    largest = max((one.batch for one in points), default=0)
    if _is_flat(points):
        return StoppedBy.SATURATION
    if largest >= max_batch:
        return StoppedBy.CAP
    candidate = min(max(1, 2 * largest), max_batch)
    return candidate if fits(candidate) else StoppedBy.MEMORY


def _halved(fitting: int, too_large: int, fits: Callable[[int], bool]) -> int | StoppedBy:
    """A batch in the middle between one that ran and one that did not fit."""
    middle = (fitting + too_large) // 2
    is_close = too_large - fitting <= max(1, fitting // _GAP_PARTS)
    return StoppedBy.MEMORY if fitting == 0 or is_close or not fits(middle) else middle


def _is_flat(points: Sequence[CurvePoint]) -> bool:
    last = list(gains(points).values())[-_FLAT_BATCHES:]
    return len(last) == _FLAT_BATCHES and all(gain < LEAST_GAIN_SHARE for gain in last)


def _measured(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    return sorted((one for one in points if one.images_per_s is not None), key=lambda one: one.batch)


def _sound(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    return [one for one in _measured(points) if one.outcome is PointOutcome.OK and not one.is_broken]


def _fastest(points: Sequence[CurvePoint]) -> CurvePoint:
    by_speed = zip(points, speeds_of(points), strict=True)
    return max(by_speed, key=lambda pair: pair[1].value)[0]


def _may_be_equal(point: CurvePoint, top: CurvePoint, all_points: Sequence[CurvePoint]) -> bool:
    by_batch = dict(zip((one.batch for one in all_points), speeds_of(all_points), strict=True))
    slower_by = quotient(by_batch[top.batch], by_batch[point.batch])
    return slower_by.low is not None and slower_by.low <= 1


def _scaled(interval: Interval, factor: float) -> Interval:
    low, high = (None if end is None else end * factor for end in (interval.low, interval.high))
    return Interval(interval.value * factor, low, high)
