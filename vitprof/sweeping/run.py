"""`vitprof sweep`: a whole plan, measured group by group, every group stored as it ends.

    PLAN.toml ─► cells ─► groups ─┬─ this machine ─► groups, one after the other ─┐
                                  ├─ another ──────► …                           ├─► store ─► rows
                                  └─ exports, while this machine measures nothing ┘

One level above everything that measures. A sweep lives in the store from its first moment: its cells are written
before the first is measured, a group's rows fill theirs in one transaction, and whatever happens between two of them,
`--resume` goes on with the cells that no row fills.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vitprof import protocols
from vitprof.bench import Terms
from vitprof.devices import profiles
from vitprof.errors import ExitCode, VitprofError
from vitprof.group import Timeouts
from vitprof.places import Places
from vitprof.records import ModelSpec, ParityVerdict
from vitprof.report.progress import NoProgress
from vitprof.report.sweep_progress import NoSweepProgress, Share, SweepProgress
from vitprof.store.runs import StoredRun, new_run
from vitprof.sweeping.cells import Planned, groups_in, machine_of, planned_cells
from vitprof.sweeping.machines import Machine, Shared
from vitprof.sweeping.plan import read_plan
from vitprof.sweeps import SweepCell
from vitprof.units import Amount
from vitprof.workshop import Workshop

if TYPE_CHECKING:
    # At run time they would bring the database library to a dry run.
    from vitprof.store.results import Store
    from vitprof.store.searching import StoredRow

# Who is told to stop does so between two blocks; a device that does not answer is not waited for.
_STOP_S = 30.0


@dataclass(frozen=True)
class SweepRequest:
    """What is to be measured, as it was asked for. `like`: everything about the models but their names."""

    plan_file: Path
    like: ModelSpec
    measure: Amount | None = None
    precision_goal_share: float | None = None
    # A file that can run code of its maker may be read.
    trust: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    # Goes on with the unfinished run of the same plan, where there is one.
    resume: bool = False


@dataclass(frozen=True)
class Begun:
    """A sweep that is in the store. `other`: an unfinished one of the same plan that was not asked for."""

    run: StoredRun
    cells: tuple[SweepCell, ...]
    # Those that are still to be measured.
    left: tuple[SweepCell, ...]
    is_resumed: bool = False
    other: StoredRun | None = None


@dataclass(frozen=True)
class Swept:
    """All rows of the sweep so far, in the order of its plan, and what a script should be told.

    `left`: so many cells have none, for want of a device or because it was interrupted. `crashes`: faults of the
    program itself, each of which ended the part of one machine; to be raised once the rest is shown.
    """

    rows: tuple[StoredRow, ...]
    left: int
    exit_codes: frozenset[ExitCode]
    troubles: tuple[VitprofError, ...] = ()
    crashes: tuple[BaseException, ...] = ()


def planned_sweep(request: SweepRequest, places: Places) -> Planned:
    """The cells that the plan means; `UsageError` that tells everything wrong with it."""
    with Workshop(places.cache_root, NoProgress(), trust=request.trust) as workshop:
        plan = read_plan(request.plan_file, workshop.names)
    protocol = protocols.protocol(
        plan.effort, measure=request.measure, precision_goal_share=request.precision_goal_share
    )
    return planned_cells(plan, request.like, protocol)


def unfinished(planned: Planned, places: Places) -> Begun | None:
    """The unfinished sweep of the same plan in the store; None where there is none. Makes no store."""
    if not places.has_store:
        return None
    from vitprof.store import sweeps
    from vitprof.store.results import open_store

    with open_store(places.store) as store:
        run = sweeps.unfinished(store, planned.plan_hash)
        return _resumed(store, run) if run else None


def begun_sweep(planned: Planned, request: SweepRequest, places: Places) -> Begun:
    """The unfinished sweep of the plan where that is asked for, else a new one, in the store with all of its cells."""
    address = places.ready_store()
    from vitprof.store import sweeps
    from vitprof.store.results import open_store

    with open_store(address) as store:
        before = sweeps.unfinished(store, planned.plan_hash)
        if before is not None and request.resume:
            return _resumed(store, before)
        run = new_run("sweep", plan=planned.plan.text, plan_hash=planned.plan_hash)
        sweeps.begin(store, run, planned.cells)
    return Begun(run, planned.cells, planned.cells, other=before)


def sweep(
    planned: Planned, begun: Begun, request: SweepRequest, places: Places, progress: SweepProgress | None = None
) -> Swept:
    """Measures what is left of a sweep, all machines at once; a cell that fails is a row with its reason.

    A cell that cannot be measured for want of a device or of a package is left for `--resume`, and said (exit 4).
    """
    progress = progress or NoSweepProgress()
    terms = Terms(planned.protocol, seed=request.like.seed, trust=request.trust, timeouts=request.timeouts)
    shared = Shared(places, begun.run, terms, progress)
    machines = _machines(begun.left, shared)
    progress.begin(
        {machine.name: Share(sum(map(len, machine.groups)), machine.outlook.left_s) for machine in machines},
        len(begun.cells) - len(begun.left),
    )
    is_interrupted = _run_all(machines, shared)
    rows, left = _result(begun.run, places)
    codes = set(shared.exit_codes) | {trouble.exit_code for trouble in shared.troubles}
    codes |= {_code_of(row) for number, row in rows if number not in shared.stored}
    codes |= {ExitCode.INTERRUPTED} if is_interrupted else set()
    return Swept(tuple(row for _, row in rows), left, frozenset(codes), tuple(shared.troubles), tuple(shared.crashes))


def _resumed(store: Store, run: StoredRun) -> Begun:
    from vitprof.store import sweeps

    stored = sweeps.cells(store, run.id)
    left = tuple(cell for cell, is_open in stored if is_open)
    return Begun(run, tuple(cell for cell, _ in stored), left, is_resumed=True)


def _machines(left: Sequence[SweepCell], shared: Shared) -> list[Machine]:
    """What is to be done, by what cannot be measured on at the same time."""
    by_machine: dict[str, list[list[SweepCell]]] = {}
    for group in groups_in(left).values():
        by_machine.setdefault(machine_of(profiles.device(group[0].device)), []).append(group)
    return [Machine(name, groups, shared) for name, groups in by_machine.items()]


def _run_all(machines: Sequence[Machine], shared: Shared) -> bool:
    """Runs them all to their end; whether a person ended them early."""
    # Daemons: what hangs in a device's answer must not keep this process, whose end is the end of all runners.
    threads = [threading.Thread(target=machine.run, name=machine.name, daemon=True) for machine in machines]
    try:
        for thread in threads:
            thread.start()
        for machine in machines:
            machine.ended.wait()
    except KeyboardInterrupt:
        shared.stop()
        end_s = time.monotonic() + _STOP_S
        for machine in machines:
            machine.ended.wait(max(0.0, end_s - time.monotonic()))
        return True
    return False


def _result(run: StoredRun, places: Places) -> tuple[tuple[tuple[int, StoredRow], ...], int]:
    from vitprof.store import sweeps
    from vitprof.store.results import open_store

    with open_store(places.store) as store:
        return sweeps.rows(store, run.id), sweeps.finish_if_done(store, run.id)


def _code_of(row: StoredRow) -> ExitCode:
    """Of a row that was measured before: why it failed is told in it, not which code that was."""
    document: Mapping[str, object] = row.document
    parity = document.get("parity")
    if document.get("outcome") == "failed":
        return ExitCode.FAILED
    is_broken = isinstance(parity, Mapping) and parity.get("verdict") == ParityVerdict.BROKEN
    return ExitCode.PARITY_BROKEN if is_broken else ExitCode.OK
