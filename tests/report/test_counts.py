"""Counted work in every form: the sums, and names from outside."""

from __future__ import annotations

import csv
import io

from vitprof.counts import Cost, Kind, OpRow
from vitprof.records import Counted, ModelSpec, Source
from vitprof.report import counts
from vitprof.report.by import By

ROWS = (
    OpRow("conv", Kind.CONV, "stem", 1, 300, 40, 60, (1, 4), weight_bytes=8),
    OpRow("relu", Kind.ACTIVATION, "stem", 2, 0, 50, 50, (1, 4)),
    OpRow("mm", Kind.LINEAR, "head", 1, 100, 150, 50, (1, 2)),
)
COST = Cost(10, 400, 40, 160, 4, coverage=1.0, rows=ROWS)
HOSTILE = '=HYPERLINK("x")|<b>\x1b[31m'


def counted(name: str = "net") -> Counted:
    return Counted(ModelSpec(name, Source.TIMM), (1, 3, 8, 8), COST)


def test_modules_are_sums_with_the_most_macs_first() -> None:
    # stem: 3 calls, 300 of 400 MACs, 200 of 400 bytes, 1.5 MACs a byte.
    assert counts.row_cells(COST, By.MODULE) == (
        ("stem", "3", "300.0", "75.0%", "200.0 B", "50.0%", "1.5"),
        ("head", "1", "100.0", "25.0%", "200.0 B", "50.0%", "0.5"),
    )


def test_names_from_outside_run_nothing_in_any_form() -> None:
    one = counted(HOSTILE)
    [row, *_] = csv.DictReader(io.StringIO(counts.csv_text([one])))
    assert row["model"].startswith("'=") and "\x1b" not in row["model"]
    markdown = counts.markdown([one], By.OP)
    assert "<b>" not in markdown and "\x1b" not in markdown
    assert counts.document([one]).results[0].macs == 400
