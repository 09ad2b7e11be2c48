"""Measures a group: up to eight cells and the reference, interleaved on one device, in sets of fresh processes.

Its own file, between the pipeline and the stages, because it needs both a device (to talk to processes) and the
analysis (to know when a cell is warm and when it has been measured enough). What it does to time:

    set     a fresh process for each cell and one for the reference; those that wait sleep in a read
    round   every cell once, one block each; a reference block before and after each block. In shuffled order, or
            (`Order.ABBA`) in one order a set that every other round goes backwards
    warm-up rounds until every cell is warm: rounds count for all cells or for none, so that cells can be paired
    stop    every cell's interval is met or asked amount measured, or the set's share of the time is over

Every round is in the journal before the next one starts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from vitprof.analysis.steadiness import call_ns, is_possible
from vitprof.analysis.summary import ratio_interval
from vitprof.cells import Cell, CellRun, CellSamples
from vitprof.devices.transports import Link, RunnerFailed, Transport
from vitprof.measurements import Interval, Order, Protocol, Round, Samples, StopReason
from vitprof.report.progress import Progress
from vitprof.runner.wire import Block, BlockRequest, End, EndRequest, Failure, Outputs, OutputsRequest, Plan, Ready
from vitprof.store.journal import Journal

# At most this many cells share a group: more would stretch a round, and the neighbouring reference blocks with it.
MAX_CELLS = 8
# Starting one process takes this much of a group's time; what torch and compilers take beyond it is given on top, or
# hardly a round would be left to count. ONNX Runtime's cells start within it (0.2 to 0.5 s here).
_START_S = 1.0
# A block may take so many times as long as the first call did, where that is longer than its usual time-out.
_BLOCK_PER_FIRST_CALL = 10
# A clock that jumps more often in a row is not one.
_MAX_CLOCK_JUMPS = 3
_CLOCK_JUMPS = (
    "the device's clock jumps: calls of no or negative time, or longer than vitprof waited for them",
    "end what sets the clock there (a time service, a suspended machine), then run again",
)
# Of a set's time a cell may spend this share on its warm-up: the rest is needed for counted rounds.
_WARM_UP_SHARE = 0.35


@dataclass(frozen=True)
class Timeouts:
    """How long one answer may take before the process counts as hung."""

    load_s: float = 300.0
    block_s: float = 120.0


@dataclass(frozen=True)
class Setting:
    """How and where a group is measured. `clock` gives seconds; virtual ones in the instrument's self-tests."""

    transport: Transport
    protocol: Protocol
    journal: Journal
    progress: Progress
    seed: int = 0
    timeouts: Timeouts = field(default_factory=Timeouts)
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class GroupSamples:
    """What the group gave, cell by cell; `interrupted` where a person ended it early."""

    cells: tuple[CellSamples, ...]
    interrupted: bool
    # Mean call time of every reference block, in order; empty where no reference ran, and why.
    reference_blocks_ns: tuple[float, ...]
    reference_failure: Failure | None


def measure_group(cells: Sequence[Cell], reference: Plan | None, setting: Setting) -> GroupSamples:
    """Samples of every cell. A cell that fails keeps what it gave, and the others go on."""
    group = _Group(cells, reference, setting)
    interrupted = False
    try:
        group.measure()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        group.close()
    return group.samples(interrupted)


class _Group:
    """The state of one group: who is being measured, by which rules, against which reference process."""

    def __init__(self, cells: Sequence[Cell], reference: Plan | None, setting: Setting) -> None:
        self._runs = [CellRun(cell) for cell in cells]
        self._reference_plan = reference
        self._transport = setting.transport
        self._protocol = setting.protocol
        self._journal = setting.journal
        self._progress = setting.progress
        self._timeouts = setting.timeouts
        self._clock = setting.clock
        self._random = random.Random(setting.seed)  # noqa: S311 - the order of cells, not a secret
        self._reference: Link | None = None
        self._reference_ready: Ready | None = None
        self._reference_failure: Failure | None = None
        self._reference_blocks_ns: list[float] = []
        self._index = 0
        self._completed_sets = 0

    def measure(self) -> None:
        budget_s = self._protocol.cap_s_per_cell * len(self._runs)
        started = self._clock()
        extra_s = 0.0
        for number in range(self._protocol.sets):
            self._progress.stage("measure", f"set {number + 1} of {self._protocol.sets}")
            share_s = budget_s * (number + 1) / self._protocol.sets
            extra_s += self._measure_set(number, started + share_s + extra_s)
            self._journal.flush()
            self._completed_sets += 1

    def close(self) -> None:
        for run in self._runs:
            if run.link:
                run.link.close()
            run.finish_set()
        if self._reference:
            self._reference.close()
            self._reference = None

    def samples(self, interrupted: bool) -> GroupSamples:
        cells = []
        for run in self._runs:
            reason = StopReason.FAILED if run.failure else run.stop_reason
            is_cut = interrupted and not run.failure and self._completed_sets < self._protocol.sets
            samples = Samples(tuple(run.done), StopReason.INTERRUPTED if is_cut else reason, run.failure)
            cells.append(CellSamples(samples, run.outputs))
        return GroupSamples(tuple(cells), interrupted, tuple(self._reference_blocks_ns), self._reference_failure)

    # One set.

    def _measure_set(self, number: int, deadline_s: float) -> float:
        """Measures one set; returns the seconds beyond its share of time that starting its processes took."""
        started_s = self._clock()
        self._start_reference()
        alive = [run for run in self._shuffled(self._runs) if not run.failure and self._start(run, number)]
        warm_up_from_s = self._clock()
        extra_s = max(0.0, warm_up_from_s - started_s - _START_S * (len(self._runs) + 1))
        deadline_s += extra_s
        before_ns = self._reference_block()
        is_warm_up, is_over = True, not alive
        rounds = 0
        while not is_over:
            cold = [run for run in alive if not run.is_warm]
            for run in self._ordered(alive, rounds):
                before_ns = self._measure_block(run, before_ns, is_warm_up)
            self._index += 1
            rounds += 1
            alive = [run for run in alive if not run.failure]
            if is_warm_up:
                is_over = not alive
                is_warm_up = not self._is_warm_up_over(alive, warm_up_from_s, deadline_s)
                if alive and not is_warm_up and all(run.is_warm for run in alive):
                    self._count_steady_rounds(alive, number)
            else:
                if any(run.is_warm for run in cold if not run.failure):
                    # The warm-up's time was over before: ahead of the blocks that show it now one may have been cold.
                    self._count_steady_rounds(alive, number)
                # No short cut: every cell's own answer is what its result gives as the reason.
                is_over = all([self._is_done(run, number, deadline_s) for run in alive])  # noqa: C419
                # A turn forwards has its turn backwards.
                is_over = is_over and (self._protocol.order == Order.SHUFFLED or rounds % 2 == 0)
            self._show()
        self._end_set(alive)
        return extra_s

    def _count_steady_rounds(self, alive: Sequence[CellRun], number: int) -> None:
        """The rounds by which the last cell was seen to be warm were on warm cells: all but the first count.

        Of every cell, and none before them: what is compared round by round shares its rounds.
        """
        rounds = min(self._protocol.warm_up_blocks, *(len(run.rounds) for run in alive)) - 1
        if rounds > 0:
            for run in alive:
                run.count_last(rounds)
            self._journal.write("warm", {"set": number, "counted_from": self._index - rounds})

    def _start(self, run: CellRun, number: int) -> bool:
        """Starts one process after the other: two that load at once would spoil each other's cold times."""
        with self._keeping_failure(run):
            run.link = self._transport.start(run.cell.plan)
            ready = run.link.receive(self._timeouts.load_s)
            assert isinstance(ready, Ready)  # noqa: S101 - the protocol of wire.py
            run.ready = ready = self._with_reference(ready)
            self._journal.write("ready", {"set": number, "cell": run.cell.name, "ready": _fields(ready)})
            if run.cell.outputs_path and run.outputs is None:
                run.link.send(OutputsRequest(run.cell.outputs_path))
                outputs = run.link.receive(self._timeouts.load_s)
                assert isinstance(outputs, Outputs)  # noqa: S101 - the protocol of wire.py
                run.outputs = outputs
        return run.failure is None

    def _with_reference(self, ready: Ready) -> Ready:
        """With what runs the reference: another version of it moves every ratio, whatever the cells run on."""
        if self._reference_ready is None:
            return ready
        version = self._reference_ready.backend_version
        return dataclasses.replace(ready, environment={**ready.environment, "reference_runtime": version})

    def _start_reference(self) -> None:
        if self._reference_plan is None or self._reference_failure:
            return
        try:
            self._reference = self._transport.start(self._reference_plan)
            ready = self._reference.receive(self._timeouts.load_s)
            assert isinstance(ready, Ready)  # noqa: S101 - the protocol of wire.py
            self._reference_ready = ready
        except RunnerFailed as failed:
            self._lose_reference(failed.failure)

    def _measure_block(self, run: CellRun, before_ns: float | None, is_warm_up: bool) -> float | None:
        """One block of `run` and the reference block after it; returns what that one took."""
        block = None
        with self._keeping_failure(run):
            assert run.link is not None  # noqa: S101 - started
            assert run.ready is not None  # noqa: S101 - started
            block = self._block(run.link, run.ready)
        after_ns = self._reference_block()
        if block is not None:
            round_ = Round(block, before_ns, after_ns, is_warm_up)
            run.add(round_, self._protocol)
            self._journal.write(
                "round", {"set": len(run.done), "cell": run.cell.name, **_fields(round_), "block": _fields(block)}
            )
        return after_ns

    def _reference_block(self) -> float | None:
        if self._reference is None or self._reference_ready is None:
            return None
        try:
            block = self._block(self._reference, self._reference_ready)
        except RunnerFailed as failed:
            self._lose_reference(failed.failure)
            return None
        block_ns = call_ns(block.samples_ns, self._reference_ready.calls_per_sample)
        self._reference_blocks_ns.append(block_ns)
        return block_ns

    def _block(self, link: Link, ready: Ready) -> Block:
        """One block; asked for again where the device's clock jumped in it, which its sensors then say."""
        # A slow device has its time: a block is a few calls, and the first one took longer than any of them should.
        timeout_s = max(self._timeouts.block_s, _BLOCK_PER_FIRST_CALL * ready.first_call_ns / 1e9)
        for jumps in range(_MAX_CLOCK_JUMPS + 1):
            begun_s = self._clock()
            link.send(BlockRequest(self._index))
            block = link.receive(timeout_s)
            assert isinstance(block, Block)  # noqa: S101 - the protocol of wire.py
            if is_possible(block, self._clock() - begun_s):
                return dataclasses.replace(block, sensors={**block.sensors, "clock_jumps": jumps}) if jumps else block
            self._journal.write("clock jump", {"block": _fields(block)})
        raise RunnerFailed(Failure("run", *_CLOCK_JUMPS))

    def _lose_reference(self, failure: Failure) -> None:
        self._journal.write("reference-failure", failure)
        self._reference_failure = failure
        if self._reference:
            self._reference.close()
        self._reference, self._reference_ready = None, None

    def _end_set(self, runs: Sequence[CellRun]) -> None:
        for run in runs:
            with contextlib.suppress(RunnerFailed):
                # Samples are complete: a process that stumbles on its way out changes nothing about them.
                if run.link and not run.failure:
                    run.link.send(EndRequest())
                    end = run.link.receive(self._timeouts.load_s)
                    run.end = end if isinstance(end, End) else None
        for run in self._runs:
            if run.link:
                run.link.close()
            run.finish_set()
        if self._reference:
            self._reference.close()
            self._reference, self._reference_ready = None, None

    @contextlib.contextmanager
    def _keeping_failure(self, run: CellRun) -> Iterator[None]:
        try:
            yield
        except RunnerFailed as failed:
            run.failure = failed.failure
            self._journal.write("failure", {"cell": run.cell.name, **_fields(failed.failure)})

    # When to stop.

    def _is_warm_up_over(self, alive: Sequence[CellRun], begun_s: float, deadline_s: float) -> bool:
        """All cells are warm, or each has had its time, or too little of the set's time is left to count in.

        Time alone does not end it before there were as many blocks as it takes to be seen as warm.
        """
        cap_ns = self._protocol.warm_up_cap_ns
        if all(run.is_warm or run.warm_up_ns >= cap_ns for run in alive):
            return True
        has_blocks = all(len(run.log_ratios) >= self._protocol.warm_up_blocks for run in alive)
        return has_blocks and self._clock() >= begun_s + _WARM_UP_SHARE * (deadline_s - begun_s)

    def _is_done(self, run: CellRun, number: int, deadline_s: float) -> bool:
        counted = run.counted()
        if len(counted) < self._protocol.min_rounds_per_set:
            return False
        reason = self._asked_amount(run) if self._has_asked_amount else self._precision_or_cap(run, number, deadline_s)
        run.stop_reason = reason or run.stop_reason
        return reason is not None

    @property
    def _has_asked_amount(self) -> bool:
        return self._protocol.measure_ns is not None or self._protocol.measure_calls is not None

    def _asked_amount(self, run: CellRun) -> StopReason | None:
        """`--measure`: this set's share of the asked time or calls has been counted."""
        samples = [value for round_ in run.counted() for value in round_.block.samples_ns]
        sets = self._protocol.sets
        if self._protocol.measure_ns is not None and sum(samples) * sets >= self._protocol.measure_ns:
            return StopReason.DURATION
        if self._protocol.measure_calls is not None and run.counted_calls() * sets >= self._protocol.measure_calls:
            return StopReason.CALLS
        return None

    def _precision_or_cap(self, run: CellRun, number: int, deadline_s: float) -> StopReason | None:
        """The set's own interval is met (in the last set: that over all sets), or its share of time is over."""
        is_last = number == self._protocol.sets - 1
        if self._clock() >= deadline_s:
            return StopReason.CAP
        calls = run.counted_calls()
        has_enough = len(run.counted()) >= self._protocol.min_rounds_for_interval
        if calls * self._protocol.sets < self._protocol.min_calls or not has_enough:
            return None
        width = _width(ratio_interval(run.sets() if is_last else run.sets()[-1:]))
        return StopReason.PRECISION if width <= self._protocol.precision_goal_share else None

    # Showing and shuffling.

    def _show(self) -> None:
        intervals = {run.cell.name: ratio_interval(run.sets()) for run in self._runs}
        self._progress.live({name: (one.value, one.low, one.high) for name, one in intervals.items() if one})

    def _ordered(self, runs: Sequence[CellRun], rounds: int) -> list[CellRun]:
        """The order of the round that comes after `rounds` others of the set."""
        if self._protocol.order == Order.SHUFFLED:
            return self._shuffled(runs)
        # Shuffled once, when the set began.
        return list(runs) if rounds % 2 == 0 else list(reversed(runs))

    def _shuffled(self, runs: Sequence[CellRun]) -> list[CellRun]:
        return self._random.sample(list(runs), len(runs))


def _width(interval: Interval | None) -> float:
    width = interval.half_width_share if interval else None
    return float("inf") if width is None else width


def _fields(value: Ready | Round | Block | Failure) -> dict[str, object]:
    """A shallow dict: a Round's block is written beside it, not copied deep."""
    return {name: entry for name, entry in vars(value).items() if not isinstance(entry, Block)}
