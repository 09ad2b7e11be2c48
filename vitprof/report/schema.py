"""The JSON documents of docs/interface.md, as the models that write them.

Its own file because scripts rely on these names, their nesting and their order, and a reader wants to see them without
the code that fills them: what is not here is not in the JSON. Unknown is `null`; shares lie in 0-1.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vitprof.counts import Kind


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def is_absent(value: object) -> bool:
    return value is None


def is_false(value: object) -> bool:
    return value is False


class FailurePart(Part):
    stage: str
    error: str
    remedy: str
    # `out of memory`, where that is known; not there for anything else.
    kind: str | None = Field(default=None, exclude_if=is_absent)


class LatencyPart(Part):
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
    # By the accelerator's own clock, without what submitting and waiting take.
    device_p50: int | None = None


class RelativePart(Part):
    reference: str
    ratio: float
    ci95: tuple[float, float] | None
    reference_spread: float | None
    grade: str


class ColdPart(Part):
    load: int
    build: int | None
    first_call: int


class KindPart(Part):
    """All operators of one kind."""

    calls: int
    macs: int
    bytes_in: int
    bytes_out: int
    weight_bytes: int


class CostPart(Part):
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


class MemoryPart(Part):
    """Of one process, the largest of the sets. `peak_rss_bytes` has loading in it, the next one has not."""

    peak_rss_bytes: int | None
    peak_rss_measuring_bytes: int | None = None
    # By the runtime's allocator, and by the driver, which sees code and context as well.
    peak_device_bytes: int | None
    peak_device_nvml_bytes: int | None = None


class EnergyPart(Part):
    """Of the whole device that `source` counts. `j_per_image` has what it uses at rest in it."""

    source: str | None
    j_per_image: float
    j_above_idle_per_image: float | None
    power_w: float | None
    idle_power_w: float | None


class InstructionsPart(Part):
    """`value`: the median call; `spread`: (largest - smallest) ÷ median."""

    value: int
    spread: float
    calls: int
    counted_by: str


class ParityPart(Part):
    verdict: str
    where: str | None
    max_rel_error: float | None
    cosine: float | None
    top1_agreement: float | None
    reason: str | None


class ArtifactPart(Part):
    format: str
    sha256: str
    bytes: int
    fixups: tuple[str, ...]
    exporter: str


class PlacementPart(Part):
    ops: float | None
    macs: float | None


class WarningPart(Part):
    code: str
    detail: str
    remedy: str


class ResultRow(Part):
    """One cell. `failure` is there on failed rows only, the three lists of samples only where they were asked for.

    Of a row that was imported from a published table `region`, `protocol_hash`, `vitprof_version` and `started_at` are
    not known.
    """

    model: str
    source: str
    # Only there where it is true: of a model whose blocks may be fused for inference, and were not.
    as_built: bool = Field(default=False, exclude_if=is_false)
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
    failure: FailurePart | None = Field(default=None, exclude_if=is_absent)
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
    energy: EnergyPart | None = None
    launch_share: float | None = None
    instructions_per_inference: InstructionsPart | None = None
    parity: ParityPart | None
    artifact: ArtifactPart | None
    placement: PlacementPart | None
    grade: str | None
    warnings: tuple[WarningPart, ...]
    protocol_hash: str | None
    environment: dict[str, Any]
    vitprof_version: str | None
    started_at: str | None
    samples_ns: tuple[int, ...] | None = Field(default=None, exclude_if=is_absent)
    warm_up_samples_ns: tuple[int, ...] | None = Field(default=None, exclude_if=is_absent)
    set_aside_samples_ns: tuple[int, ...] | None = Field(default=None, exclude_if=is_absent)


class ResultDocument(Part):
    """`latency` and `results list`, later `throughput` and `sweep`."""

    schema_version: int = 1
    results: tuple[ResultRow, ...]


class ProgramPart(Part):
    """The operators of a converted file, constants left out: by type, and by the type of their values."""

    # `tensor` or `image`.
    input: str
    ops: dict[str, int]
    dtypes: dict[str, int]
    params: int | None
    macs: int | None


class ArtifactRow(Part):
    """One exported file, or why there is none."""

    model: str
    format: str
    path: str | None
    bytes: int | None
    sha256: str | None
    outcome: str
    failure: FailurePart | None = Field(default=None, exclude_if=is_absent)
    parity: ParityPart | None
    fixups: tuple[str, ...]
    seconds: float | None
    exporter: str | None
    # `null` where the format does not say it.
    program: ProgramPart | None = None
    lint: tuple[WarningPart, ...] = ()


class ArtifactDocument(Part):
    """`export`."""

    schema_version: int = 1
    artifacts: tuple[ArtifactRow, ...]


class DeviceRow(Part):
    name: str
    kind: str
    chip: str
    transport: str
    backends: tuple[str, ...]
    reachable: bool | None


class DeviceDocument(Part):
    """`devices list`."""

    schema_version: int = 1
    devices: tuple[DeviceRow, ...]


class PeakPart(Part):
    value: float
    ci95: tuple[float, float] | None
    source: str


class LaunchPart(Part):
    value: int
    ci95: tuple[int, int] | None
    source: str


class PeaksPart(Part):
    macs_per_s: PeakPart
    bytes_per_s: PeakPart
    launch_ns: LaunchPart | None


class CalibrationRow(Part):
    """The peaks of one backend, or why there are none."""

    device: str
    backend: str
    precision: str
    threads: int
    outcome: str
    failure: FailurePart | None = Field(default=None, exclude_if=is_absent)
    peaks: PeaksPart | None
    grade: str | None
    warnings: tuple[WarningPart, ...]


class CalibrationDocument(Part):
    """`devices calibrate`."""

    schema_version: int = 1
    calibrations: tuple[CalibrationRow, ...]


class ModelRow(Part):
    model: str
    source: str


class ModelDocument(Part):
    """`models`."""

    schema_version: int = 1
    models: tuple[ModelRow, ...]


class CachePart(Part):
    """The cache as a whole; `bytes`: of all artifacts, a file that several of them share counted once."""

    folder: str
    bytes: int
    cap_bytes: int


class CachedRow(Part):
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


class CacheDocument(Part):
    """`cache list`."""

    schema_version: int = 1
    cache: CachePart
    artifacts: tuple[CachedRow, ...]
