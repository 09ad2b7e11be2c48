"""The program on a page: from names to results. No formatting, no input or output of its own.

    names ─► asks ─ Bench.prepared ─► jobs ─ Hold.each_group ─► results ─► store

`measure` is what `vitprof latency` runs, and `compare` for what its store lacks (`comparing`); how cells are exported
and measured is in `bench`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitprof.bench import Ask, Job, Refused, Terms, opened
from vitprof.errors import ExitCode, VitprofError
from vitprof.group import Timeouts
from vitprof.keeping import keep_rows
from vitprof.measurements import Protocol
from vitprof.places import Places
from vitprof.records import ModelSpec, Result
from vitprof.report.progress import NoProgress, Progress
from vitprof.store.runs import new_run
from vitprof.workshop import Workshop


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

    @property
    def terms(self) -> Terms:
        return Terms(
            self.protocol,
            self.device,
            self.device_file,
            self.like.seed,
            trust=self.trust,
            lock_clocks_mhz=self.lock_clocks_mhz,
            timeouts=self.timeouts,
        )


@dataclass(frozen=True)
class Run:
    """All rows of a run in the order asked for, failed ones among them, and what a script should be told.

    `troubles`: what went wrong beside the measuring, such as a journal that could not be written.
    """

    results: tuple[Result, ...]
    exit_codes: frozenset[ExitCode]
    troubles: tuple[VitprofError, ...] = ()


def measure(request: Request, places: Places, progress: Progress | None = None) -> Run:
    """Measures every model on every backend of the request; a model that fails is a row with its reason."""
    run = new_run("latency")
    codes: set[ExitCode] = set()
    with opened(request.terms, request.backends, places, progress or NoProgress()) as bench:

        def asks(workshop: Workshop) -> Sequence[Ask]:
            specs = workshop.specs(request.models, request.like)
            return [Ask(spec, backend, request.threads) for spec in specs for backend in bench.backends]

        prepared = bench.prepared(asks)
        jobs = {index: one for index, one in enumerate(prepared) if isinstance(one, Job)}
        refused = {index: one for index, one in enumerate(prepared) if isinstance(one, Refused)}
        rows = {index: one.row for index, one in refused.items()}
        codes |= {one.exit_code for one in refused.values()}
        keep_rows(list(rows.values()), places, run, bench.troubles)
        if jobs:
            with bench.held(run) as hold:
                for measured, told in hold.each_group(jobs):
                    keep_rows(list(measured.values()), places, run, bench.troubles)
                    rows.update(measured)
                    codes |= told
                    if ExitCode.INTERRUPTED in told:
                        break
    codes |= {trouble.exit_code for trouble in bench.troubles}
    return Run(tuple(rows[index] for index in sorted(rows)), frozenset(codes), tuple(bench.troubles))
