"""What one row of a table of operators stands for: its own file, so that a command line can name it at no cost."""

from __future__ import annotations

from enum import StrEnum


class By(StrEnum):
    OP = "op"
    MODULE = "module"
    KIND = "kind"
