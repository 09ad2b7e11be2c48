"""Executed instructions of an inference, counted by the emulator of an emulated board: `--metric instructions`.

    artifact ─► runner under the emulator that counts ─► counts of single calls ─► median, with their spread

Above the pipeline because it makes rows of the same kind in another way: nothing is timed, so there are no rounds, no
reference, and no lock of the machine; who else uses it changes no count. Calls of one process differ by some parts in
a hundred thousand (the allocator, Python's caches), their median hardly from process to process
(docs/decisions/0025).
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitprof.devices import emulation, profiles, reach
from vitprof.devices.transports import RunnerFailed, Transport
from vitprof.devices.transports.emulated import EmulatedTransport
from vitprof.errors import ExitCode, UsageError, VitprofError
from vitprof.export.locks import InUse
from vitprof.keeping import check_store, keep_rows
from vitprof.measurements import Instructions, Region
from vitprof.pipeline import Request, Run
from vitprof.places import Places
from vitprof.placing import format_of, plan_of
from vitprof.protocols import counting_protocol
from vitprof.records import Artifact, Device, Result
from vitprof.report.progress import NoProgress, Progress
from vitprof.rows import blank_row, exit_code_of, failure_from_error, parity_of
from vitprof.runner.wire import CountRequest, Counts, Outputs, OutputsRequest, Plan, Ready
from vitprof.store.runs import new_run
from vitprof.workshop import Workshop

_COUNTER_BYTES = 8


@dataclass(frozen=True)
class Counter:
    """Counts the instructions of cells on one emulated device; made by `counter_on`."""

    device: Device
    calls: int
    timeout_s: float
    transport: Transport
    # Where a process leaves its outputs.
    scratch: Path

    def row(self, artifact: Artifact, blank: Result) -> Result:
        """`blank` with what one process counted, or with why it could not."""
        plan = plan_of(artifact, blank.backend, 1, self.transport, reach.options_of(self.device, blank.backend))
        blank = dataclasses.replace(blank, spec=artifact.spec)
        try:
            return _counted(artifact, blank, plan, self)
        except VitprofError as error:
            return dataclasses.replace(blank, failure=failure_from_error(error))


@contextlib.contextmanager
def counter_on(device: Device, calls: int, timeout_s: float, places: Places) -> Iterator[Counter]:
    """What counts on `device`, `calls` calls of each cell; `UnreachableError` where it is not set up to count."""
    with tempfile.TemporaryDirectory(prefix="vitprof-") as scratch:
        counter = Path(scratch) / "executed"
        counter.write_bytes(bytes(_COUNTER_BYTES))
        board = emulation.counting_board(device, places.cache_root, counter)
        yield Counter(device, calls, timeout_s, EmulatedTransport(board, places.cache_root), Path(scratch))


def count_instructions(
    request: Request, places: Places, progress: Progress | None = None, *, command: str = "latency"
) -> Run:
    """A row for every model and backend with its instructions; one that fails is a row with its reason.

    `command`: what the store names the run after.

    `UsageError` where the device is not emulated or more than one thread is asked for, `UnreachableError` where it is
    not set up to count.
    """
    progress = progress or NoProgress()
    device = profiles.device(request.device, request.device_file)
    backends = request.backends or device.backends[:1]
    _check(request, device, backends)
    request = dataclasses.replace(request, protocol=counting_protocol(request.protocol.measure_calls))
    check_store(places)
    stored_run = new_run(command)
    rows: list[Result] = []
    codes: set[ExitCode] = set()
    troubles: list[VitprofError] = []
    calls = request.protocol.measure_calls or 1
    with (
        counter_on(device, calls, request.timeouts.load_s, places) as counter,
        InUse(places.cache_root) as in_use,
        Workshop(places.cache_root, progress, trust=request.trust) as workshop,
    ):
        cells = [(spec, name) for spec in workshop.specs(request.models, request.like) for name in backends]
        for spec, backend in cells:
            blank = blank_row(spec, backend, 1, device, request.protocol)
            try:
                artifact = workshop.artifact(spec, format_of(backend, spec.precision), in_use)
                progress.stage("count", f"instructions of {spec.name} on {backend}")
                row = counter.row(artifact, blank)
            except VitprofError as error:
                row = dataclasses.replace(blank, failure=failure_from_error(error))
                codes.add(error.exit_code)
            except KeyboardInterrupt:
                codes.add(ExitCode.INTERRUPTED)
                break
            rows.append(row)
            codes.add(exit_code_of(row))
            keep_rows([row], places, stored_run, troubles)
    codes |= {trouble.exit_code for trouble in troubles}
    return Run(tuple(rows), frozenset(codes), tuple(troubles))


def instructions_from_counts(counts: Sequence[int], counted_by: str) -> Instructions:
    """What one process's counts of single calls say together."""
    median = statistics.median_low(counts)
    return Instructions(median, (max(counts) - min(counts)) / median, len(counts), counted_by)


def _check(request: Request, device: Device, backends: Sequence[str]) -> None:
    if device.transport != "emulated":
        raise UsageError(
            f"--metric instructions: nothing counts the instructions of device '{device.name}'",
            remedy="count them on an emulated one: --device emulated-a72",
        )
    for backend in backends:
        reach.check_backend(backend, device)
    if request.protocol.region != Region.CALL:
        what = f"--metric instructions: of single calls, not of region {request.protocol.region}"
        raise UsageError(what, remedy="leave out --region")
    if request.protocol.measure_ns is not None:
        raise UsageError("--metric instructions counts calls, no time", remedy="ask for calls: --measure 15x")
    if (request.threads or 1) != 1:
        # Threads that wait for each other execute instructions too, as many as it happens to take.
        raise UsageError(
            f"--metric instructions: on {request.threads} threads no two counts agree", remedy="leave out --threads"
        )


def _counted(artifact: Artifact, blank: Result, plan: Plan, counter: Counter) -> Result:
    """The row of one cell: a process that gives its outputs, for parity, and then counts."""
    transport = counter.transport
    try:
        link = transport.start(plan)
        try:
            ready = link.receive(counter.timeout_s)
            outputs = None
            if artifact.expected:
                link.send(OutputsRequest(transport.scratch("outputs", counter.scratch)))
                outputs = link.receive(counter.timeout_s)
            link.send(CountRequest(counter.calls))
            counts = link.receive(counter.timeout_s)
        finally:
            link.close()
    except RunnerFailed as failed:
        return dataclasses.replace(blank, artifact=artifact, failure=failed.failure)
    assert isinstance(ready, Ready) and isinstance(counts, Counts)  # noqa: S101 - the protocol of wire.py
    assert outputs is None or isinstance(outputs, Outputs)  # noqa: S101 - the protocol of wire.py
    return dataclasses.replace(
        blank,
        artifact=artifact,
        backend_version=ready.backend_version,
        parity=parity_of(artifact, outputs, Path(outputs.path) if outputs else None),
        instructions=instructions_from_counts(counts.instructions, str(ready.environment.get("emulator"))),
        environment={"before": dict(ready.environment)},
    )
