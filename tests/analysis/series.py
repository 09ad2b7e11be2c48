"""Samples made by hand: a cell whose rounds have given ratios to a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitprof.measurements import Round, Samples, SetSamples, StopReason
from vitprof.runner.wire import Block, Ready


def ready(calls_per_sample: int = 1) -> Ready:
    return Ready(1, None, 2, "host", 1, 20, 10, calls_per_sample, "1", 1.0, {"cpu": "x", "cores": 2, "load_1min": 0.1})


def samples_from_ratios(
    sets: Sequence[np.ndarray],
    *,
    reference_ns: float = 4_000_000,
    reference_mood: np.ndarray | None = None,
    calls: int = 12,
    is_warm: bool = True,
    queue_delay_share: float = 0.0,
    throttles: bool = False,
) -> Samples:
    """One set an array of `sets`, one round a ratio in it; `reference_mood` moves cell and reference together."""
    made = []
    for ratios in sets:
        rounds = []
        for index, ratio in enumerate(ratios):
            mood = float(reference_mood[index % len(reference_mood)]) if reference_mood is not None else 1.0
            call_ns = round(ratio * reference_ns * mood)
            block = Block(
                index=index,
                start_ns=0,
                set_aside_ns=(),
                samples_ns=(call_ns,) * calls,
                queue_delay_ns=round(queue_delay_share * call_ns * calls),
                involuntary_switches=0,
                sensors={"throttle_count": index} if throttles else {},
            )
            rounds.append(Round(block, reference_ns * mood, reference_ns * mood, is_warm_up=False))
        made.append(SetSamples(ready(), tuple(rounds), is_warm))
    return Samples(tuple(made), StopReason.PRECISION)
