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
