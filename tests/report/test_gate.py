"""What the gate says, as a table, JSON, JUnit XML and annotations: names and errors from outside among it."""

from __future__ import annotations

import dataclasses
import json
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.report import samples
from vitprof.gates import Gated, GatedCell, GateVerdict, Judgement
from vitprof.measurements import Interval
from vitprof.report.document import json_text
from vitprof.report.gate import document_from_gate, gate_sections
from vitprof.report.junit import annotations_from_gate, junit_text
from vitprof.report.sections import sections_text, show_sections
from vitprof.reports import Cell

HOSTILE = "a|b<script>]]>&'\"\x00\x1b[31m::error::%0A\ufffe\n::warning::x,y:z"


def cell(model: str, **changes: object) -> Cell:
    facts = {"device": "local", "backend": "ort", "size": (224, 224), "batch": 1, "precision": "fp32", "threads": 1}
    return Cell(model=model, region="call", protocol_hash="ab12", **{**facts, **changes})  # type: ignore[arg-type]


SLOWER = GatedCell(
    cell("lowformer_b1"),
    Judgement(
        GateVerdict.SLOWER,
        "the interval lies above 3.0%",
        Interval(1.0512, 1.0403, 1.0622),
        noise_ratio=1.0121,
        excess_ns=612_345.6,
    ),
    ("r3", "r2", "r1"),
    verified_in="r9",
    confounders=("backend version 1.30.0 before, 1.31.1 now",),
    remedy="find what changed (vitprof history MODEL)",
)
FINE = GatedCell(
    cell("vit_tiny", batch=8), Judgement(GateVerdict.FINE, "", Interval(0.998, 0.99, 1.006), None, -20_000), ("r3",)
)
NEW = GatedCell(cell("brand_new"), Judgement(GateVerdict.NEW, "no earlier result of this cell"))
FAILED = GatedCell(cell(HOSTILE), Judgement(GateVerdict.FAILED, f"failed at export: {HOSTILE}"), remedy="mend it")
UNDECIDED = GatedCell(
    cell("undecided_net"),
    Judgement(GateVerdict.UNDECIDED, "the limit lies within the interval", Interval(1.03, 1.01, 1.05)),
    ("r3",),
    not_verified="it was imported, not measured here",
)


def gated(*cells: GatedCell) -> Gated:
    return Gated("r4", "last:5", 0.03, cells, "2026-05-09T12:00:00+00:00", "rejected", gone=(cell("gone_net"),))


def test_the_table_says_what_by_how_much_and_what_next() -> None:
    text = sections_text(gate_sections(gated(FINE, SLOWER, NEW, UNDECIDED)))
    samples.check("gate.md", text)
    console = Console(width=200, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    show_sections(gate_sections(gated(FINE, SLOWER, NEW, UNDECIDED)), console)
    shown = console.export_text()
    assert shown.index("lowformer_b1 ") < shown.index("undecided_net") < shown.index("vit_tiny")
    assert "+5.1%" in shown and "[+4.0%, +6.2%]" in shown and "slower" in shown
    assert "next: find what changed" in shown and "gone_net" in shown


def test_what_a_failed_cell_does_not_know_opens_no_column() -> None:
    unknown = GatedCell(dataclasses.replace(cell("failed_net"), size=(0, 0), region=""), FAILED.judgement)
    text = sections_text(gate_sections(gated(unknown, SLOWER)))
    assert "0x0" not in text and "| size" not in text and "| region" not in text
    other = dataclasses.replace(SLOWER, cell=cell("lowformer_b1", size=(256, 192)))
    text = sections_text(gate_sections(gated(unknown, SLOWER, other)))
    assert "0x0" not in text and "| size" in text and "256x192" in text


def test_what_stands_around_the_table_is_harmless_too() -> None:
    hostile = dataclasses.replace(gated(FINE), candidate=HOSTILE, baseline=HOSTILE, gone=(cell(HOSTILE),))
    text = sections_text(gate_sections(hostile))
    assert "<script>" not in text and "\x1b" not in text
    [suite] = ElementTree.fromstring(junit_text(hostile))  # noqa: S314 - our own text
    assert suite.findall("properties/property")[0].get("name") == "candidate"
    console = Console(width=200, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    show_sections(gate_sections(hostile), console)
    assert "\x1b" not in console.export_text()
    json.loads(json_text(document_from_gate(hostile)))


def test_the_json_has_every_cell_with_its_reason() -> None:
    read = json.loads(json_text(document_from_gate(gated(SLOWER, NEW))))
    assert (read["candidate"], read["baseline"], read["limit_share"], read["judged"]) == (
        "r4",
        "last:5",
        0.03,
        "rejected",
    )
    slower, new = read["cells"]
    assert slower["verdict"] == "slower" and slower["ratio"] == 1.0512 and slower["ci90"] == [1.0403, 1.0622]
    assert slower["excess_ns"] == 612_346 and slower["baseline_runs"] == ["r3", "r2", "r1"]
    assert new["verdict"] == "new" and new["ratio"] is None and new["ci90"] is None and new["remedy"] is None
    assert read["gone"][0]["model"] == "gone_net"


def test_the_junit_file_is_well_formed_and_counts_right() -> None:
    text = junit_text(gated(SLOWER, FINE, NEW, FAILED, UNDECIDED))
    assert text.startswith('<?xml version="1.0" encoding="utf-8"?>\n')
    [suite] = ElementTree.fromstring(text)  # noqa: S314 - our own text
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "2",
    }
    # In the order that the schema of Ant's reports asks for.
    assert [child.tag for child in suite] == ["properties", *["testcase"] * 5, "system-out", "system-err"]
    assert suite.get("timestamp") == "2026-05-09T12:00:00" and suite.get("hostname") == "localhost"
    cases = suite.findall("testcase")
    assert cases[0].get("classname") == "vitprof.local.ort"
    [failure] = cases[0]
    assert failure.tag == "failure" and failure.get("type") == "slower"
    assert "+5.1% [+4.0%, +6.2%]" in str(failure.get("message"))
    assert [len(case) for case in cases] == [1, 0, 1, 1, 1]
    # What a name holds is text, on one line, without control characters.
    name = str(cases[3].get("name"))
    assert "a|b<script>]]>&'\"" in name and "\x1b" not in name and "\n" not in name and "\ufffe" not in text
    assert junit_text(gated(SLOWER)) == junit_text(gated(SLOWER))


def test_annotations_are_one_line_each_and_nothing_ends_them() -> None:
    lines = list(annotations_from_gate(gated(FINE, NEW, FAILED, SLOWER, UNDECIDED)))
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error", "::warning"]
    assert lines[1].startswith("::error title=vitprof gate%3A slower%3A lowformer_b1::lowformer_b1 224x224, batch 1")
    assert "+5.1%25 [+4.0%25, +6.2%25]" in lines[1]
    for line in lines:
        assert "\n" not in line and "\r" not in line and "\x1b" not in line
        title = line.split("::")[1].partition("title=")[2]
        assert ":" not in title and "," not in title
    # The percent sign of the name is escaped, so that it is not a line end again.
    assert "%250A" in lines[0] and "%0A" not in lines[0].replace("%250A", "")


@pytest.mark.parametrize("verdict", list(GateVerdict))
def test_every_verdict_has_words(verdict: GateVerdict) -> None:
    one = GatedCell(cell("net"), Judgement(verdict, ""))
    assert sections_text(gate_sections(gated(one))).startswith("## Gate: ")
    ElementTree.fromstring(junit_text(gated(one)))  # noqa: S314 - our own text
