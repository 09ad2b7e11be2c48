"""Results as one flat CSV: one row a cell, always the same columns.

Its own file for the fixed header: a header taken from the first row breaks as soon as a later row knows more.
Values are those of the JSON document, so the two cannot differ; unknown is an empty cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from vitprof.records import Result
from vitprof.report.document import rows_from_results
from vitprof.report.outside import csv_cell
from vitprof.report.schema import ResultDocument

# (column, where its value stands in a JSON row). New columns go at the end: scripts may read by position.
COLUMNS = (
    ("model", "model"),
    ("source", "source"),
    ("height", "size.0"),
    ("width", "size.1"),
    ("batch", "batch"),
    ("precision", "precision"),
    ("device", "device"),
    ("backend", "backend"),
    ("backend_version", "backend_version"),
    ("threads", "threads"),
    ("region", "region"),
    ("clock", "clock"),
    ("outcome", "outcome"),
    ("failure_stage", "failure.stage"),
    ("failure_error", "failure.error"),
    ("failure_remedy", "failure.remedy"),
    ("latency_p50_ns", "latency_ns.p50"),
    ("latency_ci95_low_ns", "latency_ns.ci95.0"),
    ("latency_ci95_high_ns", "latency_ns.ci95.1"),
    ("latency_p90_ns", "latency_ns.p90"),
    ("latency_p99_ns", "latency_ns.p99"),
    ("latency_mean_ns", "latency_ns.mean"),
    ("latency_min_ns", "latency_ns.min"),
    ("latency_max_ns", "latency_ns.max"),
    ("grade", "grade"),
    ("samples", "latency_ns.samples"),
    ("sets", "latency_ns.sets"),
    ("rounds", "latency_ns.rounds"),
    ("warmup_samples", "latency_ns.warmup_samples"),
    ("outliers", "latency_ns.outliers"),
    ("stop_reason", "latency_ns.stop_reason"),
    ("reference", "relative.reference"),
    ("ratio", "relative.ratio"),
    ("ratio_ci95_low", "relative.ci95.0"),
    ("ratio_ci95_high", "relative.ci95.1"),
    ("reference_spread", "relative.reference_spread"),
    ("relative_grade", "relative.grade"),
    ("drift_corrected_ns", "drift_corrected_ns"),
    ("throughput_images_per_s", "throughput_images_per_s"),
    ("cold_load_ns", "cold_ns.load"),
    ("cold_build_ns", "cold_ns.build"),
    ("cold_first_call_ns", "cold_ns.first_call"),
    ("params", "cost.params"),
    ("macs", "cost.macs"),
    ("weight_bytes", "cost.weight_bytes"),
    ("activation_bytes", "cost.activation_bytes"),
    ("coverage", "cost.coverage"),
    ("achieved_macs_per_s", "achieved_macs_per_s"),
    ("peak_rss_bytes", "memory.peak_rss_bytes"),
    ("parity_verdict", "parity.verdict"),
    ("parity_max_rel_error", "parity.max_rel_error"),
    ("parity_cosine", "parity.cosine"),
    ("parity_top1_agreement", "parity.top1_agreement"),
    ("artifact_format", "artifact.format"),
    ("artifact_sha256", "artifact.sha256"),
    ("artifact_bytes", "artifact.bytes"),
    ("fixups", "artifact.fixups"),
    ("placement_ops", "placement.ops"),
    ("warnings", "warnings"),
    ("protocol_hash", "protocol_hash"),
    ("vitprof_version", "vitprof_version"),
    ("started_at", "started_at"),
    ("instructions_per_inference", "instructions_per_inference.value"),
    ("peak_rss_measuring_bytes", "memory.peak_rss_measuring_bytes"),
    ("peak_device_bytes", "memory.peak_device_bytes"),
    ("peak_device_nvml_bytes", "memory.peak_device_nvml_bytes"),
    ("energy_j_per_image", "energy_j_per_image"),
    ("energy_j_above_idle_per_image", "energy.j_above_idle_per_image"),
    ("power_w", "energy.power_w"),
    ("idle_power_w", "energy.idle_power_w"),
    ("energy_source", "energy.source"),
    ("as_built", "as_built"),
)


def csv_text(results: Sequence[Result]) -> str:
    """Header and one line a result, lines ended by `\\n`; failed cells are rows too."""
    return csv_text_from_document(rows_from_results(results, with_samples=False))


def csv_text_from_document(document: ResultDocument) -> str:
    """The same of rows that are a document already."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(name for name, _ in COLUMNS)
    for row in document.model_dump()["results"]:
        writer.writerow(csv_row(row))
    return file.getvalue()


def csv_row(row: Mapping[str, Any]) -> list[str | int | float]:
    """The cells of one row in the JSON of `latency`."""
    return [_cell(_found(row, path)) for _, path in COLUMNS]


def _found(row: Mapping[str, Any], path: str) -> Any:
    """The value at `path`, `None` where any step of it is unknown."""
    value: Any = row
    for step in path.split("."):
        if value is None:
            return None
        value = value[int(step)] if step.isdigit() else value.get(step)
    return value


def _cell(value: Any) -> str | int | float:
    if isinstance(value, tuple | list):
        value = "; ".join(one["code"] if isinstance(one, dict) else one for one in value)
    # As JSON has it.
    return str(value).lower() if isinstance(value, bool) else csv_cell(value)
