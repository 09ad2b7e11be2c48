"""The cells of sweeps in the results store: which are to be measured, which have their row.

Its own file beside `results`, on whose tables it works: a sweep that was killed is found again by the hash of its plan,
and a cell without a row is one that is still to be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, and_, exists, insert, select, update

from vitprof.errors import VitprofError
from vitprof.store import searching
from vitprof.store.database import storable
from vitprof.store.inserting import insert_run
from vitprof.store.results import Store
from vitprof.store.runs import StoredRun
from vitprof.store.schema import RUNS, SWEEP_CELLS
from vitprof.store.searching import StoredRow
from vitprof.sweeps import SweepCell, cell_from_ask


def begin(store: Store, run: StoredRun, cells: Sequence[SweepCell]) -> None:
    """Keeps a sweep that begins now, with all of its cells: both or neither."""
    told = [
        {"run": run.id, "number": cell.number, "group_number": cell.group, "ask": storable(cell.ask), "result": None}
        for cell in cells
    ]
    with store.writing() as connection:
        insert_run(connection, run)
        connection.execute(insert(SWEEP_CELLS), told)


def is_unfinished() -> ColumnElement[bool]:
    """The condition on runs that are sweeps which can go on here; of one that was imported the cells are elsewhere."""
    return and_(RUNS.c.finished_at.is_(None), exists().where(SWEEP_CELLS.c.run == RUNS.c.id))


def unfinished(store: Store, plan_hash: str) -> StoredRun | None:
    """The newest run of that plan which has not ended; None where every one has."""
    chosen = select(RUNS).where(RUNS.c.plan_hash == plan_hash, is_unfinished())
    with store.reading() as connection:
        found = connection.execute(chosen.order_by(RUNS.c.started_at.desc(), RUNS.c.id.desc())).mappings().first()
    return StoredRun(**found) if found else None


def cells(store: Store, run: str) -> tuple[tuple[SweepCell, bool], ...]:
    """Every cell of a sweep in order, and whether it is still to be measured."""
    columns = (SWEEP_CELLS.c.number, SWEEP_CELLS.c.group_number, SWEEP_CELLS.c.ask, SWEEP_CELLS.c.result)
    chosen = select(*columns).where(SWEEP_CELLS.c.run == run).order_by(SWEEP_CELLS.c.number)
    with store.reading() as connection:
        found = connection.execute(chosen).all()
    try:
        return tuple((cell_from_ask(one.number, one.group_number, one.ask), one.result is None) for one in found)
    except (ValueError, KeyError, TypeError) as error:
        raise VitprofError(
            f"{store.shown} holds cells of sweep {run} that this version cannot read: {error}",
            remedy="leave out --resume: the plan is then measured from its beginning",
            stage="store",
        ) from error


def open_numbers(store: Store, run: str, group: int) -> frozenset[int]:
    """The cells of a group that no row fills yet."""
    asked = (SWEEP_CELLS.c.run == run, SWEEP_CELLS.c.group_number == group, SWEEP_CELLS.c.result.is_(None))
    with store.reading() as connection:
        return frozenset(connection.scalars(select(SWEEP_CELLS.c.number).where(*asked)))


def finish_if_done(store: Store, run: str) -> int:
    """How many cells of a sweep are still to be measured; where there are none the sweep is over, and noted as that."""
    left = select(SWEEP_CELLS.c.number).where(SWEEP_CELLS.c.run == run, SWEEP_CELLS.c.result.is_(None))
    with store.writing() as connection:
        count = len(connection.scalars(left).all())
        if not count:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            over = update(RUNS).where(RUNS.c.id == run, RUNS.c.finished_at.is_(None))
            connection.execute(over.values(finished_at=now))
    return count


def rows(store: Store, run: str) -> tuple[tuple[int, StoredRow], ...]:
    """The rows of a sweep so far, each with the number of its cell, in that order."""
    chosen = select(SWEEP_CELLS.c.number, SWEEP_CELLS.c.result).where(
        SWEEP_CELLS.c.run == run, SWEEP_CELLS.c.result.is_not(None)
    )
    with store.reading() as connection:
        filled = connection.execute(chosen.order_by(SWEEP_CELLS.c.number)).all()
        by_id = {one.id: one for one in searching.documents(connection, [one.result for one in filled])}
    return tuple((one.number, by_id[one.result]) for one in filled)
