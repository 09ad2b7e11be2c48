"""A layer profile shown: what stands where, what is left out, and that no name can break it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest
from rich.console import Console

from tests.report.samples import HOSTILE_NAME
from vitprof.comparisons import LayerOp, LayerProfile, LayerSum, ProfiledModel, TimedWork
from vitprof.counts import Kind
from vitprof.records import ModelSpec, Source
from vitprof.report.by import By
from vitprof.report.document import json_text
from vitprof.report.layers import MOST_ROWS, csv_text, document, sections_of, share_bars
from vitprof.report.sections import sections_text, show_sections

CONV = TimedWork(600_000.4, 0.6, 9_000_000, 0.9, 1_200_000, 0.75, 15e9)
COPY = TimedWork(300_000.0, 0.3, 0, 0.0, 0, 0.0, None)
UNTOLD = TimedWork(100_000.0, 0.1, None, None, None, None, None)
PROFILE = LayerProfile(
    total_ns=1_250_000.0,
    overhead_ns=250_000.0,
    runs=50,
    unattributed_share=0.1,
    unseen_macs_share=0.1,
    ops=(
        LayerOp("back", "ReorderOutput", Kind.DATA_MOVEMENT, "stem.conv", 1, COPY, ()),
        LayerOp("c_nchwc", "Conv", Kind.CONV, "stem.conv", 1, CONV, ("/stem/Conv", "/stem/Relu", "/a", "/b", "/c")),
        LayerOp("what", "FusedMystery", None, "", 1, UNTOLD, ()),
    ),
    by_kind=(LayerSum("conv", 1, CONV), LayerSum("data_movement", 1, COPY), LayerSum(None, 1, UNTOLD)),
    by_module=(LayerSum("stem", 2, CONV), LayerSum("", 1, COPY), LayerSum(None, 1, UNTOLD)),
    disagreements=("stem.conv (data_movement): 30.0% of the time, none of the MACs, none of the counted bytes",),
)
MODEL = ProfiledModel(ModelSpec("net", Source.TIMM), (1, 3, 96, 64), "local", "ort", "1.31.1", 1, PROFILE)


def _shown(model: ProfiledModel, by: By, *, is_whole: bool = False, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    show_sections(sections_of(model, by, is_whole=is_whole), console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_kinds_stand_with_their_shares_beside_each_other() -> None:
    lines = [line.split() for line in _shown(MODEL, By.KIND).splitlines()]
    assert lines[0] == ["net,", "96x64,", "batch", "1,", "fp32,", "ort", "1.31.1,", "1", "thread,", "on", "local"]
    assert ["conv", "1", "600.0", "60.0%", "90.0%", "75.0%", "15.00"] in lines
    # Nothing of the MACs is no number; not known is told.
    assert ["data_movement", "1", "300.0", "30.0%", "-", "-", "n/a"] in lines
    assert ["(not", "told)", "1", "100.0", "10.0%", "-", "-", "n/a"] in lines


def test_what_could_not_be_told_is_said_in_words() -> None:
    text = " ".join(_shown(MODEL, By.KIND).split())
    assert "1.250 ms an inference under the profiler, the mean of 50 runs; 20.0% of it between operators" in text
    assert "10.0% of the operators' time: not told what it is." in text
    assert "10.0% of the counted MACs: in no profiled operator." in text
    whole = dataclasses.replace(PROFILE, unattributed_share=0.0, unseen_macs_share=0.0)
    assert "not told what" not in _shown(dataclasses.replace(MODEL, profile=whole), By.KIND)


def test_operators_come_with_the_longest_first_and_tell_what_they_are_made_of() -> None:
    lines = [line for line in _shown(MODEL, By.OP).splitlines() if "stem.conv " in line]
    assert lines[0].split()[:3] == ["stem.conv", "conv", "Conv"] and lines[0].endswith("Conv, Relu, a, 2 more")
    assert lines[1].split()[:3] == ["stem.conv", "data_movement", "ReorderOutput"]


def test_a_long_table_is_cut_and_says_so() -> None:
    many = dataclasses.replace(PROFILE, by_module=tuple(LayerSum(f"m{place}", 1, CONV) for place in range(33)))
    model = dataclasses.replace(MODEL, profile=many)
    assert f"{33 - MOST_ROWS} more with less time: --all shows them." in _shown(model, By.MODULE)
    assert "m32" in _shown(model, By.MODULE, is_whole=True) and "--all" not in _shown(model, By.MODULE, is_whole=True)


@pytest.mark.parametrize("by", list(By))
def test_names_from_outside_cannot_break_the_tables(by: By) -> None:
    bad = f"{HOSTILE_NAME}\x1b[31m\n"
    op = dataclasses.replace(PROFILE.ops[1], name=bad, op=bad, module=bad, members=(bad,))
    profile = dataclasses.replace(
        PROFILE, ops=(op,), by_module=(LayerSum(bad, 1, CONV),), disagreements=(f"{bad}: much",)
    )
    model = dataclasses.replace(MODEL, spec=ModelSpec(bad, Source.TIMM), profile=profile)
    markdown = sections_text(sections_of(model, by))
    assert "<script>" not in markdown and "a\\|b&lt;script&gt;" in markdown
    assert "\x1b[31m" not in _shown(model, by) + markdown + csv_text(profile)
    assert "\x1b" not in "".join(bar.label for bar in share_bars(profile, by))
    assert json.loads(json_text(document(model)))["model"] == bad


def test_the_document_has_whole_numbers_and_null_for_what_is_not_known() -> None:
    read = json.loads(json_text(document(MODEL)))
    assert (read["size"], read["total_ns"], read["overhead_ns"], read["runs"]) == ([96, 64], 1_250_000, 250_000, 50)
    assert read["by_kind"][0]["work"] == {
        "ns": 600_000,
        "time_share": 0.6,
        "macs": 9_000_000,
        "macs_share": 0.9,
        "bytes": 1_200_000,
        "bytes_share": 0.75,
        "macs_per_s": 15e9,
    }
    assert read["by_kind"][2]["kind"] is None and read["by_kind"][2]["work"]["macs"] is None
    assert [op["name"] for op in read["ops"]] == ["back", "c_nchwc", "what"]


def test_the_csv_has_a_line_for_every_operator_and_empty_cells_for_what_is_not_known() -> None:
    head, *rows = csv.reader(io.StringIO(csv_text(PROFILE)))
    named = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["name"] for row in named] == ["back", "c_nchwc", "what"]
    assert (named[1]["ns"], named[1]["macs"], named[1]["members"]) == (
        "600000",
        "9000000",
        "/stem/Conv; /stem/Relu; /a; /b; /c",
    )
    op = dataclasses.replace(PROFILE.ops[0], name="=cmd()")
    assert "\n'=cmd()," in csv_text(dataclasses.replace(PROFILE, ops=(op,)))
    assert (named[2]["kind"], named[2]["macs"], named[0]["macs"]) == ("", "", "0")
