"""Text that vitprof did not write (model names, error messages) made safe to show.

Its own file because every format needs it: a runtime's error text may hold terminal escapes, a file name may hold
anything. What a format itself gives meaning to is escaped by that format; of CSV, which several reports write, here.
"""

from __future__ import annotations

import re
import unicodedata

# ECMA-48 control sequences, 7-bit and 8-bit: CSI (colours, cursor), then OSC, DCS, SOS, PM, APC (titles, links) with
# their text where they end properly, then whatever else starts with ESC. An unended string loses its opening only:
# a cut-off message must not disappear with it.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]?"
)
# Controls and line ends part words; format characters (bidirectional overrides, zero width) only mislead the eye.
_REPLACEMENTS = {"Cc": " ", "Zl": " ", "Zp": " ", "Cf": "", "Cs": "\N{REPLACEMENT CHARACTER}"}

# Spreadsheets run a cell that starts so (OWASP, "CSV Injection"); a leading apostrophe makes it text.
_FORMULA_STARTS = ("=", "+", "-", "@")


def plain(text: str) -> str:
    """`text` as one line without terminal escapes, control characters and characters that cannot be written."""
    return " ".join(_without_controls(text).split())


def plain_lines(text: str) -> str:
    """The same of a text that vitprof wrote around names from outside: its lines and blanks stay."""
    return "\n".join(map(_without_controls, text.split("\n")))


def _without_controls(line: str) -> str:
    bare = _ESCAPES.sub("", line)
    return "".join(_REPLACEMENTS.get(unicodedata.category(char), char) for char in bare)


def encodable(text: str) -> str:
    """`text` with undecodable bytes of a file name (lone surrogates) spelled out, everything else as it is."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def csv_cell(value: str | float | None) -> str | float:
    """A value as one cell of a CSV file: None is empty, text neither runs as a formula nor breaks the line."""
    if value is None or isinstance(value, int | float):
        return "" if value is None else value
    # One line, no terminal escapes: people look at a CSV with `cat`.
    text = plain(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
