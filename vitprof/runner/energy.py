"""How much energy a stretch of time took, by the counters that a device has: what they count, and who may read them.

Its own file because sources differ in everything but this: `watch` begins a stretch, what it returns ends it and tells
the joules. Nothing here is read inside a timed region; stretches are of calls beside the measured ones, or of rest.

    NVML          the GPU's board, by its counter; by readings of its power where it has no counter
    RAPL          the processor's packages and their memory, by counters that wrap around (Linux, powercap)
    INA3221       the rails of a Jetson's module, by readings of voltage and current while the calls go on
    powermetrics  processor, GPU and neural engine of a Mac, by Apple's own estimate, where this runs as root

Every source counts the whole of its device, other programs and rest included: the power at rest is given beside it.
"""

from __future__ import annotations

import glob
import os
import plistlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Optional, Protocol, Union
from xml.parsers.expat import ExpatError

from vitprof.runner.options import gpu_index
from vitprof.runner.sensors import EMULATOR_VARIABLE
from vitprof.runner.wire import Plan

# Ends a stretch, given how many seconds it was.
Stop = Callable[[float], Optional[float]]
Read = Callable[[], Optional[float]]

# RAPL's counters move every millisecond.
_RAPL_S = 1.0
# NVML's counter moves in steps of tens of milliseconds: over this long a step is an error of a few per cent.
_NVML_S = 2.0
# What NVML calls power is the mean of the last second on newer GPUs: readings count from then on.
_NVML_SETTLE_S = 1.0
# An INA3221 with three channels converts anew about every 7 ms. Irregular, so as not to fall in step with the calls.
_BETWEEN_READINGS_S = (0.005, 0.015)
_RAILS_S = 2.0
_LEAST_READINGS = 20
# powermetrics takes a moment to start, and watches for a second then: all of it within the calls.
_POWERMETRICS_MS = 1_000
_POWERMETRICS_S = 2.5
_POWERMETRICS = "/usr/bin/powermetrics"

# Where the whole of a Jetson's module is told: one rail that feeds all others, or those that have none in common.
# VDDQ_VDD2_1V8AO of an AGX Orin is fed from VIN_SYS_5V0, so it is in that already.
_WHOLE_MODULE = (
    ("VDD_IN",),
    ("POM_5V_IN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)


class Source(Protocol):
    """What counts energy. `serve.py` asks, outside every timed region."""

    # As a row names it: what counts, and what is counted.
    name: str
    # A stretch must last so long for the figure to be good to a few per cent.
    least_s: float

    def watch(self) -> Stop:
        """Begins a stretch; what is returned ends it: the joules of the stretch, None where they are not told."""


@dataclass(frozen=True)
class Missing:
    """Why nothing tells the energy here, and what to type where something would."""

    reason: str
    remedy: Optional[str] = None


class Counter:
    """A counter of joules that does not wrap around."""

    def __init__(self, name: str, read_j: Read, least_s: float) -> None:
        self.name, self.least_s = name, least_s
        self._read_j = read_j

    def watch(self) -> Stop:
        before_j = self._read_j()

        def stop(_: float) -> Optional[float]:
            after_j = self._read_j()
            return None if before_j is None or after_j is None else after_j - before_j

        return stop


class Readings:
    """Power, read by a thread at irregular moments, its mean taken for the whole stretch: not a counter's figure.

    Between the calls would be the wrong moments: what a sensor shows then is of the end of a call.
    """

    def __init__(self, name: str, read_w: Read, least_s: float, settle_s: float = 0.0) -> None:
        self.name = name
        self.least_s = least_s + settle_s
        self._read_w, self._settle_s = read_w, settle_s

    def watch(self) -> Stop:
        is_over = threading.Event()
        read: List[float] = []

        def keep_reading() -> None:
            moments = random.Random(0)  # noqa: S311 - moments, not secrets
            is_over.wait(self._settle_s)
            while not is_over.is_set():
                value = self._read_w()
                if value is not None:
                    read.append(value)
                is_over.wait(moments.uniform(*_BETWEEN_READINGS_S))

        reader = threading.Thread(target=keep_reading, name="energy", daemon=True)
        reader.start()

        def stop(seconds: float) -> Optional[float]:
            is_over.set()
            reader.join()
            return sum(read) / len(read) * seconds if len(read) >= _LEAST_READINGS else None

        return stop


class Rapl:
    """Counters in microjoules that begin at 0 again after `max_energy_range_uj`; `zones`: their folders."""

    least_s = _RAPL_S

    def __init__(self, zones: Mapping[str, str]) -> None:
        self.name = f"RAPL: {' + '.join(sorted(zones))}"
        self._folders = tuple(zones.values())

    def watch(self) -> Stop:
        before = [_number(os.path.join(folder, "energy_uj")) for folder in self._folders]

        def stop(_: float) -> Optional[float]:
            total_j = 0.0
            for folder, begun in zip(self._folders, before):
                ended = _number(os.path.join(folder, "energy_uj"))
                grown_uj = _grown(begun, ended, _number(os.path.join(folder, "max_energy_range_uj")))
                if grown_uj is None:
                    return None
                total_j += grown_uj / 1e6
            return total_j

        return stop


def _grown(begun: Optional[float], ended: Optional[float], range_: Optional[float]) -> Optional[float]:
    """A stretch is seconds and a counter's range minutes at full power: it wraps around once or not at all."""
    if begun is None or ended is None:
        return None
    if ended >= begun:
        return ended - begun
    return None if range_ is None else ended - begun + range_


class Powermetrics:
    """One sample of Apple's program in the midst of a stretch; its mean power is taken for the whole of it."""

    least_s = _POWERMETRICS_S

    def __init__(self, program: str = _POWERMETRICS) -> None:
        self.name = "powermetrics: CPU + GPU + ANE, estimated"
        self._command = [program, "--samplers", "cpu_power", "-i", str(_POWERMETRICS_MS), "-n", "1", "-f", "plist"]

    def watch(self) -> Stop:
        try:
            # A file, because a sample of many cores is longer than a pipe that nobody reads holds.
            written = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
            asked = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.DEVNULL)
        except OSError:
            return lambda _: None

        def stop(seconds: float) -> Optional[float]:
            # One that still watches would have seen the rest as well: no figure then.
            is_over = asked.poll() is not None
            asked.kill()
            asked.wait()
            with written:
                written.seek(0)
                text = written.read()
            power_w = power_from_plist(text) if is_over and asked.returncode == 0 else None
            return None if power_w is None else power_w * seconds

        return stop


def power_from_plist(text: bytes) -> Optional[float]:
    """Watts of the first sample: milliwatts of processor, GPU and neural engine; None where it says none."""
    try:
        sample = plistlib.loads(text.split(b"\0")[0].strip())
        processor = sample["processor"]
        if "combined_power" in processor:
            return float(processor["combined_power"]) / 1e3
        return sum(float(processor[f"{part}_power"]) for part in ("cpu", "gpu", "ane")) / 1e3
    except (ValueError, KeyError, TypeError, ExpatError):
        return None


def of_gpu(read_j: Read, read_w: Read) -> Union[Source, Missing]:
    """The source that NVML is, by what it answers now: `read_j` its counter, `read_w` its power."""
    if read_j() is not None:
        return Counter("NVML: energy counter of the GPU's board", read_j, _NVML_S)
    if read_w() is not None:
        return Readings("NVML: readings of the GPU board's power", read_w, _NVML_S, _NVML_SETTLE_S)
    return Missing("NVML tells neither energy nor power of this GPU")


def source_of(plan: Plan, root: str = "/", variables: Mapping[str, str] = os.environ) -> Union[Source, Missing]:
    """What counts the energy of the device that `plan` runs on."""
    if plan.backend == "fake" or variables.get(EMULATOR_VARIABLE):
        return Missing("nothing computes here but an imitation of the device")
    if "iphone" in plan.options:
        return Missing("a phone does not tell what it uses")
    index = gpu_index(plan)
    if index is not None:
        return rails(root) or _of_nvidia(index)
    machine = of_machine(root)
    # Its GPU may be a card of its own, which no counter of the processor counts.
    is_half = plan.backend == "litert-gpu" and isinstance(machine, Rapl)
    return Missing("RAPL counts the processor, not the GPU") if is_half else machine


def _of_nvidia(index: int) -> Union[Source, Missing]:
    from vitprof.runner import cuda, nvml

    meter = nvml.meter(cuda.driver_facts(index).pci_bus_id)
    return of_gpu(meter.energy_j, meter.power_w) if meter else Missing(f"NVML {nvml.why_not()}")


def of_machine(root: str = "/", system: str = sys.platform) -> Union[Source, Missing]:
    """What counts for this machine's own chip: a Jetson's rails, RAPL, powermetrics. `root`: of the file system."""
    if system == "darwin":
        return _on_mac()
    return rails(root) or rapl(root)


def _on_mac() -> Union[Source, Missing]:
    if os.geteuid() != 0:
        return Missing("powermetrics works for root only", "run vitprof with sudo")
    return Powermetrics() if os.path.exists(_POWERMETRICS) else Missing(f"there is no {_POWERMETRICS}")


def rapl(root: str = "/") -> Union[Source, Missing]:
    """The packages and their memory: the zones inside a package are in it, and `psys` is the whole computer."""
    zones = {}
    # Not `intel-rapl-mmio`: the same package once more.
    for folder in sorted(glob.glob(os.path.join(root, "sys/class/powercap/intel-rapl:*"))):
        name, place = _text(os.path.join(folder, "name")), os.path.basename(folder).split(":")
        if name.startswith("package") and len(place) == 2:
            zones[name] = folder
        elif name == "dram":
            zones[f"dram-{place[1]}"] = folder
    if not zones:
        return Missing("no counter of the processor's energy in /sys/class/powercap (virtual machines have none)")
    closed = [one for one in zones.values() if not os.access(os.path.join(one, "energy_uj"), os.R_OK)]
    if closed:
        # Since CVE-2020-8694: the counters give secrets of other programs away to whoever reads them.
        path = "/" + os.path.relpath(os.path.join(closed[0], "energy_uj"), root)
        remedy = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj (until the next start)"
        return Missing(f"{path} may be read by root only", remedy)
    return Rapl(zones)


def rails(root: str = "/") -> Union[Source, Missing, None]:
    """The whole of a Jetson's module; None on a machine without such sensors."""
    found = {**_rails_of_hwmon(root), **_rails_of_iio(root)}
    if not found:
        return None
    for names in _WHOLE_MODULE:
        if all(name in found for name in names):
            return Readings(
                f"INA3221: readings of {' + '.join(names)}", _sum([found[name] for name in names]), _RAILS_S
            )
    return Missing(f"it is not known which of the rails {', '.join(sorted(found))} make up the whole module")


def _rails_of_hwmon(root: str) -> "dict[str, Read]":
    """Jetson Linux 35 and newer, and kernels of other people: millivolts and milliamperes, or microwatts."""
    found = {}
    for label in glob.glob(os.path.join(root, "sys/class/hwmon/hwmon*/in*_label")):
        folder, number = os.path.dirname(label), os.path.basename(label)[len("in") : -len("_label")]
        if _text(os.path.join(folder, "name")).startswith("ina3221"):
            found[_text(label)] = _reader(folder, number)
    return found


def _reader(folder: str, number: str) -> Read:
    volts, amperes, power = (os.path.join(folder, f"{kind}{number}_input") for kind in ("in", "curr", "power"))

    def read_w() -> Optional[float]:
        if os.path.exists(power):
            return _scaled(_number(power), 1e-6)
        millivolts, milliamperes = _number(volts), _number(amperes)
        return None if millivolts is None or milliamperes is None else millivolts * milliamperes * 1e-6

    return read_w


def _rails_of_iio(root: str) -> "dict[str, Read]":
    """Jetson Linux 32, the last one for a TX2 and a Nano: milliwatts."""
    found = {}
    for label in glob.glob(os.path.join(root, "sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*")):
        power = os.path.join(os.path.dirname(label), f"in_power{label.rpartition('_')[2]}_input")
        found[_text(label)] = _milliwatts(power)
    return found


def _milliwatts(path: str) -> Read:
    return lambda: _scaled(_number(path), 1e-3)


def _sum(readers: List[Read]) -> Read:
    def read() -> Optional[float]:
        values = [one() for one in readers]
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    return read


def _scaled(value: Optional[float], factor: float) -> Optional[float]:
    return None if value is None else value * factor


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _number(path: str) -> Optional[float]:
    try:
        return float(_text(path))
    except ValueError:
        return None


@dataclass(frozen=True)
class Used:
    """What a stretch took."""

    joules: float
    seconds: float

    @property
    def power_w(self) -> float:
        return self.joules / self.seconds


def over(source: Source, work: Callable[[float], Any]) -> Optional[Used]:
    """The energy while `work(seconds)` goes on, for as long as the source needs; None where it tells none."""
    stop = source.watch()
    begun_s = time.perf_counter()
    work(source.least_s)
    took_s = time.perf_counter() - begun_s
    joules = stop(took_s)
    # A counter that stands still counts nothing here, and one that has gone back was reset.
    return Used(joules, took_s) if joules is not None and joules > 0 else None


def facts(source: Union[Source, Missing, None]) -> "dict[str, str]":
    """For the record of the environment: what counts the energy, or why nothing does."""
    if isinstance(source, Missing):
        return {"no_energy": source.reason}
    return {"energy_source": source.name} if source else {}
