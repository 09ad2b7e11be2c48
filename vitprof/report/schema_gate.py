"""The JSON documents of `gate` and `history`: their own file because no other document holds any of it."""

from __future__ import annotations

from vitprof.report.schema import Part


class CellPart(Part):
    """What is measured. `model` as one types it; `region`: `call`, `e2e` or `instructions`."""

    model: str
    size: tuple[int, int] | None
    batch: int
    precision: str
    device: str
    backend: str
    threads: int | None
    region: str | None


class GatedPart(CellPart):
    """`ratio`: candidate ÷ baseline. `ci90`: each border holds in 95 % of cases by itself."""

    protocol_hash: str | None
    verdict: str
    reason: str | None
    ratio: float | None
    ci90: tuple[float, float] | None
    # Above this a ratio is beyond what the baseline's own runs differ by.
    noise_ratio: float | None
    excess_ns: int | None
    baseline_runs: tuple[str, ...]
    verified_in: str | None
    not_verified: str | None
    confounders: tuple[str, ...]
    remedy: str | None


class GateDocument(Part):
    """`gate`."""

    schema_version: int = 1
    candidate: str
    baseline: str
    limit_share: float
    judged: str | None
    cells: tuple[GatedPart, ...]
    gone: tuple[CellPart, ...]


class SeriesPoint(Part):
    """One measurement. `value`, `ci95`: in the unit of the series; null where it failed."""

    run: str
    started_at: str | None
    value: float | None
    ci95: tuple[float, float] | None
    latency_p50_ns: int | None
    grade: str | None
    outcome: str
    judged: str | None
    # What differs from the measurement before, as `kernel 6.1 before, 6.8 now`.
    changed: tuple[str, ...]


class SeriesPart(CellPart):
    """One cell over time, the oldest first. `unit`: `ratio` (to `reference`), `ns` or `instructions`."""

    unit: str
    reference: str | None
    points: tuple[SeriesPoint, ...]


class HistoryDocument(Part):
    """`history`."""

    schema_version: int = 1
    series: tuple[SeriesPart, ...]
