"""A sweep as text and as JSON: its cells before it runs, its rows afterwards; the JSON of rows is that of `latency`.

Its own file because the rows of a sweep come from the store, where an earlier part of it may have been measured by a
process that is gone: they are documents, not results with samples.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from vitprof.records import Metric, typed_name
from vitprof.report import stored
from vitprof.report.columns import Column
from vitprof.report.markdown import escaped, table_text
from vitprof.report.outside import encodable, plain
from vitprof.report.schema import FailurePart, Part
from vitprof.report.stored import Listed
from vitprof.report.terminal import show_columns, show_stored
from vitprof.sweeps import SweepCell
from vitprof.units import NOT_KNOWN

_HEADS = ("cell", "group", "model", "size", "batch", "precision", "device", "backend", "threads", "metric")
_OWN = "own"
# Of the columns of a stored row.
_SHARED = ("from", "measured", "run")


class PlanCell(Part):
    number: int
    # Cells of one group are measured together.
    group: int
    model: str
    source: str
    # null: the model's own, which is not known before it is loaded.
    size: tuple[int, int] | None
    batch: int
    precision: str
    device: str
    backend: str
    # null: the device's.
    threads: int | None
    metric: str


class PlanDocument(Part):
    schema_version: int = 1
    plan_hash: str
    groups: int
    # That the cache lacks.
    exports: int
    estimated_s: float
    cells: tuple[PlanCell, ...]


def plan_document(cells: Sequence[SweepCell], plan_hash: str, *, exports: int, seconds: float) -> PlanDocument:
    """The document of `sweep --dry-run`."""
    return PlanDocument(
        plan_hash=plan_hash,
        groups=len({cell.group for cell in cells}),
        exports=exports,
        estimated_s=round(seconds, 1),
        cells=tuple(
            PlanCell(
                number=cell.number,
                group=cell.group,
                model=encodable(cell.spec.name),
                source=cell.spec.source.value,
                size=cell.spec.size,
                batch=cell.spec.batch,
                precision=cell.spec.precision.value,
                device=encodable(cell.device),
                backend=cell.backend,
                threads=cell.threads,
                metric=cell.metric.value,
            )
            for cell in cells
        ),
    )


def show_plan(document: PlanDocument, console: Console) -> None:
    """Print a line for every cell, then how many there are and how long they take."""
    heads, rows = _shown(document)
    show_columns(heads, rows, console)
    console.print(Text(plan_text(document)), soft_wrap=True)


def plan_text(document: PlanDocument) -> str:
    """`108 cells in 14 groups, 12 exports, about 9 min`."""
    cells, groups = _count(len(document.cells), "cell"), _count(document.groups, "group")
    exports = f", {_count(document.exports, 'export')}" if document.exports else ""
    return f"{cells} in {groups}{exports}, about {duration_text(document.estimated_s)}"


def show_rows(listed: Sequence[Listed], console: Console) -> None:
    """Print a line for every row in the order of the plan, then the failures, each cause once."""
    show_stored(listed, console, _columns(listed) if listed else None)
    for cause, models, remedy in _failures(listed):
        console.print(Text.assemble(("\nfailed  ", "bold red"), cause), soft_wrap=True)
        console.print(Text(f"  of {models}"), soft_wrap=True)
        console.print(Text(f"  remedy: {remedy}", "cyan"), soft_wrap=True)


def rows_markdown(listed: Sequence[Listed]) -> str:
    """A document of one table with the failures beneath it."""
    if not listed:
        return "No results.\n"
    parts = [_table(_columns(listed))]
    failures = _failures(listed)
    if failures:
        items = [
            f"- {escaped(cause)}: {escaped(models)}\n  - Remedy: {escaped(remedy)}"
            for cause, models, remedy in failures
        ]
        parts.append("\n".join(["**Failures**", "", *items]))
    return "\n\n".join(parts) + "\n"


def duration_text(seconds: float) -> str:
    """`40 s`, `9 min`, `3 h 20 min`: no more exact than a guess."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _shown(document: PlanDocument) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads and rows; the metric only where cells differ in it."""
    has_metric = len({cell.metric for cell in document.cells}) > 1 or any(
        cell.metric != Metric.LATENCY for cell in document.cells
    )
    rows = [
        (
            str(cell.number),
            str(cell.group),
            plain(typed_name(cell.model, cell.source)),
            "x".join(map(str, cell.size)) if cell.size else _OWN,
            str(cell.batch),
            cell.precision,
            plain(cell.device),
            cell.backend,
            str(cell.threads or _OWN),
            cell.metric,
        )
        for cell in document.cells
    ]
    kept = len(_HEADS) if has_metric else len(_HEADS) - 1
    return _HEADS[:kept], [row[:kept] for row in rows]


def _columns(listed: Sequence[Listed]) -> list[Column]:
    """Those of a stored row without what all rows of one sweep share, and with the threads where they differ."""
    columns = [column for column in stored.columns_of(listed) if column.head not in _SHARED]
    threads = tuple(str(one.row.threads or NOT_KNOWN) for one in listed)
    if len(set(threads)) > 1:
        place = next(index for index, column in enumerate(columns) if column.head == "backend")
        columns.insert(place + 1, Column("threads", threads))
    return columns


def _failures(listed: Sequence[Listed]) -> list[tuple[str, str, str]]:
    """(cause, which cells, remedy); cells that failed alike share one."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in listed:
        failure: FailurePart | None = one.row.failure
        if failure is not None:
            cause = f"at {plain(failure.stage)}: {plain(failure.error)}"
            row = one.row
            where = f"{plain(row.model)} (batch {row.batch}, {plain(row.backend)} on {plain(row.device)})"
            found.setdefault((cause, plain(failure.remedy) or NOT_KNOWN), []).append(where)
    return [(cause, ", ".join(dict.fromkeys(models)), remedy) for (cause, remedy), models in found.items()]


def _table(columns: Sequence[Column]) -> str:
    return table_text(columns, [[escaped(cell) for cell in column.cells] for column in columns])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
