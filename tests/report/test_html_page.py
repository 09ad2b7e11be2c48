"""The HTML report in real Chromium without a network: clicked, hovered, filtered, at two widths, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.report.chromium_page import Page, page
from tests.report.html_reports import HOSTILE, report
from vitprof.report.html import html_text
from vitprof.reports import ChangeKind, Report, ReportRow

_MARKED = "[...document.querySelectorAll('#plot .mark-text.role-mark text')].map((one) => one.textContent)"


@pytest.fixture(scope="module")
def told() -> Report:
    return report()


@pytest.fixture(scope="module")
def file(told: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("report") / "report.html"
    written.write_text(html_text(told), encoding="utf-8")
    return written


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with page() as opened:
        yield opened


@pytest.fixture
def opened(browser: Page, file: Path) -> Iterator[Page]:
    """The report, freshly opened; whatever a test does on it, nothing may be complained of or asked for."""
    browser.requests.clear()
    browser.open(file)
    yield browser
    assert browser.complaints == []
    assert {url for url in browser.requests if not url.startswith("data:")} == {file.as_uri()}


def sound(told: Report, **asked: object) -> list[ReportRow]:
    """Rows with a time and these key fields."""
    return [
        row for row in told.rows if row.is_sound and all(row.document[name] == value for name, value in asked.items())
    ]


def ratio(row: ReportRow) -> float:
    return float(row.document["relative"]["ratio"])


def marked(opened: Page) -> set[str]:
    return set(opened.value(_MARKED))


def test_a_click_on_a_head_sorts_and_another_one_turns_it_round(opened: Page, told: Report) -> None:
    # The broken have a ratio too, struck out.
    known = sorted(ratio(row) for row in told.rows if row.document["relative"])
    opened.click("#results th[data-key=ratio] button")
    first = opened.texts("#results tbody td:nth-child(2)")
    assert len(first) == 25 and float(first[0]) == pytest.approx(known[0], rel=1e-3)
    assert [float(one) for one in first] == sorted(float(one) for one in first)
    opened.click("#results th[data-key=ratio] button")
    assert float(opened.text("#results tbody td:nth-child(2)")) == pytest.approx(known[-1], rel=1e-3)
    assert opened.value("document.querySelector('#results th[data-key=ratio]').ariaSort") == "descending"


def test_pages_of_a_table_are_turned(opened: Page) -> None:
    first = opened.texts("#results tbody th")
    opened.click("#results .turner button", text="Next")
    assert opened.text("#results .turner span") == "26–50 of 300 rows"
    assert opened.texts("#results tbody th") != first


def test_filters_by_value_and_by_words_are_met_together(opened: Page, told: Report) -> None:
    opened.click(".facet[data-facet=device] summary")
    opened.click(".facet[data-facet=device] label", text="rpi5")
    opened.click(".facet[data-facet=grade] summary")
    opened.click(".facet[data-facet=grade] label", text="C")
    opened.click("#search")
    opened.type("vit ort")
    of_words = [row for row in told.rows if "vit" in row.cell.model and row.cell.backend == "ort"]
    passed = [row for row in of_words if row.cell.device == "rpi5" and row.document["grade"] == "C"]
    assert passed and opened.text("#count") == f"{len(passed)} of 300 rows"
    assert opened.texts("#chips button") == ["Device: rpi5 ✕", "Grade: C ✕"]
    opened.click("#chips button", text="Device")
    assert opened.texts("#chips button") == ["Grade: C ✕"]
    opened.click("#reset")
    assert opened.text("#count") == "300 of 300 rows"


def test_axes_scales_and_colours_can_be_chosen(opened: Page, told: Report) -> None:
    opened.choose("#x-axis", "params")
    opened.choose("#y-axis", "joules")
    opened.wait_for(
        "document.querySelector('#plot').ariaLabel.startsWith('energy of one image (mJ) against parameters (M)')"
    )
    assert opened.value("document.querySelector('#plot').dataset.points") == str(len(sound(told)))
    titles = opened.value("[...document.querySelectorAll('#plot .role-axis-title text')].map((one) => one.textContent)")
    assert set(titles) == {"parameters (M)", "energy of one image (mJ)"}
    log = opened.value("document.querySelectorAll('#plot .role-axis-label text').length")
    opened.click("#x-log")
    opened.wait_for(f"document.querySelectorAll('#plot .role-axis-label text').length !== {log}")
    opened.choose("#colour", "grade")
    opened.wait_for("document.querySelector('#legend').innerText.includes('B')")
    assert set(opened.texts("#legend span")) == {"A", "B", "C", "none"}


def test_against_the_batch_the_rows_of_one_model_make_a_curve(opened: Page, told: Report) -> None:
    curves = "document.querySelectorAll('#plot .mark-line.role-mark path').length"
    assert opened.value(curves) == 0
    opened.choose("#x-axis", "batch")
    opened.choose("#y-axis", "images_per_s")
    opened.wait_for(f"{curves} > 0")
    assert opened.value(curves) == len({(row.cell.model, row.cell.device, row.cell.backend) for row in sound(told)})


def test_a_point_tells_what_it_is_and_a_click_all_of_it(opened: Page) -> None:
    x, y = opened.middle("#plot .mark-symbol path", at=40)
    opened.hover(x, y)
    name, *details = opened.text("#tip").splitlines()
    assert "MACs" in details and "ratio to the reference" in details
    opened.click_at(x, y)
    assert opened.text("#inspector thead th").splitlines()[0] == name
    assert marked(opened) == {name}
    x, y = opened.middle("#plot .mark-symbol path", at=200)
    opened.click_at(x, y, shift=True)
    assert len(opened.texts("#inspector table:first-of-type thead th[scope=col]")) >= 2
    opened.click("#inspector button", text="Clear")
    assert marked(opened) == set() and "Choose a point" in opened.text("#inspector")


def test_the_keyboard_walks_through_the_points(opened: Page) -> None:
    opened.value("document.querySelector('#plot').focus()")
    for _ in range(3):
        opened.key("ArrowRight")
    name = opened.text("#tip b")
    opened.key("Enter")
    assert opened.text("#inspector thead th").splitlines()[0] == name
    opened.key("Escape")
    assert opened.value("document.querySelector('#tip').hidden")


def test_one_click_says_which_is_fastest_at_a_budget(opened: Page, told: Report) -> None:
    device = opened.value("JSON.parse(document.querySelector('#data').textContent).rows.columns.device.values[0]")
    opened.click("#questions button", text="fastest")
    best = min(sound(told, device=device, batch=1), key=ratio)
    assert f"the fastest on {device} is {best.cell.model} (" in opened.text("#answer")
    # With accuracies the same table says which to take within a latency: accuracy and time fall from line to line.
    assert opened.text("#within").startswith("Within a latency: the most accurate line whose time fits")
    lines = opened.value(
        """[...document.querySelectorAll('#fastest tbody tr')].map((line) =>
          [1, 3].map((at) => Number(line.children[at].textContent.replaceAll(',', ''))))"""
    )
    assert len(lines) > 1
    assert all(accuracy > after and ms > faster for (accuracy, ms), (after, faster) in pairwise(lines))
    opened.choose("#fastest select[aria-label=budget]", "macs")
    assert opened.texts("#within") == []
    opened.click("#fastest .buttons button", text="local")
    opened.value(
        "const limit = document.querySelector('#limit'); limit.value = '1'; limit.dispatchEvent(new Event('change'))"
    )
    within = [row for row in sound(told, device="local", batch=1) if row.document["cost"]["macs"] <= 1e9]
    assert f"With at most 1 GMAC, the fastest on local is {min(within, key=ratio).cell.model} (" in opened.text(
        "#answer"
    )
    # From line to line the budget grows and the time falls.
    table = """[...document.querySelectorAll('#fastest tbody tr')].map((line) =>
      [...line.children].slice(1, 3).map((one) => Number(one.textContent.replaceAll(',', ''))))"""
    steps = opened.value(table)
    assert steps == sorted(steps) and [time for _, time in steps] == sorted((time for _, time in steps), reverse=True)


def test_one_click_says_what_got_slower_and_how_certain_that_is(opened: Page, told: Report) -> None:
    slower = told.changes_of(ChangeKind.SLOWER)
    opened.click("#questions button", text="slower")
    assert slower and len(opened.texts("#changes-table tbody tr")) == len(slower)
    assert all(one.startswith("certain: at least ") for one in opened.texts("#changes-table tbody td:nth-child(5)"))
    opened.click("#kinds button", text="undecided")
    assert len(opened.texts("#changes-table tbody tr")) == len(told.changes_of(ChangeKind.UNDECIDED))
    assert all(one.startswith("not certain: between ") for one in opened.texts("#changes-table tbody td:nth-child(5)"))


def test_one_click_says_why_fewer_macs_take_longer(opened: Page, told: Report) -> None:
    worst = max((one for group in told.groups for one in group.disagreement.inversions), key=lambda one: one.severity)
    opened.click("#questions button", text="MACs")
    opened.wait_for(f"{_MARKED}.length > 0")
    assert opened.text("#why").startswith(f"{worst.slower.model} has ") and worst.faster.model in opened.text("#why")
    assert marked(opened) == {worst.slower.model, worst.faster.model}


def test_a_click_on_an_inversion_marks_both_models(opened: Page) -> None:
    line = opened.value("[...document.querySelectorAll('#inversions tbody tr')][1].innerText").split("\t")
    opened.click("#inversions tbody tr", at=1)
    opened.wait_for(f"{_MARKED}.length > 0")
    assert marked(opened) == {line[0].strip(), line[1].strip()}
    assert [one.splitlines()[0] for one in opened.texts("#inspector thead th")][:2] == [
        line[0].strip(),
        line[1].strip(),
    ]


def test_failures_stand_with_their_remedy(opened: Page, told: Report) -> None:
    assert len(opened.texts("#failures-list article")) == len(told.failures)
    assert "Remedy: choose another model" in opened.text("#failures-list .remedy")


def test_hostile_text_is_letters(opened: Page) -> None:
    letters = HOSTILE.replace("\u2028", " ").replace("\u202e", "")
    assert opened.value("document.querySelectorAll('img, main script').length") == 0
    assert any(letters in one for one in opened.texts("#failures-list li"))
    opened.click("#search")
    opened.type("onerror")
    opened.wait_for("!document.querySelector('#count').innerText.startsWith('300')")
    assert letters in opened.texts("#results tbody th")
    opened.click("#results tbody tr", at=opened.texts("#results tbody th").index(letters))
    assert opened.text("#inspector thead th").splitlines()[0] == letters


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("is_dark", [False, True])
def test_it_fits_and_can_be_read(opened: Page, file: Path, width: int, is_dark: bool) -> None:
    opened.open(file, width, is_dark=is_dark)
    for at in range(len(opened.texts(".facet summary"))):
        opened.click(".facet summary", at=at)
        assert opened.value("document.documentElement.scrollWidth") <= width
    # WCAG's contrast of text on its ground.
    contrast = opened.value(
        """(() => {
          const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
            .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
            .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
          const card = light(getComputedStyle(document.querySelector('#explore')).backgroundColor);
          const verdicts = ['slower', 'undecided', 'faster'].map((one) => `.verdict.${one}`);
          const texts = ['.answer', '.quiet', '.pick', '.remedy', ...verdicts]
            .map((one) => light(getComputedStyle(document.querySelector(one)).color));
          return Math.min(...texts.map((one) => (Math.max(one, card) + 0.05) / (Math.min(one, card) + 0.05)));
        })()"""
    )
    assert contrast >= 4.5


@pytest.mark.slow
def test_ten_thousand_rows_can_be_used(browser: Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(html_text(report(10_000)), encoding="utf-8")
    browser.open(file)
    assert browser.value("document.querySelectorAll('#plot canvas').length") == 1
    browser.click(".facet[data-facet=batch] summary")
    browser.click(".facet[data-facet=batch] label", text="8")
    assert browser.text("#count") == "5,004 of 10,008 rows"
    browser.click("#results th[data-key=ms] button")
    assert len(browser.texts("#results tbody tr")) == 25 and browser.complaints == []
