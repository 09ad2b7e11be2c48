"""What the gate says, as a table, JSON, JUnit XML and annotations: names and errors from outside among it."""

from __future__ import annotations

import dataclasses
import json
import re
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


def test_equal_times_differ_by_nothing() -> None:
    equal = dataclasses.replace(FINE, judgement=dataclasses.replace(FINE.judgement, excess_ns=-8.9e-10))
    text = sections_text(gate_sections(gated(equal)))
    assert "+0 ns" in text and "0.00000" not in text


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


# The two schemas that JUnit XML is held against, as what each element may hold: the order of its children, the
# attributes that it must have, those that it may have. Ant's reports as Windy Road wrote them down, then the xUnit
# plugin of Jenkins. Values are of types of XML Schema.
_INT, _DECIMAL, _TOKEN = r"[+-]?\d+", r"[+-]?(\d+(\.\d*)?|\.\d+)", r"(\S+( \S+)*)?"
_SOME_TOKEN, _ANY, _MOMENT = r"\S+( \S+)*", r"[^\0]*", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
_SUREFIRE_TIME = r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?"
_Element = tuple[str, dict[str, str], dict[str, str]]
_COUNTS = {"tests": _INT, "failures": _INT, "errors": _INT}
_WINDY_ROAD: dict[str, _Element] = {
    "testsuites": ("(testsuite )*", {}, {}),
    "testsuite": (
        "properties (testcase )*system-out system-err ",
        {
            **_COUNTS,
            **{"name": _SOME_TOKEN, "package": _TOKEN, "id": _INT, "timestamp": _MOMENT, "hostname": _SOME_TOKEN},
            "time": _DECIMAL,
        },
        {"skipped": _INT},
    ),
    "properties": ("(property )*", {}, {}),
    "property": ("", {"name": _SOME_TOKEN, "value": _ANY}, {}),
    "testcase": ("(skipped |error |failure )?", {"name": _TOKEN, "classname": _TOKEN, "time": _DECIMAL}, {}),
    "error": ("", {"type": _ANY}, {"message": _ANY}),
    "failure": ("", {"type": _ANY}, {"message": _ANY}),
    # Of any type.
    "skipped": ("", {}, {"message": _ANY}),
    "system-out": ("", {}, {}),
    "system-err": ("", {}, {}),
}
_SAID = ("", {}, {"type": _ANY, "message": _ANY})
_JENKINS: dict[str, _Element] = {
    "testsuites": ("(testsuite )*", {}, {"name": _ANY, "time": _SUREFIRE_TIME, **_COUNTS}),
    "testsuite": (
        "(testsuite |properties |testcase |system-out |system-err )*",
        {"name": _ANY, **_COUNTS},
        {
            **dict.fromkeys(("skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"), _ANY),
            "time": _SUREFIRE_TIME,
        },
    ),
    "properties": ("(property )*", {}, {}),
    "property": ("", {"name": _ANY, "value": _ANY}, {}),
    "testcase": (
        "(skipped |error |failure |system-out |system-err )*",
        {"name": _ANY},
        {"time": _ANY, "classname": _ANY, "group": _ANY},
    ),
    **{"error": _SAID, "failure": _SAID, "skipped": _SAID, "system-out": ("", {}, {}), "system-err": ("", {}, {})},
}


def _check_element(element: ElementTree.Element, schema: dict[str, _Element]) -> None:
    children, needed, allowed = schema[element.tag]
    assert re.fullmatch(children, "".join(f"{child.tag} " for child in element)), element.tag
    assert needed.keys() <= set(element.keys()) <= needed.keys() | allowed.keys(), (element.tag, element.keys())
    for name, value in element.attrib.items():
        assert re.fullmatch((needed | allowed)[name], value), (element.tag, name, value)
    # Text stands in leaves alone.
    assert not len(element) or not (element.text or "").strip()
    for child in element:
        assert not (child.tail or "").strip()
        _check_element(child, schema)


_TEXTS = {
    "hostile": HOSTILE,
    "controls": "".join(map(chr, range(0x20))),
    "odd": "\x7f\x85\ud800\ufdd0\ufffe\uffff\U0001fffe\u2028\u202e",
    "blank": " \t ",
    "empty": "",
}


@pytest.mark.parametrize("schema", [_WINDY_ROAD, _JENKINS], ids=["windy road", "jenkins"])
@pytest.mark.parametrize("text", _TEXTS.values(), ids=_TEXTS)
def test_the_junit_file_keeps_to_the_schemas_of_those_who_read_it(text: str, schema: dict[str, _Element]) -> None:
    cells = [
        GatedCell(cell(text, device=text, backend=text), Judgement(verdict, text), remedy=text)
        for verdict in GateVerdict
    ]
    whole = dataclasses.replace(gated(*cells, SLOWER, FINE, NEW, FAILED, UNDECIDED), candidate=text, baseline=text)
    for one in (whole, gated()):
        # As a file has it: what no XML document may hold ends the reading here.
        root = ElementTree.fromstring(junit_text(one).encode("utf-8"))  # noqa: S314 - our own text
        _check_element(root, schema)
        [suite] = root
        cases = suite.findall("testcase")
        kinds = [child.tag for case in cases for child in case]
        told = {name: int(str(suite.get(name))) for name in ("tests", "failures", "errors", "skipped")}
        assert told == {
            **{"tests": len(cases), "failures": kinds.count("failure")},
            **{"errors": kinds.count("error"), "skipped": kinds.count("skipped")},
        }
