"""Counted work on a terminal, as JSON, CSV and markdown.

Its own file because a count is no measurement: no interval, no grade, but a row for every operator. All forms share
the cells here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from vitprof.counts import MAC_KINDS, Cost, Kind, OpRow, kind_sums
from vitprof.records import Counted
from vitprof.report.by import By
from vitprof.report.markdown import escaped
from vitprof.report.outside import csv_cell, encodable, plain
from vitprof.report.terminal import show_columns
from vitprof.units import NOT_KNOWN, six_digits, text_from_bytes, text_from_count, text_from_share

if TYPE_CHECKING:
    from vitprof.report.schema_analysis import CountDocument, CountRow

# A terminal shows this many rows of a long table; the files have all.
_MOST_ROWS = 40


_CSV_HEADS = (
    *("model", "height", "width", "op", "kind", "module", "calls", "macs", "bytes_in", "bytes_out"),
    *("weight_bytes", "shape_out", "depends_on_input"),
)

MODEL_HEADS = ("model", "size", "params", "MACs", "weights", "activations", "MACs/byte", "operators", "understood")
ROW_HEADS = ("calls", "MACs", "share", "bytes", "share", "MACs/byte", "output")


def model_cells(counted: Counted) -> tuple[str, ...]:
    """The cells under `MODEL_HEADS`; a failed model has its reason in `notes`."""
    cost = counted.cost
    if cost is None:
        return (counted.spec.name, *[NOT_KNOWN] * (len(MODEL_HEADS) - 1))
    at_least = "≥ " if cost.is_lower_bound else ""
    return (
        counted.spec.name,
        "x".join(map(str, counted.input_shape[2:])) if counted.input_shape else NOT_KNOWN,
        text_from_count(cost.params),
        at_least + text_from_count(cost.macs),
        text_from_bytes(cost.weight_bytes),
        text_from_bytes(cost.activation_bytes),
        _intensity(cost.macs, sum(row.bytes_moved for row in cost.rows)),
        NOT_KNOWN if cost.ops is None else str(cost.ops),
        text_from_share(cost.coverage),
    )


def _intensity(macs: int | None, bytes_moved: int) -> str:
    return NOT_KNOWN if macs is None or not bytes_moved else f"{macs / bytes_moved:.1f}"


def row_heads(by: By) -> tuple[str, ...]:
    """The heads of a model's own table."""
    names = {By.OP: ("operator", "kind", "module"), By.MODULE: ("module",), By.KIND: ("kind",)}[by]
    return (*names, *(ROW_HEADS if by is By.OP else ROW_HEADS[:-1]))


def row_cells(cost: Cost, by: By) -> tuple[tuple[str, ...], ...]:
    """A model's own table: its operators in order, or its modules or kinds with the most MACs, then bytes, first."""
    macs, moved = max(1, cost.macs or 0), max(1, sum(row.bytes_moved for row in cost.rows))
    if by is By.OP:
        return tuple(
            (row.op, row.kind.value, row.module or "(model)", *_numbers([row], macs, moved), _shape(row.shape_out))
            for row in cost.rows
        )
    name: Callable[[OpRow], str] = (lambda row: row.module or "(model)") if by is By.MODULE else (lambda row: row.kind)
    groups: dict[str, list[OpRow]] = {}
    for row in cost.rows:
        groups.setdefault(name(row), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: (-_macs(item[1]), -_moved(item[1])))
    return tuple((label, *_numbers(rows, macs, moved)) for label, rows in ordered)


def _numbers(rows: Sequence[OpRow], macs: int, moved: int) -> tuple[str, ...]:
    own_macs, own_bytes = _macs(rows), _moved(rows)
    return (
        str(sum(row.calls for row in rows)),
        text_from_count(own_macs) if own_macs else "-",
        text_from_share(own_macs / macs) if own_macs else "-",
        text_from_bytes(own_bytes),
        text_from_share(own_bytes / moved),
        _intensity(own_macs, own_bytes) if own_macs else "-",
    )


def _macs(rows: Sequence[OpRow]) -> int:
    return sum(row.macs for row in rows)


def _moved(rows: Sequence[OpRow]) -> int:
    return sum(row.bytes_moved for row in rows)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def cross_check_lines(counted: Counted) -> tuple[str, ...]:
    """What other counters say, one line each, with the reasons for the difference."""
    cost = counted.cost
    if cost is None or not counted.others:
        return ()
    lines = [f"vitprof: {cost.macs:,} MACs" if cost.macs is not None else f"vitprof: {NOT_KNOWN}"]
    for other in counted.others:
        name = f"{other.name} {other.version}".strip()
        if other.macs is None:
            lines.append(f"{name}: {other.error or NOT_KNOWN}")
            continue
        difference = f"{other.macs / cost.macs - 1:+.2%}" if cost.macs else NOT_KNOWN
        reasons = "".join(f"; {reason}" for reason in other.reasons)
        lines.append(f"{name}: {other.printed} ({difference}{' of the MACs' if cost.macs else ''}){reasons}")
    return tuple(lines)


def notes(counted: Counted) -> tuple[str, ...]:
    """What must be said beside the numbers: failure, changes, operators that no rule knows, a lower bound."""
    if counted.failure is not None:
        return (f"failed at {counted.failure.stage}: {counted.failure.error}", f"remedy: {counted.failure.remedy}")
    cost = counted.cost
    if cost is None:
        return ()
    told = [f"fix-up: {fixup}" for fixup in counted.fixups]
    for row in (row for row in cost.rows if row.kind is Kind.UNKNOWN):
        told.append(
            f"not counted: {row.calls} x {row.op} in {row.module or 'the model itself'}, "
            f"{text_from_bytes(row.bytes_moved)} moved, output {_shape(row.shape_out)}"
        )
    if cost.is_lower_bound:
        told.append("the MACs are a lower bound: an operator that is not counted multiplies and adds by its nature")
    return tuple(told)


UNITS = (
    "MACs: one a multiply-add (2 FLOP), of convolutions, linear layers and matrix products; one image. Bytes: fp32, "
    "read and written by every operator."
)


def show(counts: Sequence[Counted], by: By | None, console: Console) -> None:
    """Print the models' table, each model's own (by kind for a single one), what to know, and other counts."""
    show_columns(MODEL_HEADS, [tuple(map(plain, model_cells(one))) for one in counts], console)
    for one in counts:
        own = by or (By.KIND if len(counts) == 1 else None)
        if own is not None and one.cost is not None:
            rows = row_cells(one.cost, own)
            console.print()
            if len(counts) > 1:
                console.print(Text(plain(one.spec.name), "bold"))
            show_columns(row_heads(own), [tuple(map(plain, row)) for row in rows[:_MOST_ROWS]], console)
            if len(rows) > _MOST_ROWS:
                console.print(Text(f"… {len(rows) - _MOST_ROWS} more: --csv FILE has them all", "dim"))
        for line in (*notes(one), *cross_check_lines(one)):
            told = f"{one.spec.name}: {line}" if len(counts) > 1 else line
            console.print(Text(plain(told)), soft_wrap=True)
    console.print(Text(UNITS, "dim"), soft_wrap=True)


def markdown(counts: Sequence[Counted], by: By | None) -> str:
    """The models' table, then each model's own where `by` says so; everything from outside escaped."""
    parts = [_markdown_table(MODEL_HEADS, [model_cells(one) for one in counts]), UNITS]
    for one in counts:
        told = [*notes(one), *cross_check_lines(one)]
        if told:
            parts.append("\n".join(f"- {escaped(one.spec.name)}: {escaped(line)}" for line in told))
        if by is not None and one.cost is not None:
            parts += [f"## {escaped(one.spec.name)}", _markdown_table(row_heads(by), row_cells(one.cost, by))]
    return "\n\n".join(parts) + "\n"


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([escaped(plain(cell)) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def csv_text(counts: Sequence[Counted]) -> str:
    """One line for every operator of every model: whole numbers, no units."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        [
            "model",
            "height",
            "width",
            "op",
            "kind",
            "module",
            "calls",
            "macs",
            "bytes_in",
            "bytes_out",
            "weight_bytes",
            "shape_out",
            "depends_on_input",
        ]
    )
    for one in counts:
        size = one.input_shape[2:] if one.input_shape else ("", "")
        for row in one.cost.rows if one.cost else ():
            numbers = (row.calls, row.macs, row.bytes_in, row.bytes_out, row.weight_bytes)
            names = (row.op, row.kind.value, row.module)
            facts = (one.spec.name, *size, *names, *numbers, _shape(row.shape_out), int(row.depends_on_input))
            writer.writerow(map(csv_cell, facts))
    return file.getvalue()


def document(counts: Sequence[Counted]) -> CountDocument:
    """The JSON of `count`."""
    from vitprof.report.schema_analysis import CountDocument

    return CountDocument(results=tuple(_document_row(one) for one in counts))


def _document_row(one: Counted) -> CountRow:
    from vitprof.report.schema import FailurePart
    from vitprof.report.schema_analysis import CountRow, OpPart, OtherCountPart

    cost = one.cost
    sums = {entry.kind: entry.macs for entry in kind_sums(cost.rows)} if cost else {}
    moved = sum(row.bytes_moved for row in cost.rows) if cost else 0
    return CountRow(
        model=encodable(one.spec.name),
        source=one.spec.source.value,
        size=(one.input_shape[2], one.input_shape[3]) if one.input_shape else None,
        outcome="failed" if one.failure else "ok",
        failure=None
        if one.failure is None
        else FailurePart(
            stage=one.failure.stage, error=encodable(one.failure.error), remedy=encodable(one.failure.remedy)
        ),
        params=cost.params if cost else None,
        macs=cost.macs if cost else None,
        macs_is_lower_bound=cost.is_lower_bound if cost else None,
        weight_bytes=cost.weight_bytes if cost else None,
        activation_bytes=cost.activation_bytes if cost else None,
        bytes_moved=moved if cost else None,
        macs_per_byte=six_digits(cost.macs / moved) if cost and cost.macs and moved else None,
        ledgers=vars(cost.ledgers) if cost else None,
        by_kind={kind.value: sums.get(kind, 0) for kind in MAC_KINDS} if cost else None,
        ops=cost.ops if cost else None,
        uncounted_ops={encodable(name): calls for name, calls in cost.uncounted_ops.items()} if cost else {},
        coverage=cost.coverage if cost else None,
        fixups=tuple(encodable(fixup) for fixup in one.fixups),
        reparam=one.spec.is_fused,
        rows=tuple(
            OpPart(
                op=encodable(row.op),
                kind=row.kind.value,
                module=encodable(row.module),
                calls=row.calls,
                macs=row.macs,
                bytes_in=row.bytes_in,
                bytes_out=row.bytes_out,
                weight_bytes=row.weight_bytes,
                shape_out=row.shape_out,
                depends_on_input=row.depends_on_input,
            )
            for row in (cost.rows if cost else ())
        ),
        cross_check=tuple(
            OtherCountPart(
                counter=other.name,
                version=other.version,
                printed=other.printed,
                macs=other.macs,
                reasons=tuple(map(encodable, other.reasons)),
                error=None if other.error is None else encodable(other.error),
            )
            for other in one.others
        )
        or None,
    )
