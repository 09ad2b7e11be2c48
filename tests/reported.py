"""Rows as the store keeps them, of two runs of one machine, with figures that a reader can check."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitprof.store.results import open_store
from vitprof.store.runs import StoredRun

BEFORE = StoredRun("20260110T080000Z-aaaaaaaa", "2026-01-10T08:00:00+00:00", "0.1.0", "latency")
NOW = StoredRun("20260111T080000Z-bbbbbbbb", "2026-01-11T08:00:00+00:00", "0.2.0", "latency")
PROTOCOL = "c2ba39e6b420"
# (name, millions of MACs, milliseconds before, milliseconds now)
_MODELS = (
    ("light_b0", 400, 4.0, 4.0),
    ("ghostnetv2_100", 180, 12.0, 12.6),
    ("mid_m", 1_000, 10.0, 13.0),
    ("heavy_l", 2_000, 6.0, 5.4),
    ("giant", 8_000, 40.0, 40.4),
)
HOSTILE = "<script>alert('$x_1$')</script>|`a_b`\x1b[31m\n# heading ~~[x](javascript:y)"


def row(model: str, mmacs: float, ms: float, half: float = 0.004, **changes: Any) -> dict[str, Any]:
    """A sound result: twice as many milliseconds as ratio; `half`: half of the ratio's interval, as a share."""
    ratio, macs, batch = ms / 2, int(mmacs * 1e6), changes.get("batch", 1)
    values: dict[str, Any] = {
        **{"model": model, "source": "timm", "size": [224, 224], "batch": 1, "precision": "fp32"},
        **{"device": "local", "backend": "ort", "backend_version": "1.30.0", "threads": 1, "region": "call"},
        **{"clock": "host", "outcome": "ok"},
        "latency_ns": {
            **{"p50": round(ms * 1e6), "p90": None, "p99": None, "mean": round(ms * 1e6), "min": round(ms * 0.9e6)},
            **{"max": round(ms * 2e6), "ci95": [round(ms * 0.95e6), round(ms * 1.05e6)], "samples": 300, "sets": 5},
            **{"rounds": 60, "warmup_samples": 50, "outliers": 3, "stop_reason": "precision", "device_p50": None},
        },
        "relative": {
            **{"reference": "cpu-ref-1", "ratio": ratio, "ci95": [ratio * (1 - half), ratio * (1 + half)]},
            **{"reference_spread": 0.03, "grade": "A"},
        },
        **{"drift_corrected_ns": None, "throughput_images_per_s": batch * 1e3 / ms},
        "cold_ns": {"load": 30_000_000, "build": None, "first_call": 9_000_000},
        "cost": {
            **{"params": macs // 200, "macs": macs, "weight_bytes": macs // 50, "activation_bytes": macs // 40},
            **{"activations": None, "ops": 90, "uncounted_ops": {}, "coverage": 1.0, "is_lower_bound": False},
            "kinds": {
                "conv": {
                    "calls": 10,
                    "macs": macs,
                    "bytes_in": macs // 20,
                    "bytes_out": macs // 40,
                    "weight_bytes": 1000,
                }
            },
        },
        **{"achieved_macs_per_s": batch * macs / (ms / 1e3), "utilisation": None, "bound": None, "roofline_ns": None},
        "memory": {"peak_rss_bytes": 120_000_000, "peak_device_bytes": None},
        **{"energy_j_per_image": None, "launch_share": None, "instructions_per_inference": None},
        "parity": {
            **{"verdict": "match", "where": "device", "max_rel_error": 1e-6, "cosine": 1.0, "top1_agreement": 1.0},
            "reason": None,
        },
        "artifact": {"format": "onnx", "sha256": "ab" * 32, "bytes": 9_000, "fixups": [], "exporter": "torch"},
        **{"placement": {"ops": 1.0, "macs": 1.0}, "grade": "B", "warnings": [], "protocol_hash": PROTOCOL},
        "environment": {
            "before": {"machine": "x86_64", "kernel": "6.1", "cpu": "Some CPU", "cores": 2, "load_1min": 0.1}
        },
        **{"vitprof_version": "0.1.0", "started_at": BEFORE.started_at},
    }
    return {**values, **changes}


def failed(model: str, error: str = "Conv: unsupported", **changes: Any) -> dict[str, Any]:
    """A cell that could not be measured."""
    nothing = ("latency_ns", "relative", "throughput_images_per_s", "cold_ns", "achieved_macs_per_s", "memory")
    told = {"stage": "export", "error": error, "remedy": "vitprof export MODEL --exporter dynamo"}
    row_ = {**row(model, 100, 1.0), **dict.fromkeys((*nothing, "parity", "placement", "grade", "cost", "artifact"))}
    return {**row_, "outcome": "failed", "failure": told, **changes}


def broken(model: str, mmacs: float, ms: float, **changes: Any) -> dict[str, Any]:
    """A cell whose artifact gives other outputs than the model."""
    parity = {"verdict": "broken", "where": "device", "max_rel_error": 0.5, "cosine": 0.7, "top1_agreement": 0.25}
    return {**row(model, mmacs, ms), "parity": {**parity, "reason": None}, **changes}


def before_rows() -> list[dict[str, Any]]:
    """Five models on two backends; one that fails, one that will, and one that is not measured again."""
    return [
        *(row(name, mmacs, before) for name, mmacs, before, _ in _MODELS),
        *(row(name, mmacs, before * 0.8, backend="openvino") for name, mmacs, before, _ in _MODELS[:3]),
        *(failed("mends_s"), row("breaks_s", 300, 3.0), row("leaves_s", 500, 5.0), failed("fails_s")),
        row("wide_s", 600, 6.0),
    ]


def now_rows() -> list[dict[str, Any]]:
    """The same a day later, on another kernel and with another ONNX Runtime."""
    then = {"vitprof_version": "0.2.0", "started_at": NOW.started_at}
    machine = {"environment": {"before": {**row("", 1, 1.0)["environment"]["before"], "kernel": "6.8"}}}
    on_ort = {**then, **machine, "backend_version": "1.31.1"}
    warning = {"code": "busy machine", "detail": "load 7.01 on 2 cores", "remedy": "close other programs"}
    return [
        *(row(name, mmacs, now, **on_ort) for name, mmacs, _, now in _MODELS),
        *(row(name, mmacs, ms * 0.8, backend="openvino", **then, **machine) for name, mmacs, ms, _ in _MODELS[:3]),
        *(row("mends_s", 350, 3.5, **on_ort), broken("breaks_s", 300, 1.5, **on_ort), failed("fails_s", **on_ort)),
        row("wide_s", 600, 6.2, half=0.05, warnings=[warning], placement={"ops": 0.9, "macs": 0.95}, **on_ort),
        *(row("new_s", 700, 7.0, **on_ort), row("throughput_s", 800, 64.0, batch=8, **on_ort)),
    ]


def store_of(file: Path, now: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]] = ()) -> Path:
    """A results store of the two runs, as `Store.add` makes it."""
    with open_store(file) as store:
        for run, rows in ((BEFORE, before), (NOW, now)):
            if rows:
                store.add(run, [copy.deepcopy(one) for one in rows])
    return file


def many(count: int, seed: int = 0) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(before, now): so many cells of up to 1,250 models, on ten backends and devices; a twentieth is slower."""
    drawn = random.Random(seed)
    before, now = [], []
    for index in range(count):
        model, where = index % 1250, index // 1250
        mmacs = 50 * 1.005**model
        ms = mmacs / 80 * drawn.lognormvariate(0, 0.5)
        cell = {"device": f"device{where // 2}", "backend": ("ort", "openvino")[where % 2]}
        name = f"family{model % 97}_m{model}"
        before.append(row(name, mmacs, ms, **cell))
        slower = 1.1 if drawn.random() < 0.05 else drawn.lognormvariate(0, 0.003)
        now.append(row(name, mmacs, ms * slower, **cell, vitprof_version="0.2.0", started_at=NOW.started_at))
    return before, now
