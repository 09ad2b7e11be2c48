"""How many instructions an inference executes, counted by the emulator that this process runs in.

Its own file because it is the timed loop with another clock: what the emulator's plugin has counted so far stands in a
file, which is mapped into memory here, so that reading it costs the same few instructions each time. What reading and
calling cost is measured with a call that does nothing, and taken off.
"""

from __future__ import annotations

import mmap
import os
import statistics
from typing import Callable, List

from vitprof.runner import loop
from vitprof.runner.backends import BackendError
from vitprof.runner.wire import CountRequest, Counts

# Names the file; set by whoever starts the emulator.
FILE_VARIABLE = "VITPROF_INSTRUCTIONS_FILE"
_BYTES = 8
# The first call finds memory, and Python's own caches fill.
_WARM_UPS = 1


def counted(call: Callable[[], None], request: CountRequest) -> Counts:
    """Instructions of `request.calls` calls, each by itself; `BackendError` where nobody counts, or nothing."""
    clock = _counter()
    nothing = _counts(_nothing, clock, request.calls)
    cost = statistics.median_low(nothing)
    read = _counts(call, clock, request.calls)
    if not any(read):
        message = "the emulator counts 0 instructions for an inference: its counter stands still"
        raise BackendError("run", message, "set it up anew: vitprof devices setup emulated-a72")
    return Counts(tuple(count - cost for count in read))


def _counts(call: Callable[[], None], clock: loop.Clock, calls: int) -> List[int]:
    loop.timed(call, clock, 1, minimum=_WARM_UPS, until_ns=0)
    return loop.timed(call, clock, 1, minimum=calls, until_ns=0)


def _nothing() -> None:
    pass


def _counter() -> loop.Clock:
    path = os.environ.get(FILE_VARIABLE)
    if not path:
        message = "this process does not run in an emulator that counts instructions"
        raise BackendError("run", message, "count them on an emulated device: --device emulated-a72")
    with open(path, "rb") as file:
        counter = mmap.mmap(file.fileno(), _BYTES, access=mmap.ACCESS_READ)

    def executed() -> int:
        return int.from_bytes(counter[:_BYTES], "little")

    return executed
