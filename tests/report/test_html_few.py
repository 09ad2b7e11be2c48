"""The HTML report of rows that lack something, in real Chromium: no time, no counts, no earlier run, one name twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import reported
from tests.report.chromium_page import Page, page
from tests.reported import NOW, failed, row
from vitprof.places import Places
from vitprof.report.html import html_text
from vitprof.reporting import Question, report_of

_NO_COUNTS = {
    **row("", 1, 1.0)["cost"],
    **dict.fromkeys(("params", "macs", "weight_bytes", "activation_bytes", "ops", "kinds")),
}
_UNTIMED = dict.fromkeys(
    ("latency_ns", "relative", "throughput_images_per_s", "cold_ns", "achieved_macs_per_s", "memory", "grade")
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with page() as opened:
        yield opened


def shown(browser: Page, folder: Path, now: Sequence[dict[str, Any]]) -> Page:
    """The page of a first run of these rows."""
    store = reported.store_of(folder / "a.sqlite", now)
    file = folder / "a.html"
    report = report_of(Question(), Places(folder, folder, named_store=str(store)))
    file.write_text(html_text(report), encoding="utf-8")
    browser.complaints.clear()
    browser.open(file)
    return browser


def ask_everything(opened: Page) -> None:
    """Each of the three questions, of every device."""
    for at in range(3):
        opened.click("#questions button", at=at)
    opened.click("#questions button", text="fastest")
    for at in range(opened.value("document.querySelectorAll('#fastest .buttons button').length")):
        opened.click("#fastest .buttons button", at=at)


def test_of_failures_alone_it_says_that_they_failed_and_draws_nothing(browser: Page, tmp_path: Path) -> None:
    opened = shown(browser, tmp_path, [failed("a"), failed("b", "another"), failed("c", size=None)])
    ask_everything(opened)
    assert opened.text("#subtitle").startswith("3 rows (3 failed) · ")
    assert opened.texts("#results thead th")[-1] == "outcome" and opened.texts("#results td .bad") == ["failed"] * 3
    assert not opened.value("document.querySelector('#plot-box').checkVisibility()")
    assert opened.text("#environment") == opened.text("#placements") == "No earlier run to compare with."
    assert opened.texts("#failures-list li")[:2] == ["a and 1 more: Conv: unsupported", "b: another"]
    assert opened.complaints == []


def test_of_counted_instructions_the_counts_are_in_the_table(browser: Page, tmp_path: Path) -> None:
    counted = {"value": 2_000_000_000, "spread": 0.0, "calls": 3, "counted_by": "qemu"}
    opened = shown(browser, tmp_path, [row("a", 100, 1.0, instructions_per_inference=counted, **_UNTIMED)])
    ask_everything(opened)
    at = opened.texts("#results thead th").index("M instructions")
    assert opened.texts("#results tbody tr:first-child > *")[at] == "2,000" and opened.complaints == []


def test_published_tables_with_and_without_counts_are_asked_alike(browser: Page, tmp_path: Path) -> None:
    unknown = ("latency_ns", "relative", "cold_ns", "achieved_macs_per_s", "memory", "parity", "artifact", "placement")
    table = dict.fromkeys((*unknown, "grade", "protocol_hash", "started_at", "region"))
    rows = [
        *(row(f"m{at}", 100 * (5 - at), 1.0 + at, batch=64, **table) for at in range(4)),
        *(row(f"n{at}", 100, 1.0 + at, batch=64, device="other", **{**table, "cost": _NO_COUNTS}) for at in range(3)),
    ]
    opened = shown(browser, tmp_path, rows)
    ask_everything(opened)
    assert opened.text("#count") == "3 of 7 rows" and opened.complaints == []
    assert "the fastest on other is n0 (" in opened.text("#answer") and "not known" in opened.text("#answer")
    # What was marked for another question is not in this answer.
    assert "Choose a point" in opened.text("#inspector")


def test_the_fastest_of_all_may_be_one_whose_counts_are_not_known(browser: Page, tmp_path: Path) -> None:
    rows = [row("light", 100, 2.0), row("heavy", 200, 3.0), row("unknown", 1, 1.0, cost=_NO_COUNTS)]
    opened = shown(browser, tmp_path, rows)
    opened.click("#questions button", text="fastest")
    assert "With any budget, the fastest on local is unknown (" in opened.text("#answer")
    opened.value(
        "const limit = document.querySelector('#limit'); limit.value = '1'; limit.dispatchEvent(new Event('change'))"
    )
    told = opened.text("#answer")
    assert "the fastest on local is light (" in told and told.endswith("Not looked at: 1 of unknown MACs.")


def test_rows_of_one_model_are_told_apart_by_all_that_differs(browser: Page, tmp_path: Path) -> None:
    cells = [
        (name, mmacs * work, ms * work, {"size": [side, side], **how})
        for name, mmacs, ms in (("light", 100, 6.0), ("heavy", 800, 4.0))
        for side, work in ((224, 1), (384, 3))
        for how in ({}, {"threads": 4}, {"region": "e2e", "protocol_hash": "ffff"})
    ]
    rows = [row(name, mmacs, ms, **{"started_at": NOW.started_at, **how}) for name, mmacs, ms, how in cells]
    opened = shown(browser, tmp_path, rows)
    told = opened.value("[...document.querySelectorAll('#changes-table tbody tr')].map((one) => one.innerText)")
    assert len(set(told)) == len(rows) == 12
    assert {"size", "threads", "timed", "protocol"} < set(opened.texts("#results thead th"))
    opened.click("#questions button", text="MACs")
    opened.wait_for("document.querySelectorAll('#plot .mark-text.role-mark text').length > 0")
    assert opened.text("#why").startswith("light · 384 px has 0.38 times the MACs of heavy · 224 px and takes 4.50")
    # Its group and no other is in the plot.
    assert len(opened.texts("#chips button")) == 2 and opened.text("#count") == "4 of 12 rows"


def test_who_is_nearly_as_fast_is_named_with_its_backend_and_by_the_grade_of_the_ratio(
    browser: Page, tmp_path: Path
) -> None:
    # Their ratios are A, their milliseconds B.
    rows = [row("twice", 100, 1.0 + at * 1e-4, backend=name) for at, name in enumerate(("ort", "openvino"))]
    opened = shown(browser, tmp_path, [*rows, row("heavy", 800, 4.0)])
    opened.click("#questions button", text="fastest")
    told = opened.text("#answer")
    assert "is twice (ort): " in told and "grade A. Its interval is reached by twice · openvino." in told
    assert opened.texts("#fastest tbody td:last-child") == ["A"]


def test_a_long_name_stays_in_the_plot_of_a_phone(browser: Page, tmp_path: Path) -> None:
    names = [f"{side}_{'long_name_' * 3}net" for side in ("left", "right")]
    rows = [row(names[0], 100, 9.0), row("mid", 300, 3.0), row(names[1], 1000, 4.0)]
    opened = shown(browser, tmp_path, rows)
    opened.resize(390, 800)
    opened.click("#questions button", text="MACs")
    labels = "#plot .mark-text.role-mark text"
    opened.wait_for(f"document.querySelectorAll('{labels}').length > 0")
    opened.settle()
    inside = """[...document.querySelectorAll('%s')].map((one) => {
      const [frame, box] = [document.querySelector('#plot').getBoundingClientRect(), one.getBoundingClientRect()];
      return box.left >= frame.left && box.right <= frame.right;
    })"""
    assert opened.value(inside % labels) and all(opened.value(inside % labels))
    assert opened.complaints == []
    opened.resize(1280, 900)
