"""Reports made by hand for the HTML page: every part of one filled, with figures drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from vitprof.analysis.changes import Pair, cell_of, changes, environment_changes, placement_changes, worst_first
from vitprof.analysis.disagreement import disagreement, measured_groups
from vitprof.comparisons import FrontPoint, Point
from vitprof.measurements import Interval
from vitprof.points import point_from_row
from vitprof.report.schema import ResultRow
from vitprof.reports import FrontReport, GroupReport, ProtocolFacts, Report, ReportRow, RunFacts, Trouble, Versions

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028{{7*7}}\u202egpj"
BEFORE, NOW = "20260501T080000Z-aa", "20260509T120000Z-bb"
PROTOCOL = "0123456789ab"
_FAMILIES = (
    "efficientnet",
    "resnet",
    "vit",
    "lowformer",
    "mobilenetv3",
    "convnext",
    "regnet",
    "swin",
    "ghostnet",
    "levit",
)
_DEVICES = (("local", 1.0), ("rpi5", 9.0), ("galaxy-s24", 3.0))
_BACKENDS = (("ort", 1.0), ("openvino", 0.8))
_DOUBT = {"code": "disturbed", "detail": "3 of 12 blocks waited for a core", "remedy": "close other programs"}
_REMEDY = "choose another model, or another backend with --backend"


def document(model: str, device: str, backend: str, batch: int, **changes: Any) -> dict[str, Any]:
    """A sound row in the JSON of `latency`; `ratio` sets its time, `spread` half of the ratio's interval."""
    ratio, spread = changes.pop("ratio", 2.0), changes.pop("spread", 0.004)
    macs, params = changes.pop("macs", 1_000_000_000), changes.pop("params", 5_000_000)
    p50 = round(ratio * 4e6)
    values: dict[str, Any] = {
        **{"model": model, "source": "timm", "size": (224, 224), "batch": batch, "precision": "fp32"},
        **{"device": device, "backend": backend, "backend_version": "1.31.1", "threads": 1},
        **{"region": "call", "clock": "host", "outcome": "ok"},
        "latency_ns": {
            **{"p50": p50, "p90": round(p50 * 1.1), "p99": None, "mean": p50, "min": p50, "max": p50 * 2},
            **{"ci95": (round(p50 * 0.99), round(p50 * 1.01)), "samples": 512, "sets": 5, "rounds": 40},
            **{"warmup_samples": 40, "outliers": 3, "stop_reason": "precision"},
        },
        "relative": {
            **{"reference": "cpu-ref-1", "ratio": ratio, "ci95": (ratio * (1 - spread), ratio * (1 + spread))},
            **{"reference_spread": 0.03, "grade": "A" if spread < 0.01 else "B"},
        },
        **{"drift_corrected_ns": None, "throughput_images_per_s": batch * 1e9 / p50},
        "cold_ns": {"load": 210_000_000, "build": None, "first_call": 2 * p50},
        "cost": {
            **{"params": params, "macs": macs, "weight_bytes": 4 * params, "activation_bytes": macs // 30, "ops": 300},
            "kinds": {
                "conv": {"calls": 20, "macs": macs, "bytes_in": macs // 40, "bytes_out": macs // 60, "weight_bytes": 9},
                "norm": {"calls": 40, "macs": 0, "bytes_in": macs // 90, "bytes_out": macs // 90, "weight_bytes": 0},
            },
            **{"uncounted_ops": {}, "coverage": 1.0},
        },
        **{"achieved_macs_per_s": macs * batch / p50 * 1e9, "utilisation": min(0.9, macs * batch / p50 / 900)},
        **{"bound": "compute", "roofline_ns": round(p50 / 3)},
        "memory": {"peak_rss_bytes": 150_000_000 + 6 * params, "peak_device_bytes": None},
        "energy_j_per_image": p50 / batch * 12e-9,
        "parity": {
            **{"verdict": "match", "where": "device", "max_rel_error": 1.2e-6, "cosine": 1.0, "top1_agreement": 1.0},
            "reason": None,
        },
        "artifact": {
            **{"format": "onnx", "sha256": "ab" * 32, "bytes": 4 * params, "fixups": ("fused 4 blocks",)},
            "exporter": "torch.onnx",
        },
        **{"placement": {"ops": 1.0, "macs": 1.0}, "grade": "A" if spread < 0.01 else "B", "warnings": ()},
        **{"protocol_hash": PROTOCOL, "environment": {"before": {"cpu": "Made-up 9000", "kernel": "6.8"}}},
        **{"vitprof_version": "0.1.0", "started_at": "2026-05-09T12:00:00+00:00"},
    }
    return ResultRow(**{**values, **changes}).model_dump(mode="json", exclude={"samples_ns", "warm_up_samples_ns"})


def failed(row: dict[str, Any], error: str) -> dict[str, Any]:
    """The same cell, of which nothing was measured."""
    lost = (
        "latency_ns relative throughput_images_per_s cold_ns achieved_macs_per_s utilisation bound roofline_ns memory"
    )
    nothing = dict.fromkeys([*lost.split(), "energy_j_per_image", "parity", "grade"])
    failure = {"stage": "export", "error": error, "remedy": _REMEDY}
    return {**row, **nothing, "outcome": "failed", "failure": failure}


def broken(row: dict[str, Any]) -> dict[str, Any]:
    """The same cell with outputs that are not the model's."""
    return {**row, "parity": {**row["parity"], "verdict": "broken", "max_rel_error": 0.83, "top1_agreement": 0.2}}


def report(rows: int = 300, seed: int = 7, *, hostile: bool = True) -> Report:
    """A run of about `rows` cells on three devices and two backends, and one before it."""
    now = list(_documents(rows, random.Random(seed)))
    if hostile:
        now[3] = {**now[3], "model": HOSTILE}
        now[4] = failed(now[4], f"boom {HOSTILE}")
    pairs = [Pair(row, _earlier(at, row), BEFORE if at % 25 else None) for at, row in enumerate(now)]
    gone = document("gone_net", "local", "ort", 1)
    return of_pairs([*pairs, Pair(None, gone, BEFORE)])


def of_pairs(pairs: Sequence[Pair]) -> Report:
    """The report of rows and of those before them, put together as `vitprof report` does."""
    found = changes(pairs)
    present = [(pair.now, change) for pair, change in zip(pairs, found, strict=True) if pair.now]
    rows = sorted(
        (ReportRow(cell_of(row), row, NOW, "measured", change) for row, change in present), key=lambda row: row.cell
    )
    points = [one for row in rows if isinstance(one := point_from_row(row.document), Point)]
    failures = [row for row in rows if row.document["outcome"] != "ok"]
    warned = [row for row in rows if row.document["warnings"]]
    return Report(
        NOW,
        runs=(RunFacts(NOW, "2026-05-09T12:00:00+00:00", "vitprof sweep plan.toml", "0.1.0", len(rows)),),
        baseline_runs=(RunFacts(BEFORE, "2026-05-01T08:00:00+00:00", "vitprof sweep plan.toml", "0.1.0", len(rows)),),
        rows=tuple(rows),
        changes=worst_first(found),
        band_share=0.02,
        groups=tuple(
            GroupReport(disagreement(group), 1, PROTOCOL, group.points[0].reference)
            for group in measured_groups(points)
        ),
        fronts=(_front(points),),
        accuracies={(one.model, (224, 224)): one.accuracy for one in _front(points).points},
        placements=placement_changes(pairs),
        environment=environment_changes(pairs),
        failures=tuple(
            Trouble("failed at export", (row.cell,), (row.document["failure"]["error"],), _REMEDY) for row in failures
        ),
        broken=tuple(
            Trouble("outputs are not the model's", (row.cell,), ("max relative error 0.83",), "")
            for row in rows
            if row.is_broken
        ),
        warnings=(Trouble(_DOUBT["code"], tuple(row.cell for row in warned), (_DOUBT["detail"],), _DOUBT["remedy"]),)
        if warned
        else (),
        protocols=(ProtocolFacts(PROTOCOL, "call", ("cpu-ref-1",), len(rows), "standard", 5),),
        versions=(Versions("local", "ort", ("1.31.1",)), Versions("local", "openvino", ("2026.1",))),
        vitprof_versions=("0.1.0",),
        left_out=tuple(f"{row.cell.model} on {row.cell.device}: failed" for row in failures),
    )


def _documents(rows: int, draw: random.Random) -> Iterator[dict[str, Any]]:
    places = [(*device, *backend, batch) for device in _DEVICES for backend in _BACKENDS for batch in (1, 8)]
    models = -(-rows // len(places))
    for at in range(models):
        family = _FAMILIES[at % len(_FAMILIES)]
        name = f"{family}_{'bsmlx'[at // len(_FAMILIES) % 5]}{at // len(_FAMILIES)}"
        macs = round(10 ** draw.uniform(7.7, 10.2))
        # What a MAC takes here differs by family: that is what the report is about.
        pace = 0.4 + 1.9 * draw.random()
        for device, slow, backend, quick, batch in places:
            ratio = macs / 2e9 * pace * slow * quick * batch**0.9 * draw.uniform(0.9, 1.1)
            row = document(
                *(name, device, backend, batch),
                ratio=round(ratio, 6),
                macs=macs,
                params=macs // 200,
                spread=0.03 if draw.random() < 0.06 else draw.uniform(0.002, 0.006),
            )
            chance = draw.random()
            if chance < 0.02:
                row = failed(row, "no ONNX operator for aten::fft_rfft2")
            elif chance < 0.03:
                row = broken(row)
            elif chance < 0.12:
                row = {**row, "grade": "C", "warnings": [_DOUBT]}
            yield row


def _earlier(at: int, row: dict[str, Any]) -> dict[str, Any] | None:
    """The row as it was: most as fast, some faster or slower, some sound; every 25th was not measured."""
    if at % 25 == 0:
        return None
    ratio = (row["relative"] or {"ratio": 2.0})["ratio"]
    was = ratio / {11: 1.09, 12: 0.9, 13: 1.018}.get(at % 40, 1.002)
    key = (row[name] for name in ("model", "device", "backend", "batch"))
    before = document(*key, ratio=was, environment={"before": {"cpu": "Made-up 9000", "kernel": "6.1"}})
    return {**before, "placement": {"ops": 0.9, "macs": 0.9}} if at % 60 == 1 else before


def _front(points: Sequence[Point]) -> FrontReport:
    models = dict.fromkeys(point.model for point in points)
    accuracies = (
        FrontPoint(model, (224, 224), 60 + at * 0.73 % 25, Interval(1e6, 9e5, 1.1e6), True)
        for at, model in enumerate(models)
    )
    return FrontReport("accuracy", "local, ort, fp32, batch 1", tuple(accuracies))
