"""`vitprof throughput`: models measured at one batch after the other, until more images bring no more.

    models × sizes × backends ─► series ─┐
          ┌──────────────────────────────┘
          └► next batch (analysis.throughput) ─ Bench.prepared ─ one group of all series at that batch ─ Hold.measured
                 ▲                                                                                          │
                 └───────────────────────────────── point ◄─────────────────────────────────────────────────┘

One level above `bench`, like `pipeline`: which cells come next depends on what those before have shown. All series
that are still searching are measured together, batch by batch, so that they can be compared at each. A batch is
prepared just before, while nothing is timed; a format with fixed shapes is converted for each.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from vitprof.analysis import throughput
from vitprof.analysis.crossovers import crossovers
from vitprof.analysis.throughput import Limits
from vitprof.bench import Ask, Bench, Hold, Job, Refused, opened
from vitprof.curves import (
    ALLOCATOR,
    MAX_BATCH,
    NVML,
    Crossover,
    Curve,
    CurvePoint,
    DeviceBytes,
    PointOutcome,
    StoppedBy,
)
from vitprof.devices import reach
from vitprof.errors import ExitCode, VitprofError
from vitprof.keeping import keep_rows
from vitprof.measurements import Interval, StopReason
from vitprof.pipeline import Request
from vitprof.places import Places
from vitprof.records import ParityVerdict, Result
from vitprof.report.cell import failure_of, size_of
from vitprof.report.progress import NoProgress, Progress
from vitprof.rows import exit_code_of, is_out_of_memory
from vitprof.runner.wire import Failure
from vitprof.store.runs import StoredRun, new_run
from vitprof.workshop import Workshop


@dataclass(frozen=True)
class Asked:
    """What is to be measured: `request` as for latencies, but for its batch and size.

    `batches`: none: they are searched for. `sizes`: (height, width); none: each model's own.
    """

    request: Request
    batches: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    max_batch: int = MAX_BATCH

    @property
    def limits(self) -> Limits:
        return Limits(self.max_batch, tuple(sorted(set(self.batches))))


@dataclass(frozen=True)
class Throughput:
    """The curves in the order asked for, where they cross, and what a script should be told."""

    curves: tuple[Curve, ...]
    crossovers: tuple[Crossover, ...]
    exit_codes: frozenset[ExitCode]
    troubles: tuple[VitprofError, ...] = ()
    # Batches were searched for, and not given.
    is_search: bool = False

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Why rows have no number, but for the end of memory that a search has found."""
        return tuple(
            row.failure
            for curve in self.curves
            for row in curve.rows
            if row.failure and not (self.is_search and row is not curve.rows[0] and is_out_of_memory(row))
        )


def measure_throughput(asked: Asked, places: Places, progress: Progress | None = None) -> Throughput:
    """Curves of every model at every size on every backend; rows are kept in the store as soon as they are measured.

    Ctrl-C ends it with what there is until then. `UsageError` and `UnreachableError` as from `bench.opened`.
    """
    request, run = asked.request, new_run("throughput")
    shown = _BatchProgress(progress or NoProgress())
    with opened(request.terms, request.backends, places, shown) as bench:
        search = Search(asked, bench, run, places, shown)
        search.measure()
        curves = search.curves()
    codes = frozenset(search.codes | {trouble.exit_code for trouble in bench.troubles})
    return Throughput(curves, crossovers(curves), codes, tuple(bench.troubles), is_search=not asked.batches)


@dataclass
class _Series:
    """One curve while it is being measured. `ask`: its cell at the first batch."""

    ask: Ask
    points: list[CurvePoint] = field(default_factory=list)
    rows: list[Result] = field(default_factory=list)
    stopped_by: StoppedBy | None = None

    def at(self, batch: int) -> Ask:
        return dataclasses.replace(self.ask, spec=dataclasses.replace(self.ask.spec, batch=batch))


class Search:
    """All series, the batch that each of them wants next, and what came of it."""

    def __init__(self, asked: Asked, bench: Bench, run: StoredRun, places: Places, shown: _BatchProgress) -> None:
        self.series: list[_Series] = []
        self.codes: set[ExitCode] = set()
        self._asked = asked
        self._bench = bench
        self._run = run
        self._places = places
        self._shown = shown
        self._free_bytes = psutil.virtual_memory().available if reach.is_here(bench.device) else None
        self._groups = 0

    def measure(self) -> None:
        """Measures until no series wants another batch, or a person ends it."""
        prepared = self._bench.prepared(self._first_asks)
        jobs = self._ready(self.series, prepared)
        if not jobs and not self._wanted():
            return
        with self._bench.held(self._run) as hold:
            try:
                self._take(jobs, hold)
                while batches := self._wanted():
                    batch = min(batches.values())
                    some = [one for index, one in enumerate(self.series) if batches.get(index) == batch]
                    prepared = self._bench.prepared([one.at(batch) for one in some])
                    self._take(self._ready(some, prepared), hold)
            except KeyboardInterrupt:
                # While a batch is prepared, or a device that was lost is waited for.
                self._interrupt()

    def curves(self) -> tuple[Curve, ...]:
        names = _names([one.ask for one in self.series])
        return tuple(self._curve(one, name) for one, name in zip(self.series, names, strict=True) if one.rows)

    def _first_asks(self, workshop: Workshop) -> Sequence[Ask]:
        request = self._asked.request
        batch = (self._asked.limits.asked or (1,))[0]
        for size in self._asked.sizes or (None,):
            like = dataclasses.replace(request.like, size=size, batch=batch)
            for spec in workshop.specs(request.models, like):
                self.series += [_Series(Ask(spec, backend, request.threads)) for backend in self._bench.backends]
        # The sizes of a model beside each other, in the order in which the models were named.
        order = {key: index for index, key in enumerate(dict.fromkeys(_competitor(one.ask) for one in self.series))}
        self.series.sort(key=lambda one: order[_competitor(one.ask)])
        return [one.ask for one in self.series]

    def _wanted(self) -> dict[int, int]:
        """By the number of a series, the batch that it wants next."""
        wanted = {}
        for index, one in enumerate(self.series):
            if one.stopped_by is None:
                fits = _Fits(tuple(one.points), _usable_bytes(one.rows, self._free_bytes)[0])
                step = throughput.next_step(one.points, self._asked.limits, fits)
                if isinstance(step, StoppedBy):
                    one.stopped_by = step
                    if self._asked.batches and step is StoppedBy.MEMORY:
                        # A batch that was asked for is not there, measured or not.
                        self.codes.add(ExitCode.FAILED)
                else:
                    wanted[index] = step
        return wanted

    def _ready(self, some: Sequence[_Series], prepared: Sequence[Job | Refused]) -> list[tuple[_Series, Job]]:
        """Those that can be measured; the rows of the others are kept with their reasons."""
        jobs: list[tuple[_Series, Job]] = []
        for one, made in zip(some, prepared, strict=True):
            if isinstance(made, Refused):
                self.codes.add(made.exit_code)
                self._keep([(one, made.row)], None)
            else:
                jobs.append((one, made))
        return jobs

    def _take(self, jobs: Sequence[tuple[_Series, Job]], hold: Hold) -> None:
        """Measures series at one batch in as few groups as memory allows."""
        numbered = {number: job for number, (_, job) in enumerate(jobs)}
        for group in hold.groups(numbered, lambda number: self._memory_bytes(*jobs[number])):
            self._shown.batch = jobs[min(group)][1].blank.spec.batch
            if not self._measure_group([jobs[number] for number in group], hold):
                self._interrupt()
                return

    def _measure_group(self, group: Sequence[tuple[_Series, Job]], hold: Hold) -> bool:
        """Measures and keeps one group; False where a person ended it.

        Where one of several runs out of memory it may have been the others who took it: it is measured again alone.
        """
        self._groups += 1
        measured = hold.measured([job for _, job in group])
        rows = list(zip((one for one, _ in group), measured.rows, strict=False))
        crowded = [
            (one, job)
            for (one, job), (_, row) in zip(group, rows, strict=False)
            if len(group) > 1 and is_out_of_memory(row)
        ]
        names = {id(one) for one, _ in crowded}
        self._keep([(one, row) for one, row in rows if id(one) not in names], self._groups)
        self.codes |= measured.codes_of_all
        return not measured.is_interrupted and all(self._measure_group([alone], hold) for alone in crowded)

    def _keep(self, rows: Sequence[tuple[_Series, Result]], group: int | None) -> None:
        keep_rows([row for _, row in rows], self._places, self._run, self._bench.troubles)
        for one, row in rows:
            point = point_from_row(row, group)
            # Where it is searched for, the end of memory is what was to be found.
            is_end = not self._asked.batches and point.outcome is PointOutcome.OUT_OF_MEMORY and len(one.points) > 0
            if group is not None:
                self.codes.add(ExitCode.OK if is_end else exit_code_of(row))
            one.points.append(point)
            one.rows.append(row)

    def _interrupt(self) -> None:
        self.codes.add(ExitCode.INTERRUPTED)
        for one in self.series:
            one.stopped_by = one.stopped_by or StoppedBy.INTERRUPTED

    def _memory_bytes(self, one: _Series, job: Job) -> float:
        """What a runner takes of this machine's memory: by its smaller batches, where there are two."""
        return throughput.host_bytes(one.points, job.blank.spec.batch) or job.memory_bytes

    def _curve(self, one: _Series, name: str) -> Curve:
        gains = throughput.gains(one.points)
        points = tuple(
            dataclasses.replace(point, gain_share=gains.get(point.batch))
            for point in sorted(one.points, key=lambda point: point.batch)
        )
        best = throughput.best_batch(points)
        host_bytes, device_bytes = _usable_bytes(one.rows, self._free_bytes)
        if any("gpu_total_bytes" in _facts_before(row) for row in one.rows):
            # Its memory ends first: where nobody tells what was taken of it, the host's room says nothing.
            host_bytes = None
        return Curve(
            name=name,
            size=next((size for row in one.rows if (size := size_of(row))), None),
            points=points,
            rows=tuple(sorted(one.rows, key=lambda row: row.spec.batch)),
            stopped_by=one.stopped_by or StoppedBy.INTERRUPTED,
            best_batch=best,
            knee_batch=throughput.knee_batch(points),
            headroom=throughput.headroom(points, best, host_bytes, device_bytes),
        )


@dataclass(frozen=True)
class _Fits:
    """Whether memory holds a batch, as far as the points of smaller ones tell."""

    points: tuple[CurvePoint, ...]
    free_bytes: int | None

    def __call__(self, batch: int) -> bool:
        return throughput.fits_host(self.points, batch, self.free_bytes)


class _BatchProgress:
    """Says beside each step which batch it is of."""

    def __init__(self, inner: Progress) -> None:
        self.batch: int | None = None
        self._inner = inner

    def stage(self, name: str, detail: str) -> None:
        said = f"batch {self.batch}, {detail}" if name == "measure" and self.batch is not None else detail
        self._inner.stage(name, said)

    def live(self, values: Mapping[str, tuple[float, float | None, float | None]]) -> None:
        self._inner.live(values)

    def close(self) -> None:
        self._inner.close()


def point_from_row(row: Result, group: int | None = None) -> CurvePoint:
    """What a row says of its batch; `group`: the number of the group that it was measured in."""
    summary, failure = row.summary, failure_of(row)
    outcome = PointOutcome.OK if failure is None else PointOutcome.FAILED
    if is_out_of_memory(row):
        outcome = PointOutcome.OUT_OF_MEMORY
    if summary is None or failure is not None:
        return CurvePoint(row.spec.batch, outcome)
    relative = summary.relative
    return CurvePoint(
        batch=row.spec.batch,
        outcome=outcome,
        images_per_s=_rate(summary.latency.p50_ns, row.spec.batch * 1e9),
        images_per_reference=_rate(relative.ratio, row.spec.batch) if relative else None,
        latency_ns=summary.latency.p50_ns,
        grade=summary.grade.value,
        relative_grade=relative.grade.value if relative else None,
        peak_rss_bytes=summary.peak_rss_bytes,
        running_rss_bytes=summary.peak_rss_measuring_bytes,
        device_bytes=tuple(_device_bytes(row)),
        is_broken=row.parity is not None and row.parity.verdict is ParityVerdict.BROKEN,
        group=group,
        samples=row.samples if row.samples and row.samples.stop_reason is not StopReason.INTERRUPTED else None,
    )


def _device_bytes(row: Result) -> Iterator[DeviceBytes]:
    summary = row.summary
    if summary and summary.peak_device_bytes is not None:
        yield DeviceBytes(ALLOCATOR, summary.peak_device_bytes)
    if summary and summary.peak_device_nvml_bytes is not None:
        yield DeviceBytes(NVML, summary.peak_device_nvml_bytes)


def _rate(time: Interval, images: float) -> Interval:
    """Images in a time; its longest end is the least rate."""
    low, high = (images / end if end else None for end in (time.high, time.low))
    return Interval(images / time.value, low, high)


def _usable_bytes(rows: Sequence[Result], free_bytes: int | None) -> tuple[int | None, int | None]:
    """Memory that runners may take, as far as known: of the host that runs them, and of an accelerator.

    `free_bytes`: of this machine, where they run here; elsewhere a runner tells what was free before it loaded.
    """
    facts = [_facts_before(row) for row in rows]
    available = [one["memory_available_bytes"] for one in facts if "memory_available_bytes" in one]
    free = free_bytes if free_bytes is not None else max(available, default=None)
    # Of a container, its limit.
    limits = [one["memory_bytes"] for one in facts if "memory_bytes" in one]
    host = min((one for one in (free, *limits) if one is not None), default=None)
    # After the first call: what the runner itself had taken by then comes on top, whatever others have is missing.
    device = [
        min(one["gpu_memory_free_bytes"] + own, one.get("gpu_memory_total_bytes", math.inf))
        for one, row in zip(facts, rows, strict=True)
        if "gpu_memory_free_bytes" in one
        and (own := max((taken.bytes for taken in _device_bytes(row)), default=None)) is not None
    ]
    return host, int(max(device)) if device else None


def _facts_before(row: Result) -> Mapping[str, Any]:
    return row.environment.get("before") or {}


def _competitor(ask: Ask) -> tuple[str, str]:
    """Who is compared with others along batches and sizes."""
    return ask.spec.typed_name, ask.backend


def _names(asks: Sequence[Ask]) -> list[str]:
    """What each is called: its model, with the backend where there are several."""
    has_backends = len({ask.backend for ask in asks}) > 1
    return [f"{model} on {backend}" if has_backends else model for model, backend in map(_competitor, asks)]
