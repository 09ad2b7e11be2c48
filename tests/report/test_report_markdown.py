"""A report as markdown: the whole text, and that nothing in it breaks out of its place."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from tests import reported
from tests.report import samples
from tests.reported import BEFORE, HOSTILE, NOW, broken, failed, row
from vitprof.places import Places
from vitprof.report.report_markdown import report_text
from vitprof.report.report_pictures import Picture, Pictures
from vitprof.reporting import Question, report_of
from vitprof.reports import ChangeKind, Report

_PICTURES = Pictures(None, Picture("a b-ranks.svg", "Ranks"), (Picture("a-front-1.svg", "Front"),) * 2)

_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def report(folder: Path, now: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]] = ()) -> Report:
    store = reported.store_of(folder / "a.sqlite", now, before)
    return report_of(Question(), Places(folder, folder, named_store=str(store)))


def test_the_golden_report(tmp_path: Path) -> None:
    found = report(tmp_path, reported.now_rows(), reported.before_rows())
    samples.check("report.md", report_text(found, _PICTURES, "a.html"))


def test_a_first_report_has_nothing_to_compare_with(tmp_path: Path) -> None:
    text = report_text(report(tmp_path, reported.before_rows()))
    assert "Nothing to compare with" in text and "| change" not in text and "against before" not in text


def test_where_nothing_has_a_ratio_none_is_explained(tmp_path: Path) -> None:
    # Without a reference milliseconds of two runs are not compared.
    before, now = ([row("a", 1, 1.0, relative=None, started_at=run.started_at)] for run in (BEFORE, NOW))
    text = report_text(report(tmp_path, now, before))
    assert "**1 not compared**" in text and "Change of the time" not in text
    # What else its table shows is.
    assert "±95%: half of the 95% interval. Grades: A" in text and "ratio" not in text.partition("## Results")[2]


def test_what_is_void_is_struck_out_and_what_is_known_of_the_model_is_not(tmp_path: Path) -> None:
    text = report_text(report(tmp_path, [broken("wrong_s", 300, 1.5), row("right_s", 300, 3.0)]))
    [line] = [line for line in text.splitlines() if line.startswith("| wrong")]
    cells = [cell.strip() for cell in line.split("|")]
    assert {"~~1.500~~", "~~0.7500~~", "~~200.0~~", "300.0", "parity broken"} <= set(cells)
    assert "~~" not in next(line for line in text.splitlines() if line.startswith("| right"))


def hostile(folder: Path) -> Report:
    """Every text that comes from outside is markup of markdown, of HTML and of a terminal."""
    where = {"device": HOSTILE, "backend_version": HOSTILE, "vitprof_version": HOSTILE, "started_at": NOW.started_at}
    warning = {"code": HOSTILE, "detail": HOSTILE, "remedy": HOSTILE}
    parity = {**broken("", 1, 1.0)["parity"], "reason": HOSTILE}
    machine = {"environment": {"before": {"cpu": HOSTILE, "kernel": HOSTILE}}}
    told = {"stage": HOSTILE, "error": HOSTILE, "remedy": HOSTILE}
    names = [f"{HOSTILE}{index}" for index in range(4)]
    now = [
        *(row(name, 100 * (4 - index), 1.0 + index, **where, **machine) for index, name in enumerate(names)),
        row("placed", 100, 1.0, warnings=[warning], placement={"ops": 0.5, "macs": None}, **where, **machine),
        failed(f"{HOSTILE}failed", **{**where, "failure": told}),
        broken(f"{HOSTILE}broken", 100, 1.0, **{**where, "parity": parity}),
    ]
    before = [
        *(row(name, 100, 2.0, device=HOSTILE, environment={"before": {"kernel": "|`"}}) for name in (*names, "placed")),
        row(f"{HOSTILE}gone", 100, 1.0, device=HOSTILE),
    ]
    return report(folder, now, before)


def test_no_text_from_outside_breaks_out_of_its_place(tmp_path: Path) -> None:
    found = hostile(tmp_path)
    assert len(found.groups[0].disagreement.points) == 5 and found.environment and found.placements
    text = report_text(found, _PICTURES, "a|b.html")
    assert "\x1b" not in text and "<script" not in text and "`a_b`" not in text
    # The tags that are ours, and no other.
    assert set(re.findall(r"<[^>]*>", text)) == {"<!-- vitprof report -->", "<sub>", "</sub>"}
    assert re.findall(r"(?<!\\)\]\(([^)]*)\)", text) == [
        *("a%7Cb.html", "#the-machine-against-before"),
        *("a%20b-ranks.svg", "a-front-1.svg"),
    ]
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert not [line for line in headings if line.startswith("# heading")] and len(headings) == len(set(headings))
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    shown = [token for block in _MARKDOWN.parse(text) for token in (block, *(block.children or ()))]
    assert {token.content for token in shown if token.type in ("html_block", "html_inline")} == {
        *("<!-- vitprof report -->\n", "<sub>", "</sub>")
    }
    # Letter for letter, on one line and without what a terminal would take for a colour.
    plain = " ".join(HOSTILE.replace("\x1b[31m", "").split())
    texts = ["".join(part.content for part in block.children or ()) for block in _MARKDOWN.parse(text)]
    assert len([one for one in texts if plain in one]) > 20
    assert html.escape(HOSTILE.partition("\x1b")[0].partition("$")[0], quote=False).replace("_", "\\_") in text


@pytest.mark.parametrize("error", ["# heading", "- item", "+ item", "1. one", "2) two", "---", "= rule", "a $x_1$ b"])
def test_an_error_that_begins_like_a_block_stays_a_line(error: str, tmp_path: Path) -> None:
    text = report_text(report(tmp_path, [failed("a", error)]))
    section = text.partition("## Failures")[2].partition("\n## ")[0]
    tokens = _MARKDOWN.parse(section)
    assert {token.type for token in tokens} == {
        *("bullet_list_open", "list_item_open", "paragraph_open", "inline"),
        *("paragraph_close", "list_item_close", "bullet_list_close"),
    }
    assert error in ["".join(part.content for part in token.children or ()) for token in tokens]
    # A forge takes `$…$` for a formula.
    assert not re.search(r"(?<!\\)\$", text)


def test_what_failed_is_told_at_the_top_of_a_first_report(tmp_path: Path) -> None:
    text = report_text(report(tmp_path, [failed("a"), broken("b", 1, 1.0), row("c", 1, 1.0)]))
    assert text.splitlines()[3].startswith("3 results (1 failed, 1 with broken parity) of 1 run")


def test_a_size_that_is_not_known_tells_no_cells_apart(tmp_path: Path) -> None:
    now = [failed("a", size=None, started_at=NOW.started_at), row("b", 1, 1.0, started_at=NOW.started_at)]
    text = report_text(report(tmp_path, now, [row("a", 1, 1.0)]))
    assert "- **broke** a on local, ort; failed at export" in text


def test_large_tables_end_with_how_many_more_there_are(tmp_path: Path) -> None:
    before, now = reported.many(300)
    found = report(tmp_path, now, before)
    text = report_text(found)
    rows = [line for line in text.splitlines() if line.startswith("| family")]
    # What changed is never what is left out.
    slower = [line for line in rows if "slower +" in line]
    assert f"{len(slower)} slower" in text and len(slower) > 5
    [more] = re.findall(r"And 240 results more: (.*)\.", text)
    shown = [line.split("|")[2].split()[0] for line in rows]
    counts = Counter(one.kind.value for one in found.changes) - Counter(shown)
    assert more == ", ".join(f"{counts[kind.value]} {kind.value}" for kind in ChangeKind if counts[kind.value])
    assert f"- and {len(slower) - 10} more slower" in text
    assert len(text) < 40_000


def test_a_report_of_many_devices_stays_below_what_a_forge_shows(tmp_path: Path) -> None:
    rows = [
        row(f"m{model}", 100 + model, 1.0 + model, device=f"d{device}") for device in range(40) for model in (1, 2, 3)
    ]
    text = report_text(report(tmp_path, rows))
    assert text.count("### d") == 30 + 4 and "And 10 tables more, 30 results." in text
    assert "And 20 groups of fewer models." in text and "And 36 fronts of fewer models." in text


def test_at_which_size_a_model_is_slower_is_told(tmp_path: Path) -> None:
    rows = [
        row(name, mmacs * work, ms * work, size=[side, side])
        for name, mmacs, ms in (("light", 100, 6.0), ("heavy", 800, 4.0))
        for side, work in ((224, 1), (384, 3))
    ]
    text = report_text(report(tmp_path, rows))
    section = text.partition("### Worst inversions")[2].partition("## MACs against time")[0]
    assert "| light  | 384x384 | heavy  | 224x224 |      0.375 |       4.50 |" in section
    assert "heavy 224x224 |" in text.partition("## MACs against time")[2]


def test_an_inversion_of_a_time_that_is_not_sound_says_so(tmp_path: Path) -> None:
    relative = {**row("", 1, 9.0)["relative"], "ratio": 4.5, "ci95": [4.4, 4.6]}
    rows = [row("light", 100, 9.0, relative={**relative, "grade": "C"}), row("heavy", 800, 4.0)]
    (tmp_path / "sound").mkdir()
    told = "| light  | heavy  |      0.125 |       2.25 | C, A   |"
    assert told in report_text(report(tmp_path, rows))
    sound = report_text(report(tmp_path / "sound", [row("light", 100, 9.0), rows[1]]))
    assert "2.25 |" in sound and "grades" not in sound


def test_changes_of_instructions_are_not_told_as_times(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("latency_ns", "relative", "throughput_images_per_s", "achieved_macs_per_s", "grade"))
    counts = [{"value": value, "spread": 0.0, "calls": 3, "counted_by": "qemu"} for value in (1_000, 1_100)]
    before, now = (
        row("a", 1, 1.0, instructions_per_inference=one, started_at=run.started_at, **nothing)
        for run, one in zip((reported.BEFORE, NOW), counts, strict=True)
    )
    (tmp_path / "same").mkdir()
    text = report_text(report(tmp_path, [now], [before]))
    assert "- **slower** +10.0%" in text and "<sub>Change of the number of instructions, with" in text
    same = report_text(report(tmp_path / "same", [{**now, "instructions_per_inference": counts[0]}], [before]))
    assert "Every cell is the same as before, within ±2%." in same


def test_a_sweep_that_is_not_over_says_so(tmp_path: Path) -> None:
    found = report(tmp_path, [row("a", 1, 1.0)])
    assert "The sweep is not over" in report_text(replace(found, is_unfinished=True)).splitlines()[3]
    assert "The sweep is not over" not in report_text(found)


def test_raw_times_of_a_front_are_not_told_as_ratios_and_who_is_missing_is_counted(tmp_path: Path) -> None:
    unknown = {**row("", 1, 1.0)["cost"], "macs": None, "kinds": None}
    rows = [row(name, 100, 1.0 + at, relative=None) for at, name in enumerate("abc")]
    text = report_text(report(tmp_path, [*rows, row("d", 1, 1.0, relative=None, cost=unknown)]))
    assert "Times of a front" not in text and "1 result more without known MACs or latency." in text


def test_nothing_is_said_of_pictures_that_were_not_asked_for(tmp_path: Path) -> None:
    found = report(tmp_path, reported.now_rows())
    assert "matplotlib" not in report_text(found) and "![" not in report_text(found)
    assert "pip install" in report_text(found, Pictures(why_not="No pictures: pip install it."))


def test_a_published_table_is_reported_by_its_throughput(tmp_path: Path) -> None:
    nothing = ("latency_ns", "relative", "cold_ns", "achieved_macs_per_s", "memory", "parity", "artifact", "placement")
    table = {**dict.fromkeys((*nothing, "grade", "protocol_hash", "started_at", "region")), "source": "table"}
    rows = [row(f"m{index}", 100, 1.0 + index, batch=64, **table) for index in range(3)]
    text = report_text(report(tmp_path, rows[::-1]))
    assert "time" not in text.partition("## Results")[2].partition("| m0")[0]
    assert [line.split()[1] for line in text.splitlines() if re.match(r"\| m\d", line)] == ["m0", "m1", "m2"]
    assert "3 results of 1 run.\n" in text and "3 groups" not in text


_PROGRAM = """
import gc, sys
from pathlib import Path
from vitprof.places import Places
from vitprof.report.report_markdown import report_text
from vitprof.report.report_pictures import draw
from vitprof.reporting import Question, report_of
folder = Path(sys.argv[1])
report = report_of(Question(), Places(folder, folder, named_store=str(folder / "a.sqlite")))
folder.joinpath("a.md").write_text(report_text(report, draw(report, folder / "a.md"), "a.html"), encoding="utf-8")
"""


def test_equal_rows_give_equal_bytes_wherever_and_whenever_they_are_reported(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder, turn in zip(folders, (1, -1), strict=True):
        folder.mkdir()
        reported.store_of(folder / "a.sqlite", reported.now_rows()[::turn], reported.before_rows()[::turn])
    settings = (
        {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "2", "TZ": "Asia/Kathmandu", "LC_ALL": "de_DE.UTF-8"},
    )
    for folder, changed in zip(folders, settings, strict=True):
        words = [sys.executable, "-c", _PROGRAM, str(folder)]
        subprocess.run(words, check=True, env={**os.environ, **changed}, cwd=folder)
    names = sorted(file.name for file in folders[0].iterdir() if file.suffix != ".sqlite")
    assert names == ["a-front-1.svg", "a-front-2.svg", "a-ranks.svg", "a.md"]
    for name in names:
        first, second = ((folder / name).read_bytes() for folder in folders)
        assert first == second, name


@pytest.mark.parametrize("moment", ["2026-01-11T23:30:00-05:00", "2026-01-12T04:30:00+00:00", "2026-01-12T04:30:00"])
def test_times_are_told_in_one_zone(moment: str, tmp_path: Path) -> None:
    found = report(tmp_path, [row("a", 1, 1.0)])
    runs = tuple(replace(one, started_at=moment) for one in found.runs)
    assert "| 2026-01-12 04:30 UTC |" in report_text(replace(found, runs=runs))
