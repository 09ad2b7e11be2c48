"""Records to the JSON documents of `schema`.

Its own file because this is where rounding is decided: times and sizes become whole numbers, derived floats keep six
significant digits, more than any measurement here has, and parity figures are not rounded at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from vitprof.counts import Cost, Kind, OpRow, kind_sums
from vitprof.measurements import Doubt, Interval, Latency, Relative, Round, Summary
from vitprof.records import Artifact, Calibration, Device, Exported, Parity, Peak, Peaks, ProgramFacts, Result
from vitprof.report.cell import failure_of, placement_ops_share, ready_of, size_of
from vitprof.report.outside import encodable
from vitprof.report.schema import (
    ArtifactDocument,
    ArtifactPart,
    ArtifactRow,
    CalibrationDocument,
    CalibrationRow,
    ColdPart,
    CostPart,
    DeviceDocument,
    DeviceRow,
    FailurePart,
    KindPart,
    LatencyPart,
    LaunchPart,
    ModelDocument,
    ModelRow,
    ParityPart,
    Part,
    PeakPart,
    PeaksPart,
    PlacementPart,
    ProgramPart,
    RelativePart,
    ResultDocument,
    ResultRow,
    WarningPart,
)
from vitprof.report.usage import energy_part, instructions_part, memory_part
from vitprof.runner.wire import Failure
from vitprof.units import six_digits

__all__ = [
    "ArtifactDocument",
    "DeviceDocument",
    "ModelDocument",
    "ResultDocument",
    "ResultRow",
    "dicts_from_results",
    "document_from_devices",
    "document_from_names",
    "json_text",
    "rows_from_results",
]

Value = TypeVar("Value")
Shown = TypeVar("Shown")


def json_text(document: Part) -> str:
    """The document as text: two spaces a level, one newline at the end, the same for the same document."""
    return document.model_dump_json(indent=2, fallback=str) + "\n"


def rows_from_results(results: Sequence[Result], *, with_samples: bool) -> ResultDocument:
    """The document of `latency`, one row a result in the order given."""
    return ResultDocument(results=tuple(_row(result, with_samples) for result in results))


def dicts_from_results(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The rows of that document as plain values, without samples: what the results store keeps."""
    document = rows_from_results(results, with_samples=False)
    return [json.loads(row.model_dump_json(fallback=str)) for row in document.results]


def document_from_exports(exports: Sequence[Exported]) -> ArtifactDocument:
    """The document of `export`; `path` is where the user finds the file, not its place in the cache."""
    return ArtifactDocument(artifacts=tuple(_export_row(one) for one in exports))


def _export_row(one: Exported) -> ArtifactRow:
    artifact = one.artifact
    model = encodable(one.spec.name)
    if artifact is None or one.failure is not None:
        failure = one.failure or Failure("export", "nothing was written", "run the same command again")
        return ArtifactRow(
            model=model,
            format=one.format,
            path=None,
            bytes=None,
            sha256=None,
            outcome="failed",
            failure=_failure(failure),
            parity=None,
            exporter=None,
            fixups=(),
            seconds=None,
        )
    return ArtifactRow(
        model=model,
        format=one.format,
        path=None if one.path is None else encodable(str(one.path)),
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        outcome="ok",
        parity=_given(one.parity, _parity),
        exporter=encodable(artifact.exporter),
        fixups=_texts(artifact.fixups),
        seconds=_rounded(artifact.seconds),
        program=_given(artifact.program, _program),
        lint=tuple(map(_warning, artifact.lint)),
    )


def _program(program: ProgramFacts) -> ProgramPart:
    return ProgramPart(
        input="image" if program.takes_image else "tensor",
        ops=program.ops,
        dtypes=program.dtypes,
        params=program.params,
        macs=program.macs,
    )


def document_from_devices(devices: Sequence[Device], reachable: Mapping[str, bool | None]) -> DeviceDocument:
    """The document of `devices list`; a device that was not asked, since only connecting can tell, has `null`."""
    return DeviceDocument(
        devices=tuple(
            DeviceRow(
                name=encodable(device.name),
                kind=device.kind,
                chip=encodable(device.chip),
                transport=device.transport,
                backends=device.backends,
                reachable=reachable.get(device.name),
            )
            for device in devices
        )
    )


def document_from_calibrations(calibrations: Sequence[Calibration]) -> CalibrationDocument:
    """The document of `devices calibrate`, one row a backend."""
    return CalibrationDocument(
        calibrations=tuple(
            CalibrationRow(
                device=encodable(one.device),
                backend=one.backend,
                precision=one.precision.value,
                threads=one.threads,
                outcome="failed" if one.failure else "ok",
                failure=_given(one.failure, _failure),
                peaks=_given(one.peaks, _peaks),
                grade=one.grade.value if one.grade else None,
                warnings=tuple(map(_warning, one.warnings)),
            )
            for one in calibrations
        )
    )


def _peaks(peaks: Peaks) -> PeaksPart:
    launch_ns = peaks.launch_ns
    return PeaksPart(
        macs_per_s=_peak(peaks.macs_per_s),
        bytes_per_s=_peak(peaks.bytes_per_s),
        launch_ns=LaunchPart(
            value=round(launch_ns.value),
            ci95=_borders(Interval(launch_ns.value, launch_ns.low, launch_ns.high), round),
            source=encodable(launch_ns.source),
        )
        if launch_ns
        else None,
    )


def _peak(peak: Peak) -> PeakPart:
    ci95 = _borders(Interval(peak.value, peak.low, peak.high), six_digits)
    return PeakPart(value=six_digits(peak.value), ci95=ci95, source=encodable(peak.source))


def document_from_names(names: Sequence[tuple[str, str]]) -> ModelDocument:
    """The document of `models` from (name, source) pairs."""
    return ModelDocument(models=tuple(ModelRow(model=encodable(name), source=source) for name, source in names))


def _row(result: Result, with_samples: bool) -> ResultRow:
    failure = failure_of(result)
    ready = ready_of(result)
    artifact = result.artifact
    return ResultRow(
        model=encodable(result.spec.name),
        source=result.spec.source.value,
        as_built=result.spec.is_as_built,
        size=size_of(result),
        batch=result.spec.batch,
        precision=result.spec.precision.value,
        device=encodable(result.device),
        backend=result.backend,
        backend_version=result.backend_version,
        threads=result.threads,
        region=result.protocol.region,
        clock=ready.clock if ready else None,
        outcome="failed" if failure else "ok",
        failure=_given(failure, _failure),
        **_measurements(result),
        instructions_per_inference=_given(result.instructions, instructions_part),
        utilisation=_rounded(result.utilisation),
        bound=result.roofline.bound if result.roofline else None,
        roofline_ns=round(result.roofline.total_ns) if result.roofline else None,
        cost=_cost(artifact.cost) if artifact else None,
        parity=_given(result.parity, _parity),
        artifact=_given(artifact, _artifact),
        placement=_placement(placement_ops_share(result), result.placement_macs_share) if ready else None,
        grade=result.summary.grade.value if result.summary and not failure else None,
        protocol_hash=result.protocol.hash,
        environment=result.environment,
        vitprof_version=result.vitprof_version,
        started_at=result.started_at,
        **(_samples(result) if with_samples else {}),
    )


def _measurements(result: Result) -> dict[str, Any]:
    """What the summary knows, by field; all `None` without one."""
    summary = result.summary
    if summary is None:
        names = "latency_ns relative drift_corrected_ns throughput_images_per_s cold_ns achieved_macs_per_s memory"
        return {**dict.fromkeys(names.split()), "warnings": ()}
    return {
        "latency_ns": _latency(
            summary.latency, result.samples.stop_reason.value if result.samples else None, summary.device_p50_ns
        ),
        "relative": _given(summary.relative, _relative),
        "drift_corrected_ns": _whole(summary.drift_corrected_ns),
        "throughput_images_per_s": _rounded(summary.throughput_images_per_s),
        "cold_ns": _cold(summary),
        "achieved_macs_per_s": _rounded(summary.achieved_macs_per_s),
        "memory": memory_part(summary),
        "energy_j_per_image": _rounded(summary.energy.j_per_image) if summary.energy else None,
        "energy": _given(summary.energy, energy_part),
        "launch_share": _rounded(summary.launch_share),
        "warnings": tuple(map(_warning, summary.warnings)),
    }


def _warning(doubt: Doubt) -> WarningPart:
    return WarningPart(code=doubt.code, detail=encodable(doubt.detail), remedy=encodable(doubt.remedy))


def _latency(latency: Latency, stop_reason: str | None, device_p50_ns: float | None) -> LatencyPart:
    interval = latency.p50_ns
    return LatencyPart(
        p50=round(interval.value),
        p90=_whole(latency.p90_ns),
        p99=_whole(latency.p99_ns),
        mean=round(latency.mean_ns),
        min=round(latency.min_ns),
        max=round(latency.max_ns),
        ci95=_borders(interval, round),
        samples=latency.samples,
        sets=latency.sets,
        rounds=latency.rounds,
        warmup_samples=latency.warm_up_samples,
        outliers=latency.outliers,
        stop_reason=stop_reason,
        device_p50=_whole(device_p50_ns),
    )


def _relative(relative: Relative) -> RelativePart:
    return RelativePart(
        reference=relative.reference,
        ratio=six_digits(relative.ratio.value),
        ci95=_borders(relative.ratio, six_digits),
        reference_spread=_rounded(relative.reference_spread),
        grade=relative.grade.value,
    )


def _cold(summary: Summary) -> ColdPart:
    return ColdPart(load=summary.cold_load_ns, build=summary.cold_build_ns, first_call=summary.cold_first_call_ns)


def _cost(cost: Cost) -> CostPart:
    return CostPart(
        params=cost.params,
        macs=cost.macs,
        weight_bytes=cost.weight_bytes,
        activation_bytes=cost.activation_bytes,
        ops=cost.ops,
        kinds=_kinds(cost.rows) if cost.rows else None,
        uncounted_ops=dict(cost.uncounted_ops),
        coverage=cost.coverage,
        is_lower_bound=cost.is_lower_bound,
    )


def _kinds(rows: Sequence[OpRow]) -> dict[Kind, KindPart]:
    return {
        one.kind: KindPart(
            calls=one.calls,
            macs=one.macs,
            bytes_in=one.bytes_in,
            bytes_out=one.bytes_out,
            weight_bytes=one.weight_bytes,
        )
        for one in kind_sums(rows)
    }


def _parity(parity: Parity) -> ParityPart:
    # Not rounded: a cosine of 0.9999997 is another fact than 1.0.
    return ParityPart(
        verdict=parity.verdict.value,
        where=parity.where,
        max_rel_error=_finite(parity.max_rel_error),
        cosine=_finite(parity.cosine),
        top1_agreement=parity.top1_agreement,
        reason=_given(parity.reason, encodable),
    )


def _artifact(artifact: Artifact) -> ArtifactPart:
    return ArtifactPart(
        format=artifact.format,
        sha256=artifact.sha256,
        bytes=artifact.bytes,
        exporter=encodable(artifact.exporter),
        fixups=_texts(artifact.fixups),
    )


def _placement(ops: float | None, macs: float | None) -> PlacementPart:
    # Where the MACs of misplaced operators are not known, all or nothing is the same share of both.
    known = macs if macs is not None else ops if ops in (0.0, 1.0) else None
    return PlacementPart(ops=_rounded(ops), macs=_rounded(known))


def _failure(failure: Failure) -> FailurePart:
    return FailurePart(
        stage=failure.stage,
        error=encodable(failure.error),
        remedy=encodable(failure.remedy),
        kind=_given(failure.kind, encodable),
    )


def _samples(result: Result) -> dict[str, Any]:
    """Times of one call in the order taken, over all sets: counted, warm-up, and the first of each block."""
    sets = result.samples.sets if result.samples else ()
    rounds = [(one, each.ready.calls_per_sample) for each in sets for one in each.rounds]
    return {
        "samples_ns": _per_call(rounds, lambda one: () if one.is_warm_up else one.block.samples_ns),
        "warm_up_samples_ns": _per_call(rounds, lambda one: one.block.samples_ns if one.is_warm_up else ()),
        "set_aside_samples_ns": _per_call(rounds, lambda one: one.block.set_aside_ns),
    }


def _per_call(rounds: Sequence[tuple[Round, int]], chosen: Callable[[Round], tuple[int, ...]]) -> tuple[int, ...]:
    # A sample of very short calls holds several; its share keeps the list comparable with `latency_ns`.
    return tuple(round(sample / calls) for one, calls in rounds for sample in chosen(one))


def _texts(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(encodable(text) for text in texts)


def _given(value: Value | None, shown: Callable[[Value], Shown]) -> Shown | None:
    return None if value is None else shown(value)


def _borders(interval: Interval, shown: Callable[[float], Shown]) -> tuple[Shown, Shown] | None:
    if interval.low is None or interval.high is None:
        return None
    return shown(interval.low), shown(interval.high)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _finite(value: float | None) -> float | None:
    """JSON has no infinity: an error without bound is told by the verdict."""
    return value if value is not None and math.isfinite(value) else None


def _rounded(value: float | None) -> float | None:
    finite = _finite(value)
    return None if finite is None else six_digits(finite)
