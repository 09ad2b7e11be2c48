"""What comparisons are made of and what they say: values between the store, the analysis and the reports.

Its own file beside `records`: a `Point` is all that a comparison knows of a measurement, whether it was taken here,
read from the store, or published by somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vitprof.counts import Kind, KindSum
from vitprof.measurements import Interval
from vitprof.records import ModelSpec


@dataclass(frozen=True)
class Point:
    """One measured model. Counts are those of one image; whatever the source does not tell is None."""

    model: str
    size: tuple[int, int] | None
    batch: int
    precision: str
    device: str
    backend: str
    # Time of one inference divided by its images: at a large batch it is throughput inverted, not latency.
    image_ns: float
    # Absolute time of one inference with its interval; the ratio to the reference cell with its own.
    latency_ns: Interval | None = None
    ratio: Interval | None = None
    reference: str | None = None
    macs: float | None = None
    params: float | None = None
    # timm's count of activations where a table has it, else bytes.
    activations: float | None = None
    roofline_ns: float | None = None
    # Peak of the process that ran it, or of the device: whatever the source has.
    memory_bytes: float | None = None
    ops: int | None = None
    kinds: tuple[KindSum, ...] = ()
    # Share of the measured time by kind of operator, from a layer profile; the rest could not be attributed.
    time_shares: Mapping[Kind, float] | None = None
    placement_ops_share: float | None = None
    grade: str | None = None
    # Of the ratio: it may be sound where the nanoseconds are not.
    ratio_grade: str | None = None
    protocol_hash: str | None = None
    backend_version: str | None = None
    threads: int | None = None
    run: str | None = None
    started_at: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)


def is_relative(points: Sequence[Point]) -> bool:
    """Whether the points have their ratios in common: each has one, to the same reference by the same protocol."""
    yardsticks = {(point.reference, point.protocol_hash) for point in points}
    return len(yardsticks) == 1 and all(point.ratio is not None for point in points)


def comparable_times(points: Sequence[Point]) -> tuple[float, ...]:
    """Times of one image that may be compared: as multiples of the reference where the points have one in common.

    The ratio is free of the machine's moods; a group of which one point lacks it has only nanoseconds in common.
    """
    relative = is_relative(points)
    return tuple(point.ratio.value / point.batch if relative and point.ratio else point.image_ns for point in points)


@dataclass(frozen=True)
class Correlation:
    """A rank correlation of time with a count; None where there is too little to say."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Inversion:
    """`slower` has far fewer MACs than `faster` and takes far longer; ratios are slower ÷ faster."""

    slower: Point
    faster: Point
    macs_ratio: float
    time_ratio: float
    # In words, from the operators of both; `unexplained` where they give none.
    reason: str

    @property
    def severity(self) -> float:
        return self.time_ratio / self.macs_ratio


@dataclass(frozen=True)
class Limits:
    """From where on a pair is an inversion."""

    macs_ratio: float = 0.7
    time_ratio: float = 1.5


@dataclass(frozen=True)
class Disagreement:
    """How well counts predict time over the models of one group. `batch` None: every batch of a table together."""

    device: str
    backend: str
    precision: str
    batch: int | None
    points: tuple[Point, ...]
    # By count: macs, params, activations, roofline.
    spearman: Mapping[str, Correlation]
    kendall: Mapping[str, Correlation]
    log_macs_r2: float | None
    inversions_total: int
    pairs: int
    inversions: tuple[Inversion, ...]
    # The count with the highest Spearman; None where none could be computed.
    best_count: str | None
    # What tells it from a group that is like it in all of the above: `4 threads`; "" where there is none.
    label: str = ""


@dataclass(frozen=True)
class PairVerdict:
    """One model on a baseline and on a candidate. `ratio`: candidate ÷ baseline, of times."""

    model: str
    baseline: str
    candidate: str
    ratio: Interval | None
    verdict: str | None
    confounders: tuple[str, ...]


@dataclass(frozen=True)
class FrontPoint:
    """One candidate of a Pareto front: accuracy to gain, cost to pay, and whether anything beats it."""

    model: str
    size: tuple[int, int] | None
    accuracy: float
    cost: Interval
    is_on_front: bool
    # Dominated by value, but not beyond the cost's interval.
    is_indistinguishable: bool = False
    dominated_by: str | None = None
    dominated_by_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class TimedWork:
    """Time of a part of an inference beside its counted work; shares are of all operators together.

    Counts are None where the part could not be told from the counted operators, shares also where there is nothing to
    share.
    """

    ns: float
    time_share: float | None
    macs: int | None
    macs_share: float | None
    # Read and written, in fp32, by the whole batch.
    bytes_moved: int | None
    bytes_share: float | None
    macs_per_s: float | None


@dataclass(frozen=True)
class LayerOp:
    """One operator as the runtime ran it. `kind` None: it could not be told what it does."""

    name: str
    op: str
    kind: Kind | None
    module: str
    calls: int
    work: TimedWork
    # The counted operators that it does the work of.
    members: tuple[str, ...]
    # The unit that it runs on, where the runtime tells: cpu, gpu, ane.
    placed: str | None = None


@dataclass(frozen=True)
class LayerSum:
    """The operators of one module or one kind together; `name` None: those that could not be told."""

    name: str | None
    ops: int
    work: TimedWork


@dataclass(frozen=True)
class LayerProfile:
    """Where the time of an inference goes, beside the work that was counted for it."""

    # Under the profiler, which costs time in every operator: not the model's latency.
    total_ns: float
    # Of it, what no operator took: the runtime between operators, and the profiler.
    overhead_ns: float
    runs: int
    # Of the operators' time, what could not be told from the counted operators.
    unattributed_share: float | None
    # Of the counted MACs, what no operator of the profile was found to do.
    unseen_macs_share: float | None
    ops: tuple[LayerOp, ...]
    by_kind: tuple[LayerSum, ...]
    by_module: tuple[LayerSum, ...]
    # The worst first, in words.
    disagreements: tuple[str, ...]
    # The whole was measured; how it is shared is the runtime's own estimate.
    is_estimate: bool = False

    @property
    def time_shares(self) -> Mapping[Kind, float]:
        """As `Point.time_shares` has it."""
        shares = {Kind(one.name): one.work.time_share for one in self.by_kind if one.name is not None}
        return {kind: share for kind, share in shares.items() if share is not None}


@dataclass(frozen=True)
class ProfiledModel:
    """A layer profile with what it is of."""

    spec: ModelSpec
    # (N, C, H, W)
    input_shape: tuple[int, ...]
    device: str
    backend: str
    backend_version: str
    threads: int
    profile: LayerProfile
