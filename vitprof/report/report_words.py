"""How a report names a cell and says what became of it.

Its own file because the headline, the tables and the index must use the same words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime

from vitprof.measurements import Interval
from vitprof.reports import Cell, Change, ChangeKind, Report
from vitprof.units import NOT_KNOWN, text_from_share

# By this line the files that are reports are known.
MARK = "<!-- vitprof report -->"
# What is told one by one at the top; the others are counted.
TOLD = (
    ChangeKind.BROKE,
    ChangeKind.SLOWER,
    ChangeKind.GONE,
    ChangeKind.UNDECIDED,
    ChangeKind.FASTER,
    ChangeKind.MENDED,
)


class Names:
    """Names of cells among others: the model, then what tells the cells of this report apart."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        parts = [self._parts(cell) for cell in cells]
        # What is not known (the size of what failed early) makes no difference.
        known = {name: {one[name] for one in parts} - {""} for name in (parts[0] if parts else ())}
        self._varying = {name for name, texts in known.items() if len(texts) > 1}

    def name(self, cell: Cell) -> str:
        """`vit_tiny_patch16_224 on local, ort, batch 8`."""
        varying = [text for key, text in self._parts(cell).items() if text and key in self._varying]
        return f"{cell.model} on {cell.device}, {', '.join([cell.backend, *varying])}"

    @staticmethod
    def _parts(cell: Cell) -> dict[str, str]:
        return {
            "batch": f"batch {cell.batch}",
            "size": size_text(cell) if any(cell.size) else "",
            "precision": cell.precision,
            "threads": threads_text(cell.threads) if cell.threads else "",
            "region": cell.region,
            "protocol": f"protocol {cell.protocol_hash}" if cell.protocol_hash else "",
        }


def size_text(cell: Cell) -> str:
    return f"{cell.size[0]}x{cell.size[1]}" if cell.size != (0, 0) else NOT_KNOWN


def threads_text(threads: int) -> str:
    return f"{threads} thread{'' if threads == 1 else 's'}" if threads else NOT_KNOWN


def title_of(report: Report) -> str:
    """What the document is called."""
    return f"Report of run {report.subject}" if report.subject else "Report of the latest result of every cell"


def counts_text(changes: Iterable[Change]) -> str:
    """`1 broke, 2 slower, 41 same`; the words of `ChangeKind`, in its order."""
    counts = Counter(one.kind for one in changes)
    return ", ".join(f"{counts[kind]:,} {kind.value}" for kind in ChangeKind if counts[kind])


def troubles_text(report: Report) -> str:
    """`1 failed, 2 with broken parity`; "" where all is sound."""
    troubles = (
        (sum(1 for row in report.rows if row.document["outcome"] != "ok"), "failed"),
        (sum(1 for row in report.rows if row.is_broken), "with broken parity"),
    )
    return ", ".join(f"{count:,} {what}" for count, what in troubles if count)


def change_text(change: Change | None) -> str:
    """What became of a cell, for a table: `slower +8.3%`."""
    if change is None:
        return NOT_KNOWN
    is_told = change.ratio is not None and change.kind is not ChangeKind.SAME
    return f"{change.kind.value} {share_text(change.ratio.value)}" if change.ratio and is_told else change.kind.value


def headline_text(change: Change, names: Names, common: Collection[str] = ()) -> str:
    """One line on one cell; `common`: what differs for its whole backend, and is said elsewhere."""
    own = [text for text in change.confounders if text not in common]
    told = [
        *([interval_text(change.ratio)] if change.ratio else []),
        "; ".join(
            [
                names.name(change.cell),
                *([change.detail] if change.detail else []),
                *([f"also differs: {', '.join(own)}"] if own else []),
            ]
        ),
    ]
    return ": ".join(told)


def interval_text(ratio: Interval) -> str:
    """`+8.3% (+5.1% to +11.2%)`."""
    if ratio.low is None or ratio.high is None:
        return f"{share_text(ratio.value)} (no interval)"
    return f"{share_text(ratio.value)} ({share_text(ratio.low)} to {share_text(ratio.high)})"


def share_text(ratio: float) -> str:
    """1.083 as `+8.3%`."""
    text = text_from_share(ratio - 1) if math.isfinite(ratio) else NOT_KNOWN
    return text if text.startswith("-") else f"+{text}"


def common_confounders(changes: Iterable[Change]) -> Mapping[tuple[str, str], frozenset[str]]:
    """By device and backend, what differs for every cell that was compared there: the machine's story, not theirs."""
    compared: dict[tuple[str, str], list[frozenset[str]]] = {}
    for one in changes:
        if one.ratio is not None:
            compared.setdefault((one.cell.device, one.cell.backend), []).append(frozenset(one.confounders))
    return {key: frozenset.intersection(*told) for key, told in compared.items()}


def moment_text(moment: str | None) -> str:
    """`2026-11-22 10:12 UTC`, whatever the zone of the reader: the text must not depend on it."""
    if not moment:
        return NOT_KNOWN
    read = datetime.fromisoformat(moment)
    zoned = read if read.tzinfo else read.replace(tzinfo=UTC)
    return zoned.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
