"""The HTML report as a file: its bytes, what it refers to, what hostile text can do in it, and its page's own rules."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.report.html_reports import HOSTILE, document, failed, of_pairs, report
from vitprof.analysis.changes import Pair
from vitprof.errors import UnreachableError
from vitprof.report import html
from vitprof.report.html import html_text
from vitprof.report.html_data import data_from_report

_PAGE = Path(html.__file__).parent / "page"


class _Elements(HTMLParser):
    """Every element with its attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("script", "style") and data.strip():
            self.texts.append((self.elements[-1][0], data))


@pytest.fixture(scope="module")
def text() -> str:
    return html_text(report())


def columns(table: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a table that was kept column by column, as the page reads them."""
    filled = {
        name: [None if at is None else column["values"][at] for at in column["at"]]
        if "at" in column
        else column["values"]
        for name, column in table["columns"].items()
    }
    return [{name: values[at] for name, values in filled.items()} for at in range(table["count"])]


def test_the_same_report_gives_the_same_bytes(text: str) -> None:
    assert html_text(report()) == text
    assert html_text(report(seed=8)) != text


def test_the_file_refers_to_nothing_outside_itself(text: str) -> None:
    elements = _Elements(text)
    references = {
        value for _, attributes in elements.elements for name, value in attributes.items() if name in ("src", "href")
    }
    assert references == {"#explore", "#changes", "#disagreement", "#failures", "#conditions"}
    assert {tag for tag, _ in elements.elements}.isdisjoint(
        {"link", "img", "iframe", "object", "embed", "base", "form"}
    )
    [style] = [data for tag, data in elements.texts if tag == "style"]
    assert not re.search(r"url\(|@import", style)


def test_the_page_may_run_its_own_scripts_alone_and_load_nothing(text: str) -> None:
    [policy] = [
        attributes["content"] or "" for tag, attributes in _Elements(text).elements if "http-equiv" in attributes
    ]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and rules["base-uri"] == "'none'" and rules["form-action"] == "'none'"
    assert re.fullmatch(r"'sha256-[^' ]+' 'sha256-[^' ]+'", rules["script-src"])
    assert re.fullmatch(r"'sha256-[^' ]+'", rules["style-src"]) and "unsafe" not in policy


def test_hostile_names_and_errors_stay_inside_the_data(text: str) -> None:
    elements = _Elements(text)
    assert [attributes for tag, attributes in elements.elements if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
        {},
    ]
    data = elements.texts[[tag for tag, _ in elements.texts].index("script")][1]
    assert data.isascii() and not set("<>&") & set(data)
    models = {row["model"] for row in columns(json.loads(data)["rows"])}
    # Line separators and marks of direction are gone, the rest is there letter for letter.
    assert HOSTILE.replace("\u2028", " ").replace("\u202e", "") in models


def test_rows_kept_column_by_column_are_the_rows() -> None:
    made = report(hostile=False)
    rows = columns(data_from_report(made)["rows"])
    assert [row["model"] for row in rows] == [row.cell.model for row in made.rows]
    assert [row["ratio"] for row in rows] == [(row.document["relative"] or {}).get("ratio") for row in made.rows]
    assert [row["change"] for row in rows] == [row.change.kind.value for row in made.rows if row.change]
    # 1/40 + 1/60 are read, 1/60 + 1/90 written, of every operation's MACs: see `document`.
    whole = columns(data_from_report(of_pairs([Pair(document("a", "local", "ort", 1, macs=3_600), None)]))["rows"])[0]
    assert whole["moved_bytes"] == 3_600 // 40 + 3_600 // 60 + 2 * (3_600 // 90)
    assert whole["kinds"]["conv"] == [20, 3_600, 3_600 // 40 + 3_600 // 60]


def test_a_change_is_of_its_own_row_where_two_cells_look_alike() -> None:
    rows = [document("…/net.onnx", "local", "ort", 1, ratio=ratio) for ratio in (2.0, 3.0)]
    before = [document("…/net.onnx", "local", "ort", 1, ratio=ratio) for ratio in (2.0, 2.0)]
    data = data_from_report(of_pairs([Pair(now, was, "before") for now, was in zip(rows, before, strict=True)]))
    of_rows = columns(data["rows"])
    found = [(of_rows[one["at"]]["ratio"], one["kind"]) for one in columns(data["changes"])]
    assert found == [(3.0, "slower"), (2.0, "same")]


def test_a_failure_leads_to_no_row_where_two_cells_look_alike() -> None:
    sound = document("…/net.onnx", "local", "ort", 1)
    other = document("other", "local", "ort", 1)
    data = data_from_report(of_pairs([Pair(row, None) for row in (sound, failed(sound, "no"), failed(other, "no"))]))
    [known], [unclear] = (one["cells"] for one in data["failures"])
    assert known["row"] == 0 and columns(data["rows"])[0]["model"] == "other"
    assert unclear["row"] is None and unclear["text"].startswith("…/net.onnx · ")


def test_an_inversion_names_the_rows_of_both_models() -> None:
    light = document("light_net", "local", "ort", 1, ratio=6.0, macs=1_000_000_000)
    heavy = document("heavy_net", "local", "ort", 1, ratio=2.0, macs=4_000_000_000)
    data = data_from_report(of_pairs([Pair(row, None) for row in (light, heavy)]))
    rows = columns(data["rows"])
    [inversion] = data["groups"][0]["inversions"]
    assert (rows[inversion["slower"]]["model"], rows[inversion["faster"]]["model"]) == ("light_net", "heavy_net")
    assert (inversion["macs_ratio"], inversion["time_ratio"]) == (0.25, 3.0)


def test_the_page_reads_no_markup_and_compiles_no_text() -> None:
    reading = re.compile(r"\.(inner|outer)HTML|insertAdjacent|document\.write|\beval\(|new Function|srcdoc|fetch\(")
    for file in sorted(_PAGE.glob("*.js")):
        assert not reading.search(file.read_text(encoding="utf-8")), file.name
    assert {file.name for file in _PAGE.glob("*.js")} == set(html._SCRIPTS)


def test_a_script_that_names_the_end_of_a_script_does_not_end_it() -> None:
    made = html._harmless('"</script>", "<!--", "</SCRIPT", "<b>"')
    assert made == r'"\x3c/script>", "\x3c!--", "\x3c/SCRIPT", "<b>"'


def test_without_vl_convert_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    html._vega.cache_clear()
    with pytest.raises(UnreachableError, match="vl-convert") as caught:
        html_text(report(12))
    assert caught.value.remedy == "pip install 'vitprof[report]'"
