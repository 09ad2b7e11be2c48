"""The tables of a report as columns of text: the results of one device and backend, and what changed around them.

Its own file beside `table` and `stored`: these rows are JSON documents, of one device and backend each, with what
became of them since they were measured last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vitprof.report.columns import Column, counts_column, times_column
from vitprof.report.report_words import Names, change_text, size_text, threads_text
from vitprof.reports import ChangeKind, EnvironmentChange, PlacementChange, Report, ReportRow
from vitprof.units import NOT_KNOWN, significant, text_from_share

# Of many rows those come first into a table that tell most; what is left out stands in the HTML.
_TELLING = (
    *(ChangeKind.BROKE, ChangeKind.SLOWER, ChangeKind.FASTER, ChangeKind.MENDED, ChangeKind.UNDECIDED),
    *(ChangeKind.STILL_BROKEN, ChangeKind.NEW, ChangeKind.NOT_COMPARED, ChangeKind.SAME),
)
_RANK = {kind: index for index, kind in enumerate(_TELLING)}


def tables_of(report: Report) -> tuple[tuple[ReportRow, ...], ...]:
    """The rows of each device and backend, the fastest of one batch and precision first, what failed last."""
    tables: dict[tuple[str, str], list[ReportRow]] = {}
    for row in report.rows:
        tables.setdefault((row.cell.device, row.cell.backend), []).append(row)
    return tuple(tuple(sorted(rows, key=_order)) for _, rows in sorted(tables.items()))


def most_telling(rows: Sequence[ReportRow], most: int) -> tuple[ReportRow, ...]:
    """At most so many of the rows, those that changed before those that did not, in the order given."""
    if len(rows) <= most:
        return tuple(rows)
    ranked = sorted(range(len(rows)), key=lambda index: (_rank(rows[index]), index))
    return tuple(rows[index] for index in sorted(ranked[:most]))


def result_columns(rows: Sequence[ReportRow], with_change: bool = True) -> tuple[Column, ...]:
    """The columns of one device and backend, those left out that would be empty or the same in every row."""
    documents = [row.document for row in rows]

    def values(*path: str) -> list[Any]:
        return [_at(document, path) for document in documents]

    def texts(of: Callable[[ReportRow], str]) -> tuple[str, ...]:
        return tuple(of(row) for row in rows)

    times = values("latency_ns", "p50")
    columns = (
        Column("model", texts(lambda row: row.cell.model), is_number=False),
        *_varying(rows),
        # A forge shows the first eight columns or so; the others are there by scrolling.
        *((Column("change", texts(lambda row: change_text(row.change)), is_number=False),) if with_change else ()),
        *_outcomes(rows),
        times_column("time", times, spare=1, is_timing=True),
        Column("±95%", tuple(_half_width(row, "latency_ns", "p50") for row in rows), 1, is_timing=True),
        Column("grade", texts(lambda row: row.document["grade"] or NOT_KNOWN), 1, is_number=False, is_timing=True),
        Column("ratio", tuple(map(_number, values("relative", "ratio"))), 1, is_timing=True),
        Column("±95%", tuple(_half_width(row, "relative", "ratio") for row in rows), 1, is_timing=True),
        Column(
            "ratio's grade",
            tuple(value or NOT_KNOWN for value in values("relative", "grade")),
            1,
            is_number=False,
            is_timing=True,
        ),
        counts_column("instructions", values("instructions_per_inference", "value"), 1, is_timing=True),
        *_throughputs(rows),
        counts_column("MAC", values("cost", "macs"), 1),
        counts_column("MAC/s", values("achieved_macs_per_s"), 1, is_timing=True),
        # Each by who counted it: one taken for another is the mistake.
        counts_column("B process", values("memory", "peak_rss_bytes"), 1),
        counts_column("B allocator", values("memory", "peak_device_bytes"), 1),
        counts_column("B NVML", values("memory", "peak_device_nvml_bytes"), 1),
        Column("mJ/image", tuple(_number(_scaled(value)) for value in values("energy_j_per_image")), 1, is_timing=True),
    )
    return tuple(one for one in columns if not one.spare or set(one.cells) != {NOT_KNOWN})


def environment_columns(changes: Sequence[EnvironmentChange]) -> tuple[Column, ...]:
    """What is another way than in the runs compared with."""
    return (
        Column("device", tuple(one.device for one in changes), is_number=False),
        Column("what", tuple(_fact(one) for one in changes), is_number=False),
        Column("before", tuple(one.before for one in changes), is_number=False),
        Column("now", tuple(one.now for one in changes), is_number=False),
        Column("results", tuple(f"{one.rows:,}" for one in changes)),
    )


def placement_columns(changes: Sequence[PlacementChange], names: Names) -> tuple[Column, ...]:
    """What of a model runs where asked, before and now."""
    return (
        Column("what", tuple(names.name(one.cell) for one in changes), is_number=False),
        Column("operators before", tuple(text_from_share(one.ops_before) for one in changes)),
        Column("now", tuple(text_from_share(one.ops_now) for one in changes)),
        Column("MACs before", tuple(text_from_share(one.macs_before) for one in changes)),
        Column("now", tuple(text_from_share(one.macs_now) for one in changes)),
    )


def shared_facts(rows: Sequence[ReportRow]) -> str:
    """What holds for every row of a table: `batch 1, fp32, 1 thread; AMD EPYC`."""
    facts = []
    for _, of in _KEYS:
        texts = {of(row) for row in rows} - {NOT_KNOWN}
        if len(texts) == 1:
            facts.append(texts.pop())
    told = (_at(row.document, ("environment", "before", name)) for row in rows for name in ("gpu", "cpu"))
    chips = {str(one) for one in told if one is not None}
    return "; ".join(filter(None, (", ".join(facts), ", ".join(sorted(chips)[:4]))))


_KEYS: tuple[tuple[str, Callable[[ReportRow], str]], ...] = (
    ("batch", lambda row: f"batch {row.cell.batch}"),
    ("size", lambda row: size_text(row.cell)),
    ("precision", lambda row: row.cell.precision),
    ("threads", lambda row: threads_text(row.cell.threads)),
    ("region", lambda row: row.cell.region or NOT_KNOWN),
    ("protocol", lambda row: f"protocol {row.cell.protocol_hash}" if row.cell.protocol_hash else NOT_KNOWN),
)


def _varying(rows: Sequence[ReportRow]) -> tuple[Column, ...]:
    found = []
    for name, of in _KEYS:
        cells = tuple(of(row) for row in rows)
        if len(set(cells) - {NOT_KNOWN}) > 1:
            words = {"batch": "batch ", "protocol": "protocol "}.get(name, "")
            found.append(Column(name, tuple(cell.removeprefix(words) for cell in cells), is_number=name == "batch"))
    return tuple(found)


def _order(row: ReportRow) -> tuple[object, ...]:
    """Alike beside alike, the fastest first; what has no sound time last."""
    ratio, p50 = _at(row.document, ("relative", "ratio")), _at(row.document, ("latency_ns", "p50"))
    images_per_s = row.document["throughput_images_per_s"]
    time = ratio or p50 or (row.cell.batch * 1e9 / images_per_s if images_per_s else None)
    cell = row.cell
    where = (cell.region, cell.batch, cell.precision, cell.threads, cell.protocol_hash)
    return (not row.is_sound, where, ratio is None, time is None, time or 0.0, cell, row.run)


def _rank(row: ReportRow) -> int:
    kind = row.change.kind if row.change else ChangeKind.SAME
    return _RANK.get(kind, len(_RANK))


def _outcomes(rows: Sequence[ReportRow]) -> tuple[Column, ...]:
    words = tuple("ok" if row.is_sound else "parity broken" if row.is_broken else "failed" for row in rows)
    return () if set(words) == {"ok"} else (Column("outcome", words, is_number=False),)


def _throughputs(rows: Sequence[ReportRow]) -> tuple[Column, ...]:
    """Not where every row is one image and its time: it would be the time again."""
    if all(row.cell.batch == 1 and row.document["latency_ns"] for row in rows if row.is_sound):
        return ()
    values = [_number(row.document["throughput_images_per_s"]) for row in rows]
    return (Column("images/s", tuple(values), 1, is_timing=True),)


def _half_width(row: ReportRow, part: str, name: str) -> str:
    value, borders = _at(row.document, (part, name)), _at(row.document, (part, "ci95"))
    if not value or not borders:
        return NOT_KNOWN
    return f"{significant((borders[1] - borders[0]) / (2 * value) * 100, 2)}%"


def _at(document: Any, path: Sequence[str]) -> Any:
    """What stands there; None where any part of it is not known."""
    for name in path:
        document = None if document is None else document.get(name)
    return document


def _number(value: float | None) -> str:
    return NOT_KNOWN if value is None else significant(value)


def _scaled(joules: float | None) -> float | None:
    return None if joules is None else joules * 1e3


def _fact(change: EnvironmentChange) -> str:
    name = change.name.replace("_", " ")
    return f"{change.backend}: {name}" if change.backend else name
