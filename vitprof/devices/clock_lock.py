"""A GPU's clock held at one frequency while a run lasts, and given back whatever happens.

Its own file because the lock outlives whoever sets it: it is therefore held by a process whose only work is to give it
back when this one is gone, killed or not.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from vitprof.devices import reach
from vitprof.errors import UnreachableError, UsageError
from vitprof.records import Device
from vitprof.runner.backends import BackendError
from vitprof.runner.cuda import driver_facts
from vitprof.runner.nvml import LOCKED

_HOLD = "import sys; from vitprof.runner.nvml import hold_clock_lock; hold_clock_lock(sys.argv[1], int(sys.argv[2]))"
_END_S = 10.0


def check(device: Device, clock_mhz: int | None) -> None:
    """`UsageError` where a clock is to be locked and the device is no GPU of this machine.

    `UnreachableError` where it is a GPU that is nowhere.
    """
    if clock_mhz is not None and reach.gpu_index(device) is None:
        # A GPU that is nowhere is another matter than one that is elsewhere.
        reach.check_reachable(device)
        message = f"--lock-clocks: device '{device.name}' is no NVIDIA GPU of this machine"
        raise UsageError(message, remedy="leave it out, or run vitprof on the machine that has the GPU", stage="device")


@contextlib.contextmanager
def held(device: Device, clock_mhz: int | None) -> Iterator[None]:
    """Locks the clock of `device` to `clock_mhz` until the end of the block; nothing where that is None.

    Errors as from `check`, and `UnreachableError` where the driver refuses.
    """
    if clock_mhz is None:
        yield
        return
    check(device, clock_mhz)
    try:
        bus_id = driver_facts(reach.gpu_index(device) or 0).pci_bus_id
    except BackendError as error:
        raise UnreachableError(str(error), remedy=error.remedy, stage="device") from error
    command = [sys.executable, "-c", _HOLD, bus_id, str(clock_mhz)]
    # A session of its own: Ctrl-C is for the run, which then lets go of the lock itself.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as holder:
        said = (holder.stdout.readline() if holder.stdout else "").strip()
        if said != LOCKED:
            raise UnreachableError(
                f"cannot lock the clock of {device.name} to {clock_mhz} MHz: {said or 'the driver gives no reason'}",
                remedy="run it as root, with a clock of: nvidia-smi -q -d SUPPORTED_CLOCKS; or leave out --lock-clocks",
                stage="device",
            )
        try:
            yield
        finally:
            if holder.stdin:
                holder.stdin.close()
            holder.wait(_END_S)
