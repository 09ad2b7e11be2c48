"""Stored runs with made-up ratios, for the tests of `gate` and `history`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.report import samples
from vitprof.report.document import dicts_from_results
from vitprof.store.results import open_store
from vitprof.store.runs import Origin, StoredRun

FACTS = {"cpu": "AMD EPYC 7B13", "cores": 2, "kernel": "6.1"}
HALF_SHARE = 0.002


def row(ratio: float = 3.0, model: str = "lowformer_b1", *, grade: str = "A", **changes: Any) -> dict[str, Any]:
    """A row of the JSON of `latency` with that ratio to the reference, ± 0.2 %, of a reference of 4 ms."""
    made = dicts_from_results([samples.ok()])[0]
    ns = round(ratio * 4e6)
    relative = {
        **made["relative"],
        "ratio": ratio,
        "ci95": [ratio * (1 - HALF_SHARE), ratio * (1 + HALF_SHARE)],
        "grade": grade,
    }
    latency = {**made["latency_ns"], "p50": ns, "ci95": [round(ns * 0.98), round(ns * 1.02)]}
    values = {"model": model, "relative": relative, "latency_ns": latency, "environment": {"before": FACTS}}
    return {**made, **values, **changes}


def failed(model: str = "lowformer_b1") -> dict[str, Any]:
    made = dicts_from_results([samples.failed()])[0]
    return {**made, "model": model, "environment": {"before": FACTS}}


def counted(value: int, model: str = "lowformer_b1", **changes: Any) -> dict[str, Any]:
    """A row of counted instructions."""
    part = {"value": value, "spread": 1e-6, "calls": 5, "counted_by": "qemu 7.2 as cortex-a72"}
    values = {"relative": None, "latency_ns": None, "region": "instructions", "device": "emulated-a72"}
    return {**row(model=model), **values, "instructions_per_inference": part, **changes}


def fill(
    store: Path | str,
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    command: str = "latency",
    origin: Origin = Origin.IMPORTED,
    samples: Mapping[str, Any] | None = None,
) -> None:
    """Runs under the given ids, a day apart in the order given, the first on the first of May, with their rows."""
    with open_store(store) as opened:
        day = len(opened.runs())
        for id, rows in runs.items():
            day += 1
            at = f"2026-05-{day:02}T12:00:00+00:00"
            stored = StoredRun(id, at, "0.1.0", command)
            dated = [{**one, "started_at": at} for one in rows]
            opened.add(stored, dated, origin, samples=[samples] * len(dated) if samples else None)


def gate_of(store: Path | str, run: str) -> str | None:
    """What the store keeps of a run's judgement."""
    with open_store(store) as opened:
        return opened.run(run).gate
