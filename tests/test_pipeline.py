"""The whole way on real models, through the pipeline's own functions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data

from vitprof import exporting, pipeline
from vitprof.devices.profiles import reference_model
from vitprof.errors import ExitCode, UsageError
from vitprof.measurements import Grade
from vitprof.pipeline import Request
from vitprof.places import Places
from vitprof.protocols import Effort, protocol
from vitprof.records import ModelSpec, ParityVerdict, Source
from vitprof.report.progress import NoProgress
from vitprof.store.reference_times import machine_id
from vitprof.store.results import open_store
from vitprof.units import Amount

LIKE = ModelSpec("", Source.TIMM)
QUICK = protocol(Effort.QUICK, measure=Amount(calls=30))
TINY = str(reference_model("cpu-ref-1"))


def _request(*models: str, **changes: object) -> Request:
    return dataclasses.replace(Request(models, QUICK, LIKE, threads=1), **changes)  # type: ignore[arg-type]


def test_a_small_timm_model_is_measured_with_parity_cost_and_grades(here: Places) -> None:
    run = pipeline.measure(_request("mobilenetv3_small_050", like=dataclasses.replace(LIKE, size=(96, 96))), here)
    assert run.exit_codes == {ExitCode.OK} and not run.troubles
    [row] = run.results
    assert row.parity and row.parity.verdict is ParityVerdict.MATCH and row.parity.where == "device"
    assert row.artifact and row.artifact.cost.macs and not row.artifact.folded_weights
    assert row.summary and row.summary.relative and row.summary.grade in Grade
    achieved = row.artifact.cost.macs / (row.summary.latency.p50_ns.value / 1e9)
    assert row.summary.achieved_macs_per_s == pytest.approx(achieved)
    assert row.environment["before"]["machine"]
    before = row.environment["before"]
    assert ("no_energy" in before) != ("energy_source" in before)


def test_rows_come_in_the_order_asked_for_and_failures_stand_among_them(here: Places, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(b"no model")
    run = pipeline.measure(_request(TINY, str(cut), TINY), here)
    assert [Path(row.spec.name).name for row in run.results] == ["cpu-ref-1.onnx", "cut.onnx"]
    assert ExitCode.FAILED in run.exit_codes


def test_a_model_with_weights_beside_it_is_measured(here: Places, tmp_path: Path) -> None:
    model = onnx.load(TINY)
    convert_model_to_external_data(model, location="weights.bin", size_threshold=1024)
    onnx.save(model, str(tmp_path / "model.onnx"))
    run = pipeline.measure(_request(str(tmp_path / "model.onnx")), here)
    assert run.results[0].failure is None and run.results[0].summary


def test_the_machine_s_reference_time_grows_with_every_run(tmp_path: Path, here: Places) -> None:
    places = Places(here.cache_root, tmp_path)
    first = pipeline.measure(_request(TINY), places).results[0].summary
    second = pipeline.measure(_request(TINY), places).results[0].summary
    assert first and first.drift_corrected_ns is None
    assert second and second.drift_corrected_ns and second.relative
    with open_store(places.store) as store:
        times = store.reference_times(machine_id(), second.relative.reference)
    assert len(times) == 2
    assert second.drift_corrected_ns == pytest.approx(second.relative.ratio.value * times[0].p50_ns)


def test_every_round_stands_in_the_journal(tmp_path: Path, here: Places) -> None:
    run = pipeline.measure(_request(TINY), Places(here.cache_root, tmp_path))
    [journal] = (tmp_path / "runs").glob("*.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert lines[0]["kind"] == "protocol" and lines[0]["hash"] == QUICK.hash
    samples = run.results[0].samples
    assert samples
    written = [tuple(line["block"]["samples_ns"]) for line in lines if line["kind"] == "round"]
    assert written == [round_.block.samples_ns for one in samples.sets for round_ in one.rounds]


def test_a_protocol_that_differs_in_anything_has_another_hash() -> None:
    hashes = {protocol(effort).hash for effort in Effort} | {protocol(precision_goal_share=0.02).hash, QUICK.hash}
    assert len(hashes) == 5


def test_an_export_is_a_file_with_its_verdict(here: Places, tmp_path: Path) -> None:
    like = dataclasses.replace(LIKE, size=(96, 96))
    [one] = exporting.export(("mobilenetv3_small_050",), ("onnx",), tmp_path, like, here, progress=NoProgress())
    assert one.path == tmp_path / "mobilenetv3_small_050.onnx" and one.path.stat().st_size > 1_000_000
    assert one.parity and one.parity.verdict is ParityVerdict.MATCH
    onnx.checker.check_model(str(one.path))


def test_a_broken_artifact_is_caught_by_parity(here: Places, tmp_path: Path) -> None:
    """The sign of every fourth output that the original is said to have given is changed: exit 6."""
    places = Places(tmp_path / "cache", tmp_path / "data")
    request = _request("mobilenetv3_small_050", like=dataclasses.replace(LIKE, size=(96, 96)))
    pipeline.measure(request, places)
    [record] = places.cache_root.glob("artifacts/*/*/record.json")
    expected = record.parent / "expected.bin"
    expected.write_bytes(
        bytes(byte ^ 0x80 if index % 16 == 3 else byte for index, byte in enumerate(expected.read_bytes()))
    )
    run = pipeline.measure(request, places)
    assert run.exit_codes == {ExitCode.PARITY_BROKEN}
    assert run.results[0].parity and run.results[0].parity.verdict is ParityVerdict.BROKEN


def test_an_artifact_that_was_altered_in_the_cache_is_not_timed(tmp_path: Path) -> None:
    places = Places(tmp_path / "cache", tmp_path / "data")
    pipeline.measure(_request(TINY), places)
    [model] = places.cache_root.glob("artifacts/*/*/model/*.onnx")
    content = bytearray(model.read_bytes())
    content[-1000] ^= 0xFF
    model.write_bytes(bytes(content))
    run = pipeline.measure(_request(TINY), places)
    assert run.results[0].failure and "sha256" in run.results[0].failure.error
    assert run.exit_codes == {ExitCode.FAILED}


def test_a_size_that_the_model_cannot_take_is_a_row_with_exit_2(here: Places) -> None:
    run = pipeline.measure(_request("efficientformer_l1", like=dataclasses.replace(LIKE, size=(100, 100))), here)
    [row] = run.results
    assert row.failure and "100" in row.failure.error and "--size 224" in row.failure.remedy
    assert run.exit_codes == {ExitCode.USAGE}


def test_an_unknown_backend_stops_before_anything_is_exported(here: Places) -> None:
    with pytest.raises(UsageError, match="unknown backend"):
        pipeline.measure(_request("resnet50", backends=("nope",)), here)
