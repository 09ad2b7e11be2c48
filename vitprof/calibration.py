"""What backends reach at most on a device: the models of `devices/calibration.py`, measured as any other model is.

    gemm, conv ─ MACs ÷ time ─► peak MAC/s, the larger of the two      in the precision asked for
    copy ─ bytes ÷ time ─► peak bytes/s                                in fp32
    launch ─ time ÷ operators ─► launch cost                           in fp32

Above the pipeline because it asks it for results and makes something else of them. Memory does not know a precision,
and what a runtime does to a copy in fp16 or int8 (casts, quantised values between two in fp32) is not known from the
counted bytes. Times are those of the fastest block (50 ms and more) of each set.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitprof import pipeline
from vitprof.analysis.intervals import t_95
from vitprof.analysis.steadiness import call_ns
from vitprof.counts import Cost
from vitprof.devices import profiles, reach
from vitprof.errors import ExitCode, VitprofError
from vitprof.measurements import Doubt, Interval, Protocol, StopReason
from vitprof.places import Places
from vitprof.records import Calibration, ModelSpec, Peak, Peaks, Precision, Result, Source
from vitprof.report.cell import failure_of, is_broken
from vitprof.report.notes import text_from_parity
from vitprof.report.progress import Progress
from vitprof.runner.wire import Failure
from vitprof.store import peaks as stored_peaks

_COMPUTE = ("gemm", "conv")
_COPY, _LAUNCH = "copy", "launch"
_BYTES_PER_VALUE = 4
_INTERRUPTED = Failure("run", "it was interrupted before all peaks were measured", "run the same command again")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Calibrated:
    """One calibration a backend, and what a script should be told."""

    calibrations: tuple[Calibration, ...]
    exit_codes: frozenset[ExitCode]
    troubles: tuple[VitprofError, ...]


def calibrate(
    device_name: str,
    backends: Sequence[str],
    places: Places,
    progress: Progress,
    *,
    protocol: Protocol,
    precision: Precision = Precision.FP32,
    threads: int | None = None,
) -> Calibrated:
    """Measures the peaks of `backends` (none: the device's first) and keeps them for later runs.

    A backend that cannot be measured is a calibration with its failure. `VitprofError` as from `pipeline.measure`.
    """
    device = profiles.device(device_name)
    reach.check_times_count(device)
    results: list[Result] = []
    codes: set[ExitCode] = set()
    troubles: list[VitprofError] = []
    for names, one_precision in _parts(precision):
        request = pipeline.Request(
            models=tuple(f"{profiles.calibration_models()}:{name}" for name in names),
            protocol=protocol,
            like=ModelSpec("", Source.TIMM, precision=one_precision),
            device=device.name,
            backends=tuple(dict.fromkeys(backends)),
            threads=threads,
        )
        run = _measured(request, places, progress)
        results += run.results
        codes |= run.exit_codes
        troubles += run.troubles
        failed = {row.backend for row in run.results if _trouble(row.spec.factory or "", row)}
        backends = [row.backend for row in run.results if row.backend not in failed]
        if ExitCode.INTERRUPTED in codes or not backends:
            break
    calibrations = tuple(
        calibration_from_results([row for row in results if row.backend == backend], precision)
        for backend in dict.fromkeys(row.backend for row in results)
    )
    for one in calibrations:
        stored_peaks.add(places.data_root, device, one)
    return Calibrated(calibrations, frozenset(codes), tuple(troubles))


def calibration_from_results(results: Sequence[Result], precision: Precision) -> Calibration:
    """The calibration of one backend from the rows of all its models."""
    first = results[0]
    blank = Calibration(first.device, first.backend, precision, first.threads or 1, peaks=None)
    by_name = {row.spec.factory or "": row for row in results}
    failure = next((why for name, row in by_name.items() if (why := _trouble(name, row))), None)
    if failure is None and not {*_COMPUTE, _COPY, _LAUNCH} <= set(by_name):
        failure = _INTERRUPTED
    if failure is not None:
        return dataclasses.replace(blank, failure=failure)
    return dataclasses.replace(
        blank,
        peaks=Peaks(
            macs_per_s=max((_rate(by_name[name]) for name in _COMPUTE), key=lambda peak: peak.value),
            bytes_per_s=_rate(by_name[_COPY]),
            launch_ns=_time_per_operator(by_name[_LAUNCH]),
        ),
        grade=max(row.summary.grade for row in results if row.summary),
        warnings=(*_warnings(by_name), *_cache_doubts(by_name[_COPY])),
    )


def _parts(precision: Precision) -> tuple[tuple[tuple[str, ...], Precision], ...]:
    """What is measured together: everything, or in a lower precision the products first."""
    if precision is Precision.FP32:
        return (((*_COMPUTE, _COPY, _LAUNCH), precision),)
    return ((_COMPUTE, precision), ((_COPY, _LAUNCH), Precision.FP32))


def _measured(request: pipeline.Request, places: Places, progress: Progress) -> pipeline.Run:
    # These are no models of the user's: nothing that lists or compares results should meet them.
    with tempfile.TemporaryDirectory(prefix="vitprof-") as folder:
        aside = dataclasses.replace(places, named_store=str(Path(folder) / "results.sqlite"))
        return pipeline.measure(request, aside, progress)


def _trouble(name: str, row: Result) -> Failure | None:
    """Why the row of `name` gives no peak."""
    failure = failure_of(row)
    if failure is not None:
        return dataclasses.replace(failure, error=f"{name}: {failure.error}")
    if row.samples and row.samples.stop_reason is StopReason.INTERRUPTED:
        return _INTERRUPTED
    if is_broken(row) and row.parity:
        detail = f"{name}: its outputs are wrong: {text_from_parity(row.parity)}"
        return Failure("parity", detail, "measure its peaks in --precision fp32, or with another --backend")
    if _work(row) is None:
        return Failure("count", f"{name}: its work was not counted", "run with --debug and report what it shows")
    return None


def _rate(row: Result) -> Peak:
    """MACs or bytes a second; the fastest call gives the highest rate, so the interval's ends change places."""
    time_ns, work = _time_ns(row), _work(row) or 0
    low, high = (1e9 * work / end if end else None for end in (time_ns.high, time_ns.low))
    return Peak(1e9 * work / time_ns.value, _source(row), low, high)


def _time_per_operator(row: Result) -> Peak:
    time_ns, ops = _time_ns(row), _work(row) or 1
    low, high = (end / ops if end else None for end in (time_ns.low, time_ns.high))
    return Peak(time_ns.value / ops, _source(row), low, high)


def _work(row: Result) -> int | None:
    """MACs of a product, bytes of a copy, operators of a chain; as counted, not as meant."""
    artifact = row.artifact
    if artifact is None:
        return None
    if row.spec.factory == _COPY:
        return _bytes_moved(artifact.cost, artifact.input_shape)
    return artifact.cost.ops if row.spec.factory == _LAUNCH else artifact.cost.macs


def _bytes_moved(cost: Cost, input_shape: tuple[int, ...]) -> int | None:
    if cost.weight_bytes is None or cost.activation_bytes is None:
        return None
    return _BYTES_PER_VALUE * math.prod(input_shape) + cost.weight_bytes + cost.activation_bytes


def _time_ns(row: Result) -> Interval:
    """Of one call in the fastest block of each set: the geometric mean over sets, with its t-interval.

    The median follows the host's clock, by tens of per cent on a shared machine; a peak is what can be reached.
    """
    sets = row.samples.sets if row.samples else ()
    fastest = [
        min(call_ns(block.samples_ns, one.ready.calls_per_sample) for block in blocks)
        for one in sets
        if (blocks := [round_.block for round_ in one.rounds if not round_.is_warm_up])
    ]
    if not fastest:
        raise ValueError(f"{row.spec.name} has no times")
    logs = [math.log(value) for value in fastest]
    centre = statistics.fmean(logs)
    if len(logs) < 2:
        return Interval(math.exp(centre), None, None)
    half = t_95(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Interval(math.exp(centre), math.exp(centre - half), math.exp(centre + half))


def _source(row: Result) -> str:
    threads = f"{row.threads} thread{'' if row.threads == 1 else 's'}"
    what = f"{row.backend} {row.backend_version}, {threads}, {row.spec.factory}"
    return f"measured by vitprof devices calibrate, {row.started_at[:10]}, {what}"


def _warnings(by_name: dict[str, Result]) -> list[Doubt]:
    return [
        dataclasses.replace(doubt, detail=f"{name}: {doubt.detail}")
        for name, row in by_name.items()
        for doubt in (row.summary.warnings if row.summary else ())
    ]


def _cache_doubts(row: Result) -> list[Doubt]:
    """A copy that half fits into the last-level cache is faster than memory."""
    moved, cache_bytes = _work(row) or 0, _last_level_cache_bytes()
    if cache_bytes is None or moved >= 2 * cache_bytes:
        return []
    detail = f"the copy moves {moved / 1e6:.0f} MB, the last-level cache holds {cache_bytes / 1e6:.0f} MB"
    return [Doubt("cached copy", detail, "take the bandwidth for the cache's, or give the memory's in a profile")]


def _last_level_cache_bytes() -> int | None:
    """Of this machine, as Linux tells it (`32768K`); None elsewhere."""
    texts = [file.read_text().strip() for file in _CACHES.glob("index*/size")]
    sizes = [int(text[:-1]) * 1024 for text in texts if text.endswith("K") and text[:-1].isdigit()]
    return max(sizes, default=None)
