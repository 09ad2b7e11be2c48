"""The noise of a real machine, recorded, as a factor on every duration of virtual time.

`tests/data/machine_noise.jsonl.gz` holds three minutes of blocks of real models on a shared host. Every recorded call
is divided by the median of its model: what is left is what the machine did to it at that moment.
"""

from __future__ import annotations

import gzip
import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import median

_FILE = Path(__file__).parent.parent / "data" / "machine_noise.jsonl.gz"
# Longer pauses (the start of a new set's processes) are cut out of the timeline.
_LONGEST_PAUSE_NS = 100_000_000


def noise_from(offset_ns: int) -> Callable[[int], float]:
    """The recorded factor at a virtual time, the recording begun at `offset_ns` and repeated without end."""
    times, factors = _timeline()
    length = times[-1]

    def factor(now_ns: int) -> float:
        return factors[bisect_right(times, (now_ns + offset_ns) % length) - 1]

    return factor


def length_ns() -> int:
    return _timeline()[0][-1]


def recorded() -> Iterator[dict[str, object]]:
    """The recorded blocks in order: `set`, `round`, `cell`, `t_ns`, `call_ns`."""
    with gzip.open(_FILE, "rt") as file:
        for line in file:
            yield json.loads(line)


@cache
def _timeline() -> tuple[list[int], list[float]]:
    blocks = list(recorded())
    calls: dict[object, list[int]] = defaultdict(list)
    for block in blocks:
        calls[block["cell"]] += block["call_ns"]  # type: ignore[operator]
    medians = {cell: median(values) for cell, values in calls.items()}
    times, factors = [], []
    now = 0
    last_end: int | None = None
    for block in blocks:
        begin = block["t_ns"]
        assert isinstance(begin, int)
        if last_end is not None:
            now += min(max(0, begin - last_end), _LONGEST_PAUSE_NS)
        last_end = begin
        for call_ns in block["call_ns"]:  # type: ignore[attr-defined]
            times.append(now)
            factors.append(call_ns / medians[block["cell"]])
            now += call_ns
            last_end += call_ns
    return times, factors
