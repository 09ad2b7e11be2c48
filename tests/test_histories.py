"""The series of a cell from the store: what lies apart from what, whatever failed in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gated import FACTS, counted, failed, fill, row
from vitprof.gates import Series, Unit
from vitprof.histories import history
from vitprof.places import Places, places
from vitprof.report.history import history_sections
from vitprof.report.sections import sections_text


@pytest.fixture
def store(tmp_path: Path) -> Places:
    return places(str(tmp_path / "results.sqlite"))


def series(store: Places) -> Series:
    [one] = history("lowformer_b1", store)
    return one


def test_a_failure_hides_no_change_of_the_reference(store: Places) -> None:
    size = {"size": [224, 224]}
    other = {**row()["relative"], "reference": "cpu-ref-2"}
    fill(store.store, {"a": [row()], "b": [{**failed(), **size, "region": "call"}], "c": [row(relative=other)]})
    fill(store.store, {"d": [row(relative=other)]})
    one = series(store)
    assert [moment.outcome for moment in one.moments] == ["ok", "failed", "ok", "ok"]
    assert [moment.is_apart for moment in one.moments] == [False, False, True, False]
    assert one.reference == "cpu-ref-2"


def test_raw_times_of_another_machine_lie_apart_and_none_are_compared(store: Places) -> None:
    there = {"before": {**FACTS, "cpu": "Xeon"}}
    fill(store.store, {"a": [row(relative=None)], "b": [row(relative=None)]})
    fill(store.store, {"c": [row(relative=None, environment=there)]})
    one = series(store)
    assert one.unit is Unit.NS and [moment.is_apart for moment in one.moments] == [False, False, True]
    text = sections_text(history_sections([one]))
    assert "raw times of two runs are not compared" in text and "comparable before" not in text


def test_counts_of_another_counter_lie_apart(store: Places) -> None:
    part = {**counted(1)["instructions_per_inference"], "counted_by": "qemu 10"}
    fill(store.store, {"a": [counted(100)], "b": [counted(1, instructions_per_inference=part)]})
    one = series(store)
    assert one.unit is Unit.INSTRUCTIONS and [moment.is_apart for moment in one.moments] == [False, True]


def test_a_model_as_built_is_found_by_the_name_that_tables_show(store: Places) -> None:
    fill(store.store, {"a": [row(), row(as_built=True)]})
    assert len(history("lowformer_b1", store)) == 2
    [one] = history("lowformer_b1 --no-reparam", store)
    assert one.cell.model == "lowformer_b1 --no-reparam"


def test_a_file_whose_name_looks_like_a_glob_is_found_by_its_name(store: Places) -> None:
    fill(store.store, {"a": [row(model="net[1].onnx", source="onnx")]})
    [one] = history("net[1].onnx", store)
    assert one.cell.model == "net[1].onnx"


def test_a_model_as_built_is_found_by_the_name_that_is_shown(store: Places) -> None:
    fill(store.store, {"a": [row(), row(as_built=True)]})
    shown = "lowformer_b1 --no-reparam"
    assert [one.cell.model for one in history("lowformer_b1", store)] == ["lowformer_b1", shown]
    assert [one.cell.model for one in history(shown, store)] == [shown]
