"""What brought rows into the results store.

Its own file because a measurement names its run before anything is measured, and the database library is loaded only
when there is something to write.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from vitprof import __version__

# How the command of a run begins that measured nothing.
IMPORT = "import"
# And of one that gate made by itself, to be sure of a few cells or of two models.
GATE = "gate "


class Origin(StrEnum):
    """Whether this program measured a row for this store or read it from a file."""

    MEASURED = "measured"
    IMPORTED = "imported"


class Gate(StrEnum):
    """What the regression gate said of a run."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True)
class StoredRun:
    """One command that brought rows: `latency`, or `import FILE`."""

    id: str
    started_at: str
    vitprof_version: str
    command: str
    # Of a sweep: its plan as text, and what finds an unfinished run of the same plan.
    plan_hash: str | None = None
    plan: str | None = None
    # In UTC; None: it was not finished, or it was of a command that does not say so.
    finished_at: str | None = None
    # One of `Gate`; None: it was not judged.
    gate: str | None = None

    @property
    def is_unfinished(self) -> bool:
        """Whether it is a sweep that has yet to measure cells."""
        return self.plan_hash is not None and self.finished_at is None


def new_run(command: str, *, plan: str | None = None, plan_hash: str | None = None) -> StoredRun:
    """A run that begins now, under an id that no other has."""
    now = datetime.now(UTC)
    return StoredRun(
        f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        now.isoformat(timespec="seconds"),
        __version__,
        command,
        plan_hash,
        plan,
    )


def utc_text(moment: str) -> str:
    """An ISO 8601 time in UTC, so that order of text is order of time; `ValueError` for anything else."""
    read = datetime.fromisoformat(moment)
    try:
        zoned = read if read.tzinfo else read.replace(tzinfo=UTC)
        return zoned.astimezone(UTC).isoformat(timespec="seconds")
    except OverflowError as error:
        raise ValueError(str(error)) from error
