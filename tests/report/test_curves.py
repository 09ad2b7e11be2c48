"""What curves say in words, tables, JSON, CSV and pictures."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest

from tests.curves import curve, failed, out_of_memory, point
from tests.report.test_plots import texts
from vitprof.curves import ALLOCATOR, NVML, Axis, Crossover, Curve, DeviceBytes, Headroom, StoppedBy
from vitprof.errors import VitprofError
from vitprof.report.curve_document import COLUMNS, curves_csv, document_from_curves
from vitprof.report.curves import curve_sections, said_of_crossover, said_of_curve
from vitprof.report.document import json_text
from vitprof.report.plot_curves import curve_plot
from vitprof.report.schema_curves import ThroughputDocument
from vitprof.report.sections import sections_text

from . import samples
from .test_comparison import shown

CROSSING = Crossover(Axis.BATCH, "net_b", "net_a", 5.66, (4.0, 8.0), True)


def two() -> list[Curve]:
    """One that levels off at 4, and one whose last batch does not fit."""
    levelled = [
        point(1, 1.0),
        point(2, 1.8, gain_share=0.8),
        point(4, 2.0, gain_share=0.111),
        point(8, 2.01, gain_share=0.005),
    ]
    room = Headroom("host", 1_000_000_000, 140_000_000, 80)
    first = curve("net_a", levelled, best_batch=4, knee_batch=4, headroom=room)
    taken = (DeviceBytes(ALLOCATOR, 900), DeviceBytes(NVML, 1500))
    cut = [point(1, 1.5), point(2, 1.6, gain_share=0.0667, device_bytes=taken), out_of_memory(4)]
    return [first, curve("net_b", cut, stopped_by=StoppedBy.MEMORY, best_batch=2, knee_batch=1)]


def test_golden_markdown_and_terminal() -> None:
    samples.check("curves.md", sections_text(curve_sections(two(), [CROSSING])))
    samples.check("curves-100.txt", shown(curve_sections(two(), [CROSSING]), 100))


def test_a_narrow_terminal_keeps_batch_and_images() -> None:
    lines = shown(curve_sections(two(), []), 48).splitlines()
    head = next(line for line in lines if line.startswith("model"))
    assert "batch" in head and "images/s" in head and max(map(len, lines)) <= 48


def test_the_document_is_that_of_latency_with_curves_to_the_letter() -> None:
    document = json.loads(json_text(document_from_curves(two(), [CROSSING], with_samples=False)))
    assert list(document) == ["schema_version", "results", "curves", "crossovers"]
    assert [(row["model"], row["batch"], row["outcome"]) for row in document["results"]][:2] == [
        ("net_a", 1, "ok"), ("net_a", 2, "ok"),
    ]  # fmt: skip
    first, second = document["curves"]
    assert (first["best_batch"], first["knee_batch"], first["stopped_by"]) == (4, 4, "saturation")
    fourth = first["points"][2]
    assert fourth["batch"] == 4 and fourth["images_per_s"] == 200.0 and fourth["ci95"] == [199.8, 200.2]
    assert fourth["memory_bytes"] == 140_000_000 and fourth["outcome"] == "ok"
    assert second["points"][1]["memory_bytes"] == 1500
    assert second["points"][1]["device_bytes"][0] == {"counted_by": "allocator", "bytes": 900}
    lost = {**dict.fromkeys(fourth), "batch": 4, "outcome": "out of memory", "device_bytes": [], "parity_broken": False}
    assert second["points"][2] == lost
    assert first["headroom"]["left_bytes"] == 860_000_000
    assert document["crossovers"][0]["between"] == [4.0, 8.0] and document["crossovers"][0]["verdict"] == "decided"
    assert ThroughputDocument.model_validate(document)


def test_the_csv_has_a_line_for_every_batch_and_always_the_same_columns() -> None:
    lines = list(csv.DictReader(io.StringIO(curves_csv(two()))))
    assert tuple(lines[0]) == COLUMNS and len(lines) == 7
    assert [line["batch"] for line in lines if line["is_best"] == "true"] == ["4", "2"]
    assert lines[-1]["outcome"] == "out of memory" and lines[-1]["images_per_s"] == ""
    assert lines[5]["device_bytes"] == "allocator 900; nvml 1500" and lines[5]["memory_bytes"] == "1500"
    assert (lines[0]["latency_p50_ns"], lines[0]["latency_ci95_low_ns"]) == ("10000000", "9990000")


def test_a_hostile_name_stays_a_name() -> None:
    hostile = [dataclasses.replace(one, name=samples.HOSTILE_NAME) for one in two()[:1]]
    text = sections_text(curve_sections(hostile, []))
    assert "<script" not in text and "a\\|b&lt;script" in text
    rows = tuple(samples.result("=cmd()") for _ in hostile[0].points)
    assert "\n'=cmd()," in curves_csv([dataclasses.replace(hostile[0], rows=rows)])


@pytest.mark.parametrize(
    ("stopped_by", "said"),
    [
        (StoppedBy.SATURATION, "ended at batch 8: two batches in a row brought less than 3%"),
        (StoppedBy.MEMORY, "a larger batch was not tried: by a line through the points memory would not hold it"),
        (StoppedBy.CAP, "ended at batch 8: the largest that is tried (--max-batch)"),
        (StoppedBy.FAILURE, "ended at batch 8: which failed"),
        (StoppedBy.INTERRUPTED, "ended at batch 8: interrupted"),
    ],
)
def test_why_a_search_ended_is_said(stopped_by: StoppedBy, said: str) -> None:
    assert said in said_of_curve(dataclasses.replace(two()[0], stopped_by=stopped_by), "net_a")


def test_the_batch_that_failed_is_named_and_not_a_larger_one_that_did_not_fit() -> None:
    gap = curve("net", [point(8, 1.0), failed(12), out_of_memory(16)], stopped_by=StoppedBy.FAILURE, best_batch=8)
    assert "ended at batch 12: which failed" in said_of_curve(dataclasses.replace(gap, knee_batch=8), "net")


def test_the_smallest_batch_that_does_not_fit_is_named() -> None:
    assert "; batch 4 does not fit in memory" in said_of_curve(two()[1], "net_b")


def test_given_batches_have_no_end_to_explain() -> None:
    assert "ended" not in said_of_curve(dataclasses.replace(two()[0], stopped_by=StoppedBy.ASKED), "net_a")


def test_a_curve_without_a_batch_says_so_and_its_failure_is_told() -> None:
    lost = curve("net", [failed(1)], stopped_by=StoppedBy.FAILURE)
    text = shown(curve_sections([lost], []), 120)
    assert "net: no batch was measured." in text and "failed at export: net at batch 1 (no ONNX operator" in text


def test_a_curve_of_another_models_outputs_has_no_best() -> None:
    broken = curve("net", [point(1, 1.0, is_broken=True)])
    assert said_of_curve(broken, "net") == "net: no batch gives the outputs of the model."


def test_an_estimate_is_told_with_two_digits() -> None:
    room = Headroom("device", 80 * 10**9, 10**9, 112_977)
    assert "leaves 79.00 GB of 80.00 GB of the device's memory, enough for batch 110,000 by a line" in said_of_curve(
        dataclasses.replace(two()[0], headroom=room), "net_a"
    )


def test_crossovers_are_said_with_what_was_measured() -> None:
    assert said_of_crossover(CROSSING) == (
        "net_a is faster than net_b above batch 5.7 and slower below, measured at 4 and 8."
    )
    over_sizes = Crossover(Axis.SIZE, "b", "a", 287.6, (224.0, 384.0), False, batch=8)
    assert said_of_crossover(over_sizes) == (
        "At batch 8, undecided: a may overtake b at 288 px; not clear on both sides at 224 and 384."
    )
    at_size = dataclasses.replace(CROSSING, size=(256, 192))
    assert said_of_crossover(at_size).startswith("At 256x192 px, net_a is faster")


def test_a_warning_of_many_batches_is_said_once() -> None:
    doubted = samples.summary(1.0, warnings=(samples.QUEUED,))
    one = two()[0]
    rows = tuple(dataclasses.replace(row, summary=doubted) for row in one.rows)
    text = sections_text(curve_sections([dataclasses.replace(one, rows=rows)], []))
    assert text.count("run on an idle machine") == 1 and "net\\_a at batch 1, 2, 4, 8" in text


def test_the_picture_says_what_it_shows(tmp_path: Path) -> None:
    curve_plot(two(), [CROSSING], tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert {"net_a", "net_b", "best batch", "knee", "crossover", "batch", "images/s", "latency of a call, ms"} <= {
        *found
    }
    assert "side of the image, pixels" not in found


def test_several_sizes_have_a_panel_of_their_own(tmp_path: Path) -> None:
    curves = [curve("net", [point(1, speed)], size=(px, px)) for px, speed in ((192, 2.0), (256, 1.0))]
    curve_plot(curves, [], tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert "side of the image, pixels" in found and "batch" not in found and {"192", "256"} <= {*found}


def test_equal_curves_give_equal_pictures(tmp_path: Path) -> None:
    for name in ("one", "two"):
        curve_plot(two(), [CROSSING], tmp_path / f"{name}.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


@pytest.mark.parametrize("curves", [[], [curve("net", [point(1, 1.0)])], [curve("net", [failed(1)])]])
def test_less_than_two_points_cannot_be_drawn(tmp_path: Path, curves: list[Curve]) -> None:
    with pytest.raises(VitprofError, match="two batches or sizes") as error:
        curve_plot(curves, [], tmp_path / "a.svg")
    assert "--batch" in error.value.remedy
