"""How an Android device stands: one script that asks, and pure functions that read what its programs print.

Its own file because the phone's own programs are asked (getprop, dumpsys, sysfs) and not a runner. What one of them
does not tell, or what is not there (a plain Linux behind adbd has no dumpsys), is left out; nothing is guessed. The
names are those of `runner.sensors`, so that readiness and reports take them from every device alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_PROPERTIES = (
    *("ro.soc.manufacturer", "ro.soc.model", "ro.board.platform", "ro.hardware", "ro.product.manufacturer"),
    *("ro.product.model", "ro.build.version.release", "ro.build.fingerprint", "ro.product.cpu.abi"),
)
_SECTION = "== vitprof"
# SENSORS is asked after every block, FACTS when a device is held and when a session is ready.
_SENSORS = r"""
section() { echo "== vitprof $1"; shift; "$@" 2>/dev/null; }
all() { for file in "$@"; do [ -r "$file" ] && cat "$file"; done; }
section clocks all /sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq
section zones all /sys/class/thermal/thermal_zone*/temp
section battery dumpsys battery
section thermal dumpsys thermalservice
section load cat /proc/loadavg
"""
_FACTS = r"""
section uname uname -srm
section cores nproc
section governor all /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor
section cpuinfo cat /proc/cpuinfo
section power dumpsys power
for name in "$@"; do section "$name" getprop "$name"; done
exit 0
"""
SENSORS_SCRIPT = _SENSORS + "exit 0\n"
FACTS_SCRIPT = _SENSORS + _FACTS
FACTS_ARGUMENTS = _PROPERTIES

# Of android.os.Temperature: what `mType` means.
_PROCESSORS = (0, 1)
_SKIN = 3
_TEMPERATURE = re.compile(r"Temperature\{mValue=(-?[\d.]+), mType=(-?\d+), mName=([^,}]*), mStatus=(-?\d+)")
_STATUS = re.compile(r"^\s*Thermal Status: (\d+)", re.MULTILINE)
_POWERED = re.compile(r"^\s*(?:AC|USB|Wireless|Dock) powered: (true|false)", re.MULTILINE)
_WAKEFULNESS = re.compile(r"^\s*mWakefulness=(\w+)", re.MULTILINE)
# Sensors that are absent read as nothing or as the cold of space.
_PLAUSIBLE_C = (1.0, 150.0)


def environment_from_text(text: str) -> dict[str, Any]:
    """What the output of either script says, by the names of `runner.sensors.environment`."""
    sections = _sections(text)
    found: dict[str, Any] = {}
    for read in (_system, _processor, _heat, _battery, _load, _screen):
        found.update(read(sections))
    return {name: value for name, value in found.items() if value is not None}


def thermal_from_text(text: str) -> dict[str, Any]:
    """Thermal status (0 none to 6 shutdown), skin and hottest processor, out of `dumpsys thermalservice`.

    The skin's is the phone's temperature: Android slows down by it, while a processor's own jumps with every task.
    """
    status = _STATUS.search(text)
    # What it has cached may be of long ago.
    current = text.partition("Current temperatures from HAL")[2] or text
    readings = [(float(value), int(kind)) for value, kind, _, _ in _TEMPERATURE.findall(current)]
    plausible = [(value, kind) for value, kind in readings if _is_plausible(value)]
    processors = [value for value, kind in plausible if kind in _PROCESSORS]
    skin = [value for value, kind in plausible if kind == _SKIN]
    return {
        "thermal_status": int(status.group(1)) if status else None,
        "temperature_c": max(skin, default=None),
        "processor_temperature_c": max(processors, default=None),
    }


def battery_from_text(text: str) -> dict[str, Any]:
    """Charge (0-1), temperature and where the power comes from, out of `dumpsys battery`."""
    # An event log may follow, with older values of the same names.
    state = text.partition("[EventLogBuffer]")[0]
    level, scale = _after(state, "level"), _after(state, "scale")
    tenths = _after(state, "temperature")
    powered = _POWERED.findall(state)
    return {
        "battery_share": level / scale if level is not None and scale else None,
        "battery_temperature_c": tenths / 10 if tenths is not None else None,
        "power": None if not powered else "mains" if "true" in powered else "battery",
    }


def _system(sections: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    name, _, rest = sections.get("uname", "").partition(" ")
    kernel, _, machine = rest.partition(" ")
    release = sections.get("ro.build.version.release") or None
    yield "system", "Android" if release else name or None
    yield "android", release
    yield "kernel", kernel or None
    yield "machine", machine or None
    yield "abi", sections.get("ro.product.cpu.abi") or None
    yield "build", sections.get("ro.build.fingerprint") or None
    maker, model = sections.get("ro.product.manufacturer"), sections.get("ro.product.model")
    yield "phone", " ".join(part for part in (maker, model) if part) or None


def _processor(sections: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    maker, model = sections.get("ro.soc.manufacturer"), sections.get("ro.soc.model")
    board = sections.get("ro.board.platform") or sections.get("ro.hardware")
    soc = " ".join(part for part in (maker, model) if part) or board
    yield "cpu", soc or _cpu_model(sections.get("cpuinfo", "")) or None
    yield "board", board or None
    yield "cores", _number(sections.get("cores"), int)
    governors = sections.get("governor", "").split()
    yield "governor", " ".join(dict.fromkeys(governors)) or None
    clocks = [_number(word, float) for word in sections.get("clocks", "").split()]
    yield "clock_hz", max((clock * 1000 for clock in clocks if clock), default=None)


def _heat(sections: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    told = thermal_from_text(sections.get("thermal", ""))
    if told["temperature_c"] is None:
        told["temperature_c"] = battery_from_text(sections.get("battery", ""))["battery_temperature_c"]
    if told["temperature_c"] is None:
        zones = [_number(word, float) for word in sections.get("zones", "").split()]
        known = [zone / 1000 for zone in zones if zone is not None and _is_plausible(zone / 1000)]
        told["temperature_c"] = max(known, default=None)
    yield from told.items()


def _battery(sections: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    yield from battery_from_text(sections.get("battery", "")).items()


def _load(sections: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    words = sections.get("load", "").split()
    yield "load_1min", _number(words[0], float) if words else None


def _screen(sections: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    found = _WAKEFULNESS.search(sections.get("power", ""))
    yield "screen", found.group(1).lower() if found else None


def _sections(text: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(f"{_SECTION} "):
            lines = found.setdefault(line[len(_SECTION) + 1 :].strip(), [])
        else:
            lines.append(line)
    return {name: "\n".join(lines).strip() for name, lines in found.items()}


def _cpu_model(text: str) -> str | None:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("Hardware", "model name", "Model"):
            return value.strip()
    return None


def _after(text: str, name: str) -> float | None:
    found = re.search(rf"^\s*{name}: (-?\d+)\s*$", text, re.MULTILINE)
    return float(found.group(1)) if found else None


def _number(word: str | None, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(word or "")
    except ValueError:
        return None


def _is_plausible(celsius: float) -> bool:
    return _PLAUSIBLE_C[0] <= celsius <= _PLAUSIBLE_C[1]
