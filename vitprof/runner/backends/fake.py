"""A backend without a runtime: for the harness's own overhead, for tests of the whole way, and for faults on demand.

In the product, not in the tests, because `doctor` measures with it and because every transport has to survive its
faults. Options of the Plan: `load_ns` and `call_ns` (how long loading and one call take; 0: no time), `copy_ns` (what
the image and the outputs take on their way in a region `e2e`), `image_ns` (what each image of the batch adds to a
call), `image_bytes` (what each takes of the fake device's memory) and `memory_bytes` (how much of that there is: a
batch that takes more does not load), `fault` and `fault_at`:

    fault     what happens at the stage or call `fault_at` (load, outputs, profile, or a number of calls made)
    crash     the process kills itself (SIGKILL), as the kernel does when memory runs out
    exit      the process ends quietly with status 3
    raise     the call raises
    memory    the call raises MemoryError
    hang      the call never returns
    print     stray text goes to standard output, as native libraries do; nothing else goes wrong
    garbage   text that is no message is written on the wire itself
"""

from __future__ import annotations

import os
import signal
import struct
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from vitprof.runner.backends import Accelerator
from vitprof.runner.wire import Plan, Profile, ProfiledOp, ProfileRequest

_HANG_S = 3600


def version() -> str:
    return "1"


def load(plan: Plan) -> FakeSession:
    return FakeSession(plan, _busy_wait)


class FakeSession:
    """Waits `call_ns` a call through `wait` (an argument, so that virtual time can take its place)."""

    def __init__(self, plan: Plan, wait: Callable[[int], None]) -> None:
        self.build_ns: Optional[int] = None
        self.placement_ops_share: Optional[float] = None
        batch = plan.input_shape[0] if plan.input_shape else 1
        self._call_ns = int(plan.options.get("call_ns") or 0) + batch * int(plan.options.get("image_ns") or 0)
        self._copy_ns = int(plan.options.get("copy_ns") or 0)
        self._fault = str(plan.options.get("fault") or "")
        self._fault_at = str(plan.options.get("fault_at") or "0")
        self._wait = wait
        self._calls = 0
        self._strike("load")
        self.accelerator = _accelerator(batch, plan)
        if plan.options.get("load_ns"):
            self._wait(int(plan.options["load_ns"] or 0))
        if not self._fault and not self._call_ns:
            self.call = _nothing  # type: ignore[method-assign]

    def call(self) -> None:
        self._calls += 1
        self._strike(str(self._calls))
        if self._call_ns:
            self._wait(self._call_ns)

    def host_call(self) -> None:
        self.call()
        if self._copy_ns:
            self._wait(self._copy_ns)

    def outputs(self, index: int) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
        self._strike("outputs")
        return [("output", "float32", (2,), struct.pack("<2f", float(index), 1.0))]

    def profile(self, request: ProfileRequest, clock: Callable[[], int]) -> Profile:
        """Made up: a millisecond, of which a convolution takes 60 %, its activation 20 %, a change of layout 10 %."""
        self._strike("profile")
        ops = (
            ProfiledOp("conv", "Conv", 600_000.0, module="stem.conv"),
            ProfiledOp("act", "Relu", 200_000.0, calls=2, module="stem.act"),
            ProfiledOp("reorder", "ReorderOutput", 100_000.0, feeds=("act",)),
        )
        return Profile(ops, total_ns=1_000_000.0, runs=request.runs)

    def _strike(self, stage: str) -> None:
        if self._fault and stage == self._fault_at:
            _FAULTS[self._fault]()


class _FakeMemory:
    """An `Accelerator` that knows how much memory its batch takes, and nothing else."""

    def __init__(self, used_bytes: int) -> None:
        self._used_bytes = used_bytes

    def environment(self) -> Dict[str, Any]:
        return {}

    def sensors(self) -> Dict[str, Any]:
        return {}

    def peak_bytes(self) -> Optional[int]:
        return self._used_bytes

    def call_ns(self) -> Optional[int]:
        return None

    def driver_peak_bytes(self) -> Optional[int]:
        return None


def _accelerator(batch: int, plan: Plan) -> Optional[Accelerator]:
    """The fake device; MemoryError where the batch does not fit it, None where no image takes any of its memory."""
    if not plan.options.get("image_bytes"):
        return None
    used, there = batch * int(plan.options["image_bytes"] or 0), int(plan.options.get("memory_bytes") or 0)
    if there and used > there:
        raise MemoryError(f"{batch} images take {used} bytes of the fake device's {there}")
    return _FakeMemory(used)


def _nothing() -> None:
    return None


def _busy_wait(duration_ns: int) -> None:
    end = time.perf_counter_ns() + duration_ns
    while time.perf_counter_ns() < end:
        pass


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _exit() -> None:
    os._exit(3)


def _raise() -> None:
    raise RuntimeError("the fake backend was asked to raise")


def _memory() -> None:
    raise MemoryError("the fake backend was asked to run out of memory")


def _hang() -> None:
    time.sleep(_HANG_S)


def _print() -> None:
    print("stray text from Python")  # noqa: T201 - that is the fault
    os.write(1, b"stray text from native code\n")


def _garbage() -> None:
    from vitprof.runner.lease import WIRE_FD_VARIABLE

    os.write(int(os.environ[WIRE_FD_VARIABLE]), b'{"type": "samples", "ind\n')


_FAULTS = {
    "crash": _crash,
    "exit": _exit,
    "raise": _raise,
    "memory": _memory,
    "hang": _hang,
    "print": _print,
    "garbage": _garbage,
}
