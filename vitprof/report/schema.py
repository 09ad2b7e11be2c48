"""The JSON documents of docs/interface.md, as the models that write them.

Its own file because scripts rely on these names, their nesting and their order, and a reader wants to see them without
the code that fills them: what is not here is not in the JSON. Unknown is `null`; shares lie in 0-1.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vitprof.counts import Kind


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


class KindPart(_Part):
    """All operators of one kind."""

    calls: int
    macs: int
    bytes_in: int
    bytes_out: int
    weight_bytes: int


class CostPart(_Part):
    """Of one image. What has a default is not in documents of older versions."""

    params: int | None
    macs: int | None
    weight_bytes: int | None
    activation_bytes: int | None
    # Values, as a published table counts them: not the bytes above, which are the outputs of all operators.
    activations: int | None = None
    ops: int | None = None
    # `null` where only sums are known.
    kinds: dict[Kind, KindPart] | None = None
    uncounted_ops: dict[str, int]
    coverage: float | None
    is_lower_bound: bool = False


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
    """One cell. `failure` is there on failed rows only, the three lists of samples only where they were asked for.

    Of a row that was imported from a published table `region`, `protocol_hash`, `vitprof_version` and `started_at` are
    not known.
    """

    model: str
    source: str
    size: tuple[int, int] | None
    batch: int
    precision: str
    device: str
    backend: str
    backend_version: str | None
    threads: int | None
    region: str | None
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
    protocol_hash: str | None
    environment: dict[str, Any]
    vitprof_version: str | None
    started_at: str | None
    samples_ns: tuple[int, ...] | None = Field(default=None, exclude_if=_is_absent)
    warm_up_samples_ns: tuple[int, ...] | None = Field(default=None, exclude_if=_is_absent)
    set_aside_samples_ns: tuple[int, ...] | None = Field(default=None, exclude_if=_is_absent)


class ResultDocument(_Part):
    """`latency` and `results list`, later `throughput` and `sweep`."""

    schema_version: int = 1
    results: tuple[ResultRow, ...]


class OpPart(_Part):
    """One operator of one module, its equal calls added up; bytes of fp32 and of one image."""

    op: str
    kind: str
    module: str
    calls: int
    macs: int
    bytes_in: int
    bytes_out: int
    # Of `bytes_in`.
    weight_bytes: int
    shape_out: tuple[int, ...]
    depends_on_input: bool


class OtherCountPart(_Part):
    counter: str
    version: str
    printed: str | None
    macs: int | None
    reasons: tuple[str, ...]
    error: str | None


class CountRow(_Part):
    """One counted model. `cross_check` is there only where it was asked for."""

    model: str
    source: str
    size: tuple[int, int] | None
    outcome: str
    failure: FailurePart | None = Field(default=None, exclude_if=_is_absent)
    params: int | None
    macs: int | None
    macs_is_lower_bound: bool | None
    weight_bytes: int | None
    activation_bytes: int | None
    bytes_moved: int | None
    macs_per_byte: float | None
    ledgers: dict[str, int] | None
    by_kind: dict[str, int] | None
    ops: int | None
    uncounted_ops: dict[str, int]
    coverage: float | None
    reparam: bool
    fixups: tuple[str, ...]
    rows: tuple[OpPart, ...]
    cross_check: tuple[OtherCountPart, ...] | None = Field(default=None, exclude_if=_is_absent)


class CountDocument(_Part):
    """`count`."""

    schema_version: int = 1
    results: tuple[CountRow, ...]


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


class PeakPart(_Part):
    value: float
    ci95: tuple[float, float] | None
    source: str


class LaunchPart(_Part):
    value: int
    ci95: tuple[int, int] | None
    source: str


class PeaksPart(_Part):
    macs_per_s: PeakPart
    bytes_per_s: PeakPart
    launch_ns: LaunchPart | None


class CalibrationRow(_Part):
    """The peaks of one backend, or why there are none."""

    device: str
    backend: str
    precision: str
    threads: int
    outcome: str
    failure: FailurePart | None = Field(default=None, exclude_if=_is_absent)
    peaks: PeaksPart | None
    grade: str | None
    warnings: tuple[WarningPart, ...]


class CalibrationDocument(_Part):
    """`devices calibrate`."""

    schema_version: int = 1
    calibrations: tuple[CalibrationRow, ...]


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


class TimedWorkPart(_Part):
    """Shares are of all operators together; `null` where it could not be told what an operator does."""

    ns: int
    time_share: float | None
    macs: int | None
    macs_share: float | None
    bytes: int | None
    bytes_share: float | None
    macs_per_s: float | None


class LayerKindPart(_Part):
    """`kind` `null`: the operators of which it could not be told what they do."""

    kind: str | None
    ops: int
    work: TimedWorkPart


class LayerModulePart(_Part):
    module: str | None
    ops: int
    work: TimedWorkPart


class LayerOpPart(_Part):
    name: str
    op: str
    kind: str | None
    module: str
    calls: int
    work: TimedWorkPart
    members: tuple[str, ...]


class LayersDocument(_Part):
    """`layers`."""

    schema_version: int = 1
    model: str
    source: str
    size: tuple[int, int]
    batch: int
    precision: str
    device: str
    backend: str
    backend_version: str
    threads: int
    runs: int
    total_ns: int
    overhead_ns: int
    unattributed_share: float | None
    unseen_macs_share: float | None
    by_kind: tuple[LayerKindPart, ...]
    by_module: tuple[LayerModulePart, ...]
    ops: tuple[LayerOpPart, ...]
    disagreements: tuple[str, ...]


class CorrelationPart(_Part):
    value: float
    ci95: tuple[float, float] | None


class CountCorrelations(_Part):
    """By count; `null` where too few models have it."""

    macs: CorrelationPart | None
    params: CorrelationPart | None
    activations: CorrelationPart | None
    roofline: CorrelationPart | None


class InversionRow(_Part):
    """Sizes and batches tell models of one name apart; the ratios are slower ÷ faster."""

    slower: str
    faster: str
    slower_size: tuple[int, int] | None
    faster_size: tuple[int, int] | None
    slower_batch: int
    faster_batch: int
    macs_ratio: float
    time_ratio: float
    reason: str


class InversionsPart(_Part):
    total: int
    pairs: int
    rows: tuple[InversionRow, ...]


class FitPart(_Part):
    log_macs_r2: float | None


class GroupRow(_Part):
    """`time`: `latency`, or `time_per_image` where images/s or a larger batch were measured."""

    device: str
    backend: str
    precision: str
    # `null`: every batch of a published table together.
    batch: int | None
    models: int
    time: str
    spearman: CountCorrelations
    kendall: CountCorrelations
    best_count: str | None
    inversions: InversionsPart
    fit: FitPart


class PairRow(_Part):
    model: str
    baseline: str
    candidate: str
    ratio: float | None
    ci95: tuple[float, float] | None
    verdict: str | None
    confounders: tuple[str, ...]


class ComparisonDocument(_Part):
    """`compare`."""

    schema_version: int = 1
    metric: str
    groups: tuple[GroupRow, ...]
    pairs: tuple[PairRow, ...]


class FrontRow(_Part):
    model: str
    size: tuple[int, int] | None
    accuracy: float
    cost: float
    ci95: tuple[float, float] | None
    on_front: bool
    indistinguishable: bool
    dominated_by: str | None


class FrontDocument(_Part):
    """`pareto`; `unit`: of `rows[].cost`."""

    schema_version: int = 1
    cost: str
    unit: str
    rows: tuple[FrontRow, ...]


Document = (
    LayersDocument
    | ResultDocument
    | CountDocument
    | ArtifactDocument
    | DeviceDocument
    | ModelDocument
    | CacheDocument
    | CalibrationDocument
    | ComparisonDocument
    | FrontDocument
)
