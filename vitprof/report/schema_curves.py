"""The JSON document of `throughput`: that of `latency` with the curves that its rows make.

Its own file beside `schema`, whose rows it repeats none of: a curve is about several of them.
"""

from __future__ import annotations

from vitprof.report.schema import Part, ResultDocument


class DeviceBytesPart(Part):
    counted_by: str
    bytes: int


class CurvePointPart(Part):
    """One batch; what was not measured is `null`."""

    batch: int
    images_per_s: float | None
    ci95: tuple[float, float] | None
    # Images in the time of one call of the reference cell.
    images_per_reference: float | None
    reference_ci95: tuple[float, float] | None
    # Faster than the fastest smaller batch, as a share.
    gain_share: float | None
    latency_ns: int | None
    latency_ci95: tuple[int, int] | None
    memory_bytes: int | None
    peak_rss_bytes: int | None
    device_bytes: tuple[DeviceBytesPart, ...]
    outcome: str
    # Its outputs are not the model's, so its time is not either.
    parity_broken: bool
    grade: str | None
    relative_grade: str | None


class HeadroomPart(Part):
    """`memory`: `host` or `device`; `largest_batch` is an estimate."""

    memory: str
    usable_bytes: int
    taken_bytes: int
    left_bytes: int
    largest_batch: int | None


class CurvePart(Part):
    """One model at one size on one backend."""

    model: str
    source: str
    size: tuple[int, int] | None
    precision: str
    device: str
    backend: str
    backend_version: str | None
    threads: int | None
    region: str
    reference: str | None
    protocol_hash: str
    points: tuple[CurvePointPart, ...]
    best_batch: int | None
    knee_batch: int | None
    stopped_by: str
    headroom: HeadroomPart | None


class CrossoverPart(Part):
    """Along `axis` (`batch`, or `size` in pixels of a side) `below` is faster up to about `at`, `above` beyond it."""

    axis: str
    batch: int | None
    size: tuple[int, int] | None
    below: str
    above: str
    at: float
    between: tuple[float, float]
    verdict: str


class ThroughputDocument(ResultDocument):
    """`throughput`."""

    curves: tuple[CurvePart, ...]
    crossovers: tuple[CrossoverPart, ...]
