"""Taking rows out of the results store, by a rule, and saying first what that takes.

Its own file because this is the one thing here that cannot be had back. The rows of a sweep that is not finished stay:
without them it would measure its cells again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, exists, func, select

from vitprof.store import searching, sweeps
from vitprof.store.database import chunks
from vitprof.store.results import Store
from vitprof.store.runs import utc_text
from vitprof.store.schema import CELLS, ENVIRONMENTS, RESULTS, RUNS, SAMPLES, SWEEP_CELLS
from vitprof.store.wanted import Wanted


@dataclass(frozen=True)
class Rule:
    """Which rows go: those that every given condition holds for. At least one of `keep` and `before` is given."""

    wanted: Wanted
    # All but so many of the newest of each cell.
    keep: int | None = None
    # Those that began before this moment; ISO 8601.
    before: str | None = None
    # Only their raw samples.
    only_samples: bool = False


@dataclass(frozen=True)
class Pruned:
    """What went, or would go."""

    rows: int
    # Of them, those that have raw samples.
    samples: int
    cells: int
    first_started_at: str | None
    last_started_at: str | None
    # Rows that stay.
    left: int
    # Of them, those that the rule means as well, of sweeps that are not finished.
    unfinished: int = 0


def prune(store: Store, rule: Rule, *, is_dry: bool) -> Pruned:
    """Takes out what the rule says, or with `is_dry` only tells what that would be."""
    if is_dry:
        with store.reading() as connection:
            return _pruned(connection, _ids(connection, rule), rule)
    # Alone: somebody who adds a row right now needs the cell and the environment that no row had before.
    with store.writing(is_alone=True) as connection:
        ids = _ids(connection, rule)
        found = _pruned(connection, ids, rule)
        runs: set[str] = set()
        for part in chunks(ids):
            connection.execute(delete(SAMPLES).where(SAMPLES.c.result.in_(part)))
            if not rule.only_samples:
                runs |= set(connection.scalars(select(RESULTS.c.run).where(RESULTS.c.id.in_(part)).distinct()))
                connection.execute(delete(RESULTS).where(RESULTS.c.id.in_(part)))
        if ids and not rule.only_samples:
            _sweep_up(connection, runs)
    if ids:
        store.compact()
    return found


def _ids(connection: Connection, rule: Rule, *, of_unfinished: bool = False) -> list[int]:
    order = (RESULTS.c.started_at.desc(), RESULTS.c.id.desc())
    place = func.row_number().over(partition_by=RESULTS.c.cell, order_by=order).label("place")
    # Counted among all rows of a cell: those of an unfinished sweep are the newest, and count.
    ranked = select(RESULTS.c.id, place).join(CELLS, CELLS.c.id == RESULTS.c.cell)
    ids: list[int] = []
    for cells in searching.conditions_on_cells(connection, rule.wanted):
        numbered = ranked.where(*cells).subquery()
        chosen = (
            select(RESULTS.c.id)
            .join(numbered, numbered.c.id == RESULTS.c.id)
            .where(_is_of_unfinished() if of_unfinished else ~_is_of_unfinished(), *_conditions(rule))
        )
        if rule.keep is not None:
            chosen = chosen.where(numbered.c.place > rule.keep)
        ids += connection.scalars(chosen.order_by(RESULTS.c.id))
    return sorted(ids)


def _is_of_unfinished() -> ColumnElement[bool]:
    return RESULTS.c.run.in_(select(RUNS.c.id).where(sweeps.is_unfinished()))


def _conditions(rule: Rule) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if rule.wanted.run is not None:
        conditions.append(RESULTS.c.run == rule.wanted.run)
    if rule.before is not None:
        conditions.append(RESULTS.c.started_at < utc_text(rule.before))
    if rule.only_samples:
        conditions.append(exists().where(SAMPLES.c.result == RESULTS.c.id))
    return conditions


def _pruned(connection: Connection, ids: Sequence[int], rule: Rule) -> Pruned:
    samples, cells, moments = 0, set[int](), list[str]()
    for part in chunks(ids):
        samples += connection.scalar(select(func.count()).where(SAMPLES.c.result.in_(part))) or 0
        asked = select(RESULTS.c.cell, RESULTS.c.started_at).where(RESULTS.c.id.in_(part))
        for cell, moment in connection.execute(asked):
            cells.add(cell)
            moments.append(moment)
    every = connection.scalar(select(func.count()).select_from(RESULTS)) or 0
    left = every if rule.only_samples else every - len(ids)
    first, last = min(moments, default=None), max(moments, default=None)
    is_any_unfinished = connection.scalar(select(exists().where(sweeps.is_unfinished()).select_from(RUNS)))
    unfinished = len(_ids(connection, rule, of_unfinished=True)) if is_any_unfinished else 0
    return Pruned(len(ids), samples, len(cells), first, last, left, unfinished)


def _sweep_up(connection: Connection, runs: Collection[str]) -> None:
    """What no row needs any more: those of the runs that brought nothing else, cells, environments."""
    no_rows = ~exists().where(RESULTS.c.run == RUNS.c.id)
    # Others without a row have only just begun.
    for part in chunks(runs):
        empty = select(RUNS.c.id).where(RUNS.c.id.in_(part), no_rows)
        connection.execute(delete(SWEEP_CELLS).where(SWEEP_CELLS.c.run.in_(empty)))
        connection.execute(delete(RUNS).where(RUNS.c.id.in_(part), no_rows))
    connection.execute(delete(CELLS).where(~exists().where(RESULTS.c.cell == CELLS.c.id)))
    connection.execute(delete(ENVIRONMENTS).where(~exists().where(RESULTS.c.environment == ENVIRONMENTS.c.hash)))
