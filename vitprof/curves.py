"""Throughput against batch and size: values between who measures it, the analysis and the reports.

Its own file beside `comparisons`, whose points are single measurements: a curve is several of one model, and says more
than its points do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from vitprof.measurements import Interval, Samples
from vitprof.records import Result

# Who counts an accelerator's memory: the runtime what it has allocated, the driver what the process holds, its context
# and its code among it.
ALLOCATOR, NVML = "allocator", "nvml"


# Processors level off by 16 and GPUs by 512: a search that gets here is one step beyond what anybody has use for.
MAX_BATCH = 1024


class StoppedBy(StrEnum):
    """What ended the search for the best batch."""

    # Two batches in a row brought next to nothing.
    SATURATION = "saturation"
    # A batch ran out of memory, or would have.
    MEMORY = "memory"
    # The largest batch that is tried.
    CAP = "cap"
    # A batch failed for another reason.
    FAILURE = "failure"
    # There was no search: the batches were given.
    ASKED = "asked"
    INTERRUPTED = "interrupted"


class PointOutcome(StrEnum):
    OK = "ok"
    OUT_OF_MEMORY = "out of memory"
    FAILED = "failed"


@dataclass(frozen=True)
class CurvePoint:
    """One batch of a curve; what was not measured is None."""

    batch: int
    outcome: PointOutcome
    images_per_s: Interval | None = None
    # Images in the time of one call of the reference cell: what the machine's clock leaves alone.
    images_per_reference: Interval | None = None
    # How much faster than the fastest smaller batch.
    gain_share: float | None = None
    # Of one inference with all of its images.
    latency_ns: Interval | None = None
    grade: str | None = None
    relative_grade: str | None = None
    # Peaks: of the process, and of an accelerator's own memory by whoever counts it.
    peak_rss_bytes: int | None = None
    # The process from the first block on: its peak may be that of loading, which no batch changes.
    running_rss_bytes: int | None = None
    device_bytes: tuple[DeviceBytes, ...] = ()
    # Its outputs are not the model's: its time is not the model's either.
    is_broken: bool = False
    # Points with the same number were measured together, round by round.
    group: int | None = None
    samples: Samples | None = field(default=None, compare=False, repr=False)

    @property
    def memory_bytes(self) -> int | None:
        """Of the memory that decides how large a batch may be: the accelerator's where it has its own."""
        return max((one.bytes for one in self.device_bytes), default=self.peak_rss_bytes)


@dataclass(frozen=True)
class DeviceBytes:
    """An accelerator's memory, as `counted_by` has it."""

    counted_by: str
    bytes: int


@dataclass(frozen=True)
class Headroom:
    """What the best batch leaves of the memory that its runner may take."""

    # Whose: `host` or `device`.
    memory: str
    # Of this machine what was free before, of anything else what there is.
    usable_bytes: int
    taken_bytes: int
    # By a straight line through the points: an estimate. None where the line does not rise.
    largest_batch: int | None

    @property
    def left_bytes(self) -> int:
        return self.usable_bytes - self.taken_bytes


@dataclass(frozen=True)
class Curve:
    """One model at one size on one backend; `name`: what it is called among the curves of its run, without its size."""

    name: str
    size: tuple[int, int] | None
    # Both by batch, a row a point.
    points: tuple[CurvePoint, ...]
    rows: tuple[Result, ...]
    stopped_by: StoppedBy
    # The smallest batch that cannot be told from the fastest; None where no batch was measured.
    best_batch: int | None = None
    # The smallest batch with 95 % of the speed of the fastest, or the best one where that is smaller.
    knee_batch: int | None = None
    headroom: Headroom | None = None

    @property
    def row(self) -> Result:
        """For what all of its rows share: one that knows as much of it as any."""
        return next((row for row in self.rows if row.summary), self.rows[0])

    def at(self, batch: int) -> CurvePoint | None:
        return next((point for point in self.points if point.batch == batch), None)


class Axis(StrEnum):
    BATCH = "batch"
    # The side of a square of so many pixels.
    SIZE = "size"


@dataclass(frozen=True)
class Crossover:
    """Along `axis`, `below` is faster up to about `at`, `above` beyond it."""

    axis: Axis
    below: str
    above: str
    # Where the two are alike, by interpolation; measured were the two ends of `between`.
    at: float
    between: tuple[float, float]
    # False: one of them is not clearly faster on one of the sides.
    is_decided: bool
    # What the other axis stood at: a batch, or a size (None where it is the models' own).
    batch: int | None = None
    size: tuple[int, int] | None = None
