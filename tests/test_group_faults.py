"""Devices that go wrong while a group is measured: what they gave is kept, what they cannot have given is not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vitprof.analysis.steadiness import is_possible
from vitprof.analysis.summary import summarise
from vitprof.cells import Cell
from vitprof.devices.transports import Link
from vitprof.devices.transports.fake import FakeTransport, VirtualClock
from vitprof.group import GroupSamples, Setting, Timeouts, measure_group
from vitprof.measurements import Grade
from vitprof.protocols import Effort, protocol
from vitprof.report.progress import NoProgress
from vitprof.runner.wire import Block, Message, Plan, Task
from vitprof.store.journal import Journal

SPOILED = Callable[[Block], Block]
_PLAN = Plan(backend="fake", options={"call_ns": 2_000_000})


class Faulty(FakeTransport):
    """A fake device of which every link passes its blocks through `spoil`; notes the time-outs that it was given."""

    def __init__(self, clock: VirtualClock, spoil: SPOILED) -> None:
        super().__init__(clock)
        self._spoil = spoil
        self.timeouts_s: list[float] = []

    def start(self, task: Task) -> Link:  # type: ignore[override]
        return _FaultyLink(super().start(task), self)

    def passed(self, message: Message, timeout_s: float) -> Message:
        if not isinstance(message, Block):
            return message
        self.timeouts_s.append(timeout_s)
        return self._spoil(message)


class _FaultyLink:
    def __init__(self, link: Link, device: Faulty) -> None:
        self._link = link
        self._device = device

    def send(self, message: Message) -> None:
        self._link.send(message)

    def receive(self, timeout_s: float) -> Message:
        return self._device.passed(self._link.receive(timeout_s), timeout_s)

    def close(self) -> None:
        self._link.close()


def _measured(tmp_path: Path, spoil: SPOILED, plan: Plan = _PLAN) -> tuple[GroupSamples, Faulty, list[str]]:
    clock = VirtualClock()
    device = Faulty(clock, spoil)
    journal = Journal(tmp_path)
    rules = protocol(Effort.QUICK)
    setting = Setting(device, rules, journal, NoProgress(), clock=lambda: clock.now_ns / 1e9)
    group = measure_group([Cell("cell", plan)], None, setting)
    journal.close()
    lines = [json.loads(line)["kind"] for file in tmp_path.rglob("*.jsonl") for line in file.read_text().splitlines()]
    return group, device, lines


def test_a_block_in_which_the_clock_went_back_is_measured_again(tmp_path: Path) -> None:
    jumps = iter([False] * 12 + [True])

    def spoil(block: Block) -> Block:
        return dataclasses.replace(block, samples_ns=(-3_600_000_000_000,)) if next(jumps, False) else block

    group, _, kinds = _measured(tmp_path, spoil)
    samples = group.cells[0].samples
    assert samples.failure is None and kinds.count("clock jump") == 1
    assert all(ns > 0 for one in samples.sets for round_ in one.rounds for ns in round_.block.samples_ns)
    summary = summarise(samples, protocol(Effort.QUICK), batch=1, macs_per_image=None, reference_long_run_ns=None)
    assert summary and summary.grade is Grade.C and "clock jump" in {doubt.code for doubt in summary.warnings}


def test_a_clock_that_only_jumps_is_a_failure_that_keeps_what_was_measured(tmp_path: Path) -> None:
    good = iter([True] * 6)

    def spoil(block: Block) -> Block:
        return block if next(good, False) else dataclasses.replace(block, samples_ns=(10**18,))

    group, _, kinds = _measured(tmp_path, spoil)
    samples = group.cells[0].samples
    assert samples.failure and "clock jumps" in samples.failure.error and samples.failure.stage == "run"
    assert sum(len(one.rounds) for one in samples.sets) == 6 and kinds.count("clock jump") == 4


@pytest.mark.parametrize(
    ("samples_ns", "waited_s", "possible"),
    [
        ((1_000, 2_000), 0.1, True),
        ((), 0.1, False),
        ((0, 0), 0.1, False),
        ((5, -1), 0.1, False),
        ((60_000_000_000,), 60.0, True),
        ((3_600_000_000_000,), 60.0, False),
    ],
)
def test_times_that_cannot_be(samples_ns: tuple[int, ...], waited_s: float, possible: bool) -> None:
    assert is_possible(Block(0, 0, (), samples_ns), waited_s) is possible


def test_a_slow_device_has_the_time_that_its_first_call_asks_for(tmp_path: Path) -> None:
    slow = Plan(backend="fake", options={"call_ns": 60_000_000_000})
    group, device, _ = _measured(tmp_path, lambda block: block, slow)
    assert group.cells[0].samples.failure is None
    assert set(device.timeouts_s) == {600.0}


def test_a_quick_device_has_the_usual_time(tmp_path: Path) -> None:
    _, device, _ = _measured(tmp_path, lambda block: block)
    assert set(device.timeouts_s) == {Timeouts().block_s}
