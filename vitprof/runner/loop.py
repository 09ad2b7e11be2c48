"""The timed loop: the one place of vitprof where a clock is read around a call.

Its own file so that what stands inside the timed region can be seen at a glance: between the two readings of the
clock there is the backend's `call` and nothing else. The clock is an argument, so that tests and the fake transport
run the same loop in virtual time.
"""

from __future__ import annotations

import statistics
from typing import Callable, List, Optional, Tuple

from vitprof.runner.backends import Accelerator, Session, accelerator_of, timed_call
from vitprof.runner.sensors import Disturbance, sensors
from vitprof.runner.wire import Block, Plan

Clock = Callable[[], int]

# A sample of at least this many clock steps keeps the error of reading the clock under 1 %.
_STEPS_PER_SAMPLE = 100
_CLOCK_READINGS = 2_000
# Calls of each block that are timed by the device as well: together with the block's own a sample of both clocks.
_DEVICE_CALLS = 3
# Pairs of calls, one launched kernel by kernel and one as a graph; the first few find the graph's memory.
_LAUNCH_PAIRS = 20
_LAUNCH_WARM_UPS = 3


def clock_facts(clock: Clock) -> Tuple[int, int]:
    """(smallest step, cost of one reading) of `clock`, in nanoseconds."""
    readings = [clock() for _ in range(_CLOCK_READINGS)]
    steps = [later - earlier for earlier, later in zip(readings, readings[1:]) if later > earlier]
    cost = (readings[-1] - readings[0]) // (_CLOCK_READINGS - 1)
    return (min(steps) if steps else 0), cost


def loop_overhead_ns(clock: Clock) -> int:
    """What the loop adds to a sample: the median sample of a call that does nothing, less the clock's own cost."""
    samples = timed(lambda: None, clock, 1, minimum=_CLOCK_READINGS, until_ns=0)
    return max(0, round(statistics.median(samples)) - clock_facts(clock)[1])


def timed(call: Callable[[], None], clock: Clock, calls_per_sample: int, minimum: int, until_ns: int) -> List[int]:
    """Samples of `call`, at least `minimum` of them, until the clock shows `until_ns`.

    A sample is the time of `calls_per_sample` calls in a row.
    """
    samples: List[int] = []
    store = samples.append
    end = 0
    if calls_per_sample == 1:
        while len(samples) < minimum or end < until_ns:
            start = clock()
            call()
            end = clock()
            store(end - start)
    else:
        repeats = range(calls_per_sample)
        while len(samples) < minimum or end < until_ns:
            start = clock()
            for _ in repeats:
                call()
            end = clock()
            store(end - start)
    return samples


def calls_per_sample(call: Callable[[], None], clock: Clock, clock_step_ns: int) -> int:
    """1, or as many calls as make a sample last 100 steps of the clock."""
    shortest_ns = clock_step_ns * _STEPS_PER_SAMPLE
    if timed(call, clock, 1, minimum=1, until_ns=0)[0] >= 2 * shortest_ns:
        return 1
    call_ns = min(timed(call, clock, 1, minimum=3, until_ns=0))
    return -(-shortest_ns // max(1, call_ns))


def run_block(plan: Plan, session: Session, clock: Clock, repeats: int, index: int) -> Block:
    """One block: a first sample set aside (the caches held another process's data), then the counted ones.

    A call of `plan.slow_call_ns` or longer fills the caches by itself: all of its samples count.
    """
    call = timed_call(session, plan.region)
    disturbance = Disturbance()
    start = clock()
    first = timed(call, clock, repeats, minimum=1, until_ns=start + plan.rewarm_ns)
    is_slow = first[0] >= plan.slow_call_ns * repeats
    until_ns = start + plan.rewarm_ns + plan.block_ns
    counted = [] if is_slow else timed(call, clock, repeats, plan.min_calls, until_ns)
    delay, switches = disturbance.since()
    accelerator = accelerator_of(session)
    return Block(
        index=index,
        start_ns=start,
        set_aside_ns=() if is_slow else tuple(first),
        samples_ns=tuple(first) if is_slow else tuple(counted),
        queue_delay_ns=delay,
        involuntary_switches=switches,
        # Before the further calls: as it stood when the last counted one ended.
        sensors={**sensors(), **(accelerator.sensors() if accelerator else {})},
        device_ns=None if accelerator is None else device_samples(accelerator, 1 if is_slow else _DEVICE_CALLS),
    )


def device_samples(accelerator: Accelerator, calls: int) -> Optional[Tuple[int, ...]]:
    """A few calls by the device's own clock. Not the counted ones: recording events would add to their time."""
    samples = [accelerator.call_ns() for _ in range(calls)]
    known = tuple(one for one in samples if one is not None)
    return known or None


def launch_share(eager_ns: Callable[[], Optional[int]], graph_ns: Callable[[], Optional[int]]) -> Optional[float]:
    """What of an eager call no graph of it takes, 0-1: medians of calls that take turns, by the device's clock."""
    pairs = [(eager_ns(), graph_ns()) for _ in range(_LAUNCH_WARM_UPS + _LAUNCH_PAIRS)][_LAUNCH_WARM_UPS:]
    known = [(eager, graph) for eager, graph in pairs if eager and graph]
    if not known:
        return None
    eager, graph = (statistics.median(one[side] for one in known) for side in (0, 1))
    # A graph is slower by chance where the launches cost nothing.
    return max(0.0, 1 - graph / eager)
