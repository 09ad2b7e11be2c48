"""A against B, model by model: two backends, devices or runs, with what else differs between them.

Its own file beside `comparison`, which judges one ratio: here are the pairing of points, the ratio of two summaries
that were not taken round by round, the widening for many comparisons, and the confounders.

    ratio       candidate ÷ baseline; on the log scale the two half-widths add in quadrature, each side for itself
                (Zou and Donner 2008): both through the shared reference where that is possible, else both in raw time
    widening    Bonferroni–Holm: the clearest of m comparisons is judged at level 5 % / m, the next at 5 % / (m − 1), …
                up to the first that stays undecided, whose level holds for all that are left
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from vitprof.analysis.comparison import EQUIVALENCE_SHARE, verdict
from vitprof.comparisons import PairVerdict, Point
from vitprof.measurements import Grade, Interval
from vitprof.records import Verdict
from vitprof.units import NOT_KNOWN

_LEVEL = 0.05
# Facts of the machine that stay while it measures. Clocks, heat and load are in the grades.
LASTING_FACTS = (
    *("machine", "system", "kernel", "python", "cpu", "board", "cores", "pinned_cores"),
    *("governor", "turbo_off", "power"),
    *("gpu", "gpu_driver", "cuda_driver_version", "gpu_clocks", "gpu_power_limit_w"),
    *("android", "build", "phone", "user_agent", "platform"),
    "reference_runtime",
)
# Of these, the ones that say that it is another machine.
IDENTITY = ("machine", "cpu", "cores", "gpu", "phone")
_Key = tuple[str, tuple[int, int] | None, int]


@dataclass(frozen=True)
class _Pair:
    baseline: Point
    candidate: Point


def pair_verdicts(
    baseline_points: Sequence[Point],
    candidate_points: Sequence[Point],
    *,
    baseline: str,
    candidate: str,
    band: float = EQUIVALENCE_SHARE,
) -> tuple[PairVerdict, ...]:
    """One verdict for each model that both sides have, in the order of the baseline; the sides are called as given.

    A pair is of one model, size and batch, and of one precision where both sides have that; of several measurements
    the latest counts. The interval is widened for the number of pairs. Unlike protocols are not compared: ratio and
    verdict are None, and the protocol stands among the confounders.
    """
    pairs = _pairs(baseline_points, candidate_points)
    ratios = [_ratio(pair) if _protocol(pair) is None else None for pair in pairs]
    judged = iter(holm([ratio for ratio in ratios if ratio], band))
    rows = [(pair, next(judged) if ratio else (None, None)) for pair, ratio in zip(pairs, ratios, strict=True)]
    return tuple(
        PairVerdict(pair.baseline.model, baseline, candidate, ratio, said, _confounders(pair))
        for pair, (ratio, said) in rows
    )


def holm(ratios: Sequence[Interval], band: float = EQUIVALENCE_SHARE) -> list[tuple[Interval, Verdict]]:
    """Each ratio with its interval widened for their number, and what that allows to say; in the order given."""
    order = sorted(range(len(ratios)), key=lambda index: -_evidence(ratios[index], band))
    found: dict[int, tuple[Interval, Verdict]] = {}
    # What has no interval is not tested.
    left = sum(ratio.low is not None for ratio in ratios)
    for index in order:
        widened = _widened(ratios[index], left)
        said = verdict(widened, band)
        found[index] = widened, said
        left -= said is not Verdict.UNDECIDED
    return [found[index] for index in range(len(ratios))]


def _pairs(baseline: Sequence[Point], candidate: Sequence[Point]) -> list[_Pair]:
    mine, other = _latest(baseline), _latest(candidate)
    pairs = []
    for key in (key for key in mine if key in other):
        shared = [precision for precision in mine[key] if precision in other[key]]
        # Without a shared precision the two are compared all the same, and the precision is a confounder.
        chosen = [(one, one) for one in shared] or [(next(iter(mine[key])), next(iter(other[key])))]
        pairs += [_Pair(mine[key][of_mine], other[key][of_other]) for of_mine, of_other in chosen]
    return pairs


def _latest(points: Iterable[Point]) -> dict[_Key, dict[str, Point]]:
    """By model, size and batch, then by precision."""
    found: dict[_Key, dict[str, Point]] = {}
    for point in points:
        by_precision = found.setdefault((point.model, point.size, point.batch), {})
        known = by_precision.get(point.precision)
        if known is None or (point.started_at or "") >= (known.started_at or ""):
            by_precision[point.precision] = point
    return found


def _ratio(pair: _Pair) -> Interval:
    mine, other = pair.baseline, pair.candidate
    if mine.ratio and other.ratio and _is_through_reference(pair):
        return quotient(other.ratio, mine.ratio)
    if mine.latency_ns and other.latency_ns:
        return quotient(other.latency_ns, mine.latency_ns)
    return Interval(other.image_ns / mine.image_ns, None, None)


def _is_through_reference(pair: _Pair) -> bool:
    """Whether both have a ratio to the same reference on the same machine."""
    mine, other = pair.baseline, pair.candidate
    has_reference = bool(mine.ratio and other.ratio) and mine.reference == other.reference
    return has_reference and mine.device == other.device and not _differing(pair, IDENTITY)


def quotient(above: Interval, below: Interval) -> Interval:
    """`above` ÷ `below`, both positive and taken apart from each other, with its interval."""
    value = math.log(above.value / below.value)
    # An interval that reaches zero says nothing on the log scale.
    if (
        not (above.low and above.high and below.low and below.high)
        or min(above.low, above.high, below.low, below.high) <= 0
    ):
        return Interval(math.exp(value), None, None)
    down = math.hypot(math.log(above.value / above.low), math.log(below.high / below.value))
    up = math.hypot(math.log(above.high / above.value), math.log(below.value / below.low))
    return Interval(math.exp(value), math.exp(value - down), math.exp(value + up))


def _widened(ratio: Interval, comparisons: int) -> Interval:
    """`ratio` at level 5 % / `comparisons`; the factor is the normal's, also where few sets gave the interval."""
    if ratio.low is None or ratio.high is None:
        return ratio
    normal = NormalDist()
    factor = normal.inv_cdf(1 - _LEVEL / (2 * comparisons)) / normal.inv_cdf(1 - _LEVEL / 2)
    return Interval(
        ratio.value,
        ratio.value * (ratio.low / ratio.value) ** factor,
        ratio.value * (ratio.high / ratio.value) ** factor,
    )


def _evidence(ratio: Interval, band: float) -> float:
    """By how many half-widths the nearest border of the band is away: above it the interval decides."""
    if ratio.low is None or ratio.high is None:
        return 0.0
    value, border = math.log(ratio.value), math.log1p(band)
    down, up = value - math.log(ratio.low), math.log(ratio.high) - value
    distances = ((value + border, down), (border - value, up))
    if value > border:
        distances = ((value - border, down),) * 2
    elif value < -border:
        distances = ((-border - value, up),) * 2
    return min(distance / half if half else math.inf for distance, half in distances)


def _confounders(pair: _Pair) -> tuple[str, ...]:
    """What differs beside what is compared, as `name a against b`; the device first. Unknown facts differ from none."""
    mine, other = pair.baseline, pair.candidate
    is_other_device = mine.device != other.device
    found = [
        _text("device", mine.device, other.device) if is_other_device else None,
        _protocol(pair),
        _differs("threads", mine.threads, other.threads),
        _differs("precision", mine.precision, other.precision),
        _differs("backend version", mine.backend_version, other.backend_version)
        if mine.backend == other.backend
        else None,
        # Another device is another machine in every one of these.
        *([] if is_other_device else _differing(pair, LASTING_FACTS)),
        *(
            f"grade C of the {side}"
            for side, point in (("baseline", mine), ("candidate", other))
            # Of what is compared: a machine of two speeds spoils the nanoseconds and leaves the ratio as it is.
            if (point.ratio_grade if _is_through_reference(pair) else point.grade) == Grade.C
        ),
    ]
    return tuple(text for text in found if text)


def _protocol(pair: _Pair) -> str | None:
    """None where both were measured alike, or both were published without saying how."""
    mine, other = pair.baseline.protocol_hash, pair.candidate.protocol_hash
    return None if mine == other else _text("protocol", mine or NOT_KNOWN, other or NOT_KNOWN)


def _differing(pair: _Pair, facts: Iterable[str]) -> list[str]:
    mine, other = pair.baseline.environment, pair.candidate.environment
    if mine == other:
        return []
    found = (_differs(name, mine.get(name), other.get(name)) for name in facts)
    return [text for text in found if text]


def _differs(name: str, mine: object, other: object) -> str | None:
    return _text(name, mine, other) if mine is not None and other is not None and mine != other else None


def _text(name: str, mine: object, other: object) -> str:
    return f"{name} {mine} against {other}"
