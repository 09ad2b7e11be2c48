"""What the regression gate says, and a cell over time: values between the gate's rule, the store and what is shown.

Its own file beside `reports`: a gate's word on a cell is more than a verdict on a ratio, since a cell that failed, or
that nothing is known to compare with, has one too; and of a history table, picture and JSON are told from one value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from vitprof.errors import ExitCode
from vitprof.measurements import Interval
from vitprof.reports import Cell


class GateVerdict(StrEnum):
    """Of one cell; in the order in which a reader must know it."""

    # No number to judge: the cell failed, or gives other outputs than the model's.
    FAILED = "failed"
    BROKEN = "parity broken"
    # There is a baseline, and it may not be compared with.
    REFUSED = "refused"
    SLOWER = "slower"
    UNDECIDED = "undecided"
    # Slower, on purpose.
    ACCEPTED = "accepted"
    NEW = "new"
    FINE = "fine"


_EXIT_CODES = {
    GateVerdict.FAILED: ExitCode.FAILED,
    GateVerdict.BROKEN: ExitCode.PARITY_BROKEN,
    GateVerdict.REFUSED: ExitCode.USAGE,
    GateVerdict.SLOWER: ExitCode.REGRESSION,
    GateVerdict.UNDECIDED: ExitCode.UNDECIDED,
}


@dataclass(frozen=True)
class Judgement:
    """What the rule says of one cell's numbers."""

    verdict: GateVerdict
    # Why, in words; "": the verdict says it all.
    reason: str
    # Candidate ÷ baseline. Each border holds in 95 % of cases by itself: together a 90 % interval.
    ratio: Interval | None = None
    # Above this a ratio is beyond what the baseline's own runs differ by; None: nothing tells.
    noise_ratio: float | None = None
    # Of one inference, candidate − baseline.
    excess_ns: float | None = None


@dataclass(frozen=True)
class GatedCell:
    """One cell of the candidate with what is said of it."""

    cell: Cell
    judgement: Judgement
    # The runs that it was compared with, the newest first.
    baseline_runs: tuple[str, ...] = ()
    # The run in which it was measured once more; why it was not, where it should have been.
    verified_in: str | None = None
    not_verified: str = ""
    # What else differs, as `kernel 6.1 against 6.8`.
    confounders: tuple[str, ...] = ()
    # What to do next, where there is something.
    remedy: str = ""

    @property
    def verdict(self) -> GateVerdict:
        return self.judgement.verdict


@dataclass(frozen=True)
class Gated:
    """What the gate says of a run, or of a model that was measured beside another."""

    # A run's id, or a model.
    candidate: str
    # As it was asked for: a run, `last:5`, a model.
    baseline: str
    limit_share: float
    cells: tuple[GatedCell, ...]
    started_at: str
    # What the store was told of the candidate: `accepted`, `rejected`; None: nothing.
    judged: str | None = None
    # Cells of the baseline's run that the candidate lacks.
    gone: tuple[Cell, ...] = ()

    @property
    def exit_codes(self) -> frozenset[ExitCode]:
        return frozenset(_EXIT_CODES.get(one.verdict, ExitCode.OK) for one in self.cells)

    @property
    def counts(self) -> Mapping[GateVerdict, int]:
        """Of the verdicts that there are, the gravest first."""
        counted = Counter(one.verdict for one in self.cells)
        return {verdict: counted[verdict] for verdict in GateVerdict if counted[verdict]}


class Unit(StrEnum):
    """Of the values of a series: multiples of the reference's time, nanoseconds of a call, executed instructions."""

    RATIO = "ratio"
    NS = "ns"
    INSTRUCTIONS = "instructions"


@dataclass(frozen=True)
class Moment:
    """One measurement of the cell. `value` None: it failed, or has no number in the series' unit."""

    run: str
    started_at: str | None
    value: Interval | None
    latency_p50_ns: int | None
    grade: str | None
    outcome: str
    # What the gate said of its run: `accepted`, `rejected`; None: it was not asked.
    judged: str | None
    # What differs from the measurement before, as `kernel 6.1 before, 6.8 now`.
    changed: tuple[str, ...] = ()
    # Another protocol, reference or machine than the value before: the two are not of one quantity.
    is_apart: bool = False


@dataclass(frozen=True)
class Series:
    """The oldest first. The cell's protocol is that of the newest."""

    cell: Cell
    unit: Unit
    reference: str | None
    moments: tuple[Moment, ...]
