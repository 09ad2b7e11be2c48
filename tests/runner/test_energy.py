"""Sources of energy: files as sysfs has them, counters that wrap around, Apple's program as it is documented."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vitprof.devices.transports.fake import VirtualClock
from vitprof.runner import energy
from vitprof.runner.backends.fake import FakeSession
from vitprof.runner.sensors import EMULATOR_VARIABLE
from vitprof.runner.serve import Server
from vitprof.runner.wire import Plan

# Of a desktop processor: 262 kJ.
_RANGE_UJ = 262_143_328_850


def _zone(root: Path, place: str, name: str, energy_uj: int) -> Path:
    folder = root / "sys/class/powercap" / place
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{_RANGE_UJ}\n")
    return folder


def _set(folder: Path, energy_uj: int) -> None:
    (folder / "energy_uj").write_text(f"{energy_uj}\n")


def _source(found: energy.Source | energy.Missing | None) -> energy.Source:
    assert found is not None and not isinstance(found, energy.Missing)
    return found


def _missing(found: energy.Source | energy.Missing | None) -> energy.Missing:
    assert isinstance(found, energy.Missing)
    return found


# RAPL.


def test_rapl_is_the_packages_and_their_memory_and_nothing_twice(tmp_path: Path) -> None:
    package = _zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    # The cores are in the package, `psys` is the whole computer, `mmio` the same package by another way.
    _zone(tmp_path, "intel-rapl:0:0", "core", 7)
    memory = _zone(tmp_path, "intel-rapl:0:1", "dram", 500_000)
    _zone(tmp_path, "intel-rapl:1", "psys", 7)
    _zone(tmp_path, "intel-rapl-mmio:0", "package-0", 7)
    (tmp_path / "sys/class/powercap/intel-rapl").mkdir()
    source = _source(energy.rapl(str(tmp_path)))
    assert source.name == "RAPL: dram-0 + package-0"
    stop = source.watch()
    _set(package, 3_500_000)
    _set(memory, 750_000)
    # 2.5 J and 0.25 J.
    assert stop(1.0) == pytest.approx(2.75)


def test_two_packages_have_memory_of_their_own(tmp_path: Path) -> None:
    for number in (0, 1):
        _zone(tmp_path, f"intel-rapl:{number}", f"package-{number}", 0)
        _zone(tmp_path, f"intel-rapl:{number}:0", "dram", 0)
    assert _source(energy.rapl(str(tmp_path))).name == "RAPL: dram-0 + dram-1 + package-0 + package-1"


def test_a_counter_that_wrapped_around_goes_on_from_zero(tmp_path: Path) -> None:
    package = _zone(tmp_path, "intel-rapl:0", "package-0", _RANGE_UJ - 1_000_000)
    stop = _source(energy.rapl(str(tmp_path))).watch()
    _set(package, 4_000_000)
    # 1 J up to the end of its range, 4 J after it.
    assert stop(1.0) == pytest.approx(5.0)


def test_a_counter_that_went_back_without_a_range_tells_nothing(tmp_path: Path) -> None:
    package = _zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000)
    (package / "max_energy_range_uj").unlink()
    stop = _source(energy.rapl(str(tmp_path))).watch()
    _set(package, 4_000_000)
    assert stop(1.0) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="to give rights up one must have them")
def test_counters_that_root_alone_may_read_are_missing_with_what_to_type() -> None:
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from vitprof.runner import energy\n"
        "os.setuid(65534)\n"
        "found = energy.rapl(sys.argv[2])\n"
        "print(found.reason, '|', found.remedy)"
    )
    repository = str(Path(energy.__file__).parents[2])
    # Not pytest's own folder, which nobody else may look into.
    with tempfile.TemporaryDirectory() as folder:
        package = _zone(Path(folder), "intel-rapl:0", "package-0", 1)
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o755)
        (package / "energy_uj").chmod(0o400)
        words = [sys.executable, "-c", code, repository, folder]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    reason, _, remedy = done.stdout.partition(" | ")
    assert reason == "/sys/class/powercap/intel-rapl:0/energy_uj may be read by root only"
    assert remedy.startswith("sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj")


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    assert "virtual machines have none" in _missing(energy.of_machine(str(tmp_path), "linux")).reason


# A Jetson's rails.


def _hwmon(root: Path, number: int, rails: dict[int, tuple[str, int, int]], name: str = "ina3221") -> Path:
    """Rails by channel: label, millivolts, milliamperes."""
    folder = root / f"sys/class/hwmon/hwmon{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    for channel, (label, millivolts, milliamperes) in rails.items():
        (folder / f"in{channel}_label").write_text(f"{label}\n")
        (folder / f"in{channel}_input").write_text(f"{millivolts}\n")
        (folder / f"curr{channel}_input").write_text(f"{milliamperes}\n")
    return folder


def _watts(source: energy.Source, seconds: float = 0.4) -> float:
    # On a busy machine a stretch may hold too few readings: then a longer one does.
    for longer in (1, 2, 4, 8, 16, 32):
        used = energy.over(source, lambda _, longer=longer: time.sleep(seconds * longer))  # type: ignore[misc]
        if used is not None:
            return used.power_w
    raise AssertionError("no figure, however long the stretch")


def test_the_module_of_an_orin_nx_is_its_input_rail(tmp_path: Path) -> None:
    _hwmon(tmp_path, 0, {1: ("loud", 1, 1)}, name="pwmfan")
    _hwmon(tmp_path, 1, {1: ("VDD_IN", 5_000, 1_500), 2: ("VDD_CPU_GPU_CV", 5_000, 400), 3: ("VDD_SOC", 5_000, 300)})
    source = _source(energy.of_machine(str(tmp_path), "linux"))
    assert source.name == "INA3221: readings of VDD_IN"
    # 5 V times 1.5 A, whatever the others take out of it.
    assert _watts(source) == pytest.approx(7.5)


def test_the_module_of_an_agx_orin_is_the_sum_of_what_has_no_rail_above_it(tmp_path: Path) -> None:
    rails = {1: ("VDD_GPU_SOC", 20_000, 100), 2: ("VDD_CPU_CV", 20_000, 50), 3: ("VIN_SYS_5V0", 5_000, 600)}
    _hwmon(tmp_path, 3, rails)
    # Fed from VIN_SYS_5V0.
    _hwmon(tmp_path, 4, {2: ("VDDQ_VDD2_1V8AO", 5_000, 80)})
    # 2 W + 1 W + 3 W.
    assert _watts(_source(energy.rails(str(tmp_path)))) == pytest.approx(6.0)


def test_rails_in_microwatts_and_those_of_an_older_system_are_read(tmp_path: Path) -> None:
    newer = _hwmon(tmp_path / "newer", 1, {1: ("VDD_IN", 5_000, 1)})
    (newer / "power1_input").write_text("4250000\n")
    assert _watts(_source(energy.rails(str(tmp_path / "newer")))) == pytest.approx(4.25)
    older = tmp_path / "older/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    older.mkdir(parents=True)
    for number, (label, milliwatts) in enumerate([("POM_5V_IN", 2_750), ("POM_5V_GPU", 40)]):
        (older / f"rail_name_{number}").write_text(f"{label}\n")
        (older / f"in_power{number}_input").write_text(f"{milliwatts}\n")
    assert _watts(_source(energy.rails(str(tmp_path / "older")))) == pytest.approx(2.75)


def test_rails_of_an_unknown_board_are_not_added_up(tmp_path: Path) -> None:
    _hwmon(tmp_path, 1, {1: ("VDD_A", 5_000, 1), 2: ("VDD_B", 5_000, 1)})
    assert "VDD_A, VDD_B" in _missing(energy.of_machine(str(tmp_path), "linux")).reason


def test_the_energy_of_readings_is_their_mean_over_the_whole_stretch() -> None:
    values: Iterator[float] = iter([2.0, 4.0] * 10_000)
    source = energy.Readings("readings", lambda: next(values), 0.1)
    # Of at least twenty.
    assert _watts(source, seconds=0.6) == pytest.approx(3.0, rel=0.1)


def test_too_few_readings_are_no_figure_and_those_of_the_first_moment_do_not_count() -> None:
    assert energy.over(energy.Readings("slow", lambda: 5.0, 0.0), lambda _: None) is None
    begun_s = time.perf_counter()
    # A mean of the last second shows what was before the calls: 100 W here.
    source = energy.Readings("late", lambda: 100.0 if time.perf_counter() < begun_s + 0.2 else 1.0, 0.4, settle_s=0.3)
    assert source.least_s == pytest.approx(0.7)
    # Long enough for its readings on a busy machine too: a second stretch would have no first moment of 100 W.
    used = energy.over(source, lambda _: time.sleep(2.0))
    assert used is not None and used.power_w == pytest.approx(1.0, rel=0.01)


# A Mac. The text is of the form that powermetrics writes, as its manual and programs that read it have it.

_PLIST = b"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
<key>is_delta</key><true/>
<key>elapsed_ns</key><integer>1005342250</integer>
<key>hw_model</key><string>Mac14,2</string>
<key>timestamp</key><date>2026-05-09T12:00:00Z</date>
<key>processor</key>
<dict>
<key>clusters</key><array><dict><key>name</key><string>E-Cluster</string></dict></array>
<key>cpu_energy</key><integer>2994</integer>
<key>cpu_power</key><real>2978.45</real>
<key>gpu_energy</key><integer>271</integer>
<key>gpu_power</key><real>269.614</real>
<key>ane_energy</key><integer>0</integer>
<key>ane_power</key><real>0</real>
%s
</dict>
</dict>
</plist>
"""
_COMBINED = b"<key>combined_power</key><real>3248.07</real>"


def test_a_mac_s_power_is_that_of_its_parts() -> None:
    assert energy.power_from_plist(_PLIST % _COMBINED) == pytest.approx(3.24807)
    # Older versions do not add up: 2978.45 + 269.614 + 0 mW.
    assert energy.power_from_plist(_PLIST % b"") == pytest.approx(3.248064)
    # Samples are separated by NUL: the first one counts.
    assert energy.power_from_plist(_PLIST % _COMBINED + b"\0\n" + _PLIST % b"") == pytest.approx(3.24807)


@pytest.mark.parametrize("text", [b"", b"powermetrics must be invoked as the superuser\n", b"<plist>", b"\0"])
def test_what_powermetrics_does_not_say_is_unknown(text: bytes) -> None:
    assert energy.power_from_plist(text) is None


def _program(folder: Path, script: str) -> energy.Powermetrics:
    path = folder / "powermetrics"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    (folder / "sample.plist").write_bytes(_PLIST % _COMBINED)
    return energy.Powermetrics(str(path))


def test_powermetrics_watches_in_the_midst_of_the_calls(tmp_path: Path) -> None:
    source = _program(tmp_path, f'echo "$@" >{tmp_path}/asked; cat {tmp_path}/sample.plist')
    assert _watts(source) == pytest.approx(3.24807)
    assert (tmp_path / "asked").read_text() == "--samplers cpu_power -i 1000 -n 1 -f plist\n"


def test_a_sample_of_many_cores_is_read_to_its_end(tmp_path: Path) -> None:
    # Longer than a pipe holds: the program would wait for a reader and never end.
    assert _watts(_program(tmp_path, f"cat {tmp_path}/sample.plist; head -c 300000 /dev/zero")) == pytest.approx(
        3.24807
    )


@pytest.mark.parametrize("script", ["exec sleep 60", "cat /dev/null; exit 1", "echo no"])
def test_a_sample_that_is_not_over_when_the_calls_are_is_none(tmp_path: Path, script: str) -> None:
    begun_s = time.monotonic()
    assert energy.over(_program(tmp_path, script), lambda _: time.sleep(0.3)) is None
    assert time.monotonic() - begun_s < 30
    assert energy.over(energy.Powermetrics(str(tmp_path / "absent")), lambda _: None) is None


@pytest.mark.skipif(sys.platform == "darwin", reason="there it may be had")
def test_a_mac_is_asked_as_root_only_and_never_by_sudo() -> None:
    found = _missing(energy.of_machine(system="darwin"))
    assert "root" in found.reason or "there is no /usr/bin/powermetrics" in found.reason


# NVML.


def test_a_gpu_s_counter_comes_before_readings_of_its_power() -> None:
    joules = iter([1.0, 100.0, 107.5])
    counter = _source(energy.of_gpu(lambda: next(joules), lambda: 250.0))
    stop = counter.watch()
    assert counter.name.startswith("NVML: energy counter") and stop(1.0) == 7.5
    readings = _source(energy.of_gpu(lambda: None, lambda: 250.0))
    # What NVML calls power may be a mean over the last second: that one is waited for.
    assert readings.name.startswith("NVML: readings") and readings.least_s == counter.least_s + 1.0
    assert isinstance(energy.of_gpu(lambda: None, lambda: None), energy.Missing)


# Which source a plan has.


def test_what_is_no_device_has_no_energy(tmp_path: Path) -> None:
    _zone(tmp_path, "intel-rapl:0", "package-0", 1)
    root = str(tmp_path)
    assert _source(energy.source_of(Plan("ort"), root, {})).name == "RAPL: package-0"
    for plan, variables in (
        (Plan("ort"), {EMULATOR_VARIABLE: "qemu"}),
        (Plan("fake"), {}),
        (Plan("coreml", options={"iphone": "mine"}), {}),
        # Its GPU may be a card of its own.
        (Plan("litert-gpu"), {}),
    ):
        assert isinstance(energy.source_of(plan, root, variables), energy.Missing)


def test_a_jetson_s_gpu_is_counted_by_its_rails(tmp_path: Path) -> None:
    _hwmon(tmp_path, 1, {1: ("VDD_IN", 5_000, 1_500)})
    assert "VDD_IN" in _source(energy.source_of(Plan("trt"), str(tmp_path), {})).name


# A process.


class _Stepping:
    """A source whose n-th stretch takes the n-th of `joules`."""

    name = "steps"
    least_s = 0.25

    def __init__(self, joules: list[float | None]) -> None:
        self._joules = joules

    def watch(self) -> Callable[[float], float | None]:
        return lambda _: self._joules.pop(0)


def _server(source: energy.Source | energy.Missing | None) -> Server:
    clock = VirtualClock()
    plan = Plan("fake", options={"call_ns": 50_000_000})
    return Server(plan, lambda one: FakeSession(one, clock.wait), "1", clock, source)


def test_rest_is_watched_before_loading_and_the_calls_after_everything() -> None:
    server = _server(_Stepping([0.5, 3.0]))
    assert server.ready.environment["energy_source"] == "steps"
    end = server.end()
    # A quarter of a second of virtual time holds five calls of 50 ms.
    assert end.call_energy_j == pytest.approx(3.0 / 5) and end.energy_source == "steps"
    # Rest took a quarter of a real second, or longer where the machine was busy.
    assert end.idle_power_w is not None and 0 < end.idle_power_w <= 0.5 / 0.25


def test_a_counter_that_stands_still_is_none() -> None:
    end = _server(_Stepping([0.0, 0.0])).end()
    assert (end.call_energy_j, end.energy_source, end.power_w, end.idle_power_w) == (None, None, None, None)


def test_where_nothing_counts_the_reason_is_kept_and_no_time_is_spent() -> None:
    server = _server(energy.Missing("nothing here", "buy one"))
    assert server.ready.environment["no_energy"] == "nothing here"
    assert server.end().call_energy_j is None
    assert not {"no_energy", "energy_source"} & set(_server(None).ready.environment)
