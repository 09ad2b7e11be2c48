"""Facts about the device that may move a number: what it is, and how it stands at this moment.

Its own file because it runs on every device, between timed blocks and never inside one. What a platform does not
tell is left out; nothing is guessed. Sources: Linux procfs and sysfs, `getrusage`.
"""

from __future__ import annotations

import glob
import os
import platform
import sys
from typing import Any, Dict, Optional, Tuple

from vitprof.runner import processor, throttling

# Set by whoever starts this process in an emulator: it says which.
EMULATOR_VARIABLE = "VITPROF_EMULATOR"


class Disturbance:
    """Run-queue delay and involuntary context switches of this process since the object was made.

    Run-queue delay is the second number of `/proc/self/task/*/schedstat`: nanoseconds that a thread was ready to run
    and had no core. A hypervisor that takes the core away does not show there.
    """

    def __init__(self) -> None:
        self._delay_ns = _queue_delay_ns()
        self._switches = _involuntary_switches()

    def since(self) -> Tuple[Optional[int], Optional[int]]:
        delay, switches = _queue_delay_ns(), _involuntary_switches()
        return _difference(delay, self._delay_ns), _difference(switches, self._switches)


def environment() -> Dict[str, Any]:
    """What the device is and how it stands: recorded when a session is ready and when it ends."""
    facts: Dict[str, Any] = {
        "machine": platform.machine(),
        "system": platform.system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "emulator": os.environ.get(EMULATOR_VARIABLE),
        "cpu": cpu_model(),
        "cpu_features": processor.features_from_cpuinfo(processor.cpuinfo()) or None,
        "board": processor.board_name(processor.cpuinfo()),
        "cores": cores(),
        "pinned_cores": processor.pinned_cores(),
        "governor": processor.text_from_governors(processor.governors()),
        "turbo_off": _text("/sys/devices/system/cpu/intel_pstate/no_turbo"),
        "power": _power_source(),
        "battery_share": _battery_share(),
        "load_1min": _load(),
    }
    facts.update(sensors())
    return {name: value for name, value in facts.items() if value is not None}


def sensors() -> Dict[str, Any]:
    """Clock, temperature and throttling at this moment; only what the platform tells."""
    clocks = [_number(path) for path in glob.glob("/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")]
    heats = [_number(path) for path in glob.glob("/sys/class/thermal/thermal_zone*/temp")]
    throttles = [
        _number(path) for path in glob.glob("/sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")
    ]
    facts: Dict[str, Any] = {}
    for name, values, scale in (
        ("clock_hz", clocks, 1000),
        ("temperature_c", heats, 0.001),
        ("throttle_count", throttles, 1),
    ):
        known = [value for value in values if value is not None]
        if known:
            facts[name] = max(known) * scale
    if "temperature_c" not in facts:
        facts["temperature_c"] = throttling.temperature_c()
    facts.update(throttling.facts())
    return {name: value for name, value in facts.items() if value is not None}


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cpu_model() -> str:
    """The processor's own name for itself; of an Arm processor those of its cores."""
    known = processor.name_from_cpuinfo(processor.cpuinfo())
    # Elsewhere than on Linux the system tells; there Python would start a program that does not.
    return known or (platform.processor() if sys.platform != "linux" else "") or platform.machine()


def peak_rss_bytes() -> Optional[int]:
    """The most memory this process has held.

    On Linux from procfs: `ru_maxrss` of a fresh process begins at what its parent held (seen: 330 MB for 20 MB).
    """
    for line in (_text("/proc/self/status") or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _difference(later: Optional[int], earlier: Optional[int]) -> Optional[int]:
    # Threads that ended in between take their delay with them: never below zero.
    return None if later is None or earlier is None else max(0, later - earlier)


def _queue_delay_ns() -> Optional[int]:
    total = None
    for path in glob.glob("/proc/self/task/*/schedstat"):
        fields = (_text(path) or "").split()
        if len(fields) == 3:
            total = (total or 0) + int(fields[1])
    return total


def _involuntary_switches() -> Optional[int]:
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _load() -> Optional[float]:
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def _power_source() -> Optional[str]:
    for path in glob.glob("/sys/class/power_supply/A*/online"):
        return "mains" if _text(path) == "1" else "battery"
    return None


def _battery_share() -> Optional[float]:
    """Charge of the first battery that is the machine's own, 0-1."""
    for kind in glob.glob("/sys/class/power_supply/*/type"):
        charge = _number(os.path.join(os.path.dirname(kind), "capacity"))
        # A mouse on a cable is a battery too, of scope Device.
        is_own = _text(os.path.join(os.path.dirname(kind), "scope")) != "Device"
        if _text(kind) == "Battery" and is_own and charge is not None:
            return charge / 100
    return None


def _text(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def _number(path: str) -> Optional[float]:
    try:
        return float(_text(path) or "")
    except ValueError:
        return None
