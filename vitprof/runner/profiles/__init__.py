"""Layer profiles on the device: one file for each runtime that can tell which of its operators take the time.

Apart from `backends`, because nothing of it may be near a timed call: a profiler costs time in every operator, so a
profile says how the time is shared and never how long a model takes.
"""

from __future__ import annotations

import statistics
from typing import Callable, List, Sequence

from vitprof.runner import loop
from vitprof.runner.wire import ProfileRequest

# Calls before the profiled ones: the first few find memory and fill caches.
WARM_UP_CALLS = 5
_LEAST_RUNS = 5


def profiled_runs(call: Callable[[], None], request: ProfileRequest, clock: Callable[[], int]) -> List[int]:
    """Time of each profiled call, in nanoseconds; `WARM_UP_CALLS` calls come before them."""
    warm_ns = statistics.median(loop.timed(call, clock, 1, minimum=WARM_UP_CALLS, until_ns=0))
    affordable = int(request.longest_ns // max(1.0, warm_ns))
    return loop.timed(call, clock, 1, minimum=min(request.runs, max(_LEAST_RUNS, affordable)), until_ns=0)


def middle_half(runs_ns: Sequence[int]) -> List[int]:
    """Which runs the means are taken of: those between the quartiles of the whole call's time.

    Not the median of each operator: ONNX Runtime gives whole microseconds, which is too coarse for small ones, and
    medians do not add up to the time of any call. Not the mean of all: bursts of other programs are in it.
    """
    order = sorted(range(len(runs_ns)), key=lambda index: runs_ns[index])
    cut = len(order) // 4
    return sorted(order[cut : len(order) - cut])
