"""Why a model with fewer MACs takes longer than another: from the operators of the two, never from their names.

Its own file because a reason is a judgement, with its thresholds in one place. What may explain a gap in time, in this
order: operators that do not run where asked; the measured time by kind of operator, where both models have a layer
profile; counted work of which `slower` has more though it has fewer MACs, which is bytes moved at low intensity, bytes
moved at all, or operators started. An explanation must pass two tests: the excess is large beside the gap (the ratio of
the counts covers half of the ratio of the times, on a log scale), and large in itself (at a rate that every runtime
reaches it would still fill half of the gap). Otherwise the pair is `unexplained`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vitprof.comparisons import Point
from vitprof.counts import Kind, KindSum
from vitprof.units import significant, text_from_count, text_from_ns, text_from_share

UNEXPLAINED = "unexplained"
# Less than a half, and something else is the larger part of the explanation.
_LEAST_SHARE_OF_GAP = 0.5
# Of two kinds named, the second carries a quarter of the excess or is not worth its words.
_LEAST_SHARE_OF_SECOND = 0.25
# An operator below it waits for memory everywhere: a core's two AVX2 units reach 48 GMAC/s over 10 GB/s, an A100
# 9.7 TMAC/s over 1.6 TB/s, 5 and 6 MACs a byte. Depthwise 3×3 in fp32 has 1.1, 5×5 has 3.1, pointwise of 64 channels 8.
_LOW_MACS_PER_BYTE = 4.0
# Slower than memory is for any operator that is not a program of its own; one core streams 5 GB/s and more.
_LEAST_BYTES_PER_S = 1e9
# What starting one operator costs at most: eager frameworks on GPUs 5 to 10 µs, CPU runtimes 1 to 5 µs.
_MOST_LAUNCH_NS = 10_000
# Fewer than one operator in twenty elsewhere is the start and the end of most graphs.
_FALLBACK_OPS_SHARE = 0.05
_MOST_CLAUSES = 2

_TRAFFIC = "elementwise and norm traffic"
# Kinds that are one to a model designer share their words.
_WORDS = {
    Kind.CONV: "convolutions",
    Kind.DEPTHWISE_CONV: "depthwise convolutions",
    Kind.POINTWISE_CONV: "pointwise convolutions",
    Kind.LINEAR: "linear layers",
    Kind.ATTENTION: "attention products",
    Kind.OTHER_MATMUL: "matrix products",
    Kind.NORM: _TRAFFIC,
    Kind.ACTIVATION: _TRAFFIC,
    Kind.ELEMENTWISE: _TRAFFIC,
    Kind.SOFTMAX: "attention softmax",
    Kind.POOL: "pooling and reductions",
    Kind.RESAMPLE: "resampling",
    Kind.FFT: "Fourier transforms",
    Kind.DATA_MOVEMENT: "layout changes and copies",
    Kind.UNKNOWN: "operators that no rule knows",
}
# Where time is compared, dense products are one kind: a network of linear layers spends none in pointwise convolutions.
_PRODUCTS = "matrix products and convolutions"
_DENSE = frozenset({Kind.CONV, Kind.POINTWISE_CONV, Kind.LINEAR, Kind.ATTENTION, Kind.OTHER_MATMUL})
_TIMED_WORDS = {kind: _PRODUCTS if kind in _DENSE else words for kind, words in _WORDS.items()}


@dataclass(frozen=True)
class _Pair:
    slower: Point
    faster: Point
    time_ratio: float

    @property
    def gap_ns(self) -> float:
        """Of one image, on the clock of `slower`: the ratio may have been taken through the reference."""
        return self.slower.image_ns * (1 - 1 / self.time_ratio)

    def coverage(self, of_slower: float, of_faster: float) -> float:
        """Which share of the gap in time the gap of a count covers, on a log scale; 0 where there is no excess."""
        if of_slower <= of_faster:
            return 0.0
        return math.log(of_slower / of_faster) / math.log(self.time_ratio) if of_faster else math.inf


@dataclass(frozen=True)
class _Clause:
    words: str
    coverage: float


def reason(slower: Point, faster: Point, time_ratio: float) -> str:
    """Why `slower` takes `time_ratio` (above 1) times as long as `faster`, in words; `unexplained` if the data is mute.

    At most two reasons, those that cover most of the gap.
    """
    pair = _Pair(slower, faster, time_ratio)
    measured = _measured(pair)
    counted = [measured] if measured else sorted(_counted(pair), key=lambda clause: -clause.coverage)
    clauses = [clause.words for clause in (_fallback(pair), *counted) if clause]
    return "; ".join(clauses[:_MOST_CLAUSES]) or UNEXPLAINED


def _fallback(pair: _Pair) -> _Clause | None:
    mine, other = pair.slower.placement_ops_share, pair.faster.placement_ops_share
    if mine is None or other is None or other - mine < _FALLBACK_OPS_SHARE:
        return None
    away, other_away = text_from_share(1 - mine, 0), text_from_share(1 - other, 0)
    return _Clause(f"fallback: {away} of its operators do not run where asked, against {other_away}", math.inf)


def _measured(pair: _Pair) -> _Clause | None:
    """The kinds of operator in which `slower` spends the time that it takes longer."""
    if pair.slower.time_shares is None or pair.faster.time_shares is None:
        return None
    faster_ns = pair.slower.image_ns - pair.gap_ns
    mine = _times(pair.slower, pair.slower.image_ns)
    other = _times(pair.faster, faster_ns)
    named = _largest_excesses(mine, other)
    covered = sum(named.values()) / pair.gap_ns
    if covered < _LEAST_SHARE_OF_GAP:
        return None
    parts = []
    for words, excess in named.items():
        speed = _speeds(pair, mine[words], other.get(words, 0.0)) if words == _PRODUCTS else ""
        parts.append(f"{text_from_ns(excess)} more in {words}{speed or _at_intensity(pair.slower, words)}")
    return _Clause(f"measured: {' and '.join(parts)}, of a gap of {text_from_ns(pair.gap_ns)}", covered)


def _times(point: Point, image_ns: float) -> dict[str, float]:
    shares = point.time_shares or {}
    return _by_words(((kind, share * image_ns) for kind, share in shares.items()), _TIMED_WORDS)


def _speeds(pair: _Pair, mine_ns: float, other_ns: float) -> str:
    """` at 30 GMAC/s against 45 GMAC/s`, of the dense products of both."""
    macs = [sum(one.macs for one in point.kinds if one.kind in _DENSE) for point in (pair.slower, pair.faster)]
    if not (all(macs) and mine_ns and other_ns):
        return ""
    mine, other = (text_from_count(1e9 * of / ns, "MAC/s") for of, ns in zip(macs, (mine_ns, other_ns), strict=True))
    return f" at {mine} against {other}"


def _counted(pair: _Pair) -> list[_Clause]:
    """Everything that passes both tests."""
    if not pair.slower.kinds and not pair.faster.kinds:
        return [clause for clause in (_activations(pair), _operators(pair)) if clause]
    has_both = bool(pair.slower.kinds and pair.faster.kinds)
    moved = (_low_intensity_bytes(pair) or _all_bytes(pair)) if has_both else None
    return [clause for clause in (moved, _operators(pair)) if clause]


def _low_intensity_bytes(pair: _Pair) -> _Clause | None:
    """Bytes of the kinds that wait for memory. The bytes of the others cost nothing beside their MACs."""
    mine, other = (
        _by_words((one.kind, _image_bytes(one, point)) for one in point.kinds if _is_low(one, point))
        for point in (pair.slower, pair.faster)
    )
    of_slower, of_faster = sum(mine.values()), sum(other.values())
    coverage = pair.coverage(of_slower, of_faster)
    if coverage < _LEAST_SHARE_OF_GAP or not _takes_long_enough(of_slower - of_faster, pair):
        return None
    excess = sum(max(0.0, moved - other.get(words, 0.0)) for words, moved in mine.items())
    parts = (
        f"{text_from_share(more / excess, 0)} in {words}{_at_intensity(pair.slower, words)}"
        for words, more in _largest_excesses(mine, other).items()
    )
    amounts = f"{text_from_count(of_slower, 'B')} against {text_from_count(of_faster, 'B')}"
    head = f"moves {_times_as_many(of_slower, of_faster)}bytes below {_LOW_MACS_PER_BYTE:g} MACs/byte ({amounts})"
    return _Clause(f"{head}, of the excess {', '.join(parts)}", coverage)


def _all_bytes(pair: _Pair) -> _Clause | None:
    of_slower, of_faster = _total_bytes(pair.slower), _total_bytes(pair.faster)
    coverage = pair.coverage(of_slower, of_faster)
    if coverage < _LEAST_SHARE_OF_GAP or not _takes_long_enough(of_slower - of_faster, pair):
        return None
    intensities = [
        sum(one.macs for one in point.kinds) / moved
        for point, moved in ((pair.slower, of_slower), (pair.faster, of_faster))
        if moved
    ]
    at = " against ".join(significant(one, 2) for one in intensities)
    return _Clause(f"moves {_times_as_many(of_slower, of_faster)}bytes, at {at} MACs/byte", coverage)


def _operators(pair: _Pair) -> _Clause | None:
    """Many small operators: starting them may take as long as half of the gap."""
    mine, other = pair.slower.ops, pair.faster.ops
    if mine is None or other is None:
        return None
    coverage = pair.coverage(mine, other)
    launches_ns = (mine - other) * _MOST_LAUNCH_NS
    if coverage < _LEAST_SHARE_OF_GAP or launches_ns < _LEAST_SHARE_OF_GAP * pair.gap_ns * pair.slower.batch:
        return None
    each = text_from_ns(pair.slower.image_ns * pair.slower.batch / mine)
    return _Clause(f"many small operators: {mine:,} against {other:,}, {each} each", coverage)


def _activations(pair: _Pair) -> _Clause | None:
    """All that a published table tells of memory traffic, in the table's own unit."""
    mine, other = pair.slower.activations, pair.faster.activations
    if mine is None or other is None or pair.coverage(mine, other) < _LEAST_SHARE_OF_GAP:
        return None
    return _Clause(f"writes {_times_as_many(mine, other)}activations", pair.coverage(mine, other))


def _takes_long_enough(excess_bytes: float, pair: _Pair) -> bool:
    return excess_bytes / _LEAST_BYTES_PER_S * 1e9 >= _LEAST_SHARE_OF_GAP * pair.gap_ns


def _largest_excesses(mine: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The one or two kinds of which `mine` has most more than `other`, with how much more."""
    excesses = {words: amount - other.get(words, 0.0) for words, amount in mine.items()}
    ranked = sorted((item for item in excesses.items() if item[1] > 0), key=lambda item: -item[1])
    least = _LEAST_SHARE_OF_SECOND * sum(excess for _, excess in ranked)
    return dict(ranked[:1] + [item for item in ranked[1:2] if item[1] >= least])


def _by_words(amounts: Iterable[tuple[Kind, float]], words: Mapping[Kind, str] = _WORDS) -> dict[str, float]:
    found: dict[str, float] = {}
    for kind, amount in amounts:
        found[words[kind]] = found.get(words[kind], 0.0) + amount
    return found


def _is_low(one: KindSum, point: Point) -> bool:
    return one.macs < _LOW_MACS_PER_BYTE * _image_bytes(one, point)


def _image_bytes(one: KindSum, point: Point) -> float:
    """Bytes moved for one image of the batch, which shares the weights."""
    return one.bytes_moved - one.weight_bytes * (1 - 1 / point.batch)


def _total_bytes(point: Point) -> float:
    return sum(_image_bytes(one, point) for one in point.kinds)


def _at_intensity(point: Point, words: str) -> str:
    """` at 1.1 MACs/byte`, for kinds that have MACs."""
    kinds = [one for one in point.kinds if _WORDS[one.kind] == words]
    macs, moved = sum(one.macs for one in kinds), sum(_image_bytes(one, point) for one in kinds)
    return f" at {significant(macs / moved, 2)} MACs/byte" if macs and moved else ""


def _times_as_many(of_slower: float, of_faster: float) -> str:
    return f"{significant(of_slower / of_faster, 2)} × the " if of_faster else ""
