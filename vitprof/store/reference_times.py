"""How long the reference cell takes on this machine in the long run: what turns a ratio into steady milliseconds.

A small file of JSON lines, one a run, until the results store takes it over. Kept per machine and per version of the
reference; the long-run value is the median over runs, weighted by the number of blocks that each saw.
"""

from __future__ import annotations

import hashlib
import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from vitprof.errors import VitprofError
from vitprof.runner.sensors import cpu_model


@dataclass(frozen=True)
class LongRun:
    """The long-run median of a reference, over how many runs, the first of them when."""

    p50_ns: float
    runs: int
    since: str


@dataclass(frozen=True)
class _Entry:
    machine: str
    reference: str
    p50_ns: float
    blocks: int
    at: str


def machine_id() -> str:
    """Twelve hex digits for this host and its processor."""
    return hashlib.sha256(f"{platform.node()}\n{cpu_model()}".encode()).hexdigest()[:12]


def long_run(data_root: Path, reference: str) -> LongRun | None:
    """What earlier runs on this machine say; None where there was none."""
    entries = sorted(
        (entry for entry in _entries(data_root) if entry.machine == machine_id() and entry.reference == reference),
        key=lambda entry: entry.p50_ns,
    )
    if not entries:
        return None
    half = sum(entry.blocks for entry in entries) / 2
    seen = 0
    for entry in entries:
        seen += entry.blocks
        if seen >= half:
            break
    return LongRun(entry.p50_ns, len(entries), min(entry.at for entry in entries))


def add(data_root: Path, reference: str, blocks_ns: Sequence[float]) -> None:
    """Remembers what one run saw of the reference: the mean call time of each of its blocks, if there were any."""
    if not blocks_ns:
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = _Entry(machine_id(), reference, statistics.median(blocks_ns), len(blocks_ns), now)
    path = _path(data_root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            # One write of one short line: appends of several processes do not mix.
            file.write(json.dumps(asdict(entry)) + "\n")
    except OSError as error:
        raise VitprofError(
            f"cannot write the reference time to {path}: {error.strerror}",
            remedy="free space there, or set VITPROF_DATA_DIR to a writable folder",
            stage="store",
        ) from error


def _path(data_root: Path) -> Path:
    return data_root / "reference_times.jsonl"


def _entries(data_root: Path) -> list[_Entry]:
    try:
        lines = _path(data_root).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [entry for line in lines if (entry := _entry(line))]


def _entry(line: str) -> _Entry | None:
    try:
        return _Entry(**json.loads(line))
    except (ValueError, TypeError):
        # A line that a crash cut short says nothing; the others still do.
        return None
