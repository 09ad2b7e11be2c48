"""The points of a report in groups that may be ranked, each under a title of its own, and the front of each.

Its own file because here is decided what a report compares at all: only what has threads, protocol and reference in
common. The ranking itself is in `disagreement` and `pareto`.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence

from vitprof.analysis.disagreement import disagreement, measured_groups
from vitprof.analysis.pareto import Candidate, front
from vitprof.comparisons import Point
from vitprof.measurements import Interval
from vitprof.reports import FrontReport, GroupReport
from vitprof.units import NOT_KNOWN

# With fewer models nobody is beaten by anybody worth telling.
_LEAST_ON_FRONT = 3
# Of a group; of each a reason is sought.
_MOST_INVERSIONS = 200
# Top-1 in per cent by model and size.
AccuracyOf = Callable[[str, tuple[int, int] | None], float | None]


def ranked_groups(points: Iterable[Point]) -> tuple[GroupReport, ...]:
    """The groups by device, backend, precision, batch; no two of them have one title."""
    alike: dict[tuple[int, str, str], list[Point]] = {}
    for point in sorted(points, key=_order):
        key = (point.threads or 0, point.protocol_hash or "", point.reference or "")
        alike.setdefault(key, []).append(point)
    found = [
        GroupReport(disagreement(group, most=_MOST_INVERSIONS), threads or None, protocol or None, reference or None)
        for (threads, protocol, reference), members in sorted(alike.items())
        for group in measured_groups(members)
    ]
    by_kind: dict[tuple[str, str, str, int], list[GroupReport]] = {}
    for one in found:
        by_kind.setdefault(_kind(one), []).append(one)
    return tuple(_labelled(one, by_kind[kind]) for kind in sorted(by_kind) for one in by_kind[kind])


def fronts(groups: Sequence[GroupReport], accuracy_of: AccuracyOf | None) -> tuple[FrontReport, ...]:
    """The front of accuracy against time in every group, without accuracies of MACs; of three models at least."""
    found = []
    for group in groups:
        scale = _reference_ns(group)
        candidates = list(_candidates(group, scale, accuracy_of))
        if len(candidates) >= _LEAST_ON_FRONT:
            left_out = len(group.disagreement.points) - len(candidates)
            gain = "accuracy" if accuracy_of else "macs"
            found.append(FrontReport(gain, _where(group), front(candidates), scale is not None, left_out))
    return tuple(found)


def _order(point: Point) -> tuple[object, ...]:
    return (point.device, point.backend, point.model, point.size or (0, 0), point.batch, point.started_at or "")


def _kind(group: GroupReport) -> tuple[str, str, str, int]:
    one = group.disagreement
    return (one.device, one.backend, one.precision, one.batch or 0)


def _labelled(group: GroupReport, of_kind: Sequence[GroupReport]) -> GroupReport:
    parts = (
        (len({one.threads for one in of_kind}), _threads(group) or f"threads {NOT_KNOWN}"),
        (len({one.protocol_hash for one in of_kind}), f"protocol {group.protocol_hash or NOT_KNOWN}"),
        (len({one.reference for one in of_kind}), f"against {group.reference}" if group.reference else "no reference"),
    )
    label = ", ".join(text for values, text in parts if values > 1)
    return dataclasses.replace(group, disagreement=dataclasses.replace(group.disagreement, label=label))


def _threads(group: GroupReport) -> str:
    return "" if group.threads is None else f"{group.threads} thread{'' if group.threads == 1 else 's'}"


def _where(group: GroupReport) -> str:
    one, threads = group.disagreement, _threads(group)
    # Whether or not they tell it from another.
    told = one.label if threads and one.label.startswith(threads) else ", ".join(filter(None, (threads, one.label)))
    return ", ".join(filter(None, (one.device, one.backend, one.precision, f"batch {one.batch}", told)))


def _reference_ns(group: GroupReport) -> float | None:
    """The reference's median beside the models of a group; None where they have none in common."""
    points = [point for point in group.disagreement.points if point.latency_ns is not None]
    is_relative = group.reference is not None and all(point.ratio for point in points)
    scales = [point.latency_ns.value / point.ratio.value for point in points if point.ratio and point.latency_ns]
    return statistics.median(scales) if is_relative and scales else None


def _candidates(group: GroupReport, scale: float | None, accuracy_of: AccuracyOf | None) -> Iterable[Candidate]:
    # Times of one group are compared as multiples of the reference; for the eye they are put back into nanoseconds.
    for point in group.disagreement.points:
        gain = accuracy_of(point.model, point.size) if accuracy_of else point.macs
        if gain and point.latency_ns is not None:
            cost = _scaled(point.ratio, scale) if scale and point.ratio else point.latency_ns
            yield Candidate(point.model, point.size, gain, cost)


def _scaled(ratio: Interval, scale: float) -> Interval:
    low, high = (None if border is None else border * scale for border in (ratio.low, ratio.high))
    return Interval(ratio.value * scale, low, high)
