"""Sweeps in the store: found again by their plan, their cells filled once."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest

from tests.report import samples
from vitprof.errors import VitprofError
from vitprof.records import Exporter, Metric, ModelSpec, Precision, Source
from vitprof.report.document import dicts_from_results
from vitprof.store import sweeps
from vitprof.store.results import open_store
from vitprof.store.runs import StoredRun, new_run
from vitprof.sweeps import SweepCell, cell_from_ask

_SPEC = ModelSpec("lowformer_b1", Source.TIMM, (224, 192), 8, Precision.FP16, exporter=Exporter.DYNAMO)
_CELLS = tuple(SweepCell(number, number // 2, _SPEC, "ort", "local", number + 1) for number in range(5))


def _run(plan_hash: str = "abc", started_at: str = "2026-01-01T00:00:00+00:00") -> StoredRun:
    return dataclasses.replace(new_run("sweep", plan="models = []", plan_hash=plan_hash), started_at=started_at)


def _rows(count: int) -> list[dict[str, Any]]:
    [measured] = dicts_from_results([samples.ok()])
    return [{**measured, "model": f"m{number}"} for number in range(count)]


def test_a_cell_comes_back_as_it_was_written() -> None:
    other = SweepCell(7, 3, ModelSpec("net.py:f", Source.PYTHON, path="/x/net.py", factory="f"), "ort", "a", None)
    counted = dataclasses.replace(other, metric=Metric.INSTRUCTIONS)
    for cell in (*_CELLS, other, counted):
        assert cell_from_ask(cell.number, cell.group, cell.ask) == cell
    assert len({cell.ask for cell in (*_CELLS, other, counted)}) == 7


def test_a_new_sweep_has_all_of_its_cells_open(address: str) -> None:
    run = _run()
    with open_store(address) as store:
        sweeps.begin(store, run, _CELLS)
        assert sweeps.cells(store, run.id) == tuple((cell, True) for cell in _CELLS)
        assert sweeps.open_numbers(store, run.id, 1) == {2, 3}
        assert sweeps.unfinished(store, "abc") == run
        assert sweeps.unfinished(store, "abd") is None
        assert sweeps.rows(store, run.id) == ()
        assert sweeps.finish_if_done(store, run.id) == 5


def test_rows_fill_their_cells_in_any_order_and_a_full_sweep_is_over(address: str) -> None:
    run = _run()
    with open_store(address) as store:
        sweeps.begin(store, run, _CELLS)
        store.add(run, _rows(2), sweep_numbers=[3, 0])
        assert [cell.number for cell, is_open in sweeps.cells(store, run.id) if is_open] == [1, 2, 4]
        assert [(number, row.document["model"]) for number, row in sweeps.rows(store, run.id)] == [(0, "m1"), (3, "m0")]
        assert sweeps.finish_if_done(store, run.id) == 3 and sweeps.unfinished(store, "abc")
        store.add(run, _rows(3), sweep_numbers=[1, 2, 4])
        assert sweeps.finish_if_done(store, run.id) == 0
        assert sweeps.unfinished(store, "abc") is None
        ended = store.run(run.id).finished_at
        assert ended and sweeps.finish_if_done(store, run.id) == 0 and store.run(run.id).finished_at == ended


def test_a_cell_is_filled_once_whoever_comes_first(address: str) -> None:
    run = _run()
    with open_store(address) as store:
        sweeps.begin(store, run, _CELLS)
    begin = threading.Barrier(4)

    def fill() -> None:
        with open_store(address) as mine:
            begin.wait()
            mine.add(run, _rows(5), sweep_numbers=range(5))

    writers = [threading.Thread(target=fill) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with open_store(address) as store:
        assert [number for number, _ in sweeps.rows(store, run.id)] == list(range(5))
        assert len(store.rows(run=run.id, is_all=True)) == 5


def test_of_two_unfinished_runs_of_a_plan_the_newer_one_goes_on(address: str) -> None:
    newer, older = _run(started_at="2026-01-02T00:00:00+00:00"), _run()
    with open_store(address) as store:
        sweeps.begin(store, newer, _CELLS)
        sweeps.begin(store, older, _CELLS)
        assert sweeps.unfinished(store, "abc") == newer


def test_cells_of_another_version_are_refused_with_what_to_type(address: str) -> None:
    run = _run()
    cell = dataclasses.replace(_CELLS[0], spec=dataclasses.replace(_SPEC, source="moon"))  # type: ignore[arg-type]
    with open_store(address) as store:
        sweeps.begin(store, run, [cell])
        with pytest.raises(VitprofError, match="cannot read") as caught:
            sweeps.cells(store, run.id)
    assert "--resume" in caught.value.remedy
