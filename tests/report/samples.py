"""Results made by hand, with figures that a reader can check: no clock, no machine, no model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vitprof.measurements import (
    Doubt,
    Grade,
    Interval,
    Latency,
    Protocol,
    Relative,
    Round,
    Samples,
    SetSamples,
    StopReason,
    Summary,
)
from vitprof.records import Artifact, Cost, ModelSpec, Parity, ParityVerdict, Result, Source
from vitprof.runner.wire import Block, Failure, Ready

GOLDEN = Path(__file__).parent / "golden"
HOSTILE_NAME = "a|b<script>[red]=cmd"
PROTOCOL = Protocol(effort="standard", sets=2, precision_goal_share=0.01, cap_s_per_cell=20.0, reference="cpu-ref-1")
QUEUED = Doubt("disturbed", "3 of 12 blocks waited for a core", "close other programs, or run on an idle machine")
MATCH = Parity(ParityVerdict.MATCH, "device", 1.2e-6, 0.99999999, 1.0)
BROKEN = Parity(ParityVerdict.BROKEN, "device", 0.83, 0.1234, 0.25)


def check(name: str, text: str) -> None:
    """Compare with the golden file; `VITPROF_REGEN_GOLDEN=1` writes it anew, to be reviewed as text."""
    file = GOLDEN / name
    # Any new field of the protocol changes its hash, and no golden file is about that.
    text = text.replace(PROTOCOL.hash, "0123456789ab")
    if os.environ.get("VITPROF_REGEN_GOLDEN") == "1":
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def ready(calls_per_sample: int = 1, placement: float | None = 1.0) -> Ready:
    return Ready(
        load_ns=210_000_000,
        build_ns=None,
        first_call_ns=25_400_000,
        clock="host",
        clock_step_ns=40,
        clock_cost_ns=45,
        loop_overhead_ns=60,
        calls_per_sample=calls_per_sample,
        backend_version="1.31.1",
        placement_ops_share=placement,
        environment={"cpu": "AMD EPYC 7B13"},
    )


def samples(stop: StopReason = StopReason.PRECISION, calls_per_sample: int = 1) -> Samples:
    """Two sets, each of one warm-up round and one counted round."""
    sets = tuple(
        SetSamples(
            ready(calls_per_sample),
            (
                Round(Block(0, 10, (30 + base,), (20 + base,)), 5.0, 5.0, is_warm_up=True),
                Round(Block(1, 90, (15 + base,), (11 + base, 12 + base)), 5.0, 5.0, is_warm_up=False),
            ),
            is_warm=True,
        )
        for base in (0, 100)
    )
    return Samples(sets, stop)


def artifact(spec: ModelSpec, macs: int | None, params: int, fixups: tuple[str, ...] = ()) -> Artifact:
    return Artifact(
        folder=Path("/cache/ab"),
        file="model.onnx",
        format="onnx",
        sha256="ab" * 32,
        bytes=4 * params + 10_000,
        spec=spec,
        input_name="input",
        input_shape=(1, 3, 224, 224),
        input_dtype="float32",
        input_count=4,
        inputs="inputs.bin",
        expected="expected.bin",
        expected_outputs=(("float32", (1, 1000)),),
        expected_missing=None,
        opset=18,
        exporter="torch.onnx dynamo",
        versions={"torch": "2.10.0"},
        fixups=fixups,
        cost=Cost(params, macs, 4 * params, 43_100_000, 312, {}, 1.0),
        seconds=7.123456789,
    )


def summary(
    p50_ms: float, macs: int | None = None, *, n: int = 1_234, has_reference: bool = True, **changes: Any
) -> Summary:
    """A summary whose interval is ±1 % of the median and whose ratio is to a reference of 4 ms."""
    p50 = p50_ms * 1e6
    latency = Latency(
        p50_ns=Interval(p50, p50 * 0.99, p50 * 1.01),
        p90_ns=p50 * 1.1 if n >= 100 else None,
        p99_ns=p50 * 1.3 if n >= 1_000 else None,
        mean_ns=p50 * 1.02,
        min_ns=p50 * 0.9,
        max_ns=p50 * 2,
        samples=n,
        sets=2,
        rounds=12,
        warm_up_samples=48,
        outliers=7,
    )
    ratio = p50_ms / 4
    relative = Relative("cpu-ref-1", Interval(ratio, ratio * 0.994, ratio * 1.006), 0.0412345678, 4e6, Grade.A)
    values: dict[str, Any] = {
        "version": 1,
        "latency": latency,
        "relative": relative if has_reference else None,
        "drift_corrected_ns": None,
        "cold_load_ns": 210_000_000,
        "cold_build_ns": None,
        "cold_first_call_ns": 25_400_000,
        "throughput_images_per_s": 1e3 / p50_ms,
        "achieved_macs_per_s": macs / p50_ms * 1e3 if macs else None,
        "peak_rss_bytes": 212_000_000,
        "grade": Grade.A,
        "warnings": (),
    }
    return Summary(**{**values, **changes})


def result(name: str, **changes: Any) -> Result:
    spec = changes.pop("spec", ModelSpec(name, Source.TIMM))
    values: dict[str, Any] = {
        "spec": spec,
        "device": "local",
        "backend": "ort",
        "threads": 1,
        "protocol": PROTOCOL,
        "started_at": "2026-05-09T12:00:00Z",
        "vitprof_version": "0.1.0",
        "backend_version": "1.31.1",
        "environment": {"cpu": "AMD EPYC 7B13", "cores": 2},
    }
    return Result(**{**values, **changes})


def measured(name: str, p50_ms: float, macs: int, params: int, **changes: Any) -> Result:
    spec = ModelSpec(name, Source.TIMM)
    values: dict[str, Any] = {
        "artifact": artifact(spec, macs, params, changes.pop("fixups", ())),
        "samples": samples(),
        "summary": summary(p50_ms, macs),
        "parity": MATCH,
    }
    return result(name, **{**values, **changes})


def ok() -> Result:
    return measured(
        "lowformer_b1", 12.34, 1_410_000_000, 17_940_000, fixups=("drew 12 zero norm weights anew", "fused 4 blocks")
    )


def quick() -> Result:
    return measured("mobilenetv3_small_100", 0.8123, 56_540_000, 2_540_000)


def warned() -> Result:
    two_speeds = Doubt("two-speed-machine", "71% of the time in the slow mode", "trust the ratio, not the time")
    changed = summary(4.321, 1_080_000_000, n=412, grade=Grade.C, warnings=(QUEUED, two_speeds))
    return measured("vit_tiny_patch16_224", 4.321, 1_080_000_000, 5_717_000, summary=changed)


def broken() -> Result:
    return measured("efficientformer_l1", 9.876, 1_300_000_000, 12_290_000, parity=BROKEN)


def no_reference() -> Result:
    lone = summary(45.67, 4_500_000_000, n=57, has_reference=False, grade=Grade.B, warnings=(QUEUED,))
    return measured(
        "swin_tiny_patch4_window7_224", 45.67, 4_500_000_000, 28_290_000, summary=lone, samples=samples(StopReason.CAP)
    )


def failed() -> Result:
    failure = Failure(
        "export", "no ONNX operator for aten::fft_rfft2", "write --precision fp32, or choose another model"
    )
    return result("gfnet_h_ti", failure=failure, backend_version=None)


def partial() -> Result:
    """The runner died after some rounds: a summary of what it had sent, and a failure."""
    failure = Failure("run", "the runner was killed (signal 9)", "free memory, then run again")
    return measured(
        "resnet50",
        61.0,
        4_110_000_000,
        25_560_000,
        summary=summary(61.0, 4_110_000_000, n=41),
        samples=samples(StopReason.FAILED),
        failure=failure,
        parity=None,
    )


def several() -> list[Result]:
    return [quick(), warned(), ok(), broken(), no_reference(), failed(), partial()]


def hostile() -> Result:
    error = "\x1b[31mboom\x1b[0m [bold]x[/bold]\x07\x1b]0;title\x07 |`*_<b>\nsecond\u202e line"
    return result(HOSTILE_NAME, failure=Failure("load", error, "type [this]"))
