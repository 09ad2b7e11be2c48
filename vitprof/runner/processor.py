"""What the processor is and which of its cores are used: names, features, governors, pinning.

Its own file because Arm's processors do not say their names: `/proc/cpuinfo` gives numbers, and one chip may have cores
of several kinds. The functions that read text take it, so that they are tested on what boards print.
"""

from __future__ import annotations

import os
import platform
import re
from typing import Dict, Iterable, List, Mapping, Optional, Tuple

from vitprof.runner.backends import BackendError

# Instruction sets that move a model's speed by a factor, as /proc/cpuinfo spells them on x86.
_X86_FEATURES = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8",
)  # fmt: skip
# By implementer and part: the names that util-linux (lscpu-arm.c) and Linux (arch/arm64/include/asm/cputype.h) have.
_PARTS: Mapping[int, Mapping[int, str]] = {
    0x41: {
        0xC05: "Cortex-A5", 0xC07: "Cortex-A7", 0xC08: "Cortex-A8", 0xC09: "Cortex-A9", 0xC0E: "Cortex-A17",
        0xC0F: "Cortex-A15", 0xD02: "Cortex-A34", 0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55",
        0xD06: "Cortex-A65", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75",
        0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD0E: "Cortex-A76AE", 0xD40: "Neoverse-V1",
        0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD43: "Cortex-A65AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510",
        0xD47: "Cortex-A710", 0xD48: "Cortex-X2", 0xD49: "Neoverse-N2", 0xD4A: "Neoverse-E1", 0xD4B: "Cortex-A78C",
        0xD4C: "Cortex-X1C", 0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3", 0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520",
        0xD81: "Cortex-A720", 0xD82: "Cortex-X4", 0xD84: "Neoverse-V3", 0xD85: "Cortex-X925", 0xD87: "Cortex-A725",
        0xD8E: "Neoverse-N3",
    },
    0x4E: {0x003: "Denver 2", 0x004: "Carmel"},
    0x51: {
        0x001: "Oryon", 0x800: "Kryo 2xx Gold", 0x801: "Kryo 2xx Silver", 0x802: "Kryo 3xx Gold",
        0x803: "Kryo 3xx Silver", 0x804: "Kryo 4xx Gold", 0x805: "Kryo 4xx Silver",
    },
    0x61: {0x022: "Icestorm", 0x023: "Firestorm", 0x032: "Blizzard", 0x033: "Avalanche"},
    0xC0: {0xAC3: "Ampere-1", 0xAC4: "Ampere-1A"},
}  # fmt: skip
_GOVERNOR = "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor"
_HIGHEST_CORE = 4095


def cpuinfo() -> str:
    """The text of /proc/cpuinfo; empty where there is none, or where it is another processor's.

    An older QEMU shows an Arm program the x86 processor that it runs on.
    """
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return ""
    is_foreign = platform.machine() in ("aarch64", "arm64") and "CPU implementer" not in text
    return "" if is_foreign else text


def name_from_cpuinfo(text: str) -> Optional[str]:
    """`AMD EPYC 9V74`, or of an Arm processor its cores, the kind of the last first: `2 x Cortex-A76, 6 x Cortex-A55`.

    Linux numbers the little cores first.
    """
    values = _values(text)
    parts = [core_name(*pair) for pair in zip(values.get("CPU implementer", []), values.get("CPU part", []))]
    if parts:
        kinds = list(dict.fromkeys(reversed(parts)))
        return ", ".join(f"{parts.count(kind)} x {kind}" for kind in kinds)
    return next((values[name][0] for name in ("model name", "Hardware", "Model") if values.get(name)), None)


def core_name(implementer: str, part: str) -> str:
    """`Cortex-A72` for `0x41` and `0xd08`; the numbers themselves where the names do not have them."""
    try:
        return _PARTS[int(implementer, 16)][int(part, 16)]
    except (ValueError, KeyError):
        return f"implementer {implementer} part {part}"


def features_from_cpuinfo(text: str) -> Tuple[str, ...]:
    """What moves a model's speed: of Arm all that the kernel lists (`Features`), of x86 the vector extensions."""
    values = _values(text)
    if values.get("Features"):
        return tuple(values["Features"][0].split())
    flags = set((values.get("flags") or [""])[0].split())
    return tuple(name for name in _X86_FEATURES if name in flags)


def board_name(text: str) -> Optional[str]:
    """`Raspberry Pi 4 Model B Rev 1.4`, as the firmware says it; None where it does not."""
    try:
        with open("/proc/device-tree/model", encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0 \n") or None
    except OSError:
        return next(iter(_values(text).get("Model", ())), None)


def governors() -> Dict[int, str]:
    """By core the rule by which its clock is set; only cores that this process may use and that tell."""
    found = {}
    for core in allowed_cores():
        try:
            with open(_GOVERNOR % core, encoding="utf-8") as file:
                found[core] = file.read().strip()
        except OSError:
            continue
    return found


def text_from_governors(by_core: Mapping[int, str]) -> Optional[str]:
    """`performance` where all cores have it, else `schedutil (0-3), performance (4-7)`; None where none tells."""
    kinds = list(dict.fromkeys(by_core.values()))
    if len(kinds) < 2:
        return kinds[0] if kinds else None
    return ", ".join(f"{kind} ({text_from_cores(core for core in by_core if by_core[core] == kind)})" for kind in kinds)


def pinned_cores() -> Optional[str]:
    """The cores that this process is confined to, as `4-7`; None where it may use all, or nobody tells."""
    allowed = allowed_cores()
    return text_from_cores(allowed) if allowed and len(allowed) < (os.cpu_count() or 0) else None


def pin(cores: str) -> None:
    """Confines this thread, and all that it starts from now on, to `cores` (`4-7`, `0,2`).

    `BackendError` where the device has no such core, or cannot confine a process.
    """
    remedy = "mend 'cores' in the device's profile, or leave it out"
    affinity = getattr(os, "sched_setaffinity", None)
    if affinity is None:
        raise BackendError("load", f"cores '{cores}': {platform.system()} cannot pin a process to cores", remedy)
    allowed = set(allowed_cores())
    try:
        wanted = core_numbers(cores)
    except ValueError:
        raise BackendError("load", f"'{cores}' names no cores", f"{remedy}; write 4-7 or 0,2") from None
    missing = [core for core in wanted if core not in allowed]
    if missing:
        said = f"has cores {text_from_cores(allowed)} and no core {text_from_cores(missing)}"
        raise BackendError("load", f"cores '{cores}': the device {said}", remedy)
    affinity(0, wanted)


def allowed_cores() -> Tuple[int, ...]:
    """The cores that this process may use, in order; none where the system does not tell."""
    affinity = getattr(os, "sched_getaffinity", None)
    return tuple(sorted(affinity(0))) if affinity else ()


def core_numbers(text: str) -> Tuple[int, ...]:
    """The cores in `4-7` or `0,2`, in order; `ValueError` where it names none."""
    numbers = set()
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part)
        first, last = (int(ends.group(1)), int(ends.group(2) or ends.group(1))) if ends else (1, 0)
        if first > last or last > _HIGHEST_CORE:
            raise ValueError(text)
        numbers |= set(range(first, last + 1))
    return tuple(sorted(numbers))


def text_from_cores(cores: Iterable[int]) -> str:
    """`0-3,6`: the other way round."""
    runs: List[List[int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][-1] + 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _values(text: str) -> Dict[str, List[str]]:
    """By name all values of a text of `name : value` lines, in order."""
    found: Dict[str, List[str]] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), []).append(value.strip())
    return found
