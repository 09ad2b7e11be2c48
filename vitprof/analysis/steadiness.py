"""Is a series steady? One rule for the end of the warm-up, one for drift, one for a machine with two speeds.

Judged on logarithms of the ratio to the neighbouring reference blocks, never on raw times: on a shared host a test
for "5 blocks, slope under 1 %" on raw times passes in 2 to 7 % of the windows (docs/protocol.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitprof.measurements import Protocol, Round
from vitprof.runner.wire import Block

# Two standard deviations of a difference of two blocks; the 95 % point of the trend over five blocks of noise.
_STEP_PER_NOISE = 2 * 2**0.5
_TREND_PER_NOISE = 2.5
_LEAST_STEPS_FOR_NOISE = 4
# Median absolute deviation to standard deviation, for a normal distribution.
SIGMA_PER_MAD = 1.4826
# A mixture: two groups of blocks further apart than this, both visited for at least this share of the blocks, and
# the gap between them several times as wide as the groups themselves.
_TWO_SPEED_GAP_SHARE = 0.15
_TWO_SPEED_LEAST_SHARE = 0.10
_TWO_SPEED_SEPARATION = 4.0
_TWO_SPEED_LEAST_BLOCKS = 12
# A block's calls cannot have taken so much longer than the wait for the block.
_LONGEST_PER_WAITED = 10.0
_LONGEST_BEYOND_S = 10.0


def call_ns(samples_ns: Sequence[int], calls_per_sample: int) -> float:
    """Mean time of one call over the samples of a block."""
    return sum(samples_ns) / (len(samples_ns) * calls_per_sample)


def is_possible(block: Block, waited_s: float) -> bool:
    """Whether a clock that runs on can have given these times to who waited `waited_s` for them.

    Two clocks never agree to the last bit; one that was set is off by minutes.
    """
    times_ns = (*block.set_aside_ns, *block.samples_ns)
    is_forward = min(times_ns, default=-1) >= 0 and sum(block.samples_ns) > 0
    return is_forward and sum(times_ns) / 1e9 <= _LONGEST_PER_WAITED * waited_s + _LONGEST_BEYOND_S


def log_ratio(round_: Round, calls_per_sample: int) -> float:
    """log(block mean ÷ mean of its two reference blocks); of the raw mean where there is no reference."""
    own = call_ns(round_.block.samples_ns, calls_per_sample)
    neighbours = [value for value in (round_.reference_before_ns, round_.reference_after_ns) if value]
    return float(np.log(own / np.mean(neighbours)) if neighbours else np.log(own))


def is_warm(log_ratios: Sequence[float], own_time_ns: int, protocol: Protocol) -> bool:
    """The last blocks differ from their neighbours, and rise or fall over all of them, by less than the limits.

    Medians of both, so that one block in a bad moment does not count as cold. Where the cell's own noise is larger
    than the limits it takes their place: blocks that jump about without a trend are noisy, and the interval tells so.
    """
    if own_time_ns < protocol.warm_up_floor_ns:
        return False
    is_capped = own_time_ns >= protocol.warm_up_cap_ns
    if len(log_ratios) < protocol.warm_up_blocks and not (is_capped and len(log_ratios) > 1):
        # Models whose calls take seconds reach the cap first; two like blocks in a row are all they can show.
        return False
    last = np.asarray(log_ratios[-protocol.warm_up_blocks :])
    noise = _noise(log_ratios)
    step_limit = max(protocol.warm_up_neighbour_share, _STEP_PER_NOISE * noise)
    trend_limit = max(protocol.warm_up_trend_share, _TREND_PER_NOISE * noise)
    return bool(np.median(np.abs(np.diff(last))) < step_limit and abs(trend(last)) < trend_limit)


def _noise(log_ratios: Sequence[float]) -> float:
    """Standard deviation of one block about a level that may move: from how much the steps differ, not the levels.

    A model that still warms up steadily has steps that are alike, so its fall is not taken for noise.
    """
    steps = np.diff(np.asarray(log_ratios))
    if steps.size < _LEAST_STEPS_FOR_NOISE:
        return 0.0
    return float(SIGMA_PER_MAD * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2))


def trend(values: Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Rise over the whole series by the Theil–Sen slope (median of all pairwise slopes)."""
    series = np.asarray(values, dtype=float)
    if series.size < 2:
        return 0.0
    first, second = np.triu_indices(series.size, k=1)
    slopes = (series[second] - series[first]) / (second - first)
    return float(np.median(slopes) * (series.size - 1))


def spread(values_ns: Sequence[float]) -> float:
    """(p90 − p10) ÷ p50 of block means: how unsteady a machine was, without its single worst block."""
    p10, p50, p90 = np.quantile(values_ns, (0.1, 0.5, 0.9))
    return float((p90 - p10) / p50)


def two_speeds(values_ns: Sequence[float]) -> tuple[float, float, float] | None:
    """(fast, slow, share of the blocks that were slow) of a two-speed machine; None for one speed.

    The split is the one that leaves the least variance inside the two groups (Otsu 1979), found on the logarithms.
    """
    if len(values_ns) < _TWO_SPEED_LEAST_BLOCKS:
        return None
    ordered = np.sort(np.log(np.asarray(values_ns, dtype=float)))
    counts = np.arange(1, ordered.size)
    left = np.cumsum(ordered)[:-1] / counts
    right = (ordered.sum() - np.cumsum(ordered)[:-1]) / (ordered.size - counts)
    split = int(np.argmax(counts * (ordered.size - counts) * (right - left) ** 2)) + 1
    fast, slow = ordered[:split], ordered[split:]
    gap = float(slow.mean() - fast.mean())
    width = float(np.sqrt((fast.var() * fast.size + slow.var() * slow.size) / ordered.size))
    slow_share = slow.size / ordered.size
    is_visited = min(slow_share, 1 - slow_share) >= _TWO_SPEED_LEAST_SHARE
    if not is_visited or gap < _TWO_SPEED_GAP_SHARE or gap < _TWO_SPEED_SEPARATION * width:
        return None
    return float(np.exp(fast.mean())), float(np.exp(slow.mean())), slow_share
