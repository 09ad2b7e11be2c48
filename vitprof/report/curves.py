"""Curves in words and tables: images a second against batch, what is best, what memory allows, who overtakes whom.

Its own file because the terminal and markdown say the same of them; `sections` draws it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vitprof.curves import ALLOCATOR, NVML, Axis, Crossover, Curve, CurvePoint, Headroom, PointOutcome, StoppedBy
from vitprof.measurements import Interval
from vitprof.report.cell import chip_of
from vitprof.report.columns import Column, counts_column, times_column
from vitprof.report.notes import broken_notes, failure_notes, warning_notes
from vitprof.report.sections import Section
from vitprof.runner.wire import OUT_OF_MEMORY
from vitprof.units import NOT_KNOWN, significant, text_from_bytes, text_from_ns

_ENDED = {
    StoppedBy.SATURATION: "two batches in a row brought less than 3%",
    StoppedBy.CAP: "the largest that is tried (--max-batch)",
    StoppedBy.FAILURE: "which failed",
    StoppedBy.INTERRUPTED: "interrupted",
}
_UNTRIED = "a larger batch was not tried: by a line through the points memory would not hold it"
_LEGEND = (
    "images/s: by the median call; images/ref: in the time that one call of the reference took beside them, which is "
    "what gain, best and knee go by where it is known; ±95%: half of the 95% interval. Gain: over the fastest smaller "
    "batch. Best: the smallest batch that cannot be told from the fastest; knee: the smallest with 95% of the speed of "
    "the fastest, or the best where that is smaller."
)
# Models that a note names.
_MOST_NAMED = 2


def curve_sections(curves: Sequence[Curve], crossovers: Sequence[Crossover]) -> tuple[Section, ...]:
    """What `throughput` shows: every batch of every curve, what each curve says, who overtakes whom, then notes."""
    if not curves:
        return (Section("no results"),)
    said = tuple(said_of_curve(curve, title) for curve, title in zip(curves, titles_of(curves), strict=True))
    sections = [
        Section(
            f"Throughput, {where_of(curves)}",
            (_setting(curves), _LEGEND),
            tuple(_columns(curves)),
            closing=(_provenance(curves),),
            level=1,
        ),
        Section("Best batch, knee, memory", said, is_list=True),
    ]
    if len({curve.name for curve in curves}) > 1:
        overtaking = tuple(map(said_of_crossover, crossovers))
        sections.append(Section("Crossovers", overtaking or ("None, at what was measured.",), is_list=True))
    return (*sections, *_notes(curves))


def titles_of(curves: Sequence[Curve]) -> list[str]:
    """What each curve is called; with its size where one name has several."""
    has_sizes = len({curve.name for curve in curves}) < len(curves)
    return [f"{curve.name} at {size_text(curve.size)}" if has_sizes else curve.name for curve in curves]


def size_text(size: tuple[int, int] | None) -> str:
    """`224` for a square, else `256x192`."""
    if size is None:
        return NOT_KNOWN
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def where_of(curves: Sequence[Curve]) -> str:
    """`local × ort × fp32`, what all curves share."""
    row = curves[0].row
    backends = {curve.row.backend for curve in curves}
    return " × ".join([row.device, *(backends if len(backends) == 1 else ()), row.spec.precision.value])


def said_of_curve(curve: Curve, title: str) -> str:
    """The best batch and the knee of a curve with their figures, why it ends, and what memory is left."""
    best, knee = (curve.at(batch) if batch else None for batch in (curve.best_batch, curve.knee_batch))
    if best is None or knee is None:
        is_broken = any(point.is_broken for point in curve.points)
        return f"{title}: no batch {'gives the outputs of the model' if is_broken else 'was measured'}."
    parts = [f"{title}: best batch {_figures(best)}", "knee the same" if knee is best else f"knee {_figures(knee)}"]
    if curve.stopped_by in _ENDED:
        failed = [point.batch for point in curve.points if point.outcome is PointOutcome.FAILED]
        is_failed = curve.stopped_by is StoppedBy.FAILURE and failed
        last = failed[0] if is_failed else curve.points[-1].batch
        parts.append(f"ended at batch {last}: {_ENDED[curve.stopped_by]}")
    elif curve.stopped_by is StoppedBy.MEMORY:
        too_large = [point.batch for point in curve.points if point.outcome is PointOutcome.OUT_OF_MEMORY]
        parts.append(f"batch {min(too_large)} does not fit in memory" if too_large else _UNTRIED)
    parts += [_room(curve.headroom)] if curve.headroom else []
    return "; ".join(parts) + "."


def said_of_crossover(one: Crossover) -> str:
    """`A is faster than B above batch 12 and slower below, measured at 8 and 16.`"""
    place = _place(one.axis, significant(one.at, 2 if one.axis is Axis.BATCH else 3))
    ends = " and ".join(f"{end:,.4g}" for end in one.between)
    fixed = f"At batch {one.batch}, " if one.batch is not None else f"At {size_text(one.size)} px, " if one.size else ""
    if one.is_decided:
        return f"{fixed}{one.above} is faster than {one.below} above {place} and slower below, measured at {ends}."
    return f"{fixed}undecided: {one.above} may overtake {one.below} at {place}; not clear on both sides at {ends}."


def _place(axis: Axis, at: str) -> str:
    return f"batch {at}" if axis is Axis.BATCH else f"{at} px"


def _figures(point: CurvePoint) -> str:
    """`8 (312.4 images/s ±1.2%, 25.61 ms a call)`."""
    rate, call = point.images_per_s, point.latency_ns
    if rate is None or call is None:
        return str(point.batch)
    half = rate.half_width_share
    width = f" ±{significant(half * 100, 2)}%" if half is not None else ""
    return f"{point.batch} ({significant(rate.value)} images/s{width}, {text_from_ns(call.value)} a call)"


def _room(room: Headroom) -> str:
    whose = "of the device's memory" if room.memory == "device" else "of memory"
    left, usable = text_from_bytes(max(0, room.left_bytes)), text_from_bytes(room.usable_bytes)
    said = f"the best leaves {left} of {usable} {whose}"
    if room.largest_batch is None:
        return said
    # Two digits: more would say that it is known.
    largest = f"{float(f'{room.largest_batch:.2g}'):,.0f}"
    return f"{said}, enough for batch {largest} by a line through the points (an estimate)"


def _setting(curves: Sequence[Curve]) -> str:
    """`1 thread, AMD EPYC 7B13.`"""
    row = curves[0].row
    threads = f"{row.threads} thread{'' if row.threads == 1 else 's'}" if row.threads else None
    region = None if row.protocol.region == "call" else row.protocol.region
    return ", ".join(fact for fact in (threads, region, chip_of(row)) if fact) + "."


def _provenance(curves: Sequence[Curve]) -> str:
    """By which protocol and which programs, and when."""
    rows = [row for curve in curves for row in curve.rows]
    versions = dict.fromkeys(f"{row.backend} {row.backend_version}" for row in rows if row.backend_version)
    protocol = rows[0].protocol
    begun = min(row.started_at for row in rows)
    told = (f"Protocol {protocol.hash}", protocol.effort, *versions, f"vitprof {rows[0].vitprof_version}", begun)
    return ", ".join(told) + "."


def _columns(curves: Sequence[Curve]) -> Iterator[Column]:
    pairs = [(curve, point) for curve in curves for point in curve.points]
    points = [point for _, point in pairs]
    yield Column("model", tuple(curve.name for curve, _ in pairs), is_number=False)
    sizes = tuple(size_text(curve.size) for curve, _ in pairs)
    if len(set(sizes)) > 1:
        yield Column("size", sizes)
    yield Column("batch", tuple(str(point.batch) for point in points))
    rates = [point.images_per_s for point in points]
    yield Column("images/s", tuple(significant(rate.value) if rate else NOT_KNOWN for rate in rates))
    yield Column("±95%", tuple(map(_half_width, rates)), 1)
    relative = [point.images_per_reference for point in points]
    if any(relative):
        yield Column("images/ref", tuple(significant(one.value) if one else NOT_KNOWN for one in relative), 6)
        yield Column("±95%", tuple(map(_half_width, relative)), 7)
    yield Column("gain", tuple(_gain(point) for point in points), 2)
    yield times_column("call", [point.latency_ns.value if point.latency_ns else None for point in points], spare=3)
    yield from _memory_columns(points)
    yield Column("grade", tuple(point.grade or NOT_KNOWN for point in points), 4, is_number=False)
    ratio_grades = tuple(point.relative_grade or NOT_KNOWN for point in points)
    if set(ratio_grades) != {NOT_KNOWN}:
        yield Column("ratio grade", ratio_grades, 8, is_number=False)
    yield Column("", tuple(_mark(curve, point) for curve, point in pairs), is_number=False)


def _memory_columns(points: Sequence[CurvePoint]) -> Iterator[Column]:
    def device_bytes(counted_by: str) -> list[int | None]:
        return [
            next((one.bytes for one in point.device_bytes if one.counted_by == counted_by), None) for point in points
        ]

    for name, values in (
        ("B process", [point.peak_rss_bytes for point in points]),
        ("B allocator", device_bytes(ALLOCATOR)),
        ("B NVML", device_bytes(NVML)),
    ):
        if any(value is not None for value in values):
            yield counts_column(name, values, 5)


def _half_width(interval: Interval | None) -> str:
    share = interval.half_width_share if interval else None
    return NOT_KNOWN if share is None else f"{significant(share * 100, 2)}%"


def _gain(point: CurvePoint) -> str:
    # The smallest batch gains over nothing.
    return "" if point.gain_share is None else f"{point.gain_share * 100:+.1f}%"


def _mark(curve: Curve, point: CurvePoint) -> str:
    """What is to be known of the point in a word or two."""
    if point.outcome is not PointOutcome.OK:
        return point.outcome.value
    marks = [(point.batch == curve.best_batch, "best"), (point.batch == curve.knee_batch, "knee")]
    return ", ".join([*(word for holds, word in marks if holds), *(["parity broken"] if point.is_broken else [])])


def _notes(curves: Sequence[Curve]) -> Iterator[Section]:
    """Broken parity, failures, warnings, with the batches that they are of; the end of memory is in the table."""
    titled = list(zip(titles_of(curves), curves, strict=True))
    for head, notes_of in (("Parity", broken_notes), ("Failures", failure_notes), ("Warnings", warning_notes)):
        # By what is told and what to do about it, then by curve.
        found: dict[tuple[str, str], dict[str, list[tuple[int, str]]]] = {}
        for title, curve in titled:
            for row in curve.rows:
                is_told = row.failure is not None and row.failure.kind == OUT_OF_MEMORY
                for note in () if is_told else notes_of([row]):
                    of_curve = found.setdefault((note.title, note.remedy), {}).setdefault(title, [])
                    of_curve.append((row.spec.batch, "; ".join(note.facts)))
        if found:
            yield Section(head, tuple(_sentence(*key, by_curve) for key, by_curve in found.items()), is_list=True)


def _sentence(title: str, remedy: str, by_curve: Mapping[str, Sequence[tuple[int, str]]]) -> str:
    """`busy machine: resnet50 at batch 1, 2, 4 (load 3.2 on 2 cores). Remedy: …`, the fact that of the first batch."""
    named = []
    for name, told in list(by_curve.items())[:_MOST_NAMED]:
        batches = ", ".join(str(batch) for batch, _ in told)
        named.append(f"{name} at batch {batches}" + (f" ({told[0][1]})" if told[0][1] else ""))
    more = len(by_curve) - _MOST_NAMED
    said = "; ".join(named) + (f"; {more} more" if more > 0 else "")
    return f"{title}: {said}." + (f" Remedy: {remedy}." if remedy else "")
