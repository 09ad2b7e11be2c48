"""The JSON is the one of docs/interface.md: names, nesting, order, whole numbers, `null` where not known."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from vitprof.measurements import Doubt, Interval, Samples, StopReason
from vitprof.records import Device, Exported, ProgramFacts
from vitprof.report import document
from vitprof.runner.wire import OUT_OF_MEMORY, Failure

from . import samples

# Written out from the contract, not derived from the models: a renamed field must fail here.
ROW = """
    model source size batch precision device backend backend_version threads region clock outcome latency_ns relative
    drift_corrected_ns throughput_images_per_s cold_ns cost achieved_macs_per_s utilisation bound roofline_ns memory
    energy_j_per_image energy launch_share instructions_per_inference parity artifact placement grade warnings
    protocol_hash environment vitprof_version started_at
""".split()  # noqa: SIM905
NESTED = {
    "latency_ns": "p50 p90 p99 mean min max ci95 samples sets rounds warmup_samples outliers stop_reason device_p50",
    "relative": "reference ratio ci95 reference_spread grade",
    "cold_ns": "load build first_call",
    "cost": "params macs weight_bytes activation_bytes activations ops kinds uncounted_ops coverage is_lower_bound",
    "memory": "peak_rss_bytes peak_rss_measuring_bytes peak_device_bytes peak_device_nvml_bytes",
    "parity": "verdict where max_rel_error cosine top1_agreement reason",
    "artifact": "format sha256 bytes fixups exporter",
    "placement": "ops macs",
}


def rows(*results: Any, with_samples: bool = False) -> list[dict[str, Any]]:
    text = document.json_text(document.rows_from_results(results, with_samples=with_samples))
    return list(json.loads(text)["results"])


def test_a_row_has_exactly_the_fields_of_the_contract_in_its_order() -> None:
    (row,) = rows(samples.ok())
    assert list(row) == ROW
    assert {name: " ".join(row[name]) for name in NESTED} == NESTED


def test_a_failed_row_adds_the_failure_and_nothing_else() -> None:
    (row,) = rows(samples.failed())
    assert list(row) == [*ROW[:12], "failure", *ROW[12:]]
    assert row["outcome"] == "failed"
    assert list(row["failure"]) == ["stage", "error", "remedy"]
    measurements = [name for name in ROW[12:] if name not in ("warnings", *ROW[-4:])]
    assert {row[name] is None for name in measurements} == {True}


def test_a_failure_for_want_of_memory_says_so_to_scripts_too() -> None:
    failure = Failure("run", "out of memory: no", "use less", kind=OUT_OF_MEMORY)
    (row,) = rows(dataclasses.replace(samples.failed(), failure=failure))
    assert row["failure"]["kind"] == "out of memory"


def test_a_runner_that_died_leaves_the_latency_of_what_it_had_sent_but_no_grade() -> None:
    (row,) = rows(samples.partial())
    assert (row["outcome"], row["grade"]) == ("failed", None)
    assert (row["latency_ns"]["p50"], row["latency_ns"]["stop_reason"]) == (61_000_000, "failed")


def test_a_cell_without_summary_and_without_failure_is_a_failed_row() -> None:
    (row,) = rows(samples.result("resnet18"))
    assert row["failure"]["remedy"]


def test_times_and_sizes_are_whole_numbers() -> None:
    def leaves(name: str, value: Any) -> list[tuple[str, Any]]:
        inner = value.items() if isinstance(value, dict) else [(name, one) for one in value]
        return [leaf for key, one in inner for leaf in _leaves(f"{name}.{key}", one)]

    def _leaves(name: str, value: Any) -> list[tuple[str, Any]]:
        return leaves(name, value) if isinstance(value, dict | list) else [(name, value)]

    for row in rows(*samples.several(), with_samples=True):
        timed = [value for name, value in leaves("", row) if "_ns" in name or "_bytes" in name]
        assert not [value for value in timed if isinstance(value, float)]


def test_samples_are_there_only_when_asked_for_and_kept_apart() -> None:
    assert not [name for name in rows(samples.ok())[0] if name.endswith("samples_ns")]
    (row,) = rows(samples.ok(), with_samples=True)
    assert row["samples_ns"] == [11, 12, 111, 112]
    assert row["warm_up_samples_ns"] == [20, 120]
    assert row["set_aside_samples_ns"] == [30, 15, 130, 115]


def test_samples_of_several_calls_are_told_per_call() -> None:
    (row,) = rows(dataclasses.replace(samples.ok(), samples=samples.samples(calls_per_sample=10)), with_samples=True)
    assert row["samples_ns"] == [1, 1, 11, 11]


def test_ratios_carry_six_significant_digits() -> None:
    relative = rows(samples.quick())[0]["relative"]
    assert (relative["ratio"], relative["ci95"]) == (0.203075, [0.201857, 0.204293])
    assert relative["reference_spread"] == 0.0412346


def test_what_is_not_known_is_null() -> None:
    (row,) = rows(samples.no_reference())
    assert row["relative"] is None and row["drift_corrected_ns"] is None
    assert row["latency_ns"]["p90"] is None and row["cold_ns"]["build"] is None


def test_an_interval_that_nothing_can_be_said_about_is_null() -> None:
    lone = samples.summary(3.0)
    latency = dataclasses.replace(lone.latency, p50_ns=Interval(3e6, None, None))
    result = dataclasses.replace(samples.ok(), summary=dataclasses.replace(lone, latency=latency))
    assert rows(result)[0]["latency_ns"]["ci95"] is None


def test_an_error_without_bound_is_null_and_the_text_stays_json() -> None:
    result = dataclasses.replace(samples.ok(), parity=dataclasses.replace(samples.BROKEN, max_rel_error=math.inf))
    assert rows(result)[0]["parity"]["max_rel_error"] is None


def test_the_share_of_macs_is_known_only_where_all_or_nothing_is_placed() -> None:
    def placed(share: float | None) -> Any:
        one = dataclasses.replace(samples.samples().sets[0], ready=samples.ready(placement=share))
        kept = Samples((one,), StopReason.PRECISION)
        return rows(dataclasses.replace(samples.ok(), samples=kept))[0]["placement"]

    assert placed(1.0) == {"ops": 1.0, "macs": 1.0}
    assert placed(0.6) == {"ops": 0.6, "macs": None}
    assert placed(None) == {"ops": None, "macs": None}


def test_a_name_with_undecodable_bytes_and_a_path_in_the_environment_can_be_written() -> None:
    (row,) = rows(samples.result("m\udcff", environment={"cache": Path("/c")}))
    assert row["model"] == "m\\udcff" and row["environment"] == {"cache": "/c"}


def test_the_document_of_exports_has_the_fields_of_the_contract() -> None:
    spec = samples.ok().spec
    done = Exported(spec, "onnx", Path("out/m.onnx"), samples.artifact(spec, 1, 2), samples.MATCH)
    broke = Exported(spec, "onnx", failure=Failure("export", "no", "try that"))
    text = document.json_text(document.document_from_exports((done, broke)))
    first, second = json.loads(text)["artifacts"]
    fields = ["model", "format", "path", "bytes", "sha256", "outcome", "parity", "fixups", "seconds", "exporter"]
    fields += ["program", "lint"]
    assert list(first) == fields and first["path"] == "out/m.onnx" and first["seconds"] == 7.12346
    assert list(second) == [*fields[:6], "failure", *fields[6:]] and second["path"] is None


def test_what_a_file_consists_of_and_what_is_to_be_doubted_of_it_are_in_the_document() -> None:
    spec = samples.ok().spec
    program = ProgramFacts({"conv": 53, "relu": 49}, {"fp16": 102}, 25_530_000, 4_089_000_000)
    doubt = Doubt("gather", "1 of 102 operators", "use slices")
    artifact = dataclasses.replace(samples.artifact(spec, 1, 2), program=program, lint=(doubt,))
    text = document.json_text(document.document_from_exports((Exported(spec, "coreml", artifact=artifact),)))
    [row] = json.loads(text)["artifacts"]
    assert row["program"] == {
        "input": "tensor",
        "ops": {"conv": 53, "relu": 49},
        "dtypes": {"fp16": 102},
        "params": 25_530_000,
        "macs": 4_089_000_000,
    }
    assert row["lint"] == [{"code": "gather", "detail": "1 of 102 operators", "remedy": "use slices"}]


def test_the_document_of_devices_has_the_fields_of_the_contract() -> None:
    devices = [Device("local", "x86-cpu", "EPYC", "local", ("ort",)), Device("a100", "gpu", "A100", "ssh", ())]
    first, second = json.loads(document.json_text(document.document_from_devices(devices, {"local": True})))["devices"]
    assert list(first) == ["name", "kind", "chip", "transport", "backends", "reachable"]
    assert (first["reachable"], second["reachable"]) == (True, None)


def test_the_document_of_names() -> None:
    body = json.loads(document.json_text(document.document_from_names([("resnet50", "timm")])))
    assert body == {"schema_version": 1, "models": [{"model": "resnet50", "source": "timm"}]}


def test_the_golden_document() -> None:
    text = document.json_text(document.rows_from_results(samples.several(), with_samples=True))
    samples.check("several.json", text)
