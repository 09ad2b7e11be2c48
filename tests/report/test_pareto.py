"""What a front says in words, tables and JSON."""

from __future__ import annotations

import json

import pytest

from vitprof.report.comparison_document import document_from_front
from vitprof.report.document import json_text
from vitprof.report.pareto import COSTS, by_cost, front_sections
from vitprof.report.sections import sections_text

from . import compared, samples
from .test_comparison import shown


def test_golden_texts() -> None:
    samples.check("front-80.txt", shown(front_sections(compared.front(), "latency", where="local, ort"), 80))
    samples.check("front.md", sections_text(front_sections(compared.front(), "latency", with_dominated=True)))


def test_golden_json() -> None:
    samples.check("front.json", json_text(document_from_front(compared.front(), "latency")))


def test_what_cannot_be_told_from_the_front_stands_apart_from_what_is_dominated() -> None:
    text = shown(front_sections(compared.front(), "latency"), 100)
    front, close, dominated = text.split("\n\n")
    assert "cheap" in front and "dear" in front and "close" not in front
    assert close.startswith("Not distinguishable") and "close" in close
    assert "2 models: --all shows them." in dominated and "beaten" not in dominated
    assert "beaten" in shown(front_sections(compared.front(), "latency", with_dominated=True), 100)


def test_more_throughput_is_the_cheaper_end() -> None:
    assert [point.model for point in by_cost(compared.front(), "latency")][:2] == ["cheap", "close"]
    assert [point.model for point in by_cost(compared.front(), "throughput")][:2] == ["unsure", "beaten"]


@pytest.mark.parametrize("cost", COSTS)
def test_every_cost_has_a_unit_in_table_and_json(cost: str) -> None:
    rows = json.loads(json_text(document_from_front(compared.front(), cost)))
    assert rows["cost"] == cost and rows["unit"] == COSTS[cost].unit
    assert "n/a" in shown(front_sections(compared.front(), cost, with_dominated=True), 100)


def test_no_point_is_said() -> None:
    assert "no model has both" in shown(front_sections((), "latency"), 80)
