"""Rows out of the store into files that another store takes in again: the same rows, with runs and raw samples.

    JSON lines      a head, then each run before its first row, then the rows
    CSV             the columns that people read, then what is needed to have the row back

Above the store and the reports, which do not know each other. Both ways go a few rows at a time, however many there
are. What comes in is checked as everything from outside is, and its place told.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from vitprof.errors import UsageError, VitprofError
from vitprof.report.csv_table import COLUMNS, csv_row
from vitprof.report.outside import csv_cell, encodable, plain
from vitprof.report.reading import row_from_value, value_from_text
from vitprof.store.database import storable
from vitprof.store.lines import HEAD, line_from_row, line_from_run, line_from_value
from vitprof.store.packing import LARGEST_VALUE_BYTES, decompressed
from vitprof.store.raw_samples import protocol_from_document, samples_from_document
from vitprof.store.results import Incoming, Store, StoredRow, Wanted
from vitprof.store.runs import Gate, Origin, StoredRun, utc_text

# Of the run, for people to read; all that an export had of it before there was `_RUN_COLUMN`.
_RUN_COLUMNS = ("run", "run_started_at", "run_vitprof_version", "run_command", "origin")
# What a row of CSV needs beside the columns that people read. New columns go at the end.
_ROW_COLUMN, _SAMPLES_COLUMN, _RUN_COLUMN = "vitprof_row", "vitprof_samples", "vitprof_run"
_ROWS_AT_A_TIME = 500
# Or less, where they are large.
_CHARACTERS_AT_A_TIME = 20_000_000
_REMEDY = "give a file that vitprof results export wrote"


def json_lines(store: Store, wanted: Wanted, *, with_samples: bool) -> Iterator[str]:
    """The lines of a file of JSON lines."""
    told: set[str] = set()
    yield line_from_value(HEAD)
    for row, samples, run in _each(store, wanted, with_samples):
        if run.id not in told:
            told.add(run.id)
            yield line_from_run(run)
        yield line_from_row(row.document, run.id, row.origin, samples)


def csv_lines(store: Store, wanted: Wanted, *, with_samples: bool) -> Iterator[str]:
    """The lines of a CSV file."""
    yield _csv_line([*(name for name, _ in COLUMNS), *_RUN_COLUMNS, _ROW_COLUMN, _SAMPLES_COLUMN, _RUN_COLUMN])
    for row, samples, run in _each(store, wanted, with_samples):
        read = csv_row(row.document)
        yield _csv_line([*read, *_run_cells(row, run), *_own_cells(row, samples, run)])


def _each(
    store: Store, wanted: Wanted, with_samples: bool
) -> Iterator[tuple[StoredRow, Mapping[str, Any] | None, StoredRun]]:
    """Every row that is wanted with its samples and its run, which may have begun while others were written."""
    runs: dict[str, StoredRun] = {}
    for row, samples in store.each(wanted, with_samples=with_samples):
        if row.run not in runs:
            runs = {run.id: run for run in store.runs()}
        # A row that was taken out meanwhile has none any more.
        if row.run in runs:
            yield row, samples, runs[row.run]


def is_export(file: Path) -> bool:
    """Whether the file is one of those, by its first line; anything that cannot be read, or read twice, is not."""
    if not file.is_file():
        return False
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            head = opened.readline(100_000)
    except (OSError, UnicodeDecodeError):
        return False
    return _is_json_lines(head) or _ROW_COLUMN in head.rstrip("\r\n").split(",")


def incoming(file: Path) -> Iterator[Incoming]:
    """The rows of such a file, run by run; `VitprofError` with the line where it is damaged, `UsageError` of none."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            head = opened.readline(100_000)
            of_format = _of_json_lines if _is_json_lines(head) else _of_csv
            yield from _by_run(of_format(_lines(opened, str(file)), head, str(file)))
    except FileNotFoundError as error:
        raise UsageError(f"cannot import {file}: there is no such file", remedy=_REMEDY) from error
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise VitprofError(f"cannot import {file}: {why}", remedy=_REMEDY, stage="import") from error


@dataclasses.dataclass(frozen=True)
class _Read:
    run: StoredRun
    origin: Origin
    row: Mapping[str, Any]
    samples: Mapping[str, Any] | None
    # As it stands in the file, samples unpacked.
    characters: int


def _lines(opened: IO[str], name: str) -> Iterator[str]:
    """Lines of a length that a row can have: a file of one endless line must not fill the memory."""
    number = 1
    while line := opened.readline(LARGEST_VALUE_BYTES):
        number += 1
        if len(line) == LARGEST_VALUE_BYTES:
            raise _damaged(f"{name}, line {number}", f"it is longer than {LARGEST_VALUE_BYTES} characters")
        yield line


def _by_run(rows: Iterable[_Read]) -> Iterator[Incoming]:
    part: list[_Read] = []
    characters = 0
    for run, of_run in groupby(rows, key=lambda one: one.run):
        for one in of_run:
            part.append(one)
            characters += one.characters
            if len(part) == _ROWS_AT_A_TIME or characters > _CHARACTERS_AT_A_TIME:
                yield _incoming(run, part)
                part, characters = [], 0
        if part:
            yield _incoming(run, part)
            part, characters = [], 0


def _incoming(run: StoredRun, part: Sequence[_Read]) -> Incoming:
    rows, samples = [one.row for one in part], [one.samples for one in part]
    return Incoming(run, rows, samples, [one.origin for one in part])


# JSON lines.


def _is_json_lines(head: str) -> bool:
    try:
        read = json.loads(head)
    except (ValueError, RecursionError):
        return False
    return isinstance(read, dict) and read.get("vitprof") == HEAD["vitprof"]


def _of_json_lines(lines: Iterable[str], head: str, name: str) -> Iterator[_Read]:
    version = json.loads(head).get("version")
    if version != HEAD["version"]:
        raise VitprofError(
            plain(f"{name} was written by another vitprof: version {version} of the file, this one knows 1"),
            remedy="pip install --upgrade vitprof",
            stage="import",
        )
    runs: dict[str, StoredRun] = {}
    for number, line in enumerate(lines, 2):
        place = f"{name}, line {number}"
        read = value_from_text(line, place)
        if not isinstance(read, dict) or not ("row" in read or "run" in read):
            raise _damaged(place, "it is neither a run nor a row")
        if "run" in read:
            run = _run(read["run"], place)
            # As rows name it; what no database keeps of it is gone from its own.
            runs[read["run"]["id"]] = run
            continue
        of_run = read.get("of_run")
        if not isinstance(of_run, str) or of_run not in runs:
            raise _damaged(place, f"its run {of_run} was not told before")
        row = row_from_value(read["row"], place)
        samples = _samples(read.get("samples"), row, place)
        yield _Read(runs[of_run], _origin(read.get("origin"), place), row, samples, len(line))


# CSV.


def _csv_line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _run_cells(row: StoredRow, run: StoredRun) -> Iterator[object]:
    texts = (run.id, run.started_at, run.vitprof_version, run.command, row.origin.value)
    return (csv_cell(text) for text in texts)


def _own_cells(row: StoredRow, samples: Mapping[str, Any] | None, run: StoredRun) -> tuple[str, ...]:
    # A program that opens the file as a table takes none of them for a formula.
    packed = zlib.compress(line_from_value(samples).encode(), 9) if samples else b""
    texts = [line_from_value(value).rstrip("\n") for value in (row.document, dataclasses.asdict(run))]
    return texts[0], base64.b64encode(packed).decode(), texts[1]


def _of_csv(lines: Iterable[str], head: str, name: str) -> Iterator[_Read]:
    names = next(csv.reader([head]))
    missing = [one for one in (*_RUN_COLUMNS, _ROW_COLUMN) if one not in names]
    if missing:
        raise _damaged(f"{name}, line 1", f"the column {missing[0]} is missing")
    # A cell of raw samples may be long; Python's own limit is 128 KiB.
    before = csv.field_size_limit(LARGEST_VALUE_BYTES)
    try:
        reader = csv.DictReader(lines, fieldnames=names)
        for cells in reader:
            yield _of_cells(cells, f"{name}, line {reader.line_num + 1}")
    except csv.Error as error:
        raise _damaged(name, str(error)) from error
    finally:
        csv.field_size_limit(before)


def _of_cells(cells: Mapping[str, str | None], place: str) -> _Read:
    texts = {name: cells.get(name) or "" for name in (*_RUN_COLUMNS, _ROW_COLUMN, _SAMPLES_COLUMN, _RUN_COLUMN)}
    shown = {"id": texts["run"], **{name.removeprefix("run_"): texts[name] for name in _RUN_COLUMNS[1:4]}}
    run = _run(value_from_text(texts[_RUN_COLUMN], place) if texts[_RUN_COLUMN] else shown, place)
    row = row_from_value(value_from_text(texts[_ROW_COLUMN], place), place)
    unpacked = _unpacked(texts[_SAMPLES_COLUMN], place) if texts[_SAMPLES_COLUMN] else ""
    samples = _samples(value_from_text(unpacked, place) if unpacked else None, row, place)
    return _Read(run, _origin(texts["origin"], place), row, samples, len(texts[_ROW_COLUMN]) + len(unpacked))


def _unpacked(packed: str, place: str) -> str:
    try:
        return decompressed(zlib.decompressobj(), base64.b64decode(packed, validate=True)).decode()
    except (zlib.error, ValueError) as error:
        raise _damaged(place, f"its raw samples cannot be read: {error}") from error


# Both.


def _run(fields: object, place: str) -> StoredRun:
    """The run as it was; the cells of a sweep are not in the file, so that one which was not finished stays so."""
    if not isinstance(fields, dict):
        raise _damaged(place, "its run is no object")
    names = {field.name for field in dataclasses.fields(StoredRun)}
    read = {name: value for name, value in fields.items() if name in names}
    if not all(isinstance(value, str) or value is None for value in read.values()) or not read.get("id"):
        raise _damaged(place, "its run has a field that is no text, or no id")
    try:
        texts = ((name, value if value is None else storable(encodable(value))) for name, value in read.items())
        run = StoredRun(**dict[str, Any](texts))
        moments = [utc_text(moment) for moment in (run.started_at, run.finished_at) if moment is not None]
        gate = None if run.gate is None else Gate(run.gate).value
    except (TypeError, ValueError) as error:
        raise _damaged(place, f"its run cannot be read: {error}") from error
    finished_at = moments[1] if run.finished_at is not None else None
    return dataclasses.replace(run, started_at=moments[0], finished_at=finished_at, gate=gate)


def _origin(text: object, place: str) -> Origin:
    try:
        return Origin(str(text))
    except ValueError as error:
        raise _damaged(place, f"its origin '{text}' is neither measured nor imported") from error


def _samples(read: object, row: Mapping[str, Any], place: str) -> Mapping[str, Any] | None:
    if read is None:
        return None
    if not isinstance(read, dict):
        raise _damaged(place, "its raw samples are no object")
    try:
        samples_from_document(read)
        # Kept by its hash for all rows of that hash: one that another row made up must not stand for theirs.
        if read.get("protocol") is not None and protocol_from_document(read["protocol"]).hash != row["protocol_hash"]:
            raise _damaged(place, f"its protocol is not the one of protocol_hash {row['protocol_hash']}")
    except VitprofError as error:
        raise VitprofError(plain(f"{place}: {error.message}"), remedy=error.remedy, stage="import") from error
    except (TypeError, AttributeError) as error:
        raise _damaged(place, f"its protocol cannot be read: {error}") from error
    return read


def _damaged(place: str, why: str) -> VitprofError:
    return VitprofError(plain(f"{place}: {why}"), remedy=_REMEDY, stage="import")
