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
        "memory_bytes": _least(_physical_bytes(), _group_bytes("max")),
        "memory_available_bytes": memory_available_bytes(),
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


def memory_available_bytes() -> Optional[int]:
    """Memory that a process here may still take; None where the platform does not tell."""
    return _least(_meminfo_bytes("MemAvailable"), _group_left_bytes())


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


class PeakRss:
    """The most memory that this process has held: in its life, and from `begin_measuring` on."""

    def __init__(self) -> None:
        self._before_bytes: Optional[int] = None
        self._has_begun = self._is_anew = False

    def begin_measuring(self) -> None:
        """Has the system's mark begin anew at what is held now; only the first call does anything."""
        if self._has_begun:
            return
        self._has_begun, self._before_bytes = True, peak_rss_bytes()
        try:
            with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
                # As proc(5) documents it: the mark alone, no page is touched.
                file.write("5")
            self._is_anew = True
        except OSError:
            pass

    def life_bytes(self) -> Optional[int]:
        known = [value for value in (self._before_bytes, peak_rss_bytes()) if value is not None]
        return max(known, default=None)

    def measuring_bytes(self) -> Optional[int]:
        """None where the system's mark cannot begin anew, or nothing was measured."""
        return peak_rss_bytes() if self._is_anew else None


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


def _physical_bytes() -> Optional[int]:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None


def _meminfo_bytes(name: str) -> Optional[int]:
    for line in (_text("/proc/meminfo") or "").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _group_bytes(what: str) -> Optional[int]:
    """`max` or `current` of the control group, as a container limits it; None where there is no limit."""
    number = _number(_group_file(what))
    return None if number is None else int(number)


def _group_file_bytes() -> int:
    lines = (_text(_group_file("stat")) or "").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def _group_file(what: str) -> str:
    group = next((line[3:] for line in (_text("/proc/self/cgroup") or "").splitlines() if line.startswith("0::")), "")
    return f"/sys/fs/cgroup{group}/memory.{what}"


def _group_left_bytes() -> Optional[int]:
    most, used = _group_bytes("max"), _group_bytes("current")
    # Pages of files that nobody has read again lately count as used, and are given up first.
    return None if most is None or used is None else max(0, most - max(0, used - _group_file_bytes()))


def _least(*values: Optional[int]) -> Optional[int]:
    return min((value for value in values if value is not None), default=None)


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
