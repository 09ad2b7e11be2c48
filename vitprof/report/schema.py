"""The JSON documents of docs/interface.md, as the models that write them.

Its own file because scripts rely on these names, their nesting and their order, and a reader wants to see them without
the code that fills them: what is not here is not in the JSON. Unknown is `null`; shares lie in 0-1.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _is_absent(value: object) -> bool:
    return value is None


class FailurePart(_Part):
    stage: str
    error: str
    remedy: str


class LatencyPart(_Part):
    p50: int
    p90: int | None
    p99: int | None
    mean: int
    min: int
    max: int
    ci95: tuple[int, int] | None
    samples: int
    sets: int
    rounds: int
    warmup_samples: int
    outliers: int
    stop_reason: str | None


class RelativePart(_Part):
    reference: str
    ratio: float
    ci95: tuple[float, float] | None
    reference_spread: float | None
    grade: str


class ColdPart(_Part):
    load: int
    build: int | None
    first_call: int


class CostPart(_Part):
    params: int | None
    macs: int | None
    weight_bytes: int | None
    activation_bytes: int | None
    uncounted_ops: dict[str, int]
    coverage: float | None


class MemoryPart(_Part):
    peak_rss_bytes: int | None
    peak_device_bytes: int | None


class ParityPart(_Part):
    verdict: str
    where: str | None
    max_rel_error: float | None
    cosine: float | None
    top1_agreement: float | None
    reason: str | None


class ArtifactPart(_Part):
    format: str
    sha256: str
    bytes: int
    fixups: tuple[str, ...]
    exporter: str


class PlacementPart(_Part):
    ops: float | None
    macs: float | None


class WarningPart(_Part):
    code: str
    detail: str
    remedy: str


class ResultRow(_Part):
    """One cell. `failure` is there on failed rows only, the three lists of samples only where they were asked for."""

    model: str
    source: str
    size: tuple[int, int] | None
    batch: int
    precision: str
    device: str
    backend: str
    backend_version: str | None
    threads: int | None
    region: str
    clock: str | None
    outcome: str
    failure: FailurePart | None = Field(default=None, exclude_if=_is_absent)
    latency_ns: LatencyPart | None
    relative: RelativePart | None
    drift_corrected_ns: int | None
    throughput_images_per_s: float | None
    cold_ns: ColdPart | None
    cost: CostPart | None
    achieved_macs_per_s: float | None
    utilisation: float | None = None
    bound: str | None = None
    roofline_ns: int | None = None
    memory: MemoryPart | None
    energy_j_per_image: float | None = None
    parity: ParityPart | None
    artifact: ArtifactPart | None
    placement: PlacementPart | None
    grade: str | None
    warnings: tuple[WarningPart, ...]
    protocol_hash: str
    environment: dict[str, Any]
    vitprof_version: str
    started_at: str
    samples_ns: tuple[int, ...] | None = Field(default=None, exclude_if=_is_absent)
    warm_up_samples_ns: tuple[int, ...] | None = Field(default=None, exclude_if=_is_absent)
    set_aside_samples_ns: tuple[int, ...] | None = Field(default=None, exclude_if=_is_absent)


class ResultDocument(_Part):
    """`latency`, later `throughput`, `sweep` and `results list`."""

    schema_version: int = 1
    results: tuple[ResultRow, ...]


class ArtifactRow(_Part):
    """One exported file, or why there is none."""

    model: str
    format: str
    path: str | None
    bytes: int | None
    sha256: str | None
    outcome: str
    failure: FailurePart | None = Field(default=None, exclude_if=_is_absent)
    parity: ParityPart | None
    fixups: tuple[str, ...]
    seconds: float | None
    exporter: str | None


class ArtifactDocument(_Part):
    """`export`."""

    schema_version: int = 1
    artifacts: tuple[ArtifactRow, ...]


class DeviceRow(_Part):
    name: str
    kind: str
    chip: str
    transport: str
    backends: tuple[str, ...]
    reachable: bool | None


class DeviceDocument(_Part):
    """`devices list`."""

    schema_version: int = 1
    devices: tuple[DeviceRow, ...]


class ModelRow(_Part):
    model: str
    source: str


class ModelDocument(_Part):
    """`models`."""

    schema_version: int = 1
    models: tuple[ModelRow, ...]


class CachePart(_Part):
    """The cache as a whole; `bytes`: of all artifacts, a file that several of them share counted once."""

    folder: str
    bytes: int
    cap_bytes: int


class CachedRow(_Part):
    """One folder of the cache. What only its record would say is `null` where that is damaged."""

    model: str | None = None
    source: str | None = None
    size: tuple[int, int] | None = None
    format: str | None = None
    precision: str | None = None
    # `null`: takes any number of images.
    batch: int | None = None
    bytes: int
    sha256: str | None = None
    last_used_at: str
    in_use: bool
    damaged: bool = False


class CacheDocument(_Part):
    """`cache list`."""

    schema_version: int = 1
    cache: CachePart
    artifacts: tuple[CachedRow, ...]


Document = ResultDocument | ArtifactDocument | DeviceDocument | ModelDocument | CacheDocument
