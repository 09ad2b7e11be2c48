"""One machine of a sweep, in a thread of its own: its devices one after the other, each group measured and stored.

Its own file beneath `run` because of what must not happen at the same time: artifacts are exported on this machine
only while nothing is measured on it, though other devices measure meanwhile; and who exports goes first, since another
device waits for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from vitprof.bench import Ask, Bench, Hold, Job, Refused, Terms, opened
from vitprof.devices import profiles, reach
from vitprof.errors import ExitCode, UnreachableError, VitprofError
from vitprof.instructions import counter_on
from vitprof.keeping import keep_rows
from vitprof.places import Places
from vitprof.protocols import counting_protocol
from vitprof.records import Metric, Result
from vitprof.report.progress import Progress
from vitprof.report.sweep_progress import SweepProgress
from vitprof.rows import exit_code_of
from vitprof.runner.wire import LINK_LOST, Failure
from vitprof.store.runs import StoredRun
from vitprof.sweeping.cells import is_this_machine, missing_exports
from vitprof.sweeping.outlook import Outlook
from vitprof.sweeps import SweepCell

# Starting the process that exports takes ten seconds: once for so many groups. Of another device one group at a time,
# so that it does not wait for the others'.
_GROUPS_AHEAD = 8
_POLL_S = 0.25
# The stages of a Failure that says nothing of the cell: the device was gone, or could not be sent files (a full disk).
_DEVICE_STAGES = ("device", "ship")
_Ratios = Mapping[str, tuple[float, float | None, float | None]]
_Prepared = Mapping[int, Job | Refused]


class Shared:
    """What the machines of one sweep have in common; `stop` ends them all between two blocks."""

    def __init__(self, places: Places, run: StoredRun, terms: Terms, progress: SweepProgress) -> None:
        self.places = places
        self.run = run
        self.terms = terms
        self.progress = progress
        self.quiet = Quiet(self._check)
        # The numbers of the cells that were stored here, and what came of them.
        self.stored: set[int] = set()
        self.exit_codes: set[ExitCode] = set()
        self.troubles: list[VitprofError] = []
        # Faults of the program itself: each has ended the part of one machine.
        self.crashes: list[BaseException] = []
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def told(self, place: str, prefix: str = "") -> Told:
        """The progress of one place, which ends who reports to it once the sweep is to stop."""
        return Told(self.progress.of(place), self._check, prefix)

    def tell(self, error: VitprofError) -> None:
        """What a person should know at the end, once: mostly why cells are left for `--resume`."""
        if error.message not in {one.message for one in self.troubles}:
            self.troubles.append(error)

    def _check(self) -> None:
        if self._stopped.is_set():
            # In a thread of its own nobody presses Ctrl-C: this stands for it, and does what it does.
            raise KeyboardInterrupt


class Told:
    """A `Progress` that passes on what it is told, and raises KeyboardInterrupt when the sweep is to stop."""

    def __init__(self, inner: Progress, check: Callable[[], None], prefix: str = "") -> None:
        self._inner = inner
        self._check = check
        self.prefix = prefix

    def stage(self, name: str, detail: str) -> None:
        self._check()
        self._inner.stage(name, f"{self.prefix}{detail}")

    def live(self, values: _Ratios) -> None:
        self._check()
        self._inner.live(values)

    def close(self) -> None:
        self._inner.close()


class Quiet:
    """This machine is measured on, or exports, never both. `check` is asked while somebody waits, and may raise."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._changed = threading.Condition()
        self._is_taken = False
        self._exporters = 0

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """Waits for who exports, and for who wants to."""
        with self._taken(lambda: not self._exporters):
            yield

    @contextlib.contextmanager
    def exporting(self) -> Iterator[None]:
        """Waits until the group that is being measured has ended, and for who exports."""
        with self._changed:
            self._exporters += 1
        try:
            with self._taken(lambda: True):
                yield
        finally:
            with self._changed:
                self._exporters -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def _taken(self, may_have: Callable[[], bool]) -> Iterator[None]:
        with self._changed:
            while self._is_taken or not may_have():
                self._check()
                self._changed.wait(_POLL_S)
            self._is_taken = True
        try:
            yield
        finally:
            with self._changed:
                self._is_taken = False
                self._changed.notify_all()


class Machine:
    """The groups of the devices that cannot be measured at the same time. `run` is a thread's work; it never raises."""

    def __init__(self, name: str, groups: Sequence[Sequence[SweepCell]], shared: Shared) -> None:
        self.name = name
        self.groups = groups
        # Not `Thread.join`: a thread whose joining was interrupted passes for one that has ended (CPython before 3.13).
        self.ended = threading.Event()
        self._shared = shared
        self.is_here = is_this_machine(name)
        self.outlook = Outlook(groups, shared.terms.protocol, shared.places.cache_root, is_here=self.is_here)

    def run(self) -> None:
        try:
            self._run()
        finally:
            self.ended.set()

    def _run(self) -> None:
        try:
            for device, groups in groupby(self.groups, lambda group: group[0].device):
                self._measure(device, list(groups))
        except KeyboardInterrupt:
            return
        except BaseException as error:
            # The border of a thread: a bug is told when the other machines are done with their cells.
            self._shared.crashes.append(error)
        self._shared.progress.machine_done(self.name)

    def _measure(self, device: str, groups: Sequence[Sequence[SweepCell]]) -> None:
        """All groups of one device; what its absence keeps from being measured is left open."""
        told = self._shared.told(self.name)
        try:
            usable = self._usable(device, groups)
            if usable:
                backends = tuple(dict.fromkeys(cell.backend for group in usable for cell in group))
                terms = dataclasses.replace(self._shared.terms, device=device)
                with opened(terms, backends, self._shared.places, told) as bench:
                    _Visit(bench, usable, self._shared, told, self).measure()
        except VitprofError as error:
            self._shared.tell(error)
        finally:
            told.close()

    def _usable(self, device: str, groups: Sequence[Sequence[SweepCell]]) -> list[list[SweepCell]]:
        """The groups without cells of backends that are not installed: others need not wait for them."""
        profile = profiles.device(device)
        missing = set()
        for backend in dict.fromkeys(cell.backend for group in groups for cell in group):
            try:
                reach.check_installed(backend, profile)
            except VitprofError as error:
                self._shared.tell(error)
                missing.add(backend)
        kept = [[cell for cell in group if cell.backend not in missing] for group in groups]
        return [group for group in kept if group]


class _Visit:
    """The groups of one device while it is reached."""

    def __init__(
        self,
        bench: Bench,
        groups: Sequence[Sequence[SweepCell]],
        shared: Shared,
        told: Told,
        machine: Machine,
    ) -> None:
        self._bench = bench
        self._groups = groups
        self._shared = shared
        self._told = told
        self._is_here = machine.is_here
        self._machine = machine
        self._holding = contextlib.ExitStack()
        self._hold: Hold | None = None

    def measure(self) -> None:
        """Every group, stored as it ends; `VitprofError` where the device is gone or nothing can be stored."""
        number = 0
        try:
            with self._holding, contextlib.closing(self._prepared()) as prepared_chunks:
                for chunk, prepared in prepared_chunks:
                    for group in chunk:
                        number += 1
                        self._group(
                            group, prepared, f"{self._bench.device.name}, group {number} of {len(self._groups)}: "
                        )
                    if self._is_here:
                        # Exports come next, which nobody else needs to wait for.
                        self._let_go()
        finally:
            for trouble in self._bench.troubles:
                self._shared.tell(trouble)

    def _prepared(self) -> Generator[tuple[Sequence[Sequence[SweepCell]], _Prepared], None, None]:
        """Groups with what becomes of their cells; of another machine the next ones while these are measured."""
        size = _GROUPS_AHEAD if self._is_here else 1
        chunks = [self._groups[begin : begin + size] for begin in range(0, len(self._groups), size)]
        if self._is_here:
            yield from ((chunk, self._exported(chunk)) for chunk in chunks)
            return
        # Asked now: two threads would ask the device at the same time.
        _ = self._bench.threads
        with ThreadPoolExecutor(max_workers=1) as executor:
            ahead = executor.submit(self._exported, chunks[0])
            for index, chunk in enumerate(chunks):
                prepared = ahead.result()
                if index + 1 < len(chunks):
                    ahead = executor.submit(self._exported, chunks[index + 1])
                yield chunk, prepared

    def _exported(self, groups: Sequence[Sequence[SweepCell]]) -> _Prepared:
        cells = [cell for group in groups for cell in group]
        asks = [Ask(cell.spec, cell.backend, cell.threads) for cell in cells]
        place = self._machine.name if self._is_here else f"exports for {self._machine.name}"
        # What lies in the cache is only looked up, which disturbs nobody.
        is_export = bool(missing_exports(cells, self._shared.places.cache_root))
        with (
            contextlib.closing(self._shared.told(place)) as told,
            self._shared.quiet.exporting() if is_export else contextlib.nullcontext(),
        ):
            made = self._bench.prepared(asks, told)
        self._machine.outlook.exported(cells)
        return {cell.number: one for cell, one in zip(cells, made, strict=True)}

    def _group(self, cells: Sequence[SweepCell], prepared: _Prepared, label: str) -> None:
        """Measures and stores the cells of one group that are still open: another process may have come before."""
        if cells[0].metric is Metric.LATENCY and any(isinstance(prepared[cell.number], Job) for cell in cells):
            self._take()
        begun_s = time.monotonic()
        open_numbers = self._open_numbers(cells[0].group)
        unfilled = [cell for cell in cells if cell.number in open_numbers]
        rows = self._refused(unfilled, prepared)
        jobs = {cell.number: one for cell in unfilled if isinstance(one := prepared[cell.number], Job)}
        self._told.prefix = label
        measured, gone = self._measured(jobs, cells[0].metric)
        self._told.prefix = ""
        rows |= self._kept(measured)
        self._store(rows)
        done = len(cells) - len(unfilled) + len(rows)
        if done:
            failed = sum(row.failure is not None for row in rows.values())
            seconds = time.monotonic() - begun_s
            outlook = self._machine.outlook
            outlook.done(cells[0].group, seconds if jobs else None)
            self._shared.progress.group_done(self._machine.name, done, failed, seconds, outlook.left_s)
        if gone is not None:
            raise gone

    def _take(self) -> None:
        if self._hold is None:
            self._hold = self._holding.enter_context(self._bench.held(self._shared.run))

    def _let_go(self) -> None:
        self._hold = None
        self._holding.close()

    def _refused(self, cells: Sequence[SweepCell], prepared: _Prepared) -> dict[int, Result]:
        """Rows of cells that cannot be measured; those that only lack a package here stay open."""
        rows = {}
        for cell in cells:
            one = prepared[cell.number]
            if not isinstance(one, Refused):
                continue
            if one.exit_code is ExitCode.UNREACHABLE and one.row.failure:
                self._shared.tell(_unreachable(one.row.failure))
                continue
            rows[cell.number] = _with_metric(one.row, cell.metric)
            self._shared.exit_codes.add(one.exit_code)
        return rows

    def _measured(self, jobs: Mapping[int, Job], metric: Metric) -> tuple[dict[int, Result], VitprofError | None]:
        """The rows of a group; with them why the device is gone for good."""
        if not jobs:
            return {}, None
        with self._shared.quiet.measuring() if self._is_here else contextlib.nullcontext():
            return (self._counted(jobs), None) if metric is Metric.INSTRUCTIONS else self._timed(jobs)

    def _timed(self, jobs: Mapping[int, Job]) -> tuple[dict[int, Result], VitprofError | None]:
        """The same, in parts where memory holds no more."""
        rows: dict[int, Result] = {}
        assert self._hold is not None  # noqa: S101 - there are jobs
        for part, codes in self._hold.each_group(jobs):
            if ExitCode.INTERRUPTED in codes:
                raise KeyboardInterrupt
            if ExitCode.UNREACHABLE in codes and (failure := next(iter(part.values())).failure):
                return rows, _unreachable(failure)
            rows.update(part)
        return rows, None

    def _counted(self, jobs: Mapping[int, Job]) -> dict[int, Result]:
        """The rows of a group of which instructions are counted: no reference, and no lock, since nothing disturbs."""
        protocol = counting_protocol()
        device, timeouts = self._bench.device, self._shared.terms.timeouts
        rows = {}
        calls = protocol.measure_calls or 1
        with counter_on(device, calls, timeouts.load_s, self._shared.places) as counter:
            for number, job in jobs.items():
                self._told.stage("count", f"instructions of {job.blank.spec.name} on {job.blank.backend}")
                blank = dataclasses.replace(job.blank, protocol=protocol, threads=1)
                rows[number] = counter.row(job.artifact, blank)
        return rows

    def _kept(self, measured: Mapping[int, Result]) -> dict[int, Result]:
        """Without the cells of which nothing is known but that the device could not be had: they stay open."""
        rows = {}
        for number, row in measured.items():
            if row.failure is not None and _is_lost(row.failure):
                self._shared.tell(_unreachable(row.failure))
                continue
            rows[number] = row
            self._shared.exit_codes.add(exit_code_of(row))
        return rows

    def _open_numbers(self, group: int) -> frozenset[int]:
        from vitprof.store import sweeps
        from vitprof.store.results import open_store

        with open_store(self._shared.places.store) as store:
            return sweeps.open_numbers(store, self._shared.run.id, group)

    def _store(self, rows: Mapping[int, Result]) -> None:
        numbers = sorted(rows)
        troubles: list[VitprofError] = []
        ordered = [rows[number] for number in numbers]
        keep_rows(ordered, self._shared.places, self._shared.run, troubles, sweep_numbers=numbers)
        if troubles:
            # Measuring what cannot be kept is of no use.
            raise troubles[0]
        self._shared.stored.update(numbers)


def _is_lost(failure: Failure) -> bool:
    return failure.kind == LINK_LOST or failure.stage in _DEVICE_STAGES


def _unreachable(failure: Failure) -> UnreachableError:
    return UnreachableError(failure.error, remedy=failure.remedy, stage=failure.stage)


def _with_metric(row: Result, metric: Metric) -> Result:
    return dataclasses.replace(row, protocol=counting_protocol()) if metric is Metric.INSTRUCTIONS else row
