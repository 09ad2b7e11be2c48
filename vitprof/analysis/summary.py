"""Samples to Summary: the numbers of a row, computed from raw samples and never the other way round.

`VERSION` rises with every change of a formula here, so that a stored summary is known to be old.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vitprof.analysis.grading import Evidence, absolute_grade, relative_grade, warnings_from
from vitprof.analysis.intervals import Array, exponential, median_over_sets
from vitprof.analysis.steadiness import call_ns, log_ratio, spread, trend, two_speeds
from vitprof.measurements import Energy, Interval, Latency, Protocol, Relative, Round, Samples, SetSamples, Summary
from vitprof.runner.wire import End

# 1: first release.
VERSION = 1

# A percentile needs ten samples beyond it to say anything: p90 from 100, p99 from 1,000.
_LEAST_SAMPLES_P90 = 100
_LEAST_SAMPLES_P99 = 1_000
# Tukey's outer fence.
_OUTLIER_FENCE = 3.0


def summarise(
    samples: Samples,
    protocol: Protocol,
    *,
    batch: int,
    macs_per_image: int | None,
    reference_long_run_ns: float | None,
) -> Summary | None:
    """What `samples` say; None where no call was counted.

    `reference_long_run_ns` is this machine's long-run median of the reference cell, None where none is stored.
    """
    sets = [one for one in samples.sets if _counted(one)]
    if not sets:
        return None
    ratio = _ratio(sets)
    reference = _reference_ns(sets)
    evidence = _evidence(sets, samples, protocol, ratio, reference)
    latency = _latency(sets, evidence.reference_spread)
    p50_s = latency.p50_ns.value / 1e9
    return Summary(
        version=VERSION,
        latency=latency,
        relative=Relative(
            protocol.reference,
            ratio,
            evidence.reference_spread,
            float(np.median(reference)),
            relative_grade(evidence, protocol),
        )
        if ratio
        else None,
        drift_corrected_ns=ratio.value * reference_long_run_ns if ratio and reference_long_run_ns else None,
        cold_load_ns=sets[0].ready.load_ns,
        cold_build_ns=sets[0].ready.build_ns,
        cold_first_call_ns=sets[0].ready.first_call_ns,
        throughput_images_per_s=batch / p50_s,
        achieved_macs_per_s=macs_per_image * batch / p50_s if macs_per_image is not None else None,
        peak_rss_bytes=_largest(sets, lambda end: end.peak_rss_bytes),
        grade=absolute_grade(evidence, latency.p50_ns, protocol),
        warnings=warnings_from(evidence, protocol),
        peak_device_bytes=_largest(sets, lambda end: end.peak_device_bytes),
        peak_device_nvml_bytes=_largest(sets, lambda end: end.peak_device_nvml_bytes),
        device_p50_ns=_device_p50_ns(sets),
        energy=_energy(sets, batch),
        build_spread=_build_spread(sets),
        launch_share=_launch_share(sets),
        peak_rss_measuring_bytes=_largest(sets, lambda end: end.peak_rss_measuring_bytes),
    )


def ratio_interval(sets: Sequence[SetSamples]) -> Interval | None:
    """Time ÷ reference time over the counted rounds of `sets`; of the raw time where no reference ran.

    Asked after every round to decide whether to stop, so it does no more than it must.
    """
    logs = [_log_ratios(one) for one in sets]
    return exponential(median_over_sets(logs)) if any(values.size for values in logs) else None


def _device_p50_ns(sets: Sequence[SetSamples]) -> float | None:
    """The median call by the accelerator's own clock; None where it has none."""
    calls = [call for one in sets for round_ in _counted(one) for call in round_.block.device_ns or ()]
    return float(np.median(calls)) if calls else None


def _build_spread(sets: Sequence[SetSamples]) -> float | None:
    """No two builds of a compiler are quite the same engine; what else differs between processes is in it too."""
    if len(sets) < 2 or any(one.ready.build_ns is None for one in sets):
        return None
    medians = [float(np.median(_block_means_ns(one))) for one in sets]
    return max(medians) / min(medians) - 1


def _launch_share(sets: Sequence[SetSamples]) -> float | None:
    return _median([one.end for one in sets if one.end], lambda end: end.launch_share)


def _largest(sets: Sequence[SetSamples], of: Callable[[End], int | None]) -> int | None:
    """Each process has memory of its own: the most that one of them held."""
    return max((value for one in sets if one.end and (value := of(one.end))), default=None)


def _energy(sets: Sequence[SetSamples], batch: int) -> Energy | None:
    """Medians over the processes that could tell; rest is the least that one of them saw.

    Those of later sets begin when the device is still warm and fast from the set before: that is above rest.
    """
    ends = [one.end for one in sets if one.end and one.end.call_energy_j is not None]
    call_j = _median(ends, lambda end: end.call_energy_j)
    if call_j is None:
        return None
    idle_w = min((end.idle_power_w for end in ends if end.idle_power_w is not None), default=None)
    above_j = _median(ends, lambda end: _call_j_above(end, idle_w))
    return Energy(
        source=ends[0].energy_source,
        j_per_image=call_j / batch,
        power_w=_median(ends, lambda end: end.power_w),
        idle_power_w=idle_w,
        j_above_idle_per_image=None if above_j is None else above_j / batch,
    )


def _call_j_above(end: End, idle_w: float | None) -> float | None:
    if end.call_energy_j is None or idle_w is None or not end.power_w:
        return None
    call_s = end.call_energy_j / end.power_w
    return end.call_energy_j - idle_w * call_s


def _median(ends: Sequence[End], of: Callable[[End], float | None]) -> float | None:
    known = [value for end in ends if (value := of(end)) is not None]
    return float(np.median(known)) if known else None


def _ratio(sets: Sequence[SetSamples]) -> Interval | None:
    with_reference = [one for one in sets if all(round_.reference_before_ns for round_ in _counted(one))]
    return ratio_interval(with_reference) if with_reference else None


def _counted(one: SetSamples) -> list[Round]:
    return [round_ for round_ in one.rounds if not round_.is_warm_up]


def _log_ratios(one: SetSamples) -> Array:
    return np.array([log_ratio(round_, one.ready.calls_per_sample) for round_ in _counted(one)])


def _block_means_ns(one: SetSamples) -> Array:
    return np.array([call_ns(round_.block.samples_ns, one.ready.calls_per_sample) for round_ in _counted(one)])


def _reference_ns(sets: Sequence[SetSamples]) -> list[float]:
    rounds = [round_ for one in sets for round_ in _counted(one)]
    neighbours = (value for round_ in rounds for value in (round_.reference_before_ns, round_.reference_after_ns))
    return [value for value in neighbours if value]


def _latency(sets: Sequence[SetSamples], reference_spread: float) -> Latency:
    calls = np.concatenate(
        [
            np.concatenate([np.asarray(round_.block.samples_ns) for round_ in _counted(one)])
            / one.ready.calls_per_sample
            for one in sets
        ]
    )
    p25, p50, p75 = np.quantile(calls, (0.25, 0.5, 0.75))
    fence = _OUTLIER_FENCE * (p75 - p25)
    return Latency(
        p50_ns=_p50(sets, float(p50), reference_spread),
        p90_ns=float(np.quantile(calls, 0.90)) if calls.size >= _LEAST_SAMPLES_P90 else None,
        p99_ns=float(np.quantile(calls, 0.99)) if calls.size >= _LEAST_SAMPLES_P99 else None,
        mean_ns=float(calls.mean()),
        min_ns=float(calls.min()),
        max_ns=float(calls.max()),
        samples=int(calls.size),
        sets=len(sets),
        rounds=sum(len(_counted(one)) for one in sets),
        warm_up_samples=sum(len(round_.block.samples_ns) for one in sets for round_ in one.rounds if round_.is_warm_up),
        outliers=int(((calls < p25 - fence) | (calls > p75 + fence)).sum()),
    )


def _p50(sets: Sequence[SetSamples], p50_ns: float, reference_spread: float) -> Interval:
    """The median call, its interval over rounds and sets widened by half the reference's own spread on each side.

    The widening stands for the moods of the machine that this run did not happen to see.
    """
    relative = exponential(median_over_sets([np.log(_block_means_ns(one)) for one in sets]))
    if relative.low is None or relative.high is None:
        return Interval(p50_ns, None, None)
    # Where the reference spreads by more than twice its median nothing is left below; no call takes less than no time.
    low = p50_ns * relative.low / relative.value * max(0.0, 1 - reference_spread / 2)
    high = p50_ns * relative.high / relative.value * (1 + reference_spread / 2)
    return Interval(p50_ns, low, high)


def _evidence(
    sets: Sequence[SetSamples],
    samples: Samples,
    protocol: Protocol,
    ratio: Interval | None,
    reference: Sequence[float],
) -> Evidence:
    trends = [trend(_log_ratios(one)) for one in sets]
    raw = np.concatenate([np.log(_block_means_ns(one)) for one in sets])
    return Evidence(
        ratio_half_width=ratio.half_width_share if ratio else None,
        has_reference=ratio is not None,
        reference_spread=spread(reference) if reference else 0.0,
        ratio_trends=tuple(trends),
        raw_trend=trend(raw),
        cold_sets=sum(not one.is_warm for one in sets),
        sets=len(sets),
        two_speeds=two_speeds(reference or list(np.exp(raw))),
        blocks=tuple(round_.block for one in sets for round_ in _counted(one)),
        ready=sets[0].ready,
        throttled=_has_throttled(sets),
        stop_reason=samples.stop_reason,
    )


def _has_throttled(sets: Sequence[SetSamples]) -> bool:
    """The processor's count is the machine's own, a GPU's begins anew with each process."""
    by_set = [_has_grown("gpu_throttle_count", one.rounds) for one in sets]
    rounds = [round_ for one in sets for round_ in one.rounds]
    # Of a Raspberry Pi: what it says at that moment, which may have been so before the first round.
    is_throttled = any(round_.block.sensors.get("throttled_now") for round_ in rounds)
    # Of a phone, the second: 0 none, then the more the hotter.
    grown = _has_grown("throttle_count", rounds) or _has_grown("thermal_status", rounds)
    return any(by_set) or is_throttled or grown


def _has_grown(name: str, rounds: Sequence[Round]) -> bool:
    counts = [round_.block.sensors.get(name) for round_ in rounds]
    known = [count for count in counts if count is not None]
    return bool(known) and max(known) > min(known)
