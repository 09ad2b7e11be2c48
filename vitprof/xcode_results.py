"""A performance report of Xcode as a Result, with the counts of the artifact that it measured where that is known.

Beside the pipeline because it needs the store's reader, the cache of artifacts and the analysis: the raw predictions of
a report go the way of our own samples, under a protocol of their own, so that they are compared with other reports and
only ranked beside what vitprof measured.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from vitprof import __version__
from vitprof.analysis.summary import summarise
from vitprof.errors import UsageError
from vitprof.export import cache, coreml_export
from vitprof.export.copies import file_name
from vitprof.export.coreml_operators import macs_share_without
from vitprof.export.eviction import entries
from vitprof.measurements import Doubt, Protocol, Round, Samples, SetSamples, StopReason
from vitprof.records import Artifact, ModelSpec, Parity, ParityVerdict, Precision, Result, Source
from vitprof.runner.profiles import coreml as plans
from vitprof.runner.wire import Block, Ready
from vitprof.store.xcode_reports import XcodeReport

BACKEND = "coreml"
# Where it says nothing else of where a model comes from.
SOURCE = "xcode"
_EFFORT = "xcode"
# The predictions of a load are told apart in so many stretches, so that a drift within them shows.
_ROUNDS = 3
# Of Xcode's own count of a package's bytes.
_SAME_BYTES_SHARE = 0.01


def artifact_of(report: XcodeReport, cache_root: Path) -> Artifact | None:
    """The exported artifact that the report measured, by its file's name, input shape and size; None: not in the cache.

    Of several the one of most equal size, then the one that was used last.
    """
    found = list(_candidates(report, cache_root))
    return min(found, key=lambda one: abs(one.bytes - (report.model_bytes or 0)), default=None)


def _candidates(report: XcodeReport, cache_root: Path) -> Iterator[Artifact]:
    for entry in reversed(entries(cache_root)):
        artifact = cache.read_folder(entry.folder)
        if artifact is None or artifact.format != coreml_export.FORMAT:
            continue
        is_same = Path(file_name(artifact)).stem == report.model and artifact.input_shape == report.input_shape
        difference = abs(artifact.bytes - (report.model_bytes or 0))
        if is_same and difference <= _SAME_BYTES_SHARE * artifact.bytes:
            yield artifact


def result_of(
    report: XcodeReport, artifact: Artifact | None, *, device: str | None = None, precision: str | None = None
) -> Result:
    """The row of a report; `device` and `precision` are taken before what it says of itself.

    `UsageError` where nobody says the precision.
    """
    sets = tuple(_set(report, index) for index in range(len(report.predictions_ns)))
    protocol = Protocol(
        effort=_EFFORT,
        sets=len(sets),
        precision_goal_share=0.0,
        cap_s_per_cell=0.0,
        measure_calls=len(report.predictions_ns[0]),
        reference="",
    )
    samples = Samples(sets, StopReason.CALLS)
    spec = artifact.spec if artifact else _spec(report, precision)
    macs = artifact.cost.macs if artifact else None
    summary = summarise(samples, protocol, batch=spec.batch, macs_per_image=macs, reference_long_run_ns=None)
    if summary is not None:
        summary = dataclasses.replace(summary, warnings=(*summary.warnings, *_doubts(report, artifact)))
    return Result(
        spec=spec,
        device=device or report.device,
        backend=BACKEND,
        threads=None,
        protocol=protocol,
        started_at=report.started_at or "",
        vitprof_version=__version__,
        artifact=artifact,
        backend_version=report.system,
        samples=samples,
        summary=summary,
        placement_macs_share=_placement_macs_share(report, artifact),
        parity=Parity(ParityVerdict.NOT_CHECKED, reason="a performance report of Xcode keeps no outputs"),
        environment={"before": dict(sets[0].ready.environment), "after": None},
    )


def _set(report: XcodeReport, index: int) -> SetSamples:
    """The predictions of one load: the first one is the first call, the others are counted."""
    first, *counted = report.predictions_ns[index]
    # The first load of each experiment is the cold one; a report of one experiment may hold several.
    loads = len(report.loads_ns) // len(report.predictions_ns) or 1
    compilations = report.compilations_ns
    ops = tuple(plans.PlannedOp(one.name, one.op, one.unit, one.cost_share) for one in report.ops)
    ready = Ready(
        load_ns=report.loads_ns[min(index * loads, len(report.loads_ns) - 1)],
        build_ns=compilations[min(index, len(compilations) - 1)] if compilations else None,
        first_call_ns=first,
        clock="device",
        clock_step_ns=0,
        clock_cost_ns=None,
        loop_overhead_ns=None,
        calls_per_sample=1,
        backend_version=report.system,
        placement_ops_share=plans.placement_ops_share(ops, report.compute_units),
        environment={
            "cpu": report.device,
            "system": report.system,
            "measured_by": "Xcode",
            "compute_units": report.compute_units,
            **plans.placement_facts(ops),
        },
        misplaced_ops=plans.misplaced(ops, report.compute_units) if ops else None,
    )
    values = counted or [first]
    size = -(-len(values) // _ROUNDS)
    blocks = [tuple(values[start : start + size]) for start in range(0, len(values), size)]
    rounds = tuple(
        Round(Block(number, 0, (first,) if counted and not number else (), block), None, None, is_warm_up=False)
        for number, block in enumerate(blocks)
    )
    return SetSamples(ready, rounds, is_warm=True)


def _placement_macs_share(report: XcodeReport, artifact: Artifact | None) -> float | None:
    ops = tuple(plans.PlannedOp(one.name, one.op, one.unit, one.cost_share) for one in report.ops)
    if artifact is None or not ops:
        return None
    return macs_share_without(artifact.folder, frozenset(plans.misplaced(ops, report.compute_units)))


def _spec(report: XcodeReport, precision: str | None) -> ModelSpec:
    """Of a model that is not in the cache, by the name of its file as `export` writes it."""
    said = precision or report.precision
    if said not in set(Precision):
        raise UsageError(
            f"the report of {report.model} does not say its precision", remedy="add --precision fp16", stage="import"
        )
    shape = report.input_shape or ()
    is_image = len(shape) == 4 and min(shape) > 0
    return ModelSpec(
        name=re.sub(rf"-{said}$", "", report.model),
        # Replaced by `SOURCE` in the row: it has no word for a file from elsewhere.
        source=Source.TIMM,
        size=(shape[2], shape[3]) if is_image else None,
        batch=shape[0] if is_image else 1,
        precision=Precision(said),
    )


def _doubts(report: XcodeReport, artifact: Artifact | None) -> Iterator[Doubt]:
    calls = sum(map(len, report.predictions_ns))
    detail = f"Xcode made {calls} predictions after {len(report.predictions_ns)} loads, without watching the warm-up"
    yield Doubt("measured by xcode", detail, "compare it with other reports of Xcode; beside vitprof's own, ranks only")
    if artifact is None:
        detail = f"no package '{report.model}' of this input shape and size is in the cache: its MACs are not known"
        yield Doubt("counts not known", detail, "export it here with the same options, then import the report again")
