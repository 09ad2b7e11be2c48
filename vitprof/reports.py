"""What a report says: rows, what changed since the last measurement of each cell, disagreement, fronts, troubles.

Its own file because two renderers read it, markdown and HTML, and neither may decide what is in it. Everything here is
sorted and free of what only this machine knows (paths, times of writing): the same rows give equal values. Text of
rows came from outside and is not escaped yet: that depends on the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from vitprof.comparisons import Disagreement, FrontPoint
from vitprof.measurements import Interval

# The region of a row that counts them instead of timing.
INSTRUCTIONS = "instructions"


class ChangeKind(StrEnum):
    """What became of a cell since its last measurement; in the order in which a reader must know it."""

    # It gave a sound number and gives none now: failed, or other outputs than the model's.
    BROKE = "broke"
    SLOWER = "slower"
    # In the run that most of the baselines are from, not in this one, which is over and has at least half of its cells.
    GONE = "gone"
    UNDECIDED = "undecided"
    # Both have a time, but nothing that they may be compared by; `detail` says why.
    NOT_COMPARED = "not compared"
    STILL_BROKEN = "still broken"
    FASTER = "faster"
    MENDED = "mended"
    NEW = "new"
    SAME = "same"


@dataclass(frozen=True, order=True)
class Cell:
    """What was measured, and how: rows that are equal in these measure the same thing in the same way."""

    device: str
    backend: str
    # As one types it: `torchvision:resnet50`.
    model: str
    # (0, 0), 0 and "" stand for what is not known, so that cells can be sorted.
    size: tuple[int, int]
    batch: int
    precision: str
    threads: int
    # `call`, `e2e` or `instructions`.
    region: str
    protocol_hash: str


@dataclass(frozen=True)
class Change:
    """One cell against the last measurement of it under the same protocol and reference, on the same device."""

    kind: ChangeKind
    cell: Cell
    # Now ÷ before, of times as multiples of the reference, widened for the number of comparisons in this report.
    ratio: Interval | None = None
    baseline_run: str | None = None
    # What failed, why it could not be compared, which parity; "" where the kind says it all.
    detail: str = ""
    # What else differs, as `kernel 6.1 against 6.8`.
    confounders: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportRow:
    """One result: its JSON as `latency` writes it (without samples), where it came from, what changed.

    `document` has every field of `report.schema.ResultRow`; `model` and texts are those of the cell, paths cut off;
    its `environment` holds the facts that stay while a machine measures, and nothing else.
    """

    cell: Cell
    document: Mapping[str, Any]
    run: str
    # `measured` or `imported`.
    origin: str
    change: Change | None = None

    @property
    def is_sound(self) -> bool:
        """Neither failed nor with outputs that are not the model's."""
        return self.document["outcome"] == "ok" and not self.is_broken

    @property
    def is_broken(self) -> bool:
        """Other outputs than the model's: its time is void and is shown struck out."""
        return bool(self.document["parity"]) and self.document["parity"]["verdict"] == "broken"


@dataclass(frozen=True)
class RunFacts:
    """One run that rows are from, or that baselines are from."""

    id: str
    started_at: str
    command: str
    vitprof_version: str
    # Of its rows, those in this report.
    rows: int
    # What the gate said: `accepted`, `rejected`; None: it was not asked.
    gate: str | None = None


@dataclass(frozen=True)
class GroupReport:
    """How well counts predict time over rows that may be compared with each other."""

    disagreement: Disagreement
    threads: int | None
    protocol_hash: str | None
    # The times are multiples of this reference's; None: raw.
    reference: str | None


@dataclass(frozen=True)
class FrontReport:
    """Who is beaten by nobody: more of `gain` for less time. `accuracy` of the points is the gain, whichever it is."""

    # `accuracy` (top-1 in per cent) or `macs` (of one image).
    gain: str
    # Device, backend, precision, batch, in words.
    where: str
    # Costs are the time of one inference in nanoseconds.
    points: tuple[FrontPoint, ...]
    # Whether the times were put back from ratios to the reference; else they are raw.
    is_relative: bool = True
    # Results of the same kind that have no place: their gain or their latency is not known.
    left_out: int = 0


@dataclass(frozen=True)
class PlacementChange:
    """Another share of a model runs where asked than before; shares are 0-1, None where they are not told."""

    cell: Cell
    baseline_run: str
    ops_before: float | None
    ops_now: float | None
    macs_before: float | None
    macs_now: float | None


@dataclass(frozen=True)
class EnvironmentChange:
    """A fact of the machine or of a runtime that differs from the last run's."""

    device: str
    # None: a fact of the machine, not of one runtime.
    backend: str | None
    # `kernel`, `governor`, `backend version`, `vitprof`, …
    name: str
    before: str
    now: str
    # How many rows it concerns.
    rows: int


@dataclass(frozen=True)
class Trouble:
    """A failure, a broken parity or a warning, with the cells that share it and what to do about it."""

    title: str
    cells: tuple[Cell, ...]
    # One line where all cells share it, else the distinct ones, each with the models that it is of.
    facts: tuple[str, ...]
    remedy: str


@dataclass(frozen=True)
class ProtocolFacts:
    """How rows were measured; without `references` none ran beside them."""

    hash: str
    region: str
    references: tuple[str, ...]
    rows: int
    # None where the store does not know it: of imported rows.
    effort: str | None = None
    sets: int | None = None


@dataclass(frozen=True)
class Versions:
    """The versions that a backend had on a device."""

    device: str
    backend: str
    versions: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All of it. Rows by device, backend, then model; changes worst first, those that are `same` among them.

    `subject`: a run's id, or "" for the latest of every cell in the store.
    """

    subject: str
    runs: tuple[RunFacts, ...]
    baseline_runs: tuple[RunFacts, ...]
    rows: tuple[ReportRow, ...]
    changes: tuple[Change, ...]
    # A ratio within 1 ± this share counts as the same.
    band_share: float
    groups: tuple[GroupReport, ...] = ()
    fronts: tuple[FrontReport, ...] = ()
    # Top-1 in per cent, by model and size as cells have it; of those that were given.
    accuracies: Mapping[tuple[str, tuple[int, int]], float] = field(default_factory=dict)
    placements: tuple[PlacementChange, ...] = ()
    environment: tuple[EnvironmentChange, ...] = ()
    failures: tuple[Trouble, ...] = ()
    broken: tuple[Trouble, ...] = ()
    warnings: tuple[Trouble, ...] = ()
    protocols: tuple[ProtocolFacts, ...] = ()
    versions: tuple[Versions, ...] = ()
    vitprof_versions: tuple[str, ...] = ()
    # Rows that no comparison holds, each with its reason in words.
    left_out: tuple[str, ...] = ()
    # The run is a sweep that has cells yet to measure.
    is_unfinished: bool = False

    def changes_of(self, *kinds: ChangeKind) -> tuple[Change, ...]:
        """The changes of these kinds, in the order of the report."""
        return tuple(one for one in self.changes if one.kind in kinds)
