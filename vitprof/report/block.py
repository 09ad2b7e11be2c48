"""The block of one result: labelled lines of phrases, without colour and width.

Its own file because what is said about a model, and what is said where something is not known, is one list to read;
`terminal` draws it. A phrase is the smallest thing that must stay on one line: a number with its unit and name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vitprof.measurements import Instructions, Interval, StopReason, Summary
from vitprof.records import Result, Roofline
from vitprof.report.cell import BROKEN, chip_of, failure_of, is_broken, keys_of, placement_ops_share
from vitprof.report.notes import parity_phrases
from vitprof.report.outside import plain
from vitprof.report.usage import energy_phrases, memory_phrases
from vitprof.units import (
    NOT_KNOWN,
    NS_PER_UNIT,
    significant,
    text_from_bytes,
    text_from_count,
    text_from_ns,
    text_from_share,
    time_unit,
)

_STOPPED = {
    StopReason.PRECISION: "stopped: interval met",
    StopReason.CAP: "stopped: time cap",
    StopReason.DURATION: "stopped: time asked for",
    StopReason.CALLS: "stopped: calls asked for",
    StopReason.FAILED: "stopped: failure",
    StopReason.INTERRUPTED: "stopped: interrupted",
}


@dataclass(frozen=True)
class Line:
    label: str
    phrases: tuple[str, ...]
    # The phrase that judges (a grade, a verdict), drawn in its colour.
    verdict: str | None = None
    is_headline: bool = False
    # The numbers are of something that is not the model.
    is_void: bool = False


def lines_of(result: Result) -> Iterator[Line]:
    """The lines in order, the title first."""
    keys = keys_of(result)
    yield Line("", (plain(result.spec.name),))
    size = keys["size"] if keys["size"] != NOT_KNOWN else f"size {NOT_KNOWN}"
    yield Line("model", (keys["source"], size, f"batch {keys['batch']}", keys["precision"]))
    backend = f"{keys['backend']} {keys['version']}" if result.backend_version else keys["backend"]
    yield Line("backend", (backend, _threads(result.threads), *_placed(result)))
    yield Line("device", (keys["device"], *([chip] if (chip := chip_of(result)) else [])))
    failure = failure_of(result)
    if failure is not None:
        yield Line("outcome", ("failed", f"at {plain(failure.stage)}", "(see Failures)"), verdict="failed")
    if result.summary is not None:
        yield from _timing(result, result.summary)
    if result.instructions is not None:
        yield _instructions(result, result.instructions)
    yield from _cost(result)
    if result.summary is not None:
        yield _cold(result.summary)
        yield from _builds(result, result.summary)
    yield _parity(result)
    if result.summary is not None:
        yield Line("memory", tuple(memory_phrases(result.summary)))
        if result.summary.energy is not None:
            yield Line("energy", tuple(energy_phrases(result.summary.energy)))
        yield _samples(result, result.summary)
    if result.artifact:
        artifact = result.artifact
        yield Line("artifact", (artifact.format, text_from_bytes(artifact.bytes), f"by {plain(artifact.exporter)}"))
    for index, fixup in enumerate(result.artifact.fixups if result.artifact else ()):
        yield Line("" if index else "fix-ups", (plain(fixup),))


def _instructions(result: Result, counted: Instructions) -> Line:
    version = f"{plain(result.backend)} {plain(result.backend_version or NOT_KNOWN)}"
    spread = f"{_plural(counted.calls, 'call')} within {text_from_share(counted.spread, 4)}"
    value = f"{counted.per_inference:,} an inference"
    by = f"by {version}, counted in {plain(counted.counted_by)}"
    return Line("instructions", (value, by, spread), is_headline=True, is_void=is_broken(result))


def _builds(result: Result, summary: Summary) -> Iterator[Line]:
    if summary.build_spread is not None and result.samples:
        spread = f"p50 from one to another within {text_from_share(summary.build_spread)}"
        yield Line("builds", (f"{len(result.samples.sets)} built anew", spread))


def _timing(result: Result, summary: Summary) -> Iterator[Line]:
    void = is_broken(result)
    latency = summary.latency
    unit = time_unit(latency.p50_ns.value)
    grade = NOT_KNOWN if failure_of(result) else summary.grade.value
    call = (text_from_ns(latency.p50_ns.value, unit), *_interval(latency.p50_ns, _in(unit)))
    verdict = BROKEN if void else f"grade {grade}"
    yield Line(result.protocol.region, (*call, verdict), verdict, is_headline=True, is_void=void)
    percentiles = (("p50", latency.p50_ns.value), ("p90", latency.p90_ns), ("p99", latency.p99_ns))
    named = tuple(f"{name} {text_from_ns(value, unit)}" for name, value in percentiles)
    yield Line("percentiles", (*named, f"n {latency.samples:,}"), is_void=void)
    if summary.device_p50_ns is not None:
        device = f"p50 {text_from_ns(summary.device_p50_ns, unit)} by the GPU's own clock"
        yield Line("device time", (device, "(calls beside the counted ones)"), is_void=void)
    if summary.launch_share is not None:
        launches = f"{text_from_share(summary.launch_share)} of a call by that clock goes into launching its kernels"
        yield Line("launches", (launches, "(a CUDA graph of it takes so much less)"), is_void=void)
    yield _ratio(summary, void)
    corrected = text_from_ns(summary.drift_corrected_ns, unit)
    why = () if summary.drift_corrected_ns is not None else ("(no stored time of the reference yet)",)
    yield Line("drift-corrected", (corrected, *why), is_void=void and not why)
    yield Line("images/s", (significant(summary.throughput_images_per_s),), is_void=void)
    achieved = summary.achieved_macs_per_s
    yield Line("achieved", (text_from_count(achieved, "MAC/s"),), is_void=void and achieved is not None)
    if result.roofline is not None or result.utilisation is not None:
        yield Line("roofline", tuple(_roofline(result.roofline, result.utilisation)), is_void=void)


def _roofline(roofline: Roofline | None, utilisation: float | None) -> Iterator[str]:
    if roofline is not None:
        yield text_from_ns(roofline.total_ns)
        yield f"{roofline.bound}-bound"
    if utilisation is not None:
        yield f"{text_from_share(utilisation)} of the peak MAC/s"


def _ratio(summary: Summary, void: bool) -> Line:
    relative = summary.relative
    if relative is None:
        return Line("ratio", (NOT_KNOWN, "(no reference cell ran beside it)"))
    value = f"{significant(relative.ratio.value)} × {plain(relative.reference)}"
    verdict = f"grade {relative.grade.value}"
    phrases = (value, *_interval(relative.ratio, significant), verdict)
    return Line("ratio", phrases, None if void else verdict, is_void=void)


def _cost(result: Result) -> Iterator[Line]:
    cost = result.artifact.cost if result.artifact else None
    if cost is None:
        return
    phrases = [
        text_from_count(cost.macs, "MAC") if cost.macs is not None else f"MACs {NOT_KNOWN}",
        f"{text_from_count(cost.params)} params",
        f"weights {text_from_bytes(cost.weight_bytes)}",
        f"activations {text_from_bytes(cost.activation_bytes)}",
    ]
    if cost.coverage is not None and cost.coverage < 1:
        phrases.append(f"{text_from_share(cost.coverage)} of the operators counted")
    yield Line("cost", tuple(phrases))


def _cold(summary: Summary) -> Line:
    times = (
        ("load", summary.cold_load_ns),
        ("build", summary.cold_build_ns),
        ("first call", summary.cold_first_call_ns),
    )
    return Line("cold", tuple(f"{name} {text_from_ns(value)}" for name, value in times))


def _parity(result: Result) -> Line:
    parity = result.parity
    if parity is None:
        return Line("parity", (NOT_KNOWN,))
    verdict = parity.verdict.value
    return Line("parity", (verdict, *parity_phrases(parity)), verdict)


def _samples(result: Result, summary: Summary) -> Line:
    latency = summary.latency
    phrases = [
        _plural(latency.samples, "call"),
        _plural(latency.rounds, "round"),
        _plural(latency.sets, "set"),
        *([_STOPPED[result.samples.stop_reason]] if result.samples else []),
        _plural(latency.outliers, "outlier"),
        f"{latency.warm_up_samples:,} warm-up",
    ]
    return Line("samples", tuple(phrases))


def _placed(result: Result) -> tuple[str, ...]:
    share, macs = placement_ops_share(result), result.placement_macs_share
    if share is None or share >= 1:
        return ()
    work = f", {text_from_share(macs)} of the MACs" if macs is not None else ""
    return (f"{text_from_share(share)} of the operators placed there{work}",)


def _interval(interval: Interval, shown: Callable[[float], str]) -> tuple[str, ...]:
    if interval.low is None or interval.high is None:
        return (f"95% interval {NOT_KNOWN}",)
    half = interval.half_width_share
    width = f" (±{significant(half * 100, 2)}%)" if half is not None else ""
    return (f"[{shown(interval.low)}, {shown(interval.high)}] 95% CI{width}",)


def _in(unit: str) -> Callable[[float], str]:
    return lambda value_ns: significant(value_ns / NS_PER_UNIT[unit])


def _threads(threads: int | None) -> str:
    return f"threads {NOT_KNOWN}" if threads is None else _plural(threads, "thread")


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
