"""Comparisons and fronts to the JSON documents of `schema`.

Its own file beside `document`, which converts records: these documents are made of `comparisons`, and are loaded only
where JSON is asked for. Derived numbers keep six significant digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vitprof.comparisons import Correlation, Disagreement, FrontPoint, Inversion, PairVerdict
from vitprof.report.comparison import is_latency
from vitprof.report.outside import encodable
from vitprof.report.pareto import COSTS, by_cost
from vitprof.report.schema_analysis import (
    ComparisonDocument,
    CorrelationPart,
    CountCorrelations,
    FitPart,
    FrontDocument,
    FrontRow,
    GroupRow,
    InversionRow,
    InversionsPart,
    PairRow,
)
from vitprof.units import six_digits


def document_from_comparison(
    groups: Sequence[Disagreement], pairs: Sequence[PairVerdict], *, metric: str = "latency"
) -> ComparisonDocument:
    """The document of `compare`; `metric`: what was compared, each group says in `time` what its times are."""
    return ComparisonDocument(
        metric=metric, groups=tuple(map(_group, groups)), pairs=tuple(_pair(pair) for pair in pairs)
    )


def document_from_front(points: Sequence[FrontPoint], cost: str) -> FrontDocument:
    """The document of `pareto`, from the cheapest to the dearest; `cost`: a name of `pareto.COSTS`."""
    return FrontDocument(cost=cost, unit=COSTS[cost].unit, rows=tuple(map(_front_row, by_cost(points, cost))))


def _group(group: Disagreement) -> GroupRow:
    return GroupRow(
        device=encodable(group.device),
        backend=encodable(group.backend),
        precision=encodable(group.precision),
        batch=group.batch,
        models=len(group.points),
        time="latency" if is_latency(group) else "time_per_image",
        spearman=_correlations(group.spearman),
        kendall=_correlations(group.kendall),
        best_count=group.best_count,
        inversions=InversionsPart(
            total=group.inversions_total, pairs=group.pairs, rows=tuple(map(_inversion, group.inversions))
        ),
        fit=FitPart(log_macs_r2=None if group.log_macs_r2 is None else six_digits(group.log_macs_r2)),
    )


def _correlations(by_count: Mapping[str, Correlation]) -> CountCorrelations:
    return CountCorrelations(
        macs=_correlation(by_count.get("macs")),
        params=_correlation(by_count.get("params")),
        activations=_correlation(by_count.get("activations")),
        roofline=_correlation(by_count.get("roofline")),
    )


def _correlation(one: Correlation | None) -> CorrelationPart | None:
    if one is None or one.value is None:
        return None
    return CorrelationPart(value=six_digits(one.value), ci95=_borders(one.low, one.high))


def _inversion(one: Inversion) -> InversionRow:
    return InversionRow(
        slower=encodable(one.slower.model),
        faster=encodable(one.faster.model),
        slower_size=one.slower.size,
        faster_size=one.faster.size,
        slower_batch=one.slower.batch,
        faster_batch=one.faster.batch,
        macs_ratio=six_digits(one.macs_ratio),
        time_ratio=six_digits(one.time_ratio),
        reason=encodable(one.reason),
    )


def _pair(pair: PairVerdict) -> PairRow:
    return PairRow(
        model=encodable(pair.model),
        baseline=encodable(pair.baseline),
        candidate=encodable(pair.candidate),
        ratio=None if pair.ratio is None else six_digits(pair.ratio.value),
        ci95=None if pair.ratio is None else _borders(pair.ratio.low, pair.ratio.high),
        verdict=pair.verdict,
        confounders=tuple(encodable(text) for text in pair.confounders),
    )


def _front_row(point: FrontPoint) -> FrontRow:
    return FrontRow(
        model=encodable(point.model),
        size=point.size,
        # As its file has it: an accuracy is never rounded.
        accuracy=point.accuracy,
        cost=six_digits(point.cost.value),
        ci95=_borders(point.cost.low, point.cost.high),
        on_front=point.is_on_front,
        indistinguishable=point.is_indistinguishable,
        dominated_by=None if point.dominated_by is None else encodable(point.dominated_by),
    )


def _borders(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (six_digits(low), six_digits(high))
