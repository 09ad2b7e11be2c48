"""A cell over time: a table with a small picture of its intervals, as CSV, and as JSON.

Its own file because a history is read by eye: what moved, since when, and what else changed then.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from statistics import median

from vitprof.gates import Moment, Series, Unit
from vitprof.measurements import Interval
from vitprof.report.columns import Column, counts_column, times_column
from vitprof.report.gate import cell_fields, name_of
from vitprof.report.outside import csv_cell, encodable
from vitprof.report.schema_gate import HistoryDocument, SeriesPart, SeriesPoint
from vitprof.report.sections import Section
from vitprof.units import NOT_KNOWN, significant

_SPARKS = "▁▂▃▄▅▆▇█"
# Where there is nothing: blanks in a row become one, in a table of markdown and in text that is made harmless.
_NOTHING = "·"
# Of the picture of an interval, in characters.
_STRIP_WIDTH = 25
_HEADS = (
    *("model", "height", "width", "batch", "precision", "device", "backend", "threads", "region", "unit", "reference"),
    *("run", "started_at", "value", "ci95_low", "ci95_high", "latency_p50_ns", "grade", "outcome", "judged", "changed"),
)


def history_sections(series: Sequence[Series]) -> tuple[Section, ...]:
    """One section a cell."""
    return tuple(_section(one) for one in series)


def document_from_history(series: Sequence[Series]) -> HistoryDocument:
    """The document of `history`."""
    return HistoryDocument(
        series=tuple(
            SeriesPart(
                **cell_fields(one.cell),
                unit=one.unit.value,
                reference=one.reference,
                points=tuple(_point(moment) for moment in one.moments),
            )
            for one in series
        )
    )


def history_csv(series: Sequence[Series]) -> str:
    """Header and one line a measurement, lines ended by `\\n`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_HEADS)
    for one in series:
        cell = one.cell
        height, width = cell.size if cell.size != (0, 0) else (None, None)
        key = (cell.model, height, width, cell.batch, cell.precision, cell.device, cell.backend, cell.threads or None)
        for moment in one.moments:
            value = moment.value
            told = (
                *(*key, cell.region, one.unit.value, one.reference, moment.run, moment.started_at),
                *((value.value, value.low, value.high) if value else (None, None, None)),
                *(moment.latency_p50_ns, moment.grade, moment.outcome, moment.judged),
                "; ".join(moment.changed) or None,
            )
            writer.writerow(csv_cell(entry) for entry in told)
    return file.getvalue()


def value_name(one: Series) -> str:
    """What the values of a series are called."""
    if one.unit is Unit.RATIO:
        return f"ratio to {one.reference}"
    return "instructions" if one.unit is Unit.INSTRUCTIONS else "median call"


def sparkline(values: Sequence[float | None]) -> str:
    """One character a value, between the least and the largest; a dot for what is not known."""
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    steps = len(_SPARKS) - 1
    scale = steps / (high - low) if high > low else 0.0
    return "".join(_NOTHING if value is None else _SPARKS[round((value - low) * scale)] for value in values)


def _section(one: Series) -> Section:
    moments = one.moments
    values = [moment.value for moment in moments]
    title = f"{name_of(one.cell)} on {one.cell.backend}, {one.cell.device}"
    name = value_name(one)
    facts = [f"{name[0].upper()}{name[1:]}, {len(moments)} measurement{'' if len(moments) == 1 else 's'}."]
    known = [value.value for value in values if value]
    if len(known) > 1:
        facts.append(f"{sparkline([value.value if value else None for value in values])}  {_latest_text(one)}")
    columns = [
        Column("measured", tuple(_moment_text(moment) for moment in moments), is_number=False),
        _value_column(one, [value.value if value else None for value in values]),
        Column("±95%", tuple(_half_width(value) for value in values), spare=2),
        *([_strip_column(values)] if len(known) > 1 else []),
        Column("grade", tuple(moment.grade or NOT_KNOWN for moment in moments), spare=3, is_number=False),
        Column("gate", tuple(moment.judged or "" for moment in moments), spare=5, is_number=False),
        Column("outcome", tuple(moment.outcome for moment in moments), spare=4, is_number=False),
        Column("run", tuple(moment.run for moment in moments), spare=6, is_number=False),
    ]
    if one.unit is Unit.RATIO:
        columns.insert(3, times_column("call", [moment.latency_p50_ns for moment in moments], spare=4))
    dull = {"gate": {""}, "outcome": {"ok"}, "±95%": {NOT_KNOWN}, "grade": {NOT_KNOWN}}
    kept = tuple(column for column in columns if set(column.cells) != dull.get(column.head))
    return Section(title, tuple(facts), kept, tuple(map(_remark, moments)), "changed since the one before", level=1)


def _latest_text(one: Series) -> str:
    """How far the latest lies from the middle of those that it can be compared with."""
    if one.unit is Unit.NS:
        return "raw times of two runs are not compared: no reference ran beside them"
    comparable: list[float] = []
    for moment in one.moments:
        comparable = [] if moment.is_apart else comparable
        comparable += [moment.value.value] if moment.value else []
    if len(comparable) < 2:
        return "the latest cannot be compared with those before"
    *earlier, latest = comparable
    digits = 3 if one.unit is Unit.INSTRUCTIONS else 1
    change = (latest / median(earlier) - 1) * 100
    name = "the latest" if one.moments[-1].value else "the latest that has a value"
    return f"{name}: {change:+.{digits}f}% against the median of the {len(earlier)} comparable before it"


def _value_column(one: Series, values: Sequence[float | None]) -> Column:
    if one.unit is Unit.NS:
        return times_column("median call", values)
    if one.unit is Unit.INSTRUCTIONS:
        return counts_column("instructions", values)
    return Column("ratio", tuple(NOT_KNOWN if value is None else significant(value) for value in values))


def _strip_column(values: Sequence[Interval | None]) -> Column:
    """Each interval as a line with its value, all on one scale, whose ends stand in the head."""
    known = [value for value in values if value]
    low = min(value.low or value.value for value in known)
    high = max(value.high or value.value for value in known)
    head = f"{significant(low, 3)}…{significant(high, 3)}"
    return Column(head, tuple(_strip(value, low, high) for value in values), spare=1, is_number=False)


def _strip(value: Interval | None, low: float, high: float) -> str:
    if value is None:
        return _NOTHING * _STRIP_WIDTH

    def place(one: float) -> int:
        return round((one - low) / (high - low) * (_STRIP_WIDTH - 1)) if high > low else 0

    begin, end = place(value.low or value.value), place(value.high or value.value)
    line = [_NOTHING] * begin + ["─"] * (end - begin + 1) + [_NOTHING] * (_STRIP_WIDTH - 1 - end)
    line[place(value.value)] = "●"
    return "".join(line)


def _half_width(value: Interval | None) -> str:
    share = value.half_width_share if value else None
    return NOT_KNOWN if share is None else f"{significant(share * 100, 2)}%"


def _moment_text(moment: Moment) -> str:
    """In the zone of whoever reads it; JSON and CSV have it in UTC."""
    if moment.started_at is None:
        return NOT_KNOWN
    return datetime.fromisoformat(moment.started_at).astimezone().strftime("%Y-%m-%d %H:%M")


def _remark(moment: Moment) -> str:
    apart = " (not to be compared with the one before)" if moment.is_apart else ""
    return ", ".join(moment.changed) + apart if moment.changed or apart else ""


def _point(moment: Moment) -> SeriesPoint:
    value = moment.value
    has_borders = value is not None and value.low is not None and value.high is not None
    return SeriesPoint(
        run=moment.run,
        started_at=moment.started_at,
        value=None if value is None else value.value,
        ci95=(value.low, value.high) if has_borders else None,  # type: ignore[union-attr,arg-type]
        latency_p50_ns=moment.latency_p50_ns,
        grade=moment.grade,
        outcome=moment.outcome,
        judged=moment.judged,
        changed=tuple(map(encodable, moment.changed)),
    )
