"""NVIDIA's management library: clocks, temperature, throttling, power, energy and memory of one GPU.

Its own file because it measures beside every runtime and times nothing itself: it is asked between blocks only.
`nvidia-ml-py` (`import pynvml`) is optional: without it the figures are missing and nothing else. What a GPU does not
tell (many laptops tell no power) is left out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from typing import Any, Callable, Dict, Optional, Tuple

# Reasons for a clock below the one that was asked for, by bit (nvml.h, nvmlClocksEventReason*).
_REASONS = {
    0x0004: "power cap",
    0x0008: "hardware slowdown",
    0x0020: "software thermal slowdown",
    0x0040: "hardware thermal slowdown",
    0x0080: "power brake",
}
# nvml.h: NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU.
_SM_CLOCK, _MEMORY_CLOCK, _GPU_TEMPERATURE = 1, 2, 0
_HZ_PER_MHZ = 1_000_000
LOCKED = "locked"


class GpuMeter:
    """One GPU's figures. `api` is the module pynvml, `handle` its handle of the GPU."""

    def __init__(self, api: Any, handle: Any) -> None:
        self._api = api
        self._handle = handle
        self._throttled = 0
        self._peak_bytes: Optional[int] = None

    def facts(self) -> Dict[str, Any]:
        """What stays as it is while a model runs."""
        memory = self._asked("nvmlDeviceGetMemoryInfo", self._handle)
        return _known(
            gpu_driver=self._text("nvmlSystemGetDriverVersion"),
            gpu_max_clock_hz=self._scaled("nvmlDeviceGetMaxClockInfo", _HZ_PER_MHZ, _SM_CLOCK),
            gpu_power_limit_w=self._scaled("nvmlDeviceGetEnforcedPowerLimit", 0.001),
            gpu_other_processes=self._other_processes(),
            gpu_memory_total_bytes=memory and memory.total,
            gpu_memory_free_bytes=memory and memory.free,
        )

    def sensors(self) -> Dict[str, Any]:
        """How the GPU stands at this moment; `gpu_throttle_count` grows with every reading under a throttle."""
        bits = self._reason_bits()
        reasons = () if bits is None else reasons_from_bits(bits)
        self._throttled += bool(reasons)
        self._keep_peak()
        return _known(
            gpu_clock_hz=self._scaled("nvmlDeviceGetClockInfo", _HZ_PER_MHZ, _SM_CLOCK),
            gpu_memory_clock_hz=self._scaled("nvmlDeviceGetClockInfo", _HZ_PER_MHZ, _MEMORY_CLOCK),
            gpu_temperature_c=self._scaled("nvmlDeviceGetTemperature", 1, _GPU_TEMPERATURE),
            gpu_power_w=self.power_w(),
            gpu_throttle_reasons=list(reasons) or None,
            gpu_throttle_count=None if bits is None else self._throttled,
        )

    def energy_j(self) -> Optional[float]:
        """Of the whole board since the driver was loaded: a difference is what was used meanwhile, idle power in it."""
        return self._scaled("nvmlDeviceGetTotalEnergyConsumption", 0.001)

    def power_w(self) -> Optional[float]:
        """Of the whole board: at this moment or, on newer GPUs, over the last second."""
        return self._scaled("nvmlDeviceGetPowerUsage", 0.001)

    def peak_bytes(self) -> Optional[int]:
        """The most device memory that this process held at any reading; None where the driver does not tell."""
        self._keep_peak()
        return self._peak_bytes

    def _keep_peak(self) -> None:
        own = [one.usedGpuMemory for one in self._processes() if one.pid == os.getpid() and one.usedGpuMemory]
        if own:
            self._peak_bytes = max(self._peak_bytes or 0, *own)

    def _other_processes(self) -> Optional[int]:
        return sum(one.pid != os.getpid() for one in self._processes()) or None

    def _processes(self) -> Tuple[Any, ...]:
        return tuple(self._asked("nvmlDeviceGetComputeRunningProcesses", self._handle) or ())

    def _reason_bits(self) -> Optional[int]:
        # The newer name first: drivers before 535 know the older one only.
        for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
            bits = self._asked(name, self._handle)
            if bits is not None:
                return int(bits)
        return None

    def _scaled(self, name: str, factor: float, *arguments: int) -> Optional[float]:
        value = self._asked(name, self._handle, *arguments)
        return None if value is None else value * factor

    def _text(self, name: str) -> Optional[str]:
        value = self._asked(name)
        return value.decode() if isinstance(value, bytes) else value

    def _asked(self, name: str, *arguments: Any) -> Any:
        """None where this GPU, this driver or this version of pynvml does not know the question."""
        try:
            return getattr(self._api, name)(*arguments)
        except (self._api.NVMLError, AttributeError):
            return None


def meter(pci_bus_id: str) -> Optional[GpuMeter]:
    """The meter of the GPU at that place; None where NVML cannot be had.

    By its place and not its number: CUDA numbers GPUs by speed and hides some, NVML by place and none.
    """
    opened = _opened(pci_bus_id)
    return GpuMeter(*opened) if opened else None


def why_not() -> str:
    """Why there is no meter, for the record: a Jetson's driver has NVML in part or not at all."""
    is_installed = importlib.util.find_spec("pynvml") is not None
    return "tells nothing of this GPU" if is_installed else "not installed: pip install nvidia-ml-py"


def _opened(pci_bus_id: str) -> Optional[Tuple[Any, Any]]:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id.encode())
    except pynvml.NVMLError:
        return None


def reasons_from_bits(bits: int) -> Tuple[str, ...]:
    """Why the clock is below what was asked for; idleness, a set clock and synchronised boards are no reasons here."""
    return tuple(name for bit, name in sorted(_REASONS.items()) if bits & bit)


def _known(**facts: Any) -> Dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def hold_clock_lock(pci_bus_id: str, clock_mhz: int) -> None:
    """Locks the GPU's clock, says so in a line, and gives it back when standard input ends or a signal asks to end.

    The whole work of a process of its own: whatever becomes of the program that measures, SIGKILL included, its end of
    the pipe is closed then and the clock is free again.
    """
    opened = _opened(pci_bus_id)
    if opened is None:
        _say("NVML cannot be used: pip install nvidia-ml-py, and see that nvidia-smi works")
        return
    api, handle = opened
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: sys.exit(0))
    try:
        lock_until(api, handle, clock_mhz, sys.stdin.read)
    except api.NVMLError as error:
        _say(f"the driver refuses: {error}")


def lock_until(api: Any, handle: Any, clock_mhz: int, wait: Callable[[], object]) -> None:
    """Holds the lock until `wait` returns or raises; an error of NVML goes through."""
    try:
        # Inside, because a signal may come as soon as it is done.
        api.nvmlDeviceSetGpuLockedClocks(handle, clock_mhz, clock_mhz)
        _say(LOCKED)
        wait()
    finally:
        with contextlib.suppress(api.NVMLError):
            api.nvmlDeviceResetGpuLockedClocks(handle)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
