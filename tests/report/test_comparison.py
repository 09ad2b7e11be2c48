"""What a comparison says in words, tables and JSON."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from vitprof.comparisons import Disagreement
from vitprof.measurements import Interval
from vitprof.report.comparison import (
    comparison_sections,
    disagreement_section,
    group_title,
    placements,
    time_name,
    worst_inversions,
)
from vitprof.report.comparison_document import document_from_comparison
from vitprof.report.document import json_text
from vitprof.report.sections import Section, sections_text, show_sections

from . import compared, samples


def shown(sections: tuple[Section, ...], width: int) -> str:
    file = io.StringIO()
    show_sections(
        sections, Console(file=file, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    )
    return file.getvalue()


def both(group: Disagreement) -> str:
    return shown(comparison_sections([group], ()), 120)


def test_golden_texts() -> None:
    sections = comparison_sections([compared.measured(), compared.published()], compared.pairs())
    samples.check("comparison-80.txt", shown(sections, 80))
    samples.check("comparison.md", sections_text(sections))


def test_golden_json() -> None:
    document = document_from_comparison([compared.measured(), compared.published()], compared.pairs())
    samples.check("comparison.json", json_text(document))


def test_a_count_that_is_not_known_is_null() -> None:
    [group] = json.loads(json_text(document_from_comparison([compared.measured()], ())))["groups"]
    assert group["spearman"]["params"] is None and group["spearman"]["activations"] is None
    assert group["spearman"]["macs"] == {"value": 0.3, "ci95": [-0.712, 0.91]}
    assert group["kendall"]["macs"] == {"value": 0.4, "ci95": None}
    assert "parameters" not in both(compared.measured())


def test_only_single_calls_of_one_image_are_called_latency() -> None:
    measured, published = compared.measured(), compared.published()
    assert time_name(measured) == "latency"
    assert time_name(published) == "time per image at batch 1024"
    assert time_name(replace(published, batch=None)) == "time per image"
    # Published images/s at batch 1 are still not calls that were timed.
    assert time_name(replace(published, batch=1)) == "time per image at batch 1"
    assert "latency" not in both(published)
    groups = json.loads(json_text(document_from_comparison([measured, published], ())))["groups"]
    assert [group["time"] for group in groups] == ["latency", "time_per_image"]


def test_a_title_names_the_group_and_counts_its_models() -> None:
    assert group_title(compared.measured()) == "local × ort × fp32, batch 1: 5 models"
    assert group_title(replace(compared.published(), batch=None)) == "rtx4090 × torch × amp, every batch: 6 models"


def test_the_best_count_is_said_with_its_distance_to_macs() -> None:
    assert "roofline predicts best (Spearman 1.000, MACs 0.300)" in both(compared.measured())
    overlapping = replace(
        compared.measured(),
        spearman={
            **compared.measured().spearman,
            "roofline": replace(compared.measured().spearman["roofline"], low=0.5),
        },
    )
    assert "the intervals overlap" in both(overlapping)
    of_few = replace(compared.measured(), best_count="macs")
    assert "MACs predict best, over the models for which all are known." in both(of_few)


def test_unexplained_inversions_are_counted_and_stand_in_the_table() -> None:
    text = both(compared.measured())
    assert re.search(r"mid_m +heavy_l .*\n  unexplained\n", text)
    assert "Unexplained by what is known of the models: 1 of these 2." in text
    assert "1 not shown: --all shows every one." in text


def test_sizes_stand_beside_the_names_only_where_they_differ() -> None:
    assert "224x224" not in both(compared.measured())
    assert "288x288" in sections_text((disagreement_section(compared.published()),))


def test_few_rows_are_of_different_slower_models() -> None:
    group = compared.measured()
    [ghost, mid] = group.inversions
    # Three times the same slower model, all worse than the other one.
    crowded = replace(group, inversions=(ghost, replace(ghost), replace(ghost), mid))

    def slower(most: int | None) -> list[str]:
        return [one.slower.model.partition("_")[0] for one in worst_inversions(crowded, most)]

    assert slower(None) == ["ghostnetv2", "ghostnetv2", "ghostnetv2", "mid"]
    assert slower(2) == ["ghostnetv2", "mid"]
    assert slower(3) == ["ghostnetv2", "ghostnetv2", "mid"]


def test_ranks_and_shifts_are_those_worked_out_by_hand() -> None:
    placed = {one.point.model: (one.by_macs, one.by_time, one.shift) for one in placements(compared.measured())}
    assert placed == {
        "light_b0": (2, 1, -1),
        "ghostnetv2_100": (1, 4, 3),
        "mid_m": (3, 3, 0),
        "heavy_l": (4, 2, -2),
        "giant": (5, 5, 0),
    }


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    points = tuple(compared.point(name, 100, ms) for name, ms in (("a", 1), ("b", 1), ("c", 2)))
    assert [one.by_macs for one in placements(replace(compared.measured(), points=points))] == [2, 2, 2]
    assert [one.by_time for one in placements(replace(compared.measured(), points=points))] == [1.5, 1.5, 3]


def test_models_are_ranked_by_the_ratio_where_all_have_one_to_the_same_reference() -> None:
    # By nanoseconds a is the faster one, by the ratio b.
    points = tuple(
        compared.point(name, 100, ms, ratio=Interval(ratio, None, None), reference="cpu-ref-1", protocol_hash="x")
        for name, ms, ratio in (("a", 1, 2.0), ("b", 2, 1.0))
    )
    group = replace(compared.measured(), points=points)
    assert [one.by_time for one in placements(group)] == [2, 1]
    other = replace(group, points=(points[0], replace(points[1], reference="gpu-ref-1")))
    assert [one.by_time for one in placements(other)] == [1, 2]


def test_the_model_that_macs_misplace_most_comes_first_and_one_without_macs_last() -> None:
    group = compared.measured()
    group = replace(group, points=(compared.point("uncounted", None, 3.0), *group.points))
    rows = disagreement_section(group).columns
    assert rows[0].cells[0] == "ghostnetv2_100" and rows[0].cells[-1] == "uncounted"
    by_head = {column.head: column.cells for column in rows}
    assert by_head["shift"] == ("+3", "-2", "-1", "0", "0", "n/a")
    # 0.25 of the time, whatever it is.
    assert by_head["roofline share"][0] == "25.0%"
    # 180 M MACs move 18 MB, of 800 MB for the largest.
    assert by_head["MB moved"][0] == "18.00"


def test_names_and_reasons_from_outside_cannot_break_the_document() -> None:
    group = compared.hostile()
    [first, *rest] = group.inversions
    group = replace(group, inversions=(replace(first, reason="a|b\n<img>"), *rest))
    # The models' own table is among the sections of a group of this size.
    text = sections_text(comparison_sections([group], compared.pairs()))
    assert "<script" not in text and "<img" not in text and "<b>" not in text and "\x1b" not in text
    tables = [
        {len(re.findall(r"(?<!\\)\|", line)) for line in part.splitlines()}
        for part in text.split("\n\n")
        if part.startswith("|")
    ]
    assert len(tables) == 4 and all(len(widths) == 1 for widths in tables)
    assert "\x1b" not in shown(comparison_sections([group], ()), 80)


def test_a_confounder_of_all_pairs_is_said_once() -> None:
    alike = [replace(pair, confounders=("device",)) for pair in compared.pairs()]
    text = shown(comparison_sections([], alike), 100)
    assert text.count("also differs: device") == 1
    assert "1 faster, 1 undecided, 1 without a verdict" in text


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    sections = (
        *comparison_sections([compared.measured(), compared.published()], compared.pairs()),
        disagreement_section(compared.measured()),
    )
    assert max(map(len, shown(sections, width).splitlines())) <= width


def test_nothing_to_compare_is_said() -> None:
    assert "nothing to compare" in shown(comparison_sections([], ()), 80)
