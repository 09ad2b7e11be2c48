"""What measuring gives: how it was done, the raw samples, and what they say.

Its own file beside `records`, whose rows hold these: the analysis of samples needs nothing of models and devices.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum

from vitprof.runner.wire import Block, End, Failure, Ready


class Grade(StrEnum):
    """Trust in a number. A: interval met and steady; B: interval missed; C: drifting, throttled or disturbed."""

    A = "A"
    B = "B"
    C = "C"


class StopReason(StrEnum):
    """The rule that ended a cell's measuring."""

    PRECISION = "precision"
    CAP = "cap"
    DURATION = "duration"
    CALLS = "calls"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Region(StrEnum):
    """What is timed: from submitting to completion, or from an image in the host's memory to outputs in it."""

    CALL = "call"
    E2E = "e2e"


class Order(StrEnum):
    """Of the cells in the rounds of a set. `ABBA`: one order, every other round backwards."""

    SHUFFLED = "shuffled"
    ABBA = "abba"


@dataclass(frozen=True)
class Protocol:
    """How a group is measured (docs/protocol.md). Everything here changes a number, so all of it is in the hash."""

    effort: str
    sets: int
    precision_goal_share: float
    # Wall-clock share of a cell in its group, start of the processes and reference blocks included.
    cap_s_per_cell: float
    min_rounds_per_set: int = 3
    # The interval of a few rounds is too narrow by chance; who stops on it stops early (tests/benchmarks/pairs.py).
    min_rounds_for_interval: int = 16
    min_calls: int = 30
    measure_ns: int | None = None
    measure_calls: int | None = None
    block_ns: int = 50_000_000
    min_block_calls: int = 3
    slow_call_ns: int = 500_000_000
    warm_up_blocks: int = 5
    warm_up_floor_ns: int = 300_000_000
    warm_up_cap_ns: int = 3_000_000_000
    # On a warm but noisy machine five blocks in a row pass 5 % and 2 % in 29 % of the windows, these in 60 %.
    warm_up_neighbour_share: float = 0.10
    warm_up_trend_share: float = 0.05
    region: str = "call"
    reference: str = ""
    version: int = 1
    order: Order = Order.SHUFFLED
    # How long a block's first calls are set aside; 0: one is.
    rewarm_ns: int = 0

    @property
    def hash(self) -> str:
        """Twelve hex digits that are equal exactly where numbers may be compared."""
        fields = dataclasses.asdict(self)
        # Fields that came later: a protocol that does not use them is the one that it was.
        later = {"order": Order.SHUFFLED, "rewarm_ns": 0}
        fields = {name: value for name, value in fields.items() if value != later.get(name, ...)}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Round:
    """One block of a cell with the mean call time of the reference just before and just after it (or None)."""

    block: Block
    reference_before_ns: float | None
    reference_after_ns: float | None
    is_warm_up: bool


@dataclass(frozen=True)
class SetSamples:
    """What one fresh process of a cell gave."""

    ready: Ready
    rounds: tuple[Round, ...]
    is_warm: bool
    end: End | None = None


@dataclass(frozen=True)
class Samples:
    """Raw measurements of one cell: everything that statistics are computed from, again and again."""

    sets: tuple[SetSamples, ...]
    stop_reason: StopReason
    failure: Failure | None = None


@dataclass(frozen=True)
class Doubt:
    """Doubt as data: a code for scripts, the facts, and what to do about it."""

    code: str
    detail: str
    remedy: str


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; `low` and `high` are None where there is too little to say."""

    value: float
    low: float | None
    high: float | None

    @property
    def half_width_share(self) -> float | None:
        """Half the interval as a share of the value."""
        if self.low is None or self.high is None or not self.value:
            return None
        return (self.high - self.low) / (2 * self.value)


@dataclass(frozen=True)
class Latency:
    """Raw call times in nanoseconds of one call; a percentile is None where too few calls were counted."""

    p50_ns: Interval
    p90_ns: float | None
    p99_ns: float | None
    mean_ns: float
    min_ns: float
    max_ns: float
    samples: int
    sets: int
    rounds: int
    warm_up_samples: int
    outliers: int


@dataclass(frozen=True)
class Relative:
    """Time as a multiple of the reference cell's, taken block by block."""

    reference: str
    ratio: Interval
    reference_spread: float
    reference_p50_ns: float
    grade: Grade


@dataclass(frozen=True)
class Energy:
    """Of the whole device that `source` counts, over calls without a pause."""

    # None: a runner of an older version, which did not say.
    source: str | None
    # What the device uses at rest is in it.
    j_per_image: float
    power_w: float | None
    # At rest, before the model was loaded: the least of the processes.
    idle_power_w: float | None
    # Without what rest would have taken in that time.
    j_above_idle_per_image: float | None


@dataclass(frozen=True)
class Summary:
    """What samples say, by version `version` of the analysis: recomputed from them when that is older."""

    version: int
    latency: Latency
    relative: Relative | None
    drift_corrected_ns: float | None
    cold_load_ns: int
    cold_build_ns: int | None
    cold_first_call_ns: int
    throughput_images_per_s: float
    achieved_macs_per_s: float | None
    peak_rss_bytes: int | None
    grade: Grade
    warnings: tuple[Doubt, ...]
    # Of an accelerator: its memory by the runtime's allocator, and by NVML, which sees code and context as well.
    peak_device_bytes: int | None = None
    peak_device_nvml_bytes: int | None = None
    # The median call by the accelerator's own clock, without what submitting and waiting take.
    device_p50_ns: float | None = None
    energy: Energy | None = None
    # How far the medians of the sets lie apart (largest ÷ smallest − 1), where each set built its own engine.
    build_spread: float | None = None
    # What of a call, by the accelerator's clock, a graph of the same call does not take, 0-1: the cost of launching.
    launch_share: float | None = None
    # From the first block on, where the system tells it: `peak_rss_bytes` has what loading took in it.
    peak_rss_measuring_bytes: int | None = None


@dataclass(frozen=True)
class Instructions:
    """Executed by the processor for one inference at its batch, as an emulator counted them."""

    # The median over the calls, and how far they lie apart: (largest - smallest) ÷ median.
    per_inference: int
    spread: float
    calls: int
    # Which emulator, as which processor.
    counted_by: str
