"""What `gate` says as JUnit XML, which every CI system shows, and as annotations of GitHub Actions.

Its own file because both are read by other people's parsers: the XML keeps to the strictest schema that is in use
(Windy Road's, of Ant's reports), and nothing of a name or an error message may end an element, a line or a command.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from vitprof.gates import Gated, GatedCell, GateVerdict
from vitprof.report.gate import change_text, interval_text, name_of, remark_of
from vitprof.report.outside import plain

# Verdicts that fail a test, that stand for one that could not be run, and that leave it open.
_ELEMENTS = {
    GateVerdict.SLOWER: "failure",
    GateVerdict.BROKEN: "failure",
    GateVerdict.FAILED: "error",
    GateVerdict.REFUSED: "error",
    GateVerdict.UNDECIDED: "skipped",
    GateVerdict.NEW: "skipped",
}
_COMMANDS = {
    GateVerdict.SLOWER: "error",
    GateVerdict.BROKEN: "error",
    GateVerdict.FAILED: "error",
    GateVerdict.REFUSED: "error",
    GateVerdict.UNDECIDED: "warning",
    GateVerdict.ACCEPTED: "notice",
}
# What no XML 1.0 document may hold beside control characters, which `plain` takes out.
_NO_XML = {0xFFFE: "\N{REPLACEMENT CHARACTER}", 0xFFFF: "\N{REPLACEMENT CHARACTER}"}


def junit_text(gated: Gated) -> str:
    """One test suite, one test case a cell. The same for the same verdicts: no host, no time of writing."""
    kinds = [_ELEMENTS.get(one.verdict) for one in gated.cells]
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        suites,
        "testsuite",
        {
            "name": "vitprof gate",
            "package": "vitprof",
            "id": "0",
            # The schema takes seconds without a zone.
            "timestamp": gated.started_at[:19],
            "hostname": "localhost",
            "tests": str(len(gated.cells)),
            "failures": str(kinds.count("failure")),
            "errors": str(kinds.count("error")),
            "skipped": str(kinds.count("skipped")),
            "time": "0",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    facts = {"candidate": gated.candidate, "baseline": gated.baseline, "limit_share": f"{gated.limit_share:g}"}
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": _text(value)})
    for one, kind in zip(gated.cells, kinds, strict=True):
        _add_case(suite, one, kind)
    ElementTree.SubElement(suite, "system-out").text = "\n".join(_text(told_of(one)) for one in gated.cells)
    ElementTree.SubElement(suite, "system-err")
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'


def annotations_from_gate(gated: Gated) -> Iterator[str]:
    """A workflow command of GitHub Actions for every cell that is not fine, the gravest first."""
    order = list(GateVerdict)
    for one in sorted(gated.cells, key=lambda one: (order.index(one.verdict), one.cell)):
        command = _COMMANDS.get(one.verdict)
        if command:
            title = f"vitprof gate: {one.verdict}: {one.cell.model}"
            yield f"::{command} title={_property(title)}::{_data(told_of(one))}"


def told_of(one: GatedCell) -> str:
    """`resnet18 224x224, batch 1, fp32 on ort, local: slower, +5.1% [+4.0%, +6.2%]; …`."""
    ratio = one.judgement.ratio
    change = f", {change_text(one)} {interval_text(one)}" if ratio else ""
    remark = remark_of(one)
    return f"{name_of(one.cell)} on {one.cell.backend}, {one.cell.device}: {one.verdict}{change}" + (
        f"; {remark}" if remark else ""
    )


def _add_case(suite: ElementTree.Element, one: GatedCell, kind: str | None) -> None:
    where = f"vitprof.{one.cell.device}.{one.cell.backend}"
    case = ElementTree.SubElement(
        suite, "testcase", {"classname": _text(where), "name": _text(name_of(one.cell)), "time": "0"}
    )
    if kind is None:
        return
    told = _text(told_of(one))
    facts = {"message": told} if kind == "skipped" else {"message": told, "type": one.verdict.value}
    ElementTree.SubElement(case, kind, facts).text = told


def _text(text: str) -> str:
    return plain(text).translate(_NO_XML)


def _data(text: str) -> str:
    return plain(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
