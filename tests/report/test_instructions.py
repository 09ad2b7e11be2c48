"""Rows whose instructions were counted: no time stands in them, and none is made up."""

from __future__ import annotations

import dataclasses
import io
import json

from rich.console import Console

from vitprof.instructions import instructions_from_counts
from vitprof.measurements import Instructions
from vitprof.records import Result
from vitprof.report import document
from vitprof.report.markdown import markdown_text
from vitprof.report.reading import document_from_text
from vitprof.report.stored import Listed, columns_of
from vitprof.report.terminal import show

from . import samples

COUNTED_BY = "qemu-aarch64 7.2.22, cortex-a72"


def counted(name: str, value: int) -> Result:
    return dataclasses.replace(
        samples.ok(),
        spec=dataclasses.replace(samples.ok().spec, name=name),
        summary=None,
        samples=None,
        backend_version="1.24.1",
        instructions=Instructions(value, 3.176913e-06, 5, COUNTED_BY),
    )


def shown(*results: Result) -> str:
    stream = io.StringIO()
    show(results, Console(file=stream, width=120))
    return stream.getvalue()


def test_the_median_of_the_calls_is_one_of_them_and_the_spread_is_over_all() -> None:
    assert instructions_from_counts((1000, 990, 1010, 1002), "q") == Instructions(1000, 0.02, 4, "q")


def test_a_counted_row_is_measured_and_has_no_time() -> None:
    [row] = json.loads(document.json_text(document.rows_from_results([counted("m", 81_525_701)], with_samples=False)))[
        "results"
    ]
    assert row["outcome"] == "ok" and row["backend_version"] == "1.24.1"
    assert row["instructions_per_inference"] == {
        **{"value": 81_525_701, "spread": 3.17691e-06, "calls": 5, "counted_by": COUNTED_BY}
    }
    assert row["latency_ns"] is None and row["grade"] is None and row["relative"] is None


def test_one_result_says_whose_count_it_is() -> None:
    text = shown(counted("m", 81_525_701))
    assert "81,525,701 an inference" in text and f"by ort 1.24.1, counted in {COUNTED_BY}" in text
    assert "5 calls within 0.0003%" in text and "call " not in text.split("instructions")[0]


def test_several_are_a_table_of_counts_without_columns_of_times() -> None:
    failed = dataclasses.replace(samples.failed(), backend_version=None)
    for text in (
        shown(counted("a", 81_500_000), counted("b", 467_000_000), failed),
        markdown_text([counted("a", 7), counted("b", 8)]),
    ):
        assert "instructions: executed in one inference" in text
        assert "±95%" not in text and "images/s" not in text and "ratio" not in text
    assert "M instructions" in shown(counted("a", 81_500_000), counted("b", 467_000_000), failed)


def test_a_stored_count_comes_back_and_is_listed() -> None:
    text = document.json_text(document.rows_from_results([counted("m", 81_525_701)], with_samples=False))
    [row] = document_from_text(text, "file").results
    assert row.instructions_per_inference is not None and row.instructions_per_inference.value == 81_525_701
    [column] = [one for one in columns_of([Listed(row, "run", "measured")]) if one.head == "Minstr"]
    assert column.cells == ("81.53",)
