"""The JSON documents of what is worked out: `count`, `layers`, `compare`, `pareto`.

Its own file beside `schema`, which has the documents of what is measured, exported and kept.
"""

from __future__ import annotations

from pydantic import Field

from vitprof.report.schema import FailurePart, Part, is_absent


class OpPart(Part):
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


class OtherCountPart(Part):
    counter: str
    version: str
    printed: str | None
    macs: int | None
    reasons: tuple[str, ...]
    error: str | None


class CountRow(Part):
    """One counted model. `cross_check` is there only where it was asked for."""

    model: str
    source: str
    size: tuple[int, int] | None
    outcome: str
    failure: FailurePart | None = Field(default=None, exclude_if=is_absent)
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
    cross_check: tuple[OtherCountPart, ...] | None = Field(default=None, exclude_if=is_absent)


class CountDocument(Part):
    """`count`."""

    schema_version: int = 1
    results: tuple[CountRow, ...]


class TimedWorkPart(Part):
    """Shares are of all operators together; `null` where it could not be told what an operator does."""

    ns: int
    time_share: float | None
    macs: int | None
    macs_share: float | None
    bytes: int | None
    bytes_share: float | None
    macs_per_s: float | None


class LayerKindPart(Part):
    """`kind` `null`: the operators of which it could not be told what they do."""

    kind: str | None
    ops: int
    work: TimedWorkPart


class LayerModulePart(Part):
    module: str | None
    ops: int
    work: TimedWorkPart


class LayerOpPart(Part):
    name: str
    op: str
    kind: str | None
    module: str
    calls: int
    work: TimedWorkPart
    members: tuple[str, ...]
    placed: str | None


class LayersDocument(Part):
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
    # `total_ns` alone was measured.
    estimated: bool
    by_kind: tuple[LayerKindPart, ...]
    by_module: tuple[LayerModulePart, ...]
    ops: tuple[LayerOpPart, ...]
    disagreements: tuple[str, ...]


class CorrelationPart(Part):
    value: float
    ci95: tuple[float, float] | None


class CountCorrelations(Part):
    """By count; `null` where too few models have it."""

    macs: CorrelationPart | None
    params: CorrelationPart | None
    activations: CorrelationPart | None
    roofline: CorrelationPart | None


class InversionRow(Part):
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


class InversionsPart(Part):
    total: int
    pairs: int
    rows: tuple[InversionRow, ...]


class FitPart(Part):
    log_macs_r2: float | None


class GroupRow(Part):
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


class PairRow(Part):
    model: str
    baseline: str
    candidate: str
    ratio: float | None
    ci95: tuple[float, float] | None
    verdict: str | None
    confounders: tuple[str, ...]


class ComparisonDocument(Part):
    """`compare`."""

    schema_version: int = 1
    metric: str
    groups: tuple[GroupRow, ...]
    pairs: tuple[PairRow, ...]


class FrontRow(Part):
    model: str
    size: tuple[int, int] | None
    accuracy: float
    cost: float
    ci95: tuple[float, float] | None
    on_front: bool
    indistinguishable: bool
    dominated_by: str | None


class FrontDocument(Part):
    """`pareto`; `unit`: of `rows[].cost`."""

    schema_version: int = 1
    cost: str
    unit: str
    rows: tuple[FrontRow, ...]
