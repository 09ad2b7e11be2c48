"""What comparisons are made of and what they say: values between the store, the analysis and the reports.

Its own file beside `records`: a `Point` is all that a comparison knows of a measurement, whether it was taken here,
read from the store, or published by somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitprof.counts import Kind, KindSum
from vitprof.records import Interval


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
    ops: int | None = None
    kinds: tuple[KindSum, ...] = ()
    # Share of the measured time by kind of operator, from a layer profile; the rest could not be attributed.
    time_shares: Mapping[Kind, float] | None = None
    placement_ops_share: float | None = None
    grade: str | None = None
    protocol_hash: str | None = None
    backend_version: str | None = None
    threads: int | None = None
    run: str | None = None
    started_at: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)


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
