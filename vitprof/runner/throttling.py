"""What a Raspberry Pi says of its own throttling, and its temperature: `vcgencmd`, and the file that has the same.

Its own file because these bits exist on no other board. Their meaning is that of the documentation of
`vcgencmd get_throttled`: the low ones say what is so now, the same sixteen places higher what has been so since the
board was started.
"""

from __future__ import annotations

import functools
import platform
import re
import shutil
import subprocess
from typing import Dict, Optional, Tuple, Union

_MEANINGS = ("under-voltage", "clock capped", "throttled", "soft temperature limit")
_SINCE_START = 16
# The kernel of Raspberry Pi OS shows the same number without a process being started.
_FILE = "/sys/devices/platform/soc/soc:firmware/get_throttled"
_ANSWER_S = 2.0


def facts() -> Dict[str, Union[str, int]]:
    """`throttled_now` and `throttled_since_start` in words, where there is any, and `throttle_count`: kinds since then.

    Nothing on a machine that is no Raspberry Pi.
    """
    number = _number_from_board()
    return {} if number is None else facts_from_number(number)


def facts_from_number(number: int) -> Dict[str, Union[str, int]]:
    """The same of the number that the board gives."""
    now, since = meanings(number), meanings(number >> _SINCE_START)
    found: Dict[str, Union[str, int]] = {"throttle_count": len(since)}
    if now:
        found["throttled_now"] = ", ".join(now)
    if since:
        found["throttled_since_start"] = ", ".join(since)
    return found


def meanings(bits: int) -> Tuple[str, ...]:
    return tuple(name for place, name in enumerate(_MEANINGS) if bits >> place & 1)


def number_from_text(text: str) -> Optional[int]:
    """Of `throttled=0x50005`, or of the file's `50005`; None where it is neither."""
    found = re.fullmatch(r"(?:throttled=0x|0x)?([0-9a-fA-F]{1,8})", text.strip())
    return int(found.group(1), 16) if found else None


def temperature_from_text(text: str) -> Optional[float]:
    """Degrees Celsius of `temp=48.3'C`; None where it is not that."""
    found = re.fullmatch(r"temp=(\d+(?:\.\d+)?)'C", text.strip())
    return float(found.group(1)) if found else None


def temperature_c() -> Optional[float]:
    """As `vcgencmd` gives it; None on a machine that has none."""
    return temperature_from_text(_asked("measure_temp"))


def _number_from_board() -> Optional[int]:
    if not platform.machine().startswith(("aarch64", "arm")):
        return None
    try:
        with open(_FILE, encoding="utf-8") as file:
            return number_from_text(file.read())
    except OSError:
        return number_from_text(_asked("get_throttled"))


def _asked(question: str) -> str:
    program = _program()
    if program is None:
        return ""
    try:
        done = subprocess.run([program, question], stdout=subprocess.PIPE, timeout=_ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


@functools.lru_cache(maxsize=1)
def _program() -> Optional[str]:
    return shutil.which("vcgencmd")
