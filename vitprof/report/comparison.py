"""What a comparison says, in words and tables: how well counts predict time, where they do not, and A against B.

Its own file because the terminal, markdown and the pictures name a group, a time and a rank alike. The sections are
drawn by `sections`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vitprof.comparisons import (
    Correlation,
    Disagreement,
    Inversion,
    Limits,
    PairVerdict,
    Point,
    comparable_times,
    is_relative,
)
from vitprof.measurements import Interval
from vitprof.report.columns import Column, counts_column, times_column
from vitprof.report.sections import Section
from vitprof.units import NOT_KNOWN, text_from_share

# What each count is called; the order of the JSON and of the tables.
COUNTS = {"macs": "MACs", "params": "parameters", "activations": "activations", "roofline": "roofline"}
UNEXPLAINED = "unexplained"
_SHOWN_INVERSIONS = 10
_SHOWN_LEFT_OUT = 10
# A run of one's own is shown model by model, a published table is not.
_MOST_IN_TABLE = 60
_LIMITS = Limits()


def comparison_sections(
    groups: Sequence[Disagreement],
    pairs: Sequence[PairVerdict],
    *,
    limits: Limits = _LIMITS,
    most_inversions: int | None = _SHOWN_INVERSIONS,
) -> tuple[Section, ...]:
    """What `compare` shows: for each group how well counts predict time and the worst inversions, then A against B.

    `most_inversions` a group; None: every one that the group holds.
    """
    if not groups and not pairs:
        return (Section("nothing to compare"),)
    telling = [group for group in groups if len(groups) == 1 or group.best_count is not None or group.inversions_total]
    silent = [f"{group_title(group)}." for group in groups if group not in telling]
    few = [disagreement_section(group) for group in groups if group not in telling and len(group.points) > 1]
    sections = [section for group in telling for section in _of_group(group, limits, most_inversions)]
    if silent:
        sections += [Section("Too few models to say how well counts predict time", tuple(silent), level=1), *few]
    return (*sections, *([_verdicts(pairs)] if pairs else []))


def _of_group(group: Disagreement, limits: Limits, most_inversions: int | None) -> list[Section]:
    table = [disagreement_section(group)] if len(group.points) <= _MOST_IN_TABLE else []
    return [_predictions(group), *table, _inversions(group, limits, most_inversions)]


def disagreement_section(group: Disagreement) -> Section:
    """Every model of a group with its rank by MACs and by time, those that the MAC count misplaces most first."""
    placed = sorted(placements(group), key=lambda one: (one.shift is None, -abs(one.shift or 0)))
    points = [one.point for one in placed]
    columns = (
        *point_columns("", points, group.batch is None),
        times_column(_time_head(group), [point.image_ns for point in points]),
        counts_column("MACs", [point.macs for point in points]),
        counts_column("B moved", [_bytes_moved(point) for point in points], spare=3),
        Column("rank by MACs", tuple(_rank(one.by_macs) for one in placed), spare=1),
        Column("rank by time", tuple(_rank(one.by_time) for one in placed), spare=1),
        Column("shift", tuple(shift_text(one.shift) for one in placed)),
        Column("roofline share", tuple(_roofline_share(point) for point in points), spare=2),
    )
    facts = ["Rank 1: the fewest MACs, the shortest time. A shift above 0: slower than the MAC count says."]
    if any(point.roofline_ns for point in points):
        facts.append("Roofline share: the least time that the operators allow, as a share of the measured one.")
    return Section(f"{group_title(group)}: where MACs misplace a model", tuple(facts), columns)


@dataclass(frozen=True)
class Placed:
    """A model with its ranks among those of its group whose MACs are known; None where they are not."""

    point: Point
    by_macs: float | None = None
    by_time: float | None = None

    @property
    def shift(self) -> float | None:
        """Above 0: slower than the MAC count says."""
        return None if self.by_macs is None or self.by_time is None else self.by_time - self.by_macs


def left_out_section(texts: Sequence[str]) -> Section:
    """What is not in the comparison, each row with its reason."""
    more = len(texts) - _SHOWN_LEFT_OUT
    closing = (f"{more:,} more.",) if more > 0 else ()
    return Section(f"Left out: {counted(len(texts), 'row')}", tuple(texts[:_SHOWN_LEFT_OUT]), closing=closing)


def worst_inversions(group: Disagreement, most: int | None) -> list[Inversion]:
    """The worst first; of more than `most` those of different slower models, which would else fill the table."""
    ranked = sorted(group.inversions, key=lambda one: -one.severity)
    if most is None or len(ranked) <= most:
        return ranked
    worst: dict[str, Inversion] = {}
    for one in ranked:
        worst.setdefault(one.slower.model, one)
    others = [one for one in ranked if worst[one.slower.model] is not one]
    return sorted([*worst.values(), *others][:most], key=lambda one: -one.severity)


def placements(group: Disagreement) -> tuple[Placed, ...]:
    """The models in the order of the group."""
    known = [point for point in group.points if point.macs]
    by_macs = iter(_ranks([point.macs or 0 for point in known]))
    times = dict(zip(map(id, group.points), comparable_times(group.points), strict=True))
    by_time = iter(_ranks([times[id(point)] for point in known]))
    return tuple(Placed(point, next(by_macs), next(by_time)) if point.macs else Placed(point) for point in group.points)


def group_title(group: Disagreement) -> str:
    """`local × ort × fp32, batch 1: 24 models`, with what tells it from a group that is like it in all of that."""
    batch = "every batch" if group.batch is None else f"batch {group.batch}"
    known = [name for name in (group.device, group.backend, group.precision) if name != NOT_KNOWN]
    where = ", ".join(filter(None, (" × ".join(known), batch, group.label)))
    return f"{where}: {counted(len(group.points), 'model')}"


def is_latency(group: Disagreement) -> bool:
    """Whether the times are those of single calls: published images/s, and larger batches, are not latencies."""
    return group.batch == 1 and all(point.latency_ns is not None for point in group.points)


def time_name(group: Disagreement) -> str:
    """What the time of a group may be called: inverted throughput of a large batch is no latency."""
    if is_latency(group):
        return "latency"
    return "time per image" if group.batch is None else f"time per image at batch {group.batch}"


def counted(count: int, noun: str) -> str:
    """`1 model`, `1,442 models`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _predictions(group: Disagreement) -> Section:
    """A line for every count that the group knows, the best first in words."""
    counts = [name for name in COUNTS if _is_known(group.spearman.get(name)) or _is_known(group.kendall.get(name))]
    spearman = [group.spearman.get(name) for name in counts]
    kendall = [group.kendall.get(name) for name in counts]
    columns = (
        Column("count", tuple(COUNTS[name] for name in counts), is_number=False),
        Column("Spearman", tuple(map(_value, spearman))),
        Column("95% interval", tuple(map(_interval, spearman))),
        Column("Kendall", tuple(map(_value, kendall))),
        Column("95% interval", tuple(map(_interval, kendall))),
    )
    ratio = f" (as a multiple of {group.points[0].reference}'s)" if is_relative(group.points) else ""
    time = f"Rank correlation of the {time_name(group)}{ratio} with each count."
    facts = (time, _best(group)) if counts else ("No rank correlation: too few models with known counts.",)
    r2 = group.log_macs_r2
    fit = (f"MACs explain {text_from_share(r2)} of the variance of log time (R² {r2:.3f}).",) if r2 is not None else ()
    return Section(group_title(group), facts, columns if counts else (), closing=fit, level=1)


def _best(group: Disagreement) -> str:
    best, macs = group.best_count, group.spearman.get("macs")
    top = group.spearman.get(best) if best else None
    if best is None or top is None or top.value is None:
        return "Which count predicts best cannot be said."
    sentence = f"Of the counts known here {COUNTS.get(best, best)} predict{'s' if best == 'roofline' else ''} best"
    if any(one.value is not None and one.value > top.value for one in group.spearman.values()):
        # They are compared over the same models; a count known for few models only may have the higher value.
        return f"{sentence}, over the models for which all are known."
    if best == "macs" or macs is None or macs.value is None:
        return f"{sentence} (Spearman {top.value:.3f})."
    is_clear = top.low is not None and macs.high is not None and top.low > macs.high
    overlap = "" if is_clear else "; the intervals overlap"
    return f"{sentence} (Spearman {top.value:.3f}, MACs {macs.value:.3f}{overlap})."


def _inversions(group: Disagreement, limits: Limits, most: int | None) -> Section:
    """How many pairs are inverted, and the worst of them with the reason."""
    rows = worst_inversions(group, most)
    fact = (
        f"{group.inversions_total:,} of {counted(group.pairs, 'pair')}: one model has at most "
        f"{limits.macs_ratio:g} × the MACs of the other and takes at least {limits.time_ratio:g} × its "
        f"{time_name(group)}."
    )
    left_out = group.inversions_total - len(rows)
    unexplained = sum(1 for one in rows if one.reason == UNEXPLAINED)
    closing = (
        *([f"Unexplained by what is known of the models: {unexplained} of these {len(rows)}."] if unexplained else []),
        *([f"{left_out:,} not shown: --all shows every one."] if left_out > 0 else []),
    )
    if not rows:
        return Section("Inversions", (fact,), closing=closing)
    columns = (
        *point_columns("slower", [one.slower for one in rows], group.batch is None, [one.faster for one in rows]),
        *point_columns("faster", [one.faster for one in rows], group.batch is None, [one.slower for one in rows]),
        Column("MACs ratio", tuple(f"{one.macs_ratio:.3f}" for one in rows)),
        Column("time ratio", tuple(f"{one.time_ratio:.2f}" for one in rows)),
    )
    remarks = tuple(one.reason for one in rows)
    return Section("Inversions", (fact,), columns, remarks, "reason", closing)


def _verdicts(pairs: Sequence[PairVerdict]) -> Section:
    """A row a model: the candidate's time as a multiple of the baseline's, the verdict, and what else differs."""
    counts = Counter(pair.verdict or "without a verdict" for pair in pairs)
    fact = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    columns = (
        Column("model", tuple(pair.model for pair in pairs), is_number=False),
        Column("baseline", tuple(pair.baseline for pair in pairs), spare=1, is_number=False),
        Column("candidate", tuple(pair.candidate for pair in pairs), spare=1, is_number=False),
        Column("ratio", tuple(NOT_KNOWN if pair.ratio is None else f"{pair.ratio.value:.3f}" for pair in pairs)),
        Column("95% interval", tuple(_ratio_interval(pair.ratio) for pair in pairs)),
        Column("verdict", tuple(pair.verdict or NOT_KNOWN for pair in pairs), is_number=False),
    )
    confounders = [f"also differs: {', '.join(pair.confounders)}" if pair.confounders else "" for pair in pairs]
    shared = set(confounders)
    is_shared = len(shared) == 1
    facts = [f"Candidate's time ÷ baseline's. {counted(len(pairs), 'pair')}: {fact}."]
    if is_shared and confounders[0]:
        facts.append(f"Every pair {confounders[0]}.")
    return Section(
        "A against B", tuple(facts), columns, () if is_shared else tuple(confounders), "confounders", level=1
    )


def point_columns(
    head: str, points: Sequence[Point], with_batch: bool = False, others: Sequence[Point] = ()
) -> tuple[Column, ...]:
    """The names, with sizes and batches where they differ."""
    everybody = (*points, *others)
    columns = [Column(head or "model", tuple(point.model for point in points), is_number=False)]
    if len({point.size for point in everybody}) > 1:
        sizes = tuple(f"{point.size[0]}x{point.size[1]}" if point.size else NOT_KNOWN for point in points)
        columns.append(Column("size", sizes, is_number=False))
    if with_batch and len({point.batch for point in everybody}) > 1:
        columns.append(Column("batch", tuple(str(point.batch) for point in points)))
    return tuple(columns)


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, equal values sharing the mean of theirs."""
    order = sorted(values)
    return [(bisect_left(order, value) + bisect_right(order, value) + 1) / 2 for value in values]


def shift_text(shift: float | None) -> str:
    """`+4`, `-2.5`, `0`."""
    return NOT_KNOWN if shift is None else f"{shift:+g}" if shift else "0"


def _rank(rank: float | None) -> str:
    return NOT_KNOWN if rank is None else f"{rank:g}"


def _time_head(group: Disagreement) -> str:
    # The batch stands in the title of the table.
    return "latency" if is_latency(group) else "time per image"


def _bytes_moved(point: Point) -> float | None:
    return float(sum(one.bytes_moved for one in point.kinds)) if point.kinds else None


def _roofline_share(point: Point) -> str:
    return NOT_KNOWN if point.roofline_ns is None else text_from_share(point.roofline_ns / point.image_ns)


def _is_known(one: Correlation | None) -> bool:
    return one is not None and one.value is not None


def _value(one: Correlation | None) -> str:
    return NOT_KNOWN if one is None or one.value is None else f"{one.value:.3f}"


def _interval(one: Correlation | None) -> str:
    return NOT_KNOWN if one is None or one.low is None or one.high is None else f"[{one.low:.3f}, {one.high:.3f}]"


def _ratio_interval(ratio: Interval | None) -> str:
    if ratio is None or ratio.low is None or ratio.high is None:
        return NOT_KNOWN
    return f"[{ratio.low:.3f}, {ratio.high:.3f}]"
