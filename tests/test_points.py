"""Rows of JSON to points of comparisons: figures worked out by hand from tests/report/samples.py."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.report import samples
from vitprof.comparisons import Point
from vitprof.counts import Kind, KindSum, OpRow
from vitprof.measurements import Interval
from vitprof.points import LeftOut, point_from_row, points_from_document
from vitprof.records import Result
from vitprof.report.document import dicts_from_results


def row(result: Result, **changes: Any) -> dict[str, Any]:
    return {**dicts_from_results([result])[0], **changes}


def point(result: Result, **changes: Any) -> Point:
    read = point_from_row(row(result, **changes))
    assert isinstance(read, Point)
    return read


def test_a_measured_row_is_a_point_with_everything_that_it_knows() -> None:
    assert point_from_row(row(samples.ok(), roofline_ns=5_000_000), run="r1") == Point(
        model="lowformer_b1",
        size=(224, 224),
        batch=1,
        precision="fp32",
        device="local",
        backend="ort",
        image_ns=12_340_000.0,
        # ±1 %.
        latency_ns=Interval(12_340_000, 12_216_600, 12_463_400),
        # 12.34 ms over the reference's 4 ms; ±0.6 %, six digits.
        ratio=Interval(3.085, 3.06649, 3.10351),
        reference="cpu-ref-1",
        macs=1_410_000_000,
        params=17_940_000,
        activations=43_100_000,
        roofline_ns=5_000_000,
        memory_bytes=212_000_000,
        ops=312,
        placement_ops_share=1.0,
        grade="A",
        ratio_grade="A",
        protocol_hash=samples.PROTOCOL.hash,
        backend_version="1.31.1",
        threads=1,
        run="r1",
        started_at="2026-05-09T12:00:00Z",
    )


def test_times_of_a_batch_are_told_per_image_and_its_latency_stays_whole() -> None:
    # 12.34 ms for 8 images; a roofline of 8 ms for 8 images.
    found = point(samples.ok(), batch=8, roofline_ns=8_000_000)
    assert (found.image_ns, found.roofline_ns) == (1_542_500.0, 1_000_000.0)
    assert found.latency_ns and found.latency_ns.value == 12_340_000


def test_a_row_with_throughput_alone_has_a_time_per_image_and_no_latency() -> None:
    found = point(samples.ok(), latency_ns=None, relative=None, throughput_images_per_s=500.0, batch=256)
    assert (found.image_ns, found.latency_ns, found.ratio, found.reference) == (2_000_000.0, None, None, None)


def test_the_count_of_activations_is_the_table_s_where_it_has_one_even_if_it_is_zero() -> None:
    cost = row(samples.ok())["cost"]
    assert point(samples.ok(), cost={**cost, "activations": 12}).activations == 12
    assert point(samples.ok(), cost={**cost, "activations": 0}).activations == 0
    assert point(samples.ok(), cost=None).activations is None


def test_kinds_are_the_sums_of_the_counted_operators() -> None:
    # Two convolutions of 10 and 20 MACs, one of them called twice, and a norm.
    ops = (
        OpRow("convolution", Kind.CONV, "stem", 1, 10, 100, 50, (1, 2), weight_bytes=40),
        OpRow("convolution", Kind.CONV, "body", 2, 20, 200, 60, (1, 2), weight_bytes=80),
        OpRow("layer_norm", Kind.NORM, "body", 1, 0, 30, 30, (1, 2)),
    )
    result = samples.ok()
    assert result.artifact
    cost = dataclasses.replace(result.artifact.cost, rows=ops, is_lower_bound=True)
    counted = row(dataclasses.replace(result, artifact=dataclasses.replace(result.artifact, cost=cost)))
    assert counted["cost"]["is_lower_bound"] is True
    assert counted["cost"]["kinds"] == {
        "conv": {"calls": 3, "macs": 30, "bytes_in": 300, "bytes_out": 110, "weight_bytes": 120},
        "norm": {"calls": 1, "macs": 0, "bytes_in": 30, "bytes_out": 30, "weight_bytes": 0},
    }
    read = point_from_row(counted)
    assert isinstance(read, Point)
    assert read.kinds == (KindSum(Kind.CONV, 3, 30, 300, 110, 120), KindSum(Kind.NORM, 1, 0, 30, 30, 0))


def test_the_environment_is_what_stood_before_the_run() -> None:
    seen = {"before": {"cpu": "EPYC", "load": 0.1}, "after": {"load": 3.0}, "clock_step_ns": 40}
    assert point(samples.ok(), environment=seen).environment == {"cpu": "EPYC", "load": 0.1}
    assert point(samples.ok(), environment={}).environment == {}


def test_rows_that_failed_or_give_other_outputs_are_left_out_with_their_reason() -> None:
    points, left_out = points_from_document(dicts_from_results(samples.several()), run="r")
    # quick, warned, ok and no_reference; broken, failed and partial (a latency, but its runner died) are not.
    assert [one.model for one in points] == [
        "mobilenetv3_small_100",
        "vit_tiny_patch16_224",
        "lowformer_b1",
        "swin_tiny_patch4_window7_224",
    ]
    assert {one.run for one in points} == {"r"}
    assert [one.model for one in left_out] == ["efficientformer_l1", "gfnet_h_ti", "resnet50"]
    assert left_out[0].reason == "parity is broken: the time is not that of the model"
    assert left_out[1] == LeftOut(
        "gfnet_h_ti", "ort", "local", "failed at export: no ONNX operator for aten::fft_rfft2"
    )
    assert "signal 9" in left_out[2].reason


def test_a_row_without_a_time_above_zero_is_left_out() -> None:
    latency = row(samples.ok())["latency_ns"]
    for changes in (
        {"latency_ns": {**latency, "p50": 0}},
        {"latency_ns": None, "throughput_images_per_s": None},
        {"latency_ns": None, "throughput_images_per_s": -1.0},
        # One image in longer than a float can tell.
        {"latency_ns": None, "throughput_images_per_s": 1e-320},
    ):
        left_out = point_from_row(row(samples.ok(), **changes))
        assert isinstance(left_out, LeftOut) and left_out.reason == "it has no time"


def test_a_model_of_torchvision_is_not_the_one_of_timm_by_that_name() -> None:
    names = [point(samples.ok(), model="resnet50", source=source).model for source in ("timm", "torchvision", "onnx")]
    assert names == ["resnet50", "torchvision:resnet50", "resnet50"]
