from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.runner.gpu_fakes import FakeNvml, NVMLError
from vitprof.runner import nvml


def test_figures_come_in_the_units_of_their_names() -> None:
    meter = nvml.GpuMeter(FakeNvml([0]), "handle")
    assert meter.sensors() == {
        # MHz and milliwatts of NVML.
        "gpu_clock_hz": 1_410_000_000,
        "gpu_memory_clock_hz": 1_593_000_000,
        "gpu_temperature_c": 61,
        "gpu_power_w": 251.5,
        "gpu_throttle_count": 0,
    }
    # 7,000 millijoules.
    assert (meter.energy_j(), meter.power_w()) == (7.0, 251.5)
    assert meter.facts() == {
        "gpu_driver": "580.95",
        "gpu_max_clock_hz": 1_980_000_000,
        "gpu_power_limit_w": 400.0,
        "gpu_other_processes": 1,
        "gpu_memory_total_bytes": 80,
        "gpu_memory_free_bytes": 60,
    }


def test_what_a_gpu_does_not_tell_is_left_out() -> None:
    unknown = ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetCurrentClocksEventReasons")
    sensors = nvml.GpuMeter(FakeNvml([], unknown), "handle").sensors()
    assert "gpu_power_w" not in sensors and "gpu_throttle_count" not in sensors and "gpu_clock_hz" in sensors


def test_every_reading_under_a_throttle_counts() -> None:
    # Idle (1) and a clock that somebody set (2) are no throttles, a power cap (4) and heat (0x40) are.
    meter = nvml.GpuMeter(FakeNvml([0x1, 0x4, 0x44, 0x2]), "handle")
    readings = [meter.sensors() for _ in range(4)]
    assert [one["gpu_throttle_count"] for one in readings] == [0, 1, 2, 2]
    assert readings[2]["gpu_throttle_reasons"] == ["power cap", "hardware thermal slowdown"]


def test_the_peak_is_the_most_that_this_process_held_at_any_reading() -> None:
    api = FakeNvml([0, 0])
    meter = nvml.GpuMeter(api, "handle")
    for used in (300, 200):
        api.processes = [
            SimpleNamespace(pid=1, usedGpuMemory=9_999),
            SimpleNamespace(pid=os.getpid(), usedGpuMemory=used),
        ]
        meter.sensors()
    api.processes = []
    assert meter.peak_bytes() == 300


def test_a_gpu_that_answers_nothing_is_all_unknown() -> None:
    """A Jetson's driver has NVML in part: every question may be one that it does not know."""
    every = tuple(name for name in vars(FakeNvml) if name.startswith("nvmlDevice"))
    meter = nvml.GpuMeter(FakeNvml([], every), "handle")
    assert set(meter.facts()) == {"gpu_driver"} and meter.sensors() == {}
    assert meter.energy_j() is None and meter.peak_bytes() is None


def test_no_process_of_ours_is_no_peak_and_not_zero() -> None:
    assert nvml.GpuMeter(FakeNvml([0]), "handle").peak_bytes() is None


def test_the_clock_is_given_back_when_standard_input_ends(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeNvml([])
    nvml.lock_until(api, "handle", 1410, lambda: api.locked.append((0, 0)))
    assert api.locked == [(1410, 1410), (0, 0), None]
    assert capsys.readouterr().out == f"{nvml.LOCKED}\n"


def test_the_clock_is_given_back_when_a_signal_ends_the_holder() -> None:
    api = FakeNvml([])
    with pytest.raises(SystemExit):
        nvml.lock_until(api, "handle", 1410, sys.exit)
    assert api.locked == [(1410, 1410), None]


def test_a_driver_that_refuses_the_lock_is_an_error_and_still_reset() -> None:
    api = FakeNvml([], ("nvmlDeviceSetGpuLockedClocks",))
    with pytest.raises(NVMLError):
        nvml.lock_until(api, "handle", 1410, sys.exit)
    assert api.locked == [None]


def test_the_holder_s_process_says_why_it_cannot_lock() -> None:
    if nvml.meter("0000:01:00.0") is not None:
        pytest.skip("this machine has a GPU whose clock is not to be touched")
    code = "from vitprof.runner.nvml import hold_clock_lock; hold_clock_lock('0000:01:00.0', 1410)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, input="")
    assert "NVML cannot be used" in done.stdout


def test_the_fake_has_no_question_that_pynvml_lacks() -> None:
    pynvml = pytest.importorskip("pynvml")
    used = [name for name in vars(FakeNvml) if name.startswith("nvml")]
    assert len(used) > 10
    assert [name for name in (*used, "nvmlInit", "nvmlDeviceGetHandleByPciBusId") if not hasattr(pynvml, name)] == []
    assert (pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM, pynvml.NVML_TEMPERATURE_GPU) == (1, 2, 0)
    assert pynvml.nvmlClocksEventReasonSwPowerCap == 0x4 and pynvml.nvmlClocksEventReasonHwThermalSlowdown == 0x40
