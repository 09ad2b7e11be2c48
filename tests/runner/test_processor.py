from __future__ import annotations

import os

import pytest

from vitprof.runner import processor, throttling
from vitprof.runner.backends import BackendError

# What boards print, cut to the lines that are read.
PI_4 = (
    "".join(
        f"processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
        "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n"
        for core in range(4)
    )
    + "Revision\t: c03114\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
)
PIXEL_8 = "".join(
    f"processor\t: {core}\nFeatures\t: fp asimd asimddp i8mm bf16\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
    for core, part in enumerate(["0xd46"] * 4 + ["0xd4d"] * 4 + ["0xd4e"])
)
EPYC = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9V74\nflags\t\t: fpu sse avx2 avx512f\n"


def test_an_arm_processor_is_named_by_its_cores_the_big_ones_first() -> None:
    assert processor.name_from_cpuinfo(PI_4) == "4 x Cortex-A72"
    assert processor.name_from_cpuinfo(PIXEL_8) == "1 x Cortex-X3, 4 x Cortex-A715, 4 x Cortex-A510"
    assert processor.name_from_cpuinfo(EPYC) == "AMD EPYC 9V74"
    assert processor.name_from_cpuinfo("") is None


def test_a_core_that_no_table_has_is_told_by_its_numbers() -> None:
    assert processor.core_name("0x41", "0xd08") == "Cortex-A72"
    assert processor.core_name("0x99", "0xd08") == "implementer 0x99 part 0xd08"
    assert processor.core_name("?", "") == "implementer ? part "


def test_features_are_those_that_move_a_model() -> None:
    assert processor.features_from_cpuinfo(PIXEL_8) == ("fp", "asimd", "asimddp", "i8mm", "bf16")
    assert processor.features_from_cpuinfo(EPYC) == ("avx2", "avx512f")
    assert processor.features_from_cpuinfo("") == ()


def test_governors_are_told_apart_by_core_only_where_they_differ() -> None:
    assert processor.text_from_governors({}) is None
    assert processor.text_from_governors({0: "performance", 1: "performance"}) == "performance"
    mixed = {0: "schedutil", 1: "schedutil", 2: "schedutil", 4: "performance", 6: "performance"}
    assert processor.text_from_governors(mixed) == "schedutil (0-2), performance (4,6)"


@pytest.mark.parametrize(("text", "cores"), [("4-7", (4, 5, 6, 7)), ("0,2", (0, 2)), ("5, 0-1", (0, 1, 5))])
def test_cores_are_read_and_written_as_linux_does(text: str, cores: tuple[int, ...]) -> None:
    assert processor.core_numbers(text) == cores
    assert processor.core_numbers(processor.text_from_cores(cores)) == cores


@pytest.mark.parametrize("text", ["", "7-4", "a", "1,,2", "-1", "4-", "99999", "0x1"])
def test_what_names_no_cores_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        processor.core_numbers(text)


def test_pinning_to_a_core_that_is_not_there_says_which_are() -> None:
    with pytest.raises(BackendError, match=r"the device has cores .* and no core 4000") as caught:
        processor.pin("0,4000")
    assert "cores" in caught.value.remedy
    with pytest.raises(BackendError, match="names no cores"):
        processor.pin("big")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to cores")
def test_pinning_confines_this_thread_and_those_that_it_starts() -> None:
    before = os.sched_getaffinity(0)
    try:
        processor.pin(str(max(before)))
        assert processor.allowed_cores() == (max(before),)
        is_confined = len(before) < (os.cpu_count() or 0) or len(before) > 1
        assert (processor.pinned_cores() == str(max(before))) is is_confined
    finally:
        os.sched_setaffinity(0, before)


def test_a_raspberry_pi_tells_what_throttles_it_now_and_what_has() -> None:
    # 0x50005: under-voltage and throttled, both now and since the start.
    assert throttling.number_from_text("throttled=0x50005\n") == 0x50005 == throttling.number_from_text("50005")
    assert throttling.facts_from_number(0x50005) == {
        "throttle_count": 2,
        "throttled_now": "under-voltage, throttled",
        "throttled_since_start": "under-voltage, throttled",
    }
    assert throttling.facts_from_number(0x80000) == {
        "throttle_count": 1,
        "throttled_since_start": "soft temperature limit",
    }
    assert throttling.facts_from_number(0) == {"throttle_count": 0}
    assert throttling.facts_from_number(0xF)["throttled_now"] == (
        "under-voltage, clock capped, throttled, soft temperature limit"
    )


def test_what_vcgencmd_does_not_say_is_not_known() -> None:
    assert throttling.number_from_text("VCHI initialization failed") is None
    assert throttling.number_from_text("") is None
    assert throttling.temperature_from_text("temp=48.3'C\n") == 48.3
    assert throttling.temperature_from_text("error=1") is None
