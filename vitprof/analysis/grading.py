"""How far a number can be trusted: two grades, and the doubts in words, each with what to do about it.

Its own file because thresholds change with experience and formulas do not. A number is always given: doubt lowers
its grade and adds a warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from vitprof.measurements import Doubt, Grade, Interval, Protocol, StopReason
from vitprof.runner.wire import Block, Ready
from vitprof.units import text_from_ns, text_from_share

# A reference whose blocks spread by more than this leaves no absolute number to be sure of.
UNSTEADY_REFERENCE_SPREAD = 0.10
# The absolute interval is met at half that spread: it is widened by half the spread on each side.
_ABSOLUTE_GOAL_SHARE = UNSTEADY_REFERENCE_SPREAD / 2
# Ratios that rise or fall by more than this within each set, in the same direction, are drift and not noise:
# in the recorded noise, five sets of 16 rounds agree on a direction in 3 % of cases, and then by at most 1.0 %.
_DRIFT_RATIO_SHARE = 0.03
# Raw times follow the machine: a trend counts once it is as large as the unsteadiness that caps the grade.
_DRIFT_RAW_SHARE = UNSTEADY_REFERENCE_SPREAD
# A block is disturbed when its threads waited for a core for more than this share of it …
_DISTURBED_BLOCK_SHARE = 0.05
# … and a cell when more than this share of its blocks were.
_DISTURBED_CELL_SHARE = 0.25
# Three busy cores in four before the measurement begins: the cells will have to share.
_LOAD_PER_CORE = 0.75


@dataclass(frozen=True)
class Evidence:
    """What the grades are decided on."""

    ratio_half_width: float | None
    has_reference: bool
    reference_spread: float
    # Both of logarithms.
    ratio_trends: tuple[float, ...]
    raw_trend: float
    cold_sets: int
    sets: int
    two_speeds: tuple[float, float, float] | None
    blocks: tuple[Block, ...]
    ready: Ready
    throttled: bool
    stop_reason: StopReason

    @property
    def drift(self) -> float:
        """The smallest trend of any set where all sets agree on the direction, else 0."""
        if all(value > 0 for value in self.ratio_trends) or all(value < 0 for value in self.ratio_trends):
            return min(self.ratio_trends, key=abs)
        return 0.0

    @property
    def disturbed_share(self) -> float:
        """Share of blocks whose threads stood waiting for a core."""
        disturbed = [block for block in self.blocks if _waited_share(block) > _DISTURBED_BLOCK_SHARE]
        return len(disturbed) / len(self.blocks)


def relative_grade(evidence: Evidence, protocol: Protocol) -> Grade:
    """Trust in the ratio to the reference."""
    if _is_unsound(evidence):
        return Grade.C
    return Grade.A if _is_goal_met(evidence, protocol) else Grade.B


def absolute_grade(evidence: Evidence, p50: Interval, protocol: Protocol) -> Grade:
    """Trust in the nanoseconds: never more than in the ratio.

    An unsteady reference caps it at B; a drift of the raw times makes it C.
    """
    if _is_unsound(evidence) or abs(evidence.raw_trend) > _DRIFT_RAW_SHARE:
        return Grade.C
    width = p50.half_width_share
    is_met = width is not None and width <= _ABSOLUTE_GOAL_SHARE and _is_goal_met(evidence, protocol)
    return Grade.A if is_met and evidence.reference_spread <= UNSTEADY_REFERENCE_SPREAD else Grade.B


def warnings_from(evidence: Evidence, protocol: Protocol) -> tuple[Doubt, ...]:
    """Every doubt as a code, the facts and a remedy."""
    return (*_of_machine(evidence), *_of_measurement(evidence, protocol))


def _is_goal_met(evidence: Evidence, protocol: Protocol) -> bool:
    """The ratio's interval is as narrow as asked; without a reference the raw median's own limit decides alone."""
    if not evidence.has_reference:
        return True
    return evidence.ratio_half_width is not None and evidence.ratio_half_width <= protocol.precision_goal_share


def _is_unsound(evidence: Evidence) -> bool:
    return (
        evidence.cold_sets > 0
        or evidence.throttled
        or abs(evidence.drift) > _DRIFT_RATIO_SHARE
        or evidence.disturbed_share > _DISTURBED_CELL_SHARE
        or evidence.stop_reason in (StopReason.FAILED, StopReason.INTERRUPTED)
        or _is_software_gpu(evidence)
        or _emulator(evidence) is not None
        or _hidden_blocks(evidence) > 0
        or _clock_jumps(evidence) > 0
    )


def _is_software_gpu(evidence: Evidence) -> bool:
    """The processor draws what a GPU was asked for: the number says nothing of any GPU."""
    return bool(evidence.ready.environment.get("gpu_is_software"))


def _hidden_blocks(evidence: Evidence) -> int:
    """Counted blocks during which a browser's page was hidden, or its device slept: browsers slow such pages down."""
    return sum(bool(block.sensors.get("page_hidden") or block.sensors.get("asleep_ns")) for block in evidence.blocks)


def _clock_jumps(evidence: Evidence) -> int:
    """Blocks that were thrown away because their times cannot be."""
    return sum(int(block.sensors.get("clock_jumps") or 0) for block in evidence.blocks)


def _emulator(evidence: Evidence) -> str | None:
    """What translated every instruction: the number says nothing of a real board."""
    emulator = evidence.ready.environment.get("emulator")
    return str(emulator) if emulator else None


def _waited_share(block: Block) -> float:
    own_ns = sum(block.samples_ns) + sum(block.set_aside_ns)
    return (block.queue_delay_ns or 0) / own_ns if own_ns else 0.0


def _of_machine(evidence: Evidence) -> Iterator[Doubt]:
    facts = evidence.ready.environment
    load, cores = facts.get("load_1min"), facts.get("cores", 1)
    if load is not None and load > _LOAD_PER_CORE * cores:
        detail = f"load {load} on {cores} cores before the measurement"
        yield Doubt("busy machine", detail, "close other programs and run again")
    governor = facts.get("governor")
    if governor not in (None, "performance"):
        yield Doubt("cpu governor", f"the governor is '{governor}'", "sudo cpupower frequency-set -g performance")
    if facts.get("power") == "battery":
        yield Doubt("on battery", "the machine runs on battery", "plug it in")
    if _is_software_gpu(evidence):
        detail = f"the processor did the GPU's work: {facts.get('gpu')}"
        yield Doubt("software gpu", detail, "take no speed from it; measure on a machine that has a GPU")
    if hidden := _hidden_blocks(evidence):
        detail = f"in {hidden} of {len(evidence.blocks)} blocks the page was hidden or the device slept"
        yield Doubt("page hidden", detail, "keep the page in front and the screen on, and run again")
    if jumps := _clock_jumps(evidence):
        detail = f"{jumps} blocks were measured again: their times cannot be"
        yield Doubt("clock jump", detail, "end what sets the clock of the device, and run again")
    emulator = _emulator(evidence)
    if emulator is not None:
        detail = f"{emulator} translated every instruction: wall times under emulation say nothing of a real board"
        yield Doubt("emulated", detail, "take parity from it and, with --metric instructions, counts, but no speed")
    if evidence.throttled:
        yield Doubt("throttled", "the processor throttled during the run", "let it cool, then run again")
    if abs(evidence.raw_trend) > _DRIFT_RAW_SHARE:
        detail = f"the raw times moved by {_moved(evidence.raw_trend)} from the first block to the last"
        yield Doubt("machine drifted", detail, "trust the ratio to the reference, not the milliseconds")
    if evidence.two_speeds:
        fast_ns, slow_ns, slow_share = evidence.two_speeds
        share = text_from_share(slow_share, 0)
        detail = f"blocks took {text_from_ns(fast_ns)} or {text_from_ns(slow_ns)}, the slower {share} of the time"
        yield Doubt("two-speed machine", detail, "trust the ratio to the reference, not the milliseconds")
    elif evidence.reference_spread > UNSTEADY_REFERENCE_SPREAD:
        detail = f"the reference's blocks spread by {text_from_share(evidence.reference_spread)}"
        yield Doubt("unsteady machine", detail, "trust the ratio to the reference, not the milliseconds")


def _moved(trend: float) -> str:
    """A rise on logarithms as a share: one of -1 leaves 37 %, and nothing falls by more than all of it."""
    return text_from_share(math.expm1(trend))


def _of_measurement(evidence: Evidence, protocol: Protocol) -> Iterator[Doubt]:
    if evidence.cold_sets:
        detail = f"{evidence.cold_sets} of {evidence.sets} sets were not steady when the warm-up ended"
        yield Doubt("warm-up not reached", detail, "run again on a quieter machine, or with --effort strict")
    if abs(evidence.drift) > _DRIFT_RATIO_SHARE:
        what = "the ratio to the reference" if evidence.has_reference else "the time"
        detail = f"{what} moved by {_moved(evidence.drift)} or more in every set"
        yield Doubt("drifting", detail, "let the machine settle; look for a leak if it repeats")
    if evidence.disturbed_share > _DISTURBED_CELL_SHARE:
        share = text_from_share(evidence.disturbed_share, 0)
        detail = f"in {share} of the blocks the threads waited for a core"
        yield Doubt("disturbed", detail, "close other programs, or use fewer --threads")
    width = evidence.ratio_half_width
    if width is not None and width > protocol.precision_goal_share:
        goal = text_from_share(protocol.precision_goal_share)
        detail = f"the ratio is known to ±{text_from_share(width)}, the goal was ±{goal}"
        yield Doubt("interval missed", detail, "run again with --effort strict, or with a longer --measure")
    tool = evidence.ready.environment.get("tool")
    if tool and evidence.ready.calls_per_sample > 1:
        detail = f"{tool} tells no single calls: {evidence.ready.calls_per_sample} of them make one sample"
        yield Doubt("aggregates only", detail, "percentiles, least and largest are of means over these calls")
    elif evidence.ready.calls_per_sample > 1:
        detail = f"one call is near the clock's step: {evidence.ready.calls_per_sample} calls make one sample"
        yield Doubt("calls batched", detail, "percentiles are of means over these calls")
