"""What was measured, as rows: a Result for every cell, a failed one too, with the exit code that it stands for.

Beside the pipeline so that the pipeline shows the stages and not their bookkeeping.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from vitprof import __version__
from vitprof.analysis.summary import summarise
from vitprof.cells import CellSamples
from vitprof.cost.roofline import roofline
from vitprof.errors import ExitCode, VitprofError
from vitprof.export.coreml_operators import macs_share_without
from vitprof.export.parity import compare, read_tensors
from vitprof.measurements import Doubt, Grade, Protocol, StopReason, Summary
from vitprof.records import Artifact, Device, ModelSpec, Parity, ParityVerdict, Peaks, Precision, Result, Roofline
from vitprof.runner.wire import OUT_OF_MEMORY, Failure, Outputs, Ready
from vitprof.units import text_from_share

_BYTES_PER_VALUE = {Precision.FP32: 4, Precision.FP16: 2, Precision.BF16: 2, Precision.INT8: 1}
# A machine's clock swings by so much between the calibration and the run.
_BEYOND_NOISE = 1.1


def measured_row(
    artifact: Artifact,
    measured: CellSamples,
    blank: Result,
    *,
    outputs_file: Path | None,
    reference_long_run_ns: float | None,
    reference_failure: Failure | None,
    peaks: Peaks | None,
) -> Result:
    """`blank` (the cell's key fields) with what its samples and outputs say; the latter lie in `outputs_file`."""
    parity = parity_of(artifact, measured.outputs, outputs_file)
    summary = summarise(
        measured.samples,
        blank.protocol,
        batch=artifact.spec.batch,
        macs_per_image=artifact.cost.macs,
        reference_long_run_ns=reference_long_run_ns,
    )
    sets = measured.samples.sets
    used_share = _used_share(summary, peaks)
    if summary:
        of_setting = _of_setting(blank, summary, sets[0].ready, reference_failure)
        doubts = (*_of_artifact(artifact, parity), *of_setting, *_of_peak(used_share))
        summary = dataclasses.replace(summary, warnings=(*summary.warnings, *doubts))
    return dataclasses.replace(
        blank,
        artifact=artifact,
        backend_version=sets[0].ready.backend_version if sets else None,
        samples=measured.samples,
        summary=summary,
        roofline=_roofline(artifact, peaks),
        # A share: what is above the peak says that the peak is wrong, which is a warning's to tell.
        utilisation=None if used_share is None else min(used_share, 1.0),
        placement_macs_share=_placement_macs_share(artifact, measured),
        parity=parity,
        failure=measured.samples.failure,
        environment=_environment(measured),
    )


def doubted(row: Result, doubts: Sequence[Doubt]) -> Result:
    """`row`, measured on a device that did not stand as it should: its time is not to be trusted, and why."""
    if not doubts or row.summary is None:
        return row
    summary = dataclasses.replace(row.summary, grade=Grade.C, warnings=(*row.summary.warnings, *doubts))
    return dataclasses.replace(row, summary=summary)


def blank_row(spec: ModelSpec, backend: str, threads: int, device: Device, protocol: Protocol) -> Result:
    """The key fields of a cell, before anything is known of it."""
    return Result(
        spec=spec,
        device=device.name,
        backend=backend,
        threads=threads,
        protocol=protocol,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        vitprof_version=__version__,
    )


def failure_from_error(error: VitprofError) -> Failure:
    return Failure(error.stage, error.message, error.remedy)


def exit_code_of(result: Result) -> ExitCode:
    """What a script should be told of a measured row."""
    if result.samples and result.samples.stop_reason is StopReason.INTERRUPTED:
        return ExitCode.INTERRUPTED
    if result.failure:
        return ExitCode.FAILED
    return parity_exit_code(result.parity)


def is_out_of_memory(result: Result) -> bool:
    """Whether it was not measured for want of memory, as its runtime or the kernel said."""
    return result.failure is not None and result.failure.kind == OUT_OF_MEMORY


def parity_exit_code(parity: Parity | None) -> ExitCode:
    is_broken = parity is not None and parity.verdict is ParityVerdict.BROKEN
    return ExitCode.PARITY_BROKEN if is_broken else ExitCode.OK


def parity_of(artifact: Artifact, outputs: Outputs | None, file: Path | None) -> Parity:
    """The backend's own outputs against those of the original module."""
    if artifact.expected is None:
        return Parity(ParityVerdict.NOT_CHECKED, reason=artifact.expected_missing)
    if outputs is not None and outputs.missing:
        return Parity(ParityVerdict.NOT_CHECKED, reason=outputs.missing)
    if outputs is None or file is None:
        return Parity(ParityVerdict.NOT_CHECKED, reason="the runner gave no outputs")
    expected = read_tensors(artifact.folder / artifact.expected, artifact.expected_outputs * artifact.input_count)
    actual = read_tensors(file, [(one.dtype, one.shape) for one in outputs.tensors])
    return compare(expected, actual, artifact.spec.precision, where="device")


def parity_of_engine(source: Parity) -> Parity:
    """Of an engine that was not run, by the parity of the ONNX file that it was built from."""
    if source.verdict is ParityVerdict.BROKEN:
        return dataclasses.replace(source, reason="the ONNX file that the engine was built from is broken")
    told = source.verdict.value
    if source.max_rel_error is not None:
        told += f", max. relative error {source.max_rel_error:.1e}"
    elif source.reason:
        told += f", {source.reason}"
    why = f"an engine runs on its GPU only; the ONNX file that it was built from: {told}"
    return Parity(ParityVerdict.NOT_CHECKED, reason=why)


def _roofline(artifact: Artifact, peaks: Peaks | None) -> Roofline | None:
    spec = artifact.spec
    return roofline(artifact.cost, peaks, spec.batch, _BYTES_PER_VALUE[spec.precision]) if peaks else None


def _used_share(summary: Summary | None, peaks: Peaks | None) -> float | None:
    """Achieved ÷ peak MAC/s."""
    achieved = summary.achieved_macs_per_s if summary else None
    return None if achieved is None or peaks is None else achieved / peaks.macs_per_s.value


def _of_peak(used_share: float | None) -> Iterator[Doubt]:
    if used_share is not None and used_share > _BEYOND_NOISE:
        detail = f"{used_share:.0%} of the peak MAC/s was reached"
        yield Doubt("above the peak", detail, "measure the peaks again: vitprof devices calibrate")


def _placement_macs_share(artifact: Artifact, measured: CellSamples) -> float | None:
    """Where the runtime names the operators that run elsewhere; those of any process count."""
    named = [one.ready.misplaced_ops for one in measured.samples.sets]
    if not named or None in named:
        return None
    return macs_share_without(artifact.folder, frozenset(name for names in named for name in names or ()))


def _environment(measured: CellSamples) -> dict[str, object]:
    sets = measured.samples.sets
    if not sets:
        return {}
    ready, end = sets[0].ready, sets[-1].end
    return {
        "before": dict(ready.environment),
        "after": dict(end.environment) if end else None,
        "clock_step_ns": ready.clock_step_ns,
        "clock_cost_ns": ready.clock_cost_ns,
        "loop_overhead_ns": ready.loop_overhead_ns,
    }


def _of_setting(blank: Result, summary: Summary, ready: Ready, failure: Failure | None) -> Iterator[Doubt]:
    """Warnings that come from how the cell was asked to run and beside what."""
    cores = ready.environment.get("cores")
    if cores and blank.threads and blank.threads > cores:
        yield Doubt("more threads than cores", f"{blank.threads} threads on {cores} cores", f"use --threads {cores}")
    if ready.environment.get("gpu_clocks") == "unlocked":
        detail = "the GPU chose its own clock, which follows its heat and its load"
        yield Doubt("clocks unlocked", detail, "hold it with --lock-clocks MHZ (needs root)")
    placed = ready.placement_ops_share
    if placed is not None and placed < 1:
        detail = f"{text_from_share(1 - placed)} of the operators ran elsewhere than asked for"
        yield Doubt("placed elsewhere", detail, "do not take this latency for that of the accelerator alone")
    if summary.relative is None and not blank.protocol.reference:
        detail = "no reference cell runs on such a device: what the machine did meanwhile is not taken out"
        yield Doubt("no reference", detail, "compare models of one run on one device")
    elif summary.relative is None:
        why = f"the reference cell failed: {failure.error}" if failure else "no reference cell ran beside this one"
        yield Doubt("no reference", why, failure.remedy if failure else "see what works with: vitprof doctor")


def _of_artifact(artifact: Artifact, parity: Parity) -> Iterator[Doubt]:
    """Warnings that come from the artifact and not from the samples."""
    if parity.verdict in (ParityVerdict.BROKEN, ParityVerdict.DRIFT):
        detail = f"parity {parity.verdict}: {parity.reason or f'max. relative error {parity.max_rel_error:.2g}'}"
        yield Doubt("parity", detail, "do not take this latency for the original model's")
    if artifact.count_doubt:
        yield Doubt("counts disagree", artifact.count_doubt, "see both: vitprof count MODEL --cross-check")
    if artifact.folded_weights:
        detail = f"the exporter folded away {', '.join(artifact.folded_weights)}"
        yield Doubt("weights folded", detail, "the artifact does less work than the model: report this model")
