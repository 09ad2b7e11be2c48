"""Markdown shows names letter for letter, strikes out what is void and ends with the protocol."""

from __future__ import annotations

import re

from vitprof.report.markdown import escaped, markdown_text

from . import samples


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def table(text: str) -> list[dict[str, str]]:
    """Rows by head; of the columns with the same head the first counts."""
    head, _, *rows = [cells(line) for line in text.splitlines() if line.startswith("|")]
    return [dict(reversed(list(zip(head, row, strict=True)))) for row in rows]


def test_a_name_cannot_open_a_cell_or_a_tag() -> None:
    text = markdown_text([samples.hostile(), samples.ok()])
    assert table(text)[0]["model"] == r"a\|b&lt;script&gt;\[red\]=cmd"
    assert "<script" not in text and "\x1b" not in text and "<b>" not in text


def test_every_character_that_markdown_gives_meaning_to_is_escaped() -> None:
    assert escaped("a|b`c*d_e<f>g[h]\ni~&\\") == r"a\|b\`c\*d\_e&lt;f&gt;g\[h\] i\~&amp;" + "\\\\"


def test_all_lines_of_the_table_are_equally_long() -> None:
    lines = [line for line in markdown_text(samples.several()).splitlines() if line.startswith("|")]
    assert len(set(map(len, lines))) == 1


def test_the_latency_of_a_broken_export_is_struck_out_and_others_are_not() -> None:
    by_model = {row["model"]: row for row in table(markdown_text(samples.several()))}
    assert by_model[r"efficientformer\_l1"]["call ms"] == "~~9.876~~"
    assert by_model[r"efficientformer\_l1"]["GMAC"] == "1.300"
    assert by_model[r"lowformer\_b1"]["call ms"] == "12.34"


def test_the_numbers_read_back_are_the_values() -> None:
    for row, result in zip(table(markdown_text(samples.several())), samples.several(), strict=True):
        shown = row["call ms"].strip("~")
        expected = result.summary.latency.p50_ns.value / 1e6 if result.summary else None
        assert (shown == "n/a") if expected is None else abs(float(shown) / expected - 1) < 1e-3


def test_failures_and_warnings_stand_under_the_table_with_remedies() -> None:
    text = markdown_text(samples.several())
    assert "- failed at run: resnet50\n  - the runner was killed (signal 9)\n  - Remedy: free memory, then run" in text
    assert text.count("Remedy: close other programs") == 1


def test_the_last_line_names_protocol_and_versions() -> None:
    last = markdown_text(samples.several()).splitlines()[-1]
    assert samples.PROTOCOL.hash in last and "vitprof 0.1.0" in last and "ort 1.31.1" in last


def test_no_results_is_said() -> None:
    assert markdown_text([]) == "No results.\n"


def test_the_golden_table() -> None:
    samples.check("several.md", markdown_text(samples.several()))
