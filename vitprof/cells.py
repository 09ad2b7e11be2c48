"""A cell of a group: what is to be measured, what it has given so far, and whether it is warm.

Its own file beside `group`, which decides who is measured when and until when: here is the state of one cell alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from vitprof.analysis.steadiness import is_warm, log_ratio
from vitprof.devices.transports import Link
from vitprof.measurements import Protocol, Round, Samples, SetSamples, StopReason
from vitprof.runner.wire import End, Failure, Outputs, Plan, Ready


@dataclass(frozen=True)
class Cell:
    """One thing to measure. `outputs_path`: where the first process writes its outputs for parity, if anywhere."""

    name: str
    plan: Plan
    outputs_path: str | None = None


def cell_names(named: Sequence[tuple[str, Plan]]) -> list[str]:
    """What each cell is called while it is measured: its model, and whatever else the cells differ in."""
    parts = [
        (
            plan.backend,
            "x".join(map(str, plan.input_shape[2:])),
            f"batch {plan.input_shape[0]}",
            plan.precision,
            f"{plan.threads} threads",
        )
        for _, plan in named
    ]
    models = [name for name, _ in named]
    differs = [len(set(column)) > 1 for column in zip(*parts, strict=True)]
    # The size follows from the model where it is only that.
    differs[1] = len({(name, part[1]) for name, part in zip(models, parts, strict=True)}) > len(set(models))
    return [
        " ".join([name, *(text for text, is_told in zip(part, differs, strict=True) if is_told)])
        for name, part in zip(models, parts, strict=True)
    ]


@dataclass(frozen=True)
class CellSamples:
    samples: Samples
    outputs: Outputs | None


@dataclass
class CellRun:
    """A cell while it is being measured."""

    cell: Cell
    done: list[SetSamples] = field(default_factory=list)
    link: Link | None = None
    ready: Ready | None = None
    rounds: list[Round] = field(default_factory=list)
    log_ratios: list[float] = field(default_factory=list)
    warm_up_ns: int = 0
    is_warm: bool = False
    end: End | None = None
    outputs: Outputs | None = None
    stop_reason: StopReason = StopReason.CAP
    failure: Failure | None = None

    def begin(self) -> None:
        self.link, self.ready, self.end = None, None, None
        self.rounds, self.log_ratios = [], []
        self.warm_up_ns, self.is_warm = 0, False

    def current(self) -> SetSamples | None:
        return SetSamples(self.ready, tuple(self.rounds), self.is_warm, self.end) if self.ready else None

    def sets(self) -> tuple[SetSamples, ...]:
        current = self.current()
        return (*self.done, current) if current else tuple(self.done)

    def finish_set(self) -> None:
        current = self.current()
        if current:
            self.done.append(current)
        self.begin()

    def add(self, round_: Round, protocol: Protocol) -> None:
        """Takes one block in and, until the cell has shown itself warm, judges whether it has."""
        assert self.ready is not None  # noqa: S101 - a block comes from a process that has said Ready
        self.rounds.append(round_)
        if self.is_warm and not round_.is_warm_up:
            return
        self.log_ratios.append(log_ratio(round_, self.ready.calls_per_sample))
        self.warm_up_ns += sum(round_.block.samples_ns) + sum(round_.block.set_aside_ns)
        # Once warm it stays so: while it waits for the others it may well meet a noisy moment.
        self.is_warm = self.is_warm or is_warm(self.log_ratios, self.warm_up_ns, protocol)

    def count_last(self, rounds: int) -> None:
        """Lets the last `rounds` of the set count, and none before them."""
        first = len(self.rounds) - rounds
        self.rounds = [
            dataclasses.replace(round_, is_warm_up=place < first) for place, round_ in enumerate(self.rounds)
        ]

    def counted(self) -> list[Round]:
        return [round_ for round_ in self.rounds if not round_.is_warm_up]

    def counted_calls(self) -> int:
        """A sample may be the time of several."""
        repeats = self.ready.calls_per_sample if self.ready else 1
        return repeats * sum(len(round_.block.samples_ns) for round_ in self.counted())
