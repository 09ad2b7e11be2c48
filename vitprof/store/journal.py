"""One run as a file of JSON lines, each round written before the next one starts.

A run can be killed at any point: what stands in the file is what was measured. Its own file format is two words a
line (`kind`, then the value's own fields), to be read back by the results store.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from vitprof.errors import VitprofError


class Journal:
    """Appends to `<data_root>/runs/<time>-<random>.jsonl`; every line is handed to the system at once.

    A disk that fills up meanwhile must not cost what is being measured: the first failure is kept in `trouble`, to be
    told at the end, and nothing more is written.
    """

    def __init__(self, data_root: Path) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.path = data_root / "runs" / f"{stamp}-{secrets.token_hex(4)}.jsonl"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self.path.open("ab", buffering=0)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.trouble: VitprofError | None = None

    def write(self, kind: str, value: Any) -> None:
        """One line. A dataclass is written as its fields."""
        fields = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
        # A Failure has a kind too, which must not take the place of the line's.
        fields = {"own_kind" if name == "kind" else name: one for name, one in fields.items()}
        line = json.dumps({"kind": kind, **fields}, default=str, separators=(",", ":")) + "\n"
        self._guarded(lambda: self._file.write(line.encode()))

    def flush(self) -> None:
        """Returns once everything written is on the disk itself."""
        self._guarded(lambda: os.fsync(self._file.fileno()))

    def close(self) -> None:
        self._file.close()

    def _guarded(self, work: Callable[[], object]) -> None:
        if self.trouble:
            return
        try:
            work()
        except OSError as error:
            self.trouble = _unwritable(self.path, error)


def _unwritable(path: Path, error: OSError) -> VitprofError:
    return VitprofError(
        f"cannot write results to {path}: {error.strerror}",
        remedy="free space there, or set VITPROF_DATA_DIR to a writable folder",
        stage="store",
    )
