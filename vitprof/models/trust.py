"""The one error for files that could run code: whether to read them is for the user to say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitprof.errors import UsageError, VitprofError

# Whoever writes a file chooses what these texts say: enough of one to recognise it by.
_SHOWN = 80
_LISTED = 3


def untrusted(path: Path, found: str) -> UsageError:
    """For a file that is read only with `--trust`; `found` says what in it could run."""
    return UsageError(
        f"{path} could run code on this machine while it is read: {found}",
        remedy="add --trust if you know who made the file",
        stage="model",
    )


def unreadable(path: Path, why: str) -> VitprofError:
    """For a file that is damaged, or not what its name says."""
    return VitprofError(f"{path} cannot be read: {why}", remedy="export or copy the file again", stage="model")


def listed(names: Sequence[str]) -> str:
    """A few names out of a file, as `shown`, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(shown, names[:_LISTED])) + more


def shown(text: str) -> str:
    """A text out of a file in quotes, cut, and without what would move a terminal's cursor."""
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
