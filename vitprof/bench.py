"""Cells on one device: exported, then measured group by group while the device is held.

    asks ─ Workshop ─► jobs ─ lease ─► groups ─ measure_group ─► samples ─ measured_row ─► results

Its own file beneath `pipeline` because everything that measures does the same with its cells and differs in which it
asks for, and when: a list of models, one batch after the other, a whole grid. Heavy libraries live in the Workshop's
own process: cells whose artifacts are cached never start it, and it has ended before anything is timed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from vitprof.cells import Cell, cell_names
from vitprof.devices import clock_lock, lease, profiles, reach
from vitprof.devices.transports import Transport
from vitprof.errors import ExitCode, VitprofError
from vitprof.export.locks import InUse
from vitprof.group import MAX_CELLS, Setting, Timeouts, measure_group
from vitprof.keeping import check_store, long_run
from vitprof.measurements import Protocol
from vitprof.places import Places
from vitprof.placing import format_of, plan_or_failure
from vitprof.protocols import REFERENCE, Effort, protocol_on
from vitprof.records import Artifact, Device, ModelSpec, Peaks, Result
from vitprof.reference import reference_plan, timed_as
from vitprof.report.progress import Progress
from vitprof.rows import blank_row, doubted, exit_code_of, failure_from_error, is_out_of_memory, measured_row
from vitprof.runner.wire import Failure, Option, Outputs, Plan
from vitprof.store.journal import Journal
from vitprof.store.peaks import peaks_for
from vitprof.store.runs import StoredRun
from vitprof.workshop import Workshop

# A session holds its weights, packed copies of them and its activations: this many times the file, at least.
_MEMORY_PER_ARTIFACT_BYTE = 4
_MEMORY_PER_CELL_BYTES = 150_000_000
# Of the memory that is free, a group may plan with this share.
_MEMORY_SHARE = 0.5
# Beyond a group's share of time, so that only a process that hangs meets its deadline.
_DEADLINE_SLACK_S = 900.0
# Where a single answer may take minutes, so many of them.
_DEADLINE_PER_BLOCK = 10
_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Terms:
    """On what and how cells are measured, whichever they are."""

    protocol: Protocol
    device: str = "local"
    device_file: Path | None = None
    # Of the images and of the order of cells.
    seed: int = 0
    # A file that can run code of its maker may be read.
    trust: bool = False
    # A GPU's clock, held while this lasts.
    lock_clocks_mhz: int | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True)
class Ask:
    """One cell as it is asked for. `threads` None: the device's."""

    spec: ModelSpec
    backend: str
    threads: int | None = None


@dataclass(frozen=True)
class Job:
    """A cell that can be measured: an artifact on a backend. `blank` holds the row's key fields."""

    artifact: Artifact
    blank: Result
    # What the backend reaches at most there; None where that is not known.
    peaks: Peaks | None
    # What its runner is told beside the Plan's own fields.
    options: Mapping[str, Option]

    @property
    def memory_bytes(self) -> float:
        activations = (self.artifact.cost.activation_bytes or 0) * self.artifact.spec.batch
        return self.artifact.bytes * _MEMORY_PER_ARTIFACT_BYTE + activations + _MEMORY_PER_CELL_BYTES


@dataclass(frozen=True)
class Refused:
    """A cell that cannot be measured: its row with the reason, and what a script should be told."""

    row: Result
    exit_code: ExitCode


@dataclass(frozen=True)
class Measured:
    """The rows of a group in the order of its jobs, none of them where a person ended it before anything was kept."""

    rows: tuple[Result, ...]
    exit_codes: frozenset[ExitCode]

    @property
    def is_interrupted(self) -> bool:
        return ExitCode.INTERRUPTED in self.exit_codes

    @property
    def codes_of_all(self) -> frozenset[ExitCode]:
        """What befell the group as a whole, beyond what its rows say."""
        return self.exit_codes - {exit_code_of(row) for row in self.rows}


class Bench:
    """One device with what is needed to measure on it; made by `opened`.

    `troubles`: what went wrong beside the measuring, such as a journal that could not be written.
    """

    def __init__(
        self,
        device: Device,
        backends: tuple[str, ...],
        terms: Terms,
        *,
        transport: Transport,
        in_use: InUse,
        here: _Here,
    ) -> None:
        self.device = device
        # Those asked for, else the device's first.
        self.backends = backends
        # As this device can follow it.
        self.protocol = terms.protocol
        self.troubles: list[VitprofError] = []
        self._terms = terms
        self._transport = transport
        self._in_use = in_use
        self._places, self._progress = here.places, here.progress
        self._threads: int | None = None

    @property
    def threads(self) -> int:
        """Of a session where nobody names any."""
        if self._threads is None:
            self._threads = lease.threads_of(self.device, self._transport)
        return self._threads

    def prepared(
        self, wanted: Callable[[Workshop], Sequence[Ask]] | Sequence[Ask], progress: Progress | None = None
    ) -> list[Job | Refused]:
        """What becomes of each ask, in their order; `wanted` may need the Workshop to know which they are.

        The preparing process has ended when this returns. `progress`: who is told instead of the bench's own, where
        another thread measures meanwhile.
        """
        with Workshop(self._places.cache_root, progress or self._progress, trust=self._terms.trust) as workshop:
            asks = wanted(workshop) if callable(wanted) else wanted
            made: dict[tuple[ModelSpec, str], Artifact | VitprofError] = {}
            return [self._prepared(ask, workshop, made) for ask in asks]

    @contextlib.contextmanager
    def held(self, run: StoredRun) -> Iterator[Hold]:
        """The device for this run alone: waits for others who use it, and until it stands as its profile asks."""
        with (
            lease.held(self.device, self._transport, lambda what: self._progress.stage("wait", what)) as held,
            clock_lock.held(self.device, self._terms.lock_clocks_mhz),
        ):
            journal = Journal(self._places.data_root)
            journal.write("protocol", {**dataclasses.asdict(self.protocol), "hash": self.protocol.hash})
            journal.write("run", run)
            terms = self._terms
            setting = Setting(self._transport, self.protocol, journal, self._progress, terms.seed, terms.timeouts)
            try:
                yield Hold(held, setting, self._places, self.troubles, run)
            finally:
                journal.close()
                self.troubles += [journal.trouble] if journal.trouble else []

    def _prepared(
        self, ask: Ask, workshop: Workshop, made: dict[tuple[ModelSpec, str], Artifact | VitprofError]
    ) -> Job | Refused:
        threads = ask.threads or self.threads
        artifact = self._artifact(ask, workshop, made)
        if isinstance(artifact, VitprofError):
            blank = blank_row(ask.spec, ask.backend, threads, self.device, self.protocol)
            return Refused(dataclasses.replace(blank, failure=failure_from_error(artifact)), artifact.exit_code)
        blank = blank_row(artifact.spec, ask.backend, threads, self.device, self.protocol)
        peaks = peaks_for(self._places.data_root, self.device, ask.backend, artifact.spec.precision, threads)
        return Job(artifact, blank, peaks, self._options(ask.backend))

    def _artifact(
        self, ask: Ask, workshop: Workshop, made: dict[tuple[ModelSpec, str], Artifact | VitprofError]
    ) -> Artifact | VitprofError:
        """What the backend loads, or why there is none; `made` holds what other asks were given."""
        try:
            reach.check_precision(ask.backend, ask.spec.precision)
        except VitprofError as error:
            return error
        key = (ask.spec, format_of(ask.backend, ask.spec.precision))
        if key not in made:
            try:
                made[key] = workshop.artifact(*key, self._in_use)
            except VitprofError as error:
                made[key] = error
        return made[key]

    def _options(self, backend: str) -> Mapping[str, Option]:
        options = reach.options_of(self.device, backend)
        if self._terms.lock_clocks_mhz:
            options["locked_clock_mhz"] = self._terms.lock_clocks_mhz
        if backend == "trt" and self.protocol.effort == Effort.STRICT:
            # No two builds are quite the same engine: every set measures one of its own.
            options.setdefault("engine_cache", False)
        return options


class Hold:
    """A device that is ours for now. Made by `Bench.held`."""

    def __init__(
        self, held: lease.Lease, setting: Setting, places: Places, troubles: list[VitprofError], run: StoredRun
    ) -> None:
        self._held = held
        self._setting = setting
        self._places = places
        self._troubles = troubles
        self._run = run

    def groups(
        self, jobs: Mapping[_Key, Job], memory_of: Callable[[_Key], float] | None = None
    ) -> Iterator[dict[_Key, Job]]:
        """Jobs in order, each under the caller's name for it, in groups that the device's memory holds.

        `memory_of`: what one takes, where that is known better than from its artifact.
        """
        free_bytes = math.inf
        # Of a device that was lost meanwhile it is told where its group is measured.
        with contextlib.suppress(VitprofError):
            free_bytes = self._held.free_bytes()
        return groups_of(jobs, free_bytes, memory_of)

    def each_group(self, jobs: Mapping[_Key, Job]) -> Iterator[tuple[dict[_Key, Result], frozenset[ExitCode]]]:
        """Groups of `jobs` as they are measured: their rows, and what a script should be told of them.

        Who runs out of memory beside others, who may have taken it, has no row there: it is measured again alone, last.
        """
        groups = list(self.groups(jobs))
        while groups:
            group = groups.pop(0)
            measured = self.measured(list(group.values()))
            rows = dict(zip(group, measured.rows, strict=False))
            crowded = [key for key, row in rows.items() if len(group) > 1 and is_out_of_memory(row)]
            groups += [{key: group[key]} for key in crowded]
            kept = {key: row for key, row in rows.items() if key not in crowded}
            yield kept, measured.codes_of_all.union(map(exit_code_of, kept.values()))

    def measured(self, jobs: Sequence[Job]) -> Measured:
        """The rows of one group; failed ones where the device is gone for good."""
        try:
            doubts = self._held.wait_until_ready()
            # Not when they were prepared: others may have been measured since, here and by other runs.
            now = datetime.now(UTC).isoformat(timespec="seconds")
            jobs = [dataclasses.replace(job, blank=dataclasses.replace(job.blank, started_at=now)) for job in jobs]
            rows = tuple(doubted(row, doubts) for row in self._rows(jobs))
        except KeyboardInterrupt:
            return Measured((), frozenset({ExitCode.INTERRUPTED}))
        except VitprofError as error:
            # Nothing of this group was measured: it could not be held, or nothing could be placed there.
            failure = failure_from_error(error)
            rows = tuple(dataclasses.replace(job.blank, failure=failure) for job in jobs)
            return Measured(rows, frozenset({error.exit_code}))
        return Measured(rows, frozenset(exit_code_of(row) for row in rows))

    def _rows(self, jobs: Sequence[Job]) -> tuple[Result, ...]:
        """The rows of one group; who could not be sent there has failed, and the others are measured."""
        transport = self._setting.transport
        plans = [
            plan_or_failure(job.artifact, job.blank.backend, job.blank.threads or 1, transport, job.options)
            for job in jobs
        ]
        placed = [(job, plan) for job, plan in zip(jobs, plans, strict=True) if isinstance(plan, Plan)]
        rows = iter(self._rows_of_placed(placed) if placed else ())
        return tuple(
            dataclasses.replace(job.blank, failure=plan) if isinstance(plan, Failure) else next(rows)
            for job, plan in zip(jobs, plans, strict=True)
        )

    def _rows_of_placed(self, placed: Sequence[tuple[Job, Plan]]) -> list[Result]:
        """What cannot be kept for later runs is added to the bench's `troubles`."""
        protocol, transport, jobs = self._setting.protocol, self._setting.transport, [job for job, _ in placed]
        asked_s = (protocol.measure_ns or 0) / 1e9
        slack_s = max(_DEADLINE_SLACK_S, _DEADLINE_PER_BLOCK * self._setting.timeouts.block_s)
        deadline_s = len(jobs) * (protocol.cap_s_per_cell + 2 * asked_s) + slack_s
        reference = None
        if protocol.reference:
            reference = timed_as(reference_plan(transport, self._places.cache_root, REFERENCE), protocol, deadline_s)
        with tempfile.TemporaryDirectory(prefix="vitprof-") as scratch:
            cells = []
            names = cell_names([(job.blank.spec.name, plan) for job, plan in placed])
            for index, ((job, plan), name) in enumerate(zip(placed, names, strict=True)):
                outputs = transport.scratch(f"outputs-{index}", Path(scratch)) if job.artifact.expected else None
                timed = timed_as(plan, protocol, deadline_s)
                cells.append(Cell(name, dataclasses.replace(timed, region=protocol.region, with_energy=True), outputs))
            group = measure_group(cells, reference, self._setting)
            device = jobs[0].blank.device
            usual = long_run(device, group.reference_blocks_ns, self._places, self._troubles, self._run)
            return [
                measured_row(
                    job.artifact,
                    samples,
                    job.blank,
                    outputs_file=_fetched(samples.outputs, transport, Path(scratch), self._troubles),
                    reference_long_run_ns=usual.p50_ns if usual else None,
                    reference_failure=group.reference_failure,
                    peaks=job.peaks,
                )
                for job, samples in zip(jobs, group.cells, strict=True)
            ]


@dataclass(frozen=True)
class _Here:
    """Of this machine: its folders, and who is told how it goes."""

    places: Places
    progress: Progress


@contextlib.contextmanager
def opened(terms: Terms, backends: Sequence[str], places: Places, progress: Progress) -> Iterator[Bench]:
    """The device of `terms` for these backends (none: its first one), reached and checked as far as that is quick.

    `UsageError` for a backend, region or clock that the device cannot have, `UnreachableError` for a runtime that is
    not installed, a device that does not answer, or a results store that cannot be reached.
    """
    check_store(places)
    device = reach.device_for(profiles.device(terms.device, terms.device_file), tuple(backends))
    terms = dataclasses.replace(terms, protocol=protocol_on(device, terms.protocol))
    wanted = tuple(backends) or device.backends[:1]
    for backend in wanted:
        reach.check_backend(backend, device)
        reach.check_region(backend, device, terms.protocol.region)
        reach.check_installed(backend, device)
    clock_lock.check(device, terms.lock_clocks_mhz)
    with InUse(places.cache_root) as in_use, reach.connected(device, places.cache_root) as transport:
        yield Bench(device, wanted, terms, transport=transport, in_use=in_use, here=_Here(places, progress))


def groups_of(
    jobs: Mapping[_Key, Job], free_bytes: float, memory_of: Callable[[_Key], float] | None = None
) -> Iterator[dict[_Key, Job]]:
    """Jobs in order: at most eight at a time, and no more than half of the free memory is thought to hold."""
    group: dict[_Key, Job] = {}
    taken = 0.0
    for key, job in jobs.items():
        needed = memory_of(key) if memory_of else job.memory_bytes
        if group and (len(group) == MAX_CELLS or taken + needed > _MEMORY_SHARE * free_bytes):
            yield group
            group, taken = {}, 0.0
        group[key] = job
        taken += needed
    if group:
        yield group


def _fetched(outputs: Outputs | None, transport: Transport, folder: Path, troubles: list[VitprofError]) -> Path | None:
    """Here, the file with the outputs of the device; None where it gave none, or is gone with them."""
    if outputs is None or outputs.missing:
        return None
    try:
        return transport.fetch(outputs.path, folder)
    except VitprofError as error:
        # What was timed is worth keeping without its parity.
        troubles.append(error)
        return None
