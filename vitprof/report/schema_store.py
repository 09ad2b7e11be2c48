"""The JSON documents of `results show` and `results diff`.

Beside `schema`, whose rows they hold: what is about the store and not about a measurement stands here. Unknown is
`null`; shares lie in 0-1.
"""

from __future__ import annotations

from typing import Any

from vitprof.report.schema import Part


class RunPart(Part):
    """One command that brought rows."""

    id: str
    started_at: str
    finished_at: str | None
    command: str
    vitprof_version: str
    # What the gate said: `accepted`, `rejected`; null: it was not asked.
    gate: str | None
    # Of a sweep, as it was written.
    plan: str | None


class SetPart(Part):
    """What one process gave, in figures of its raw samples; times are of one call."""

    rounds: int
    warm_up_rounds: int
    is_warm: bool
    # Counted ones.
    calls: int
    p50: int | None
    min: int | None
    max: int | None
    # The median of the reference blocks beside the counted ones.
    reference_p50: int | None


class SamplesPart(Part):
    stop_reason: str
    sets: tuple[SetPart, ...]


class ShownPart(Part):
    """One stored row; `result` as `latency` has it, `protocol` by field."""

    id: int
    run: str
    origin: str
    result: dict[str, Any]
    protocol: dict[str, Any] | None
    samples_ns: SamplesPart | None


class ShownDocument(Part):
    """`results show`."""

    schema_version: int = 1
    runs: tuple[RunPart, ...]
    rows: tuple[ShownPart, ...]


class ChangePart(Part):
    """One cell before and now; `ratio` is now ÷ before, widened for the number of rows that were compared."""

    kind: str
    model: str
    size: tuple[int, int] | None
    batch: int
    precision: str
    device: str
    backend: str
    threads: int | None
    region: str | None
    protocol_hash: str | None
    ratio: float | None
    ci95: tuple[float, float] | None
    detail: str
    confounders: tuple[str, ...]


class DifferenceDocument(Part):
    """`results diff`; `before` and `now`: what they were called on the command line, as runs or rows."""

    schema_version: int = 1
    before: str
    now: str
    changes: tuple[ChangePart, ...]
