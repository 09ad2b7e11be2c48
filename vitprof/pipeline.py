"""The program on a page: from names to results. No formatting, no input or output of its own.

    names ─ Workshop ─► specs ─► artifacts ─ measure_group ─► samples ─ measured_row ─► results

`measure` is what `vitprof latency` runs, and `compare` for what its store lacks (`comparing`). Heavy libraries live in
the Workshop's own process: a measurement whose artifacts are cached never starts it.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from vitprof.cells import Cell
from vitprof.devices import clock_lock, lease, profiles, reach
from vitprof.devices.transports import Transport
from vitprof.errors import ExitCode, VitprofError
from vitprof.export.cache import files_in
from vitprof.export.locks import InUse
from vitprof.group import MAX_CELLS, Setting, Timeouts, measure_group
from vitprof.measurements import Protocol
from vitprof.places import Places
from vitprof.prepare import QDQ_FORMAT
from vitprof.protocols import REFERENCE, Effort, protocol_on
from vitprof.records import Artifact, Device, ModelSpec, Peaks, Precision, Result
from vitprof.reference import reference_plan, timed_as
from vitprof.report.progress import NoProgress, Progress
from vitprof.rows import blank_row, doubted, exit_code_of, failure_from_error, measured_row
from vitprof.runner.backends import BACKENDS
from vitprof.runner.wire import Option, Outputs, Plan
from vitprof.store import reference_times
from vitprof.store.journal import Journal
from vitprof.store.peaks import peaks_for
from vitprof.store.runs import StoredRun, new_run
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


@dataclass(frozen=True)
class Request:
    """What is to be measured, as it was asked for. `like`: everything about the models but their names."""

    models: tuple[str, ...]
    protocol: Protocol
    like: ModelSpec
    device: str = "local"
    device_file: Path | None = None
    backends: tuple[str, ...] = ()
    threads: int | None = None
    # A file that can run code of its maker may be read.
    trust: bool = False
    # A GPU's clock, held while this lasts.
    lock_clocks_mhz: int | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True)
class Run:
    """All rows of a run in the order asked for, failed ones among them, and what a script should be told.

    `troubles`: what went wrong beside the measuring, such as a journal that could not be written.
    """

    results: tuple[Result, ...]
    exit_codes: frozenset[ExitCode]
    troubles: tuple[VitprofError, ...] = ()


@dataclass(frozen=True)
class _Job:
    """Row number `index` to be: an artifact on a backend. `blank` holds the row's key fields."""

    index: int
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


def measure(request: Request, places: Places, progress: Progress | None = None) -> Run:
    """Measures every model on every backend of the request; a model that fails is a row with its reason."""
    progress = progress or NoProgress()
    device = reach.device_for(profiles.device(request.device, request.device_file), request.backends)
    request = dataclasses.replace(request, protocol=protocol_on(device, request.protocol))
    backends = request.backends or device.backends[:1]
    for backend in backends:
        reach.check_backend(backend, device)
        reach.check_region(backend, device, request.protocol.region)
        reach.check_installed(backend, device)
    clock_lock.check(device, request.lock_clocks_mhz)
    store, stored_run = places.ready_store(), new_run("latency")
    troubles: list[VitprofError] = []
    with InUse(places.cache_root) as in_use, reach.connected(device, places.cache_root) as transport:
        request = dataclasses.replace(request, threads=request.threads or lease.threads_of(device, transport))
        jobs, rows, codes = _prepared(request, device, backends, places, in_use=in_use, progress=progress)
        keep_rows(list(rows.values()), store, stored_run, troubles)
        if jobs:
            with (
                lease.held(device, transport, lambda what: progress.stage("wait", what)) as held,
                clock_lock.held(device, request.lock_clocks_mhz),
            ):
                journal = Journal(places.data_root)
                journal.write("protocol", {**dataclasses.asdict(request.protocol), "hash": request.protocol.hash})
                journal.write("run", stored_run)
                setting = Setting(transport, request.protocol, journal, progress, request.like.seed, request.timeouts)
                for group in _groups(jobs):
                    measured, new_codes = _measured_when_ready(group, held, setting, places, troubles)
                    keep_rows(measured, store, stored_run, troubles)
                    rows.update({job.index: row for job, row in zip(group, measured, strict=False)})
                    codes |= new_codes
                    if ExitCode.INTERRUPTED in codes:
                        break
                journal.close()
                troubles += [journal.trouble] if journal.trouble else []
    codes |= {trouble.exit_code for trouble in troubles}
    return Run(tuple(rows[index] for index in sorted(rows)), frozenset(codes), tuple(troubles))


def _prepared(
    request: Request, device: Device, backends: Sequence[str], places: Places, *, in_use: InUse, progress: Progress
) -> tuple[list[_Job], dict[int, Result], set[ExitCode]]:
    """What can be measured, by row number the rows of what cannot, and their exit codes."""
    threads = request.threads or 1
    jobs: list[_Job] = []
    failed: dict[int, Result] = {}
    codes: set[ExitCode] = set()
    with Workshop(places.cache_root, progress, trust=request.trust) as workshop:
        for spec in workshop.specs(request.models, request.like):
            made: dict[str, Artifact | VitprofError] = {}
            for backend in backends:
                index = len(jobs) + len(failed)
                one = _artifact_for(backend, spec, workshop, made, in_use)
                if isinstance(one, Artifact):
                    blank = blank_row(one.spec, backend, threads, device, request.protocol)
                    peaks = peaks_for(places.data_root, device, backend, one.spec.precision, threads)
                    jobs.append(_Job(index, one, blank, peaks, _options(request, device, backend)))
                else:
                    blank = blank_row(spec, backend, threads, device, request.protocol)
                    failed[index] = dataclasses.replace(blank, failure=failure_from_error(one))
                    codes.add(one.exit_code)
    return jobs, failed, codes


def format_of(backend: str, precision: Precision) -> str:
    """What `backend` is given to load: int8 for TensorRT is written in another way than for ONNX Runtime."""
    return QDQ_FORMAT if backend == "trt" and precision is Precision.INT8 else BACKENDS[backend].format or ""


def _options(request: Request, device: Device, backend: str) -> Mapping[str, Option]:
    """What the runners of a row are told beside the Plan's own fields."""
    options = reach.options_of(device, backend)
    if request.lock_clocks_mhz:
        options["locked_clock_mhz"] = request.lock_clocks_mhz
    if backend == "trt" and request.protocol.effort == Effort.STRICT:
        # No two builds are quite the same engine: every set measures one of its own.
        options.setdefault("engine_cache", False)
    return options


def _artifact_for(
    backend: str, spec: ModelSpec, workshop: Workshop, made: dict[str, Artifact | VitprofError], in_use: InUse
) -> Artifact | VitprofError:
    """What `backend` loads, or why there is none; `made` holds by format what other backends were given."""
    try:
        reach.check_precision(backend, spec.precision)
    except VitprofError as error:
        return error
    format = format_of(backend, spec.precision)
    if format not in made:
        made[format] = _artifact_or_error(workshop, spec, format, in_use)
    return made[format]


def _artifact_or_error(workshop: Workshop, spec: ModelSpec, format: str, in_use: InUse) -> Artifact | VitprofError:
    try:
        return workshop.artifact(spec, format, in_use)
    except VitprofError as error:
        return error


def _measured_when_ready(
    jobs: Sequence[_Job], held: lease.Lease, setting: Setting, places: Places, troubles: list[VitprofError]
) -> tuple[list[Result], set[ExitCode]]:
    """The rows of one group and what a script should be told; failed ones where the device is gone for good."""
    try:
        doubts = held.wait_until_ready()
        rows = [doubted(row, doubts) for row in _measured(jobs, setting, places, troubles)]
    except KeyboardInterrupt:
        return [], {ExitCode.INTERRUPTED}
    except VitprofError as error:
        # Nothing of this group was measured: it could not be held, or its files could not be placed there.
        failure = failure_from_error(error)
        return [dataclasses.replace(job.blank, failure=failure) for job in jobs], {error.exit_code}
    return rows, {exit_code_of(row) for row in rows}


def _measured(jobs: Sequence[_Job], setting: Setting, places: Places, troubles: list[VitprofError]) -> list[Result]:
    """The rows of one group; what cannot be kept for later runs is added to `troubles`."""
    protocol, transport = setting.protocol, setting.transport
    asked_s = (protocol.measure_ns or 0) / 1e9
    slack_s = max(_DEADLINE_SLACK_S, _DEADLINE_PER_BLOCK * setting.timeouts.block_s)
    deadline_s = len(jobs) * (protocol.cap_s_per_cell + 2 * asked_s) + slack_s
    # Asked before this run adds to it: a run must not confirm itself.
    kept_as = _reference_kept_as(jobs[0].blank.device)
    long_run = reference_times.long_run(places.data_root, kept_as) if protocol.reference else None
    reference = None
    if protocol.reference:
        reference = timed_as(reference_plan(transport, places.cache_root, REFERENCE), protocol, deadline_s)
    with tempfile.TemporaryDirectory(prefix="vitprof-") as scratch:
        cells = []
        has_several_backends = len({job.blank.backend for job in jobs}) > 1
        for index, job in enumerate(jobs):
            plan = plan_of(job.artifact, job.blank.backend, job.blank.threads or 1, transport, job.options)
            outputs = transport.scratch(f"outputs-{index}", Path(scratch)) if job.artifact.expected else None
            name = f"{job.artifact.spec.name} {job.blank.backend}" if has_several_backends else job.artifact.spec.name
            plan = dataclasses.replace(timed_as(plan, protocol, deadline_s), region=protocol.region)
            cells.append(Cell(name, plan, outputs))
        group = measure_group(cells, reference, setting)
        rows = [
            measured_row(
                job.artifact,
                samples,
                job.blank,
                outputs_file=_fetched(samples.outputs, transport, Path(scratch), troubles),
                reference_long_run_ns=long_run.p50_ns if long_run else None,
                reference_failure=group.reference_failure,
                peaks=job.peaks,
            )
            for job, samples in zip(jobs, group.cells, strict=True)
        ]
    try:
        if protocol.reference:
            reference_times.add(places.data_root, kept_as, group.reference_blocks_ns)
    except VitprofError as error:
        troubles.append(error)
    return rows


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


def _reference_kept_as(device: str) -> str:
    """The name of the reference's times on `device`: what another device takes must not pass for this machine's."""
    return REFERENCE if device == "local" else f"{REFERENCE} on {device}"


def keep_rows(rows: Sequence[Result], store: str, run: StoredRun, troubles: list[VitprofError]) -> None:
    """Adds rows to the results store; why they could not be kept is added to `troubles`, once."""
    if not rows:
        return
    # Not before something was measured: the database library takes its time to load.
    from vitprof.report.document import dicts_from_results
    from vitprof.store.results import open_store

    try:
        with open_store(store) as opened:
            opened.add(run, dicts_from_results(rows))
    except VitprofError as error:
        if error.message not in {one.message for one in troubles}:
            troubles.append(error)


def plan_of(
    artifact: Artifact, backend: str, threads: int, transport: Transport, options: Mapping[str, Option] | None = None
) -> Plan:
    """How a process runs `artifact` on a backend, its files placed on the device."""
    return Plan(
        backend=backend,
        options=options or {},
        artifact=_placed(artifact, transport),
        artifact_sha256=artifact.sha256 if _is_alone(artifact) else "",
        inputs=transport.place(str(artifact.folder / artifact.inputs)),
        input_name=artifact.input_name,
        input_shape=artifact.input_shape,
        input_dtype=artifact.input_dtype,
        input_count=artifact.input_count,
        expected_outputs=artifact.expected_outputs,
        symbolic_batch=artifact.symbolic_batch,
        precision=artifact.spec.precision.value,
        threads=threads,
    )


def _placed(artifact: Artifact, transport: Transport) -> str:
    """The device's path of the artifact, with the weights beside it where it has any."""
    if artifact.path.is_dir() or _is_alone(artifact):
        return transport.place(str(artifact.path))
    return f"{transport.place(str(artifact.path.parent))}/{artifact.path.name}"


def _is_alone(artifact: Artifact) -> bool:
    """The runner can check a file, or a folder's files; with weights beside it, the hash is of more than it is told."""
    files = files_in(artifact.path) if artifact.path.is_dir() else [artifact.path]
    return all(file.is_file() for file in files) and sum(file.stat().st_size for file in files) == artifact.bytes


def _groups(jobs: Sequence[_Job]) -> Iterator[list[_Job]]:
    """Jobs in order, at most eight at a time and no more than memory holds."""
    available = psutil.virtual_memory().available * _MEMORY_SHARE
    group: list[_Job] = []
    for job in jobs:
        taken = sum(one.memory_bytes for one in group)
        if group and (len(group) == MAX_CELLS or taken + job.memory_bytes > available):
            yield group
            group = []
        group.append(job)
    if group:
        yield group
