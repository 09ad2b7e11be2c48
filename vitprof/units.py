"""Numbers with units to text, and the texts that people type to numbers.

Its own file because every report and every option needs the same rounding and the same grammar:
a duration (`3s`, `200ms`), a count (`200x`), a share (`1%`), a size (`224`, `256x192`), an amount of bytes (`20GB`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from vitprof.errors import UsageError

NOT_KNOWN = "n/a"
# What databases keep as a whole number.
MOST = 2**31 - 1
NS_PER_UNIT = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "min": 60_000_000_000}
# What vitprof prints is decimal; the binary units are there for those who mean them.
BYTES_PER_UNIT = {
    **{"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40},
}
# More digits than anybody means would be infinite, or refused by Python.
_NUMBER_WITH_UNIT = re.compile(r"\s*(\d{1,18}(?:\.\d+)?)\s*([a-zµ%]*)\s*", re.IGNORECASE)
_SIZE = re.compile(r"(\d{1,10})(?:[x×](\d{1,10}))?", re.IGNORECASE)


@dataclass(frozen=True)
class Amount:
    """How long to measure: a time or a number of calls; exactly one is set."""

    duration_ns: int | None = None
    calls: int | None = None


def amount_from_text(text: str) -> Amount:
    """`3s`, `500ms`, `2min` as a duration; `200x` as a number of calls."""
    match = _NUMBER_WITH_UNIT.fullmatch(text)
    unit = match[2].lower() if match else ""
    if match and unit == "x" and float(match[1]).is_integer() and float(match[1]) > 0:
        return Amount(calls=int(float(match[1])))
    if match and unit in NS_PER_UNIT and float(match[1]) > 0:
        return Amount(duration_ns=round(float(match[1]) * NS_PER_UNIT[unit]))
    raise UsageError(
        f"'{text}' is neither a duration nor a number of calls",
        remedy="write a duration such as 3s or 500ms, or a number of calls such as 200x",
    )


def duration_s_from_text(text: str) -> float:
    """Seconds from `3s`, `500ms`, `2min`."""
    amount = amount_from_text(text)
    if amount.duration_ns is None:
        raise UsageError(f"'{text}' is not a duration", remedy="write a duration such as 3s or 500ms")
    return amount.duration_ns / 1e9


def share_from_text(text: str) -> float:
    """0.01 from `1%` or `0.01`; between 0 and 1, both excluded."""
    match = _NUMBER_WITH_UNIT.fullmatch(text)
    if match and match[2] in ("", "%"):
        share = float(match[1]) / (100 if match[2] else 1)
        if 0 < share < 1:
            return share
    raise UsageError(f"'{text}' is not a share between 0% and 100%", remedy="write it as 1% or 0.01")


def bytes_from_text(text: str) -> int:
    """20,000,000,000 from `20GB`, `20 GB` or `20000000000`; `GiB` and its like are binary."""
    match = _NUMBER_WITH_UNIT.fullmatch(text)
    unit = match[2].lower() if match else ""
    if match and unit in BYTES_PER_UNIT:
        return round(float(match[1]) * BYTES_PER_UNIT[unit])
    raise UsageError(f"'{text}' is not an amount of bytes", remedy="write it as 20GB, 500MB, 2GiB or 1000000")


def size_from_text(text: str) -> tuple[int, int]:
    """(height, width) in pixels from `224` or `256x192`."""
    match = _SIZE.fullmatch(text.strip())
    if match and all(0 < int(side) <= MOST for side in match.groups(match[1])):
        return int(match[1]), int(match[2] or match[1])
    raise UsageError(
        f"'{text}' is not an input size", remedy="write one number (224) or height x width (256x192), in pixels"
    )


def time_unit(reference_ns: float) -> str:
    """The one unit for a column whose values are about `reference_ns`."""
    return next((unit for unit in ("s", "ms", "us") if reference_ns >= NS_PER_UNIT[unit]), "ns")


def text_from_ns(value_ns: float | None, unit: str | None = None) -> str:
    """A duration with four significant digits, in `unit` where a column has one."""
    if value_ns is None:
        return NOT_KNOWN
    unit = unit or time_unit(value_ns)
    shown = "µs" if unit == "us" else unit
    return f"{significant(value_ns / NS_PER_UNIT[unit])} {shown}"


def text_from_count(value: float | None, suffix: str = "") -> str:
    """1,410,980,096 as `1.411 G` + suffix (decimal prefixes)."""
    if value is None:
        return NOT_KNOWN
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{significant(value / limit)} {prefix}{suffix}"
    return f"{significant(value)} {suffix}".rstrip()


def text_from_bytes(value: int | None) -> str:
    """Bytes with a decimal prefix: `71.75 MB`."""
    return text_from_count(value, "B")


def text_from_share(value: float | None, digits: int = 1) -> str:
    """0.0123 as `1.2%`."""
    return NOT_KNOWN if value is None else f"{value * 100:.{digits}f}%"


def significant(value: float, digits: int = 4) -> str:
    """`value` with so many significant digits, never in powers of ten: 0.05654, 12.34, 1,234."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    # The exponent after rounding: 9.9996 has two digits before the point, not one.
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"


def six_digits(value: float) -> float:
    """The value as a file keeps it: more than any measurement here has, and equal for equal inputs."""
    return float(f"{value:.6g}")
