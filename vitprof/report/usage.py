"""What a model uses beside time: memory, energy and instructions, as the JSON holds them and as the terminal says them.

Its own file because both tell the same few figures, each with what counted it: one taken for another is the mistake.
"""

from __future__ import annotations

from collections.abc import Iterator

from vitprof.measurements import Energy, Instructions, Summary
from vitprof.report.outside import encodable, plain
from vitprof.report.schema import EnergyPart, InstructionsPart, MemoryPart
from vitprof.units import significant, six_digits, text_from_bytes


def memory_part(summary: Summary) -> MemoryPart:
    return MemoryPart(
        peak_rss_bytes=summary.peak_rss_bytes,
        peak_rss_measuring_bytes=summary.peak_rss_measuring_bytes,
        peak_device_bytes=summary.peak_device_bytes,
        peak_device_nvml_bytes=summary.peak_device_nvml_bytes,
    )


def energy_part(energy: Energy) -> EnergyPart:
    return EnergyPart(
        source=None if energy.source is None else encodable(energy.source),
        j_per_image=six_digits(energy.j_per_image),
        j_above_idle_per_image=_rounded(energy.j_above_idle_per_image),
        power_w=_rounded(energy.power_w),
        idle_power_w=_rounded(energy.idle_power_w),
    )


def instructions_part(instructions: Instructions) -> InstructionsPart:
    return InstructionsPart(
        value=instructions.per_inference,
        spread=six_digits(instructions.spread),
        calls=instructions.calls,
        counted_by=encodable(instructions.counted_by),
    )


def memory_phrases(summary: Summary) -> Iterator[str]:
    whole, measuring = summary.peak_rss_bytes, summary.peak_rss_measuring_bytes
    yield f"{text_from_bytes(whole)} peak of the runner process"
    if measuring is not None and measuring != whole:
        yield f"{text_from_bytes(measuring)} of it while it measured"
    if summary.peak_device_bytes is not None:
        yield f"{text_from_bytes(summary.peak_device_bytes)} of the device's memory by the runtime"
    if summary.peak_device_nvml_bytes is not None:
        yield f"{text_from_bytes(summary.peak_device_nvml_bytes)} by NVML"


def energy_phrases(energy: Energy) -> Iterator[str]:
    yield f"{_joules(energy.j_per_image)} an image, rest included"
    if energy.j_above_idle_per_image is not None:
        yield f"{_joules(energy.j_above_idle_per_image)} above rest"
    for watts, when in ((energy.power_w, "while it ran"), (energy.idle_power_w, "at rest")):
        if watts is not None:
            yield f"{significant(watts)} W {when}"
    if energy.source is not None:
        yield f"by {plain(energy.source)}"


def _joules(value: float) -> str:
    return f"{significant(value)} J" if abs(value) >= 1 else f"{significant(value * 1e3)} mJ"


def _rounded(value: float | None) -> float | None:
    return None if value is None else six_digits(value)
