"""How an Android device stands, read out of what its programs print: texts of the form that Android's source prints,
the thermal and battery ones as a phone printed them.
"""

from __future__ import annotations

import pytest

from vitprof.devices.android_facts import battery_from_text, environment_from_text, thermal_from_text

BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 3000000
  Charge counter: 812000
  status: 2
  health: 2
  present: true
  level: 19
  scale: 100
  voltage: 3972
  temperature: 357
  technology: Li-ion
  Capacity level: -1
[EventLogBuffer]
08-11 18:34:14.721  Sending ACTION_BATTERY_CHANGED: level:72, health:2, voltage:4120, temperature:345
"""
THERMAL = """\
IsStatusOverride: false
Thermal Status: 1
Cached temperatures:
	Temperature{mValue=99.9, mType=3, mName=skin, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
	Temperature{mValue=33.931, mType=-1, mName=neutral_therm, mStatus=1}
	Temperature{mValue=41.5, mType=0, mName=CPU0, mStatus=0}
	Temperature{mValue=44.25, mType=1, mName=GPU0, mStatus=0}
	Temperature{mValue=36.1, mType=3, mName=skin_therm, mStatus=0}
	Temperature{mValue=0.0, mType=3, mName=VIRTUAL-USB-UI, mStatus=0}
	Temperature{mValue=-274.0, mType=0, mName=absent, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}
"""
PHONE = f"""\
== vitprof clocks
1704000
2914000
== vitprof zones
== vitprof battery
{BATTERY}== vitprof thermal
{THERMAL}== vitprof load
1.25 0.80 0.50 2/1500 9876
== vitprof uname
Linux 5.15.110-android14 aarch64
== vitprof cores
9
== vitprof governor
sched_pixel
sched_pixel
== vitprof cpuinfo
== vitprof power
POWER MANAGER (dumpsys power)
  mWakefulness=Awake
  mWakefulnessChanging=false
== vitprof ro.soc.manufacturer
Google
== vitprof ro.soc.model
Tensor G3
== vitprof ro.board.platform
zuma
== vitprof ro.hardware
shiba
== vitprof ro.product.manufacturer
Google
== vitprof ro.product.model
Pixel 8
== vitprof ro.build.version.release
14
== vitprof ro.build.fingerprint
google/shiba/shiba:14/XX/1:user/release-keys
== vitprof ro.product.cpu.abi
arm64-v8a
"""


def test_a_phone_s_facts_have_the_names_that_readiness_and_reports_know() -> None:
    assert environment_from_text(PHONE) == {
        "system": "Android",
        "android": "14",
        "kernel": "5.15.110-android14",
        "machine": "aarch64",
        "abi": "arm64-v8a",
        "build": "google/shiba/shiba:14/XX/1:user/release-keys",
        "phone": "Google Pixel 8",
        "cpu": "Google Tensor G3",
        "board": "zuma",
        "cores": 9,
        "governor": "sched_pixel",
        "clock_hz": 2_914_000_000,
        "thermal_status": 1,
        "temperature_c": 36.1,
        "processor_temperature_c": 44.25,
        "battery_share": 0.19,
        "battery_temperature_c": 35.7,
        "power": "mains",
        "load_1min": 1.25,
        "screen": "awake",
    }


def test_what_a_plain_linux_does_not_tell_is_left_out() -> None:
    text = "\n".join(f"== vitprof {name}" for name in ("clocks", "battery", "thermal", "power", "ro.soc.model"))
    linux = "\n== vitprof uname\nLinux 6.1.0 x86_64\n== vitprof cores\n2\n== vitprof cpuinfo\nmodel name : EPYC\n"
    assert environment_from_text(text + linux) == {
        "system": "Linux",
        "kernel": "6.1.0",
        "machine": "x86_64",
        "cores": 2,
        "cpu": "EPYC",
    }
    assert environment_from_text("") == {}


def test_without_a_skin_the_battery_s_temperature_stands_for_the_phone_s_then_the_zones() -> None:
    zones = "== vitprof zones\n-273000\n48000\n51000\nnone\n"
    assert environment_from_text(zones)["temperature_c"] == 51.0
    assert environment_from_text(f"{zones}== vitprof battery\n{BATTERY}")["temperature_c"] == 35.7


def test_on_its_battery_and_unknown_are_not_the_same() -> None:
    assert battery_from_text(BATTERY.replace("true", "false"))["power"] == "battery"
    assert battery_from_text("") == {"battery_share": None, "battery_temperature_c": None, "power": None}


@pytest.mark.parametrize("text", ["", "Thermal Status: ", "Temperature{mValue=NaN, mType=3, mName=skin, mStatus=0}"])
def test_a_thermal_service_that_says_nothing_is_unknown(text: str) -> None:
    assert set(thermal_from_text(text).values()) == {None}
