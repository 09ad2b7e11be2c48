"""How long the reference cell takes on this machine in the long run: what turns a ratio into steady milliseconds.

Kept in the results store, per machine and per version of the reference; the long-run value is the median over runs,
weighted by the number of blocks that each saw. Beside `results` because nothing here loads the database before it is
asked. What an earlier version kept in a file of the data folder is taken over once by each store.
"""

from __future__ import annotations

import hashlib
import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vitprof.places import Places
from vitprof.runner.sensors import cpu_model

if TYPE_CHECKING:
    from vitprof.store.results import ReferenceTime, Store


@dataclass(frozen=True)
class LongRun:
    """The long-run median of a reference, over how many runs, the first of them when."""

    p50_ns: float
    runs: int
    since: str


def machine_id() -> str:
    """Twelve hex digits for this host and its processor."""
    return hashlib.sha256(f"{platform.node()}\n{cpu_model()}".encode()).hexdigest()[:12]


def long_run(places: Places, reference: str, until: str | None = None) -> LongRun | None:
    """What runs on this machine say, with `until` (ISO 8601, UTC) what they said then; None where there was none."""
    from vitprof.store.results import open_store

    with open_store(places.ready_store()) as store:
        _take_over(store, places.data_root)
        known = store.reference_times(machine_id(), reference)
    entries = sorted((one for one in known if until is None or one.at <= until), key=lambda entry: entry.p50_ns)
    if not entries:
        return None
    half = sum(entry.blocks for entry in entries) / 2
    seen = 0
    for entry in entries:
        seen += entry.blocks
        if seen >= half:
            break
    return LongRun(entry.p50_ns, len(entries), min(entry.at for entry in entries))


def add(places: Places, reference: str, blocks_ns: Sequence[float]) -> None:
    """Remembers what one run saw of the reference: the mean call time of each of its blocks, if there were any."""
    if not blocks_ns:
        return
    from vitprof.store.results import ReferenceTime, open_store

    now = datetime.now(UTC).isoformat(timespec="seconds")
    time = ReferenceTime(machine_id(), reference, statistics.median(blocks_ns), len(blocks_ns), now)
    with open_store(places.ready_store()) as store:
        _take_over(store, places.data_root)
        store.add_reference_times([time])


def _take_over(store: Store, data_root: Path) -> None:
    """Keeps in the store what an earlier version kept of this machine in a file; the file stays as it is."""
    once_as = f"reference times of {machine_id()}"
    path = data_root / "reference_times.jsonl"
    if not path.is_file() or store.has_taken(once_as):
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        # What cannot be read was not known to earlier runs either.
        return
    entries = [entry for line in lines if (entry := _entry(line)) and entry.machine == machine_id()]
    store.add_reference_times(entries, once_as=once_as)


def _entry(line: str) -> ReferenceTime | None:
    from vitprof.store.results import ReferenceTime

    try:
        read = json.loads(line)
        texts = (str(read["machine"]), str(read["reference"]))
        return ReferenceTime(*texts, float(read["p50_ns"]), int(read["blocks"]), str(read["at"]))
    except (ValueError, TypeError, KeyError):
        # A line that a crash cut short says nothing; the others still do.
        return None
