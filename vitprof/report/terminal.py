"""Results on a terminal: a block for one, a table for several, then what to know and what to type next.

Its own file because only here the width is limited: phrases move to the next line whole, columns are left out by the
order that `table` gives, and no number is ever cut. Everything is a rich `Text`, so that nothing in a name or an
error message is read as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from vitprof.measurements import Grade
from vitprof.records import Calibration, Device, Exported, ProgramFacts, Result, typed_name
from vitprof.report.block import Line, lines_of
from vitprof.report.cell import is_broken
from vitprof.report.columns import GAP, Column, aligned, drawn_width, fitting, padded, total
from vitprof.report.notes import (
    Note,
    broken_notes,
    calibration_failure_notes,
    calibration_warning_notes,
    failure_notes,
    parity_phrases,
    warning_notes,
)
from vitprof.report.outside import plain
from vitprof.report.peaks import PEAK_HEADS, peak_cells, peak_lines
from vitprof.report.survey import HEADS, cells_of, counts_of, overview_of
from vitprof.report.table import COUNTED, columns_of, is_count, references_of, shared_facts
from vitprof.units import NOT_KNOWN, text_from_bytes, text_from_count

if TYPE_CHECKING:
    # At run time it would bring pydantic to commands that write no JSON.
    from vitprof.report.schema import CacheDocument, CachedRow
    from vitprof.report.stored import Listed

# Where the output is not a terminal it must not depend on one, and prose wider than this is hard to read anyway.
_PROSE_WIDTH = 120
# Of a program's operators, those that it has most of.
_MOST_TYPES = 5
_VOID = "strike dim"
_HEAD = "bold"
_QUIET = "dim"
_GRADE_STYLES = {Grade.A.value: "green", Grade.B.value: "yellow", Grade.C.value: "red"}
_WORD_STYLES = {"match": "green", "drift": "yellow", "broken": "bold red", "failed": "bold red"}


def show(results: Sequence[Result], console: Console) -> None:
    """Print a block for one result, a table for several; then parity, failures and warnings with their remedies."""
    width = min(console.width, _PROSE_WIDTH) if console.is_terminal else _PROSE_WIDTH
    if not results:
        lines = [Text("no results")]
    elif len(results) == 1:
        lines = _block(results[0], width)
    else:
        lines = _table(results, console.width if console.is_terminal else None, width)
    lines += _notes("Parity", broken_notes(results) if len(results) > 1 else (), "bold red", width)
    lines += _notes("Failures", failure_notes(results), "bold red", width)
    lines += _notes("Warnings", warning_notes(results), "bold yellow", width)
    for line in lines:
        line.rstrip()
        # Lines have their final width already; rich would cut or fold what is wider than it believes the screen to be.
        console.print(line, soft_wrap=True)


def show_exports(exports: Sequence[Exported], console: Console) -> None:
    """Print a line for every file with its parity, and for every failure what to type next."""
    for one in exports:
        line = Text.assemble((plain(one.spec.name), _HEAD), GAP, one.format, GAP)
        if one.failure is not None or one.artifact is None:
            line.append("failed", _WORD_STYLES["failed"])
            if one.failure is not None:
                line.append(f" at {plain(one.failure.stage)}: {plain(one.failure.error)}")
                line.append(f"\n{GAP}remedy: {plain(one.failure.remedy)}", "cyan")
        else:
            line.append(f"{plain(str(one.path))}{GAP}{text_from_bytes(one.artifact.bytes)}{GAP}")
            if one.parity is not None:
                verdict = one.parity.verdict.value
                line.append(f"{verdict}", _WORD_STYLES.get(verdict, ""))
                line.append(f"{GAP}{GAP.join(parity_phrases(one.parity))}")
            for fixup in one.artifact.fixups:
                line.append(f"\n{GAP}fix-up: {plain(fixup)}", _QUIET)
            if one.artifact.program is not None:
                line.append(f"\n{GAP}program: {_program_text(one.artifact.program)}", _QUIET)
            for doubt in one.artifact.lint:
                line.append(f"\n{GAP}{doubt.code}: {plain(doubt.detail)}", _WORD_STYLES["drift"])
                line.append(f"\n{GAP}{GAP}remedy: {plain(doubt.remedy)}", "cyan")
        console.print(line, soft_wrap=True)


def _program_text(program: ProgramFacts) -> str:
    """`takes a tensor; 550 operators (120 conv, 40 add, …), 540 in fp16, 10 in int32; 1.25 GMAC, 5.7 M parameters`."""
    most = ", ".join(f"{count} {plain(name)}" for name, count in list(program.ops.items())[:_MOST_TYPES])
    rest = ", …" if len(program.ops) > _MOST_TYPES else ""
    types = ", ".join(f"{count} in {plain(name)}" for name, count in program.dtypes.items())
    counted = f"{text_from_count(program.macs, 'MAC')}, {text_from_count(program.params)} parameters"
    given = "an image" if program.takes_image else "a tensor"
    return f"takes {given}; {sum(program.ops.values()):,} operators ({most}{rest}), {types}; {counted}"


def show_survey(exports: Sequence[Exported], console: Console) -> None:
    """Print a line for every model and format, then how many export with parity.

    Of several formats a line for every model, and then what became of those that failed.
    """
    overview = [tuple(plain(cell) for cell in row) for row in overview_of(exports)]
    if overview:
        show_columns(overview[0], overview[1:], console)
        for one in exports:
            if one.failure:
                cause = f"{one.spec.name} to {one.format}: {one.failure.error}"
                console.print(Text(plain(cause), _QUIET), soft_wrap=True)
    elif exports:
        show_columns(HEADS, [tuple(plain(cell) for cell in cells_of(one)) for one in exports], console)
    for line in counts_of(exports):
        console.print(Text(line), soft_wrap=True)


def show_devices(devices: Sequence[Device], reachable: Mapping[str, bool | None], console: Console) -> None:
    """Print a line for every device: what it is, how it is reached, whether it can be measured on now."""
    words = {True: "yes", False: "no", None: "not asked"}
    rows = [
        (
            plain(device.name),
            device.kind,
            device.transport,
            ", ".join(device.backends),
            words[reachable[device.name]],
            plain(device.chip),
        )
        for device in devices
    ]
    show_columns(("device", "kind", "transport", "backends", "reachable", "chip"), rows, console)


def show_cache(document: CacheDocument, console: Console) -> None:
    """Print a line for every artifact of the cache, the one used last first; then the total, the limit, the folder."""
    rows = [_cached_cells(row) for row in document.artifacts]
    if rows:
        show_columns(("model", "format", "precision", "batch", "size", "bytes", "last used", ""), rows, console)
    cache = document.cache
    count = f"{len(rows) or 'no'} artifact{'' if len(rows) == 1 else 's'}"
    total = f"{text_from_bytes(cache.bytes)} of at most {text_from_bytes(cache.cap_bytes)}"
    console.print(Text(GAP.join((count, total, plain(cache.folder))), _QUIET), soft_wrap=True)


def show_stored(listed: Sequence[Listed], console: Console, columns: Sequence[Column] | None = None) -> None:
    """Print a line for every row of the results store in the order given; `columns`: other ones than it has."""
    from vitprof.report import stored

    limit = console.width if console.is_terminal else None
    columns = fitting(columns or stored.columns_of(listed), limit) if listed else []
    widths = [drawn_width(column) for column in columns]
    texts = [aligned(column) for column in columns]
    heads = [padded(column.head, column, size) for column, size in zip(columns, widths, strict=True)]
    lines = [Text(GAP.join(heads), _HEAD) if listed else Text("no results")]
    for index, one in enumerate(listed):
        row = [
            Text(
                padded(cells[index], column, size),
                _VOID if column.is_timing and stored.is_void(one.row) else _WORD_STYLES.get(cells[index], ""),
            )
            for cells, column, size in zip(texts, columns, widths, strict=True)
        ]
        lines.append(Text(GAP).join(row))
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True)


def _cached_cells(row: CachedRow) -> tuple[str, ...]:
    marks = ("in use" if row.in_use else "", "damaged" if row.damaged else "")
    batch = NOT_KNOWN if row.damaged else str(row.batch or "any")
    return (
        NOT_KNOWN if row.model is None else plain(typed_name(row.model, row.source)),
        row.format or NOT_KNOWN,
        row.precision or NOT_KNOWN,
        batch,
        "x".join(map(str, row.size)) if row.size else NOT_KNOWN,
        text_from_bytes(row.bytes),
        # In the zone of whoever reads it; the JSON has it in UTC.
        datetime.fromisoformat(row.last_used_at).astimezone().strftime("%Y-%m-%d %H:%M"),
        ", ".join(mark for mark in marks if mark),
    )


def show_columns(heads: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print a line for every row under its heads."""
    widths = [max(cell_len(row[index]) for row in (heads, *rows)) for index in range(len(heads))]
    for row in (heads, *rows):
        line = GAP.join(cell + " " * (size - cell_len(cell)) for cell, size in zip(row, widths, strict=True)).rstrip()
        console.print(Text(line, _HEAD if row is heads else ""), soft_wrap=True)


def show_calibrations(calibrations: Sequence[Calibration], console: Console) -> None:
    """Print the peaks of each backend with their intervals; then what to doubt, and why others have none."""
    rows = [peak_cells(one) for one in calibrations if one.peaks is not None]
    if rows:
        show_columns(PEAK_HEADS, rows, console)
    width = min(console.width, _PROSE_WIDTH) if console.is_terminal else _PROSE_WIDTH
    lines = _notes("Failures", calibration_failure_notes(calibrations), "bold red", width)
    for line in lines + _notes("Warnings", calibration_warning_notes(calibrations), "bold yellow", width):
        console.print(line, soft_wrap=True)


def show_device(device: Device, measured: Sequence[Calibration], missing: str | None, console: Console) -> None:
    """Print one profile: its peaks and the measured ones with their sources, and what is missing to measure on it."""
    lines = [("kind", device.kind), ("chip", plain(device.chip)), ("transport", device.transport)]
    told = (("host", device.host), ("Python", device.python), ("cores", device.cores), ("ready", _ready_text(device)))
    lines += [(label, plain(text)) for label, text in told if text]
    lines += [("backends", ", ".join(device.backends))]
    for precision, peak in device.peak_macs_per_s.items():
        lines.append((f"peak {precision}", f"{text_from_count(peak.value, 'MAC/s')}  ({plain(peak.source)})"))
    if device.peak_bytes_per_s:
        peak = device.peak_bytes_per_s
        lines.append(("peak memory", f"{text_from_count(peak.value, 'B/s')}  ({plain(peak.source)})"))
    lines += [line for calibration in measured for line in peak_lines(calibration)]
    lines += [("notes", plain(device.notes))] if device.notes else []
    lines.append(("reachable", plain(missing) if missing else "yes"))
    console.print(Text(plain(device.name), _HEAD), soft_wrap=True)
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        console.print(Text.assemble(GAP, (label.ljust(width), _QUIET), GAP, text), soft_wrap=True)


def _ready_text(device: Device) -> str:
    """`load at most 0.5, at most 60 °C, at least 50 % charged, on mains; waited for up to 600 s`."""
    ready = device.ready
    asked = [
        f"load at most {ready.max_load:g}" if ready.max_load is not None else "",
        f"at most {ready.max_temperature_c:g} °C" if ready.max_temperature_c is not None else "",
        f"at least {ready.min_battery_share:.0%} charged" if ready.min_battery_share is not None else "",
        "on mains" if ready.on_mains else "",
    ]
    said = ", ".join(one for one in asked if one)
    return f"{said}; waited for up to {ready.wait_s:g} s" if said else ""


def _block(result: Result, width: int) -> list[Text]:
    head, *rest = lines_of(result)
    label_width = max(len(line.label) for line in rest)
    lines = [_joined(head.phrases, _HEAD)]
    for line in rest:
        lines += _labelled(line, label_width, width)
    return lines


def _labelled(line: Line, label_width: int, width: int) -> list[Text]:
    """The label, then the phrases; those that do not fit go to the next line under the first."""
    room = width - label_width - 2 * len(GAP)
    rows = _flowed(line.phrases, room)
    return [
        Text.assemble(GAP, ((line.label if first else "").ljust(label_width), _QUIET), GAP, _phrases(row, line))
        for first, row in ((index == 0, row) for index, row in enumerate(rows))
    ]


def _phrases(row: Sequence[str], line: Line) -> Text:
    return Text(GAP).join(Text(phrase, _phrase_style(phrase, line)) for phrase in row)


def _phrase_style(phrase: str, line: Line) -> str:
    if phrase == line.verdict:
        return _WORD_STYLES.get(phrase.partition(":")[0], _GRADE_STYLES.get(phrase.removeprefix("grade "), ""))
    if line.is_void:
        return _VOID
    return _HEAD if line.is_headline and phrase == line.phrases[0] else ""


def _flowed(phrases: Sequence[str], room: int) -> list[list[str]]:
    """Phrases in rows of at most `room` columns; a phrase is broken between words only where it alone is wider."""
    rows: list[list[str]] = [[]]
    used = 0
    for phrase in phrases:
        for piece in _wrapped(phrase, room):
            needed = cell_len(piece) + (len(GAP) if rows[-1] else 0)
            if rows[-1] and used + needed > room:
                rows.append([])
                used, needed = 0, cell_len(piece)
            rows[-1].append(piece)
            used += needed
    return rows


def _wrapped(text: str, room: int) -> list[str]:
    """`text` in lines of at most `room` columns, broken at blanks only: a path or command stays whole."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and cell_len(longer) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _table(results: Sequence[Result], limit: int | None, width: int) -> list[Text]:
    """The shared facts, then the table in at most `limit` columns (`None`: all there are)."""
    columns = fitting(columns_of(results), limit)
    widths = [drawn_width(column) for column in columns]
    texts = [aligned(column) for column in columns]
    inline = limit is None or total(widths) <= limit
    facts = _flowed(shared_facts(results), width) + _flowed(_legend(results), width)
    lines = [_joined(row, _QUIET) for row in facts]
    heads = [padded(column.head, column, size) for column, size in zip(columns, widths, strict=True)]
    lines += [Text(), Text(GAP.join(heads), _HEAD)] if inline else [Text(), *_folded(heads, _HEAD)]
    for index, result in enumerate(results):
        row = [
            _cell(cells[index], column, size, result)
            for cells, column, size in zip(texts, columns, widths, strict=True)
        ]
        lines += [Text(GAP).join(row)] if inline else _folded(row, "")
    return lines


def _folded(cells: Sequence[str | Text], style: str) -> list[Text]:
    """The name on a line of its own, the rest under it: for a screen that is too narrow for both."""
    first, *rest = (Text(cell, style) if isinstance(cell, str) else cell for cell in cells)
    return [first, Text.assemble(GAP, Text(GAP).join(rest))]


def _cell(shown: str, column: Column, size: int, result: Result) -> Text:
    text = padded(shown, column, size)
    bare = text.strip()
    cell = Text(text)
    style = _VOID if column.is_timing and is_broken(result) else ""
    style = _WORD_STYLES.get(bare, style) if not column.is_number and column.head != "model" else style
    style = _GRADE_STYLES.get(bare, style) if column.head == "grade" and not is_broken(result) else style
    start = len(text) - len(text.lstrip())
    cell.stylize(_QUIET if bare == NOT_KNOWN else style, start, start + len(bare))
    return cell


def _legend(results: Sequence[Result]) -> tuple[str, ...]:
    if is_count(results):
        return (COUNTED,)
    references = references_of(results)
    ratio = f"ratio: to {' or '.join(references)}" if references else "no ratio: no reference cell ran"
    return ("±95%: half of the 95% interval", ratio)


def _notes(title: str, notes: Sequence[Note], style: str, width: int) -> list[Text]:
    lines = [Text(), Text(title, style)] if notes else []
    for note in notes:
        named = _wrapped(f"{note.title}: {', '.join(note.models)}", width - 2)
        lines += [Text(f"{GAP}{row}") for row in named]
        lines += [Text(f"{2 * GAP}{row}", _QUIET) for fact in note.facts for row in _wrapped(fact, width - 4)]
        if note.remedy:
            rows = _wrapped(f"remedy: {note.remedy}", width - 4)
            lines += [Text(f"{2 * GAP}{row}", "cyan") for row in rows]
    return lines


def _joined(phrases: Iterable[str], style: str) -> Text:
    return Text(GAP.join(phrases), style)
