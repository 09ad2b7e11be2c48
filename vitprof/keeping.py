"""What is kept of a measurement: its rows in the results store, what it saw of the reference for later ones.

Its own file beneath `bench` because keeping is not measuring: a store that fails must cost nothing that was measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from vitprof.errors import VitprofError
from vitprof.places import Places
from vitprof.protocols import REFERENCE
from vitprof.records import Result
from vitprof.store import reference_times
from vitprof.store.runs import StoredRun


def check_store(places: Places) -> None:
    """Says before anything is measured what can be said then of why its rows could not be kept.

    A server is asked. A file is not opened: the database library takes its time to load.
    """
    address = places.ready_store()
    if "://" in address:
        from vitprof.store.results import open_store

        open_store(address).close()


def keep_rows(
    rows: Sequence[Result],
    places: Places,
    run: StoredRun,
    troubles: list[VitprofError],
    sweep_numbers: Sequence[int] | None = None,
) -> None:
    """Adds rows and their raw samples to the results store; why they could not be kept is added to `troubles`, once.

    They are then kept in a file beside the journals, which `results import` takes in. `sweep_numbers`: the cell of the
    run's sweep that each row fills; those that cannot be kept are measured again.
    """
    if not rows:
        return
    # Not before something was measured: the database library takes its time to load.
    from vitprof.report.document import dicts_from_results
    from vitprof.store.lines import append_rows
    from vitprof.store.raw_samples import document_from_samples
    from vitprof.store.results import open_store

    documents = dicts_from_results(rows)
    samples = [document_from_samples(row.samples, row.protocol) if row.samples else None for row in rows]
    try:
        with open_store(places.store) as opened:
            opened.add(run, documents, samples=samples, sweep_numbers=sweep_numbers)
    except VitprofError as error:
        remedy = error.remedy
        if sweep_numbers is None:
            file = places.data_root / "runs" / f"{run.id}-rows.jsonl"
            with contextlib.suppress(OSError):
                append_rows(file, run, documents, samples)
                remedy = f"{remedy}; then bring in what was measured: vitprof results import {file}"
        # Instead of what the reference times met there, which says less.
        troubles[:] = [one for one in troubles if one.message != error.message]
        troubles.append(type(error)(error.message, remedy=remedy, stage=error.stage))


def long_run(
    device: str, blocks_ns: Sequence[float], places: Places, troubles: list[VitprofError], run: StoredRun
) -> reference_times.LongRun | None:
    """What was known of the reference when `run` began; what a group of it saw is remembered for later runs.

    Asked when the group is measured, since the database library takes its time to load. Earlier groups are left out:
    a run must not confirm itself, and all of its rows are scaled alike.
    """
    if not blocks_ns:
        return None
    kept_as = _reference_kept_as(device)
    found = None
    try:
        found = reference_times.long_run(places, kept_as, until=run.started_at)
        reference_times.add(places, kept_as, blocks_ns)
    except VitprofError as error:
        _tell_once(error, troubles)
    return found


def _reference_kept_as(device: str) -> str:
    """The name of the reference's times on `device`: what another device takes must not pass for this machine's."""
    return REFERENCE if device == "local" else f"{REFERENCE} on {device}"


def _tell_once(error: VitprofError, troubles: list[VitprofError]) -> None:
    if error.message not in {one.message for one in troubles}:
        troubles.append(error)
