"""Reports in the form in which Xcode wrote published ones; what else a file may hold is refused with its keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import xcode
from vitprof.errors import VitprofError
from vitprof.store.xcode_reports import ReportedOp, is_report, read_report


def test_a_report_is_read_with_seconds_as_nanoseconds_and_a_set_for_each_load(tmp_path: Path) -> None:
    report = read_report(xcode.write(tmp_path, xcode.report()))
    assert report.predictions_ns[0] == (5_000_000, 2_100_000, 2_000_000, 1_900_000)
    assert [len(one) for one in report.predictions_ns] == [4, 4, 4]
    assert (report.loads_ns[0], report.compilations_ns[0]) == (400_000_000, 90_000_000)
    assert (report.model, report.device, report.system) == ("net-fp16", "iPhone 13", "iOS 18.7.8")
    assert (report.compute_units, report.precision, report.input_shape) == ("all", "fp16", (1, 3, 16, 16))
    # 810,099,232.25 s after the first second of 2001.
    assert report.started_at == "2026-09-03T03:33:52+00:00"


def test_its_operators_are_those_that_run_with_their_units_and_estimated_costs(tmp_path: Path) -> None:
    report = read_report(xcode.write(tmp_path, xcode.report()))
    assert report.ops == (
        ReportedOp("input_cast_fp16", "conv", "ane", 0.75),
        ReportedOp("relu_cast_fp16", "relu", "ane", 0.125),
        ReportedOp("head_cast_fp16", "linear", "cpu", 0.125),
    )


def test_operators_inside_of_branches_are_read_too(tmp_path: Path) -> None:
    branch = xcode.operation("cond", "cond", "cpu", 0.0)
    branch["blocks"] = [{"inputs": [], "operations": [xcode.operation("inner", "ios17.mul", "gpu", 0.5)]}]
    report = read_report(xcode.write(tmp_path, xcode.report([branch])))
    assert [(op.name, op.unit) for op in report.ops] == [("cond", "cpu"), ("inner", "gpu")]


def test_who_owns_the_phone_is_not_read(tmp_path: Path) -> None:
    assert "SECRET" not in str(read_report(xcode.write(tmp_path, xcode.report())))


def test_the_file_in_the_folder_is_as_good_as_the_folder(tmp_path: Path) -> None:
    folder = xcode.write(tmp_path, xcode.report())
    assert is_report(folder) and is_report(folder / "report.json")
    assert read_report(folder / "report.json") == read_report(folder)
    (tmp_path / "ours.json").write_text('{"schema_version": 1, "results": []}')
    assert not is_report(tmp_path / "ours.json") and not is_report(tmp_path) and not is_report(tmp_path / "none.json")
    assert not is_report(tmp_path / "none.mlperf")


def test_without_a_run_configuration_all_predictions_are_those_of_one_load(tmp_path: Path) -> None:
    body = xcode.report()
    del body["deviceResults"]["perfRunConfig"]
    assert len(read_report(xcode.write(tmp_path, body)).predictions_ns) == 1


@pytest.mark.parametrize(
    ("computed_in", "precision"),
    [
        ("Mixed (Float16, Int32)", "fp16"),
        ("Float16", "fp16"),
        ("Mixed (Float32, Int32)", "fp32"),
        # Of a program whose inputs are fp32 and whose arithmetic is not, or in part: nobody can tell from here.
        ("Mixed (Float16, Float32, Int32)", None),
        ("Int8", None),
    ],
)
def test_the_precision_is_that_of_the_arithmetic(tmp_path: Path, computed_in: str, precision: str | None) -> None:
    body = xcode.report(computed_in=computed_in)
    assert read_report(xcode.write(tmp_path, body)).precision == precision


def test_an_image_input_has_the_shape_of_its_sides(tmp_path: Path) -> None:
    body = xcode.report(takes_image=True, shape=(1, 3, 32, 48))
    report = read_report(xcode.write(tmp_path, body))
    assert (report.input_shape, report.precision) == ((1, 3, 32, 48), "fp16")


def test_a_report_may_lack_what_is_told_as_not_known(tmp_path: Path) -> None:
    body = xcode.report()
    for key in ("compile", "modelStructure"):
        del body["deviceResults"][key]
    del body["modelMetadata"]["rawMetadata"]
    report = read_report(xcode.write(tmp_path, body))
    assert (report.ops, report.compilations_ns, report.input_shape, report.precision) == ((), (), None, None)


def _set(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        for key in path[:-1]:
            body = body[key]
        body[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("jsonVersion", value=2), "key 'jsonVersion'"),
        (_set("computeUnit", value=4), "key 'computeUnit'"),
        (_set("computeUnit", value="all"), "key 'computeUnit'"),
        (_set("deviceInfo", value={}), "key 'deviceInfo.modelName'"),
        (_set("deviceInfo", "modelName", value="\ud800"), "key 'deviceInfo.modelName'"),
        (_set("deviceResults", "predict", "samples", value=[]), "no prediction"),
        (_set("deviceResults", "predict", "samples", value=[0.0]), "key 'deviceResults.predict.samples.0'"),
        (_set("deviceResults", "predict", "samples", value=["fast"]), "key 'deviceResults.predict.samples.0'"),
        (_set("deviceResults", "predict", "samples", value=[float("inf")]), "key 'deviceResults.predict.samples.0'"),
        (_set("deviceResults", "load", value=None), "key 'deviceResults.load'"),
        (_set("deviceResults", value=7), "key 'deviceResults'"),
    ],
)
def test_another_form_is_refused_with_the_key_and_all_keys_found(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    body = xcode.report()
    change(body)
    with pytest.raises(VitprofError) as caught:
        read_report(xcode.write(tmp_path, body))
    assert said in caught.value.message
    assert "its keys: computeUnit, deviceInfo, deviceResultVersion, deviceResults" in caught.value.message
    assert "docs/iphone.md" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"deviceResults"', "[" * 100_000])
def test_what_is_no_report_at_all_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.mlperf").write_text(text)
    with pytest.raises(VitprofError, match=r"x\.mlperf"):
        read_report(tmp_path / "x.mlperf")


@pytest.mark.parametrize("depth", [400, 20_000])
def test_operators_nested_without_end_are_refused(tmp_path: Path, depth: int) -> None:
    before, after = '{"operatorName": "cond", "blocks": [{"operations": [', "]}]}"
    body = json.dumps(xcode.report([])).replace('"operations": []', f'"operations": [{before * depth}{after * depth}]')
    (tmp_path / "x.mlperf").write_text(body)
    with pytest.raises(VitprofError, match=r"x\.mlperf"):
        read_report(tmp_path / "x.mlperf")
