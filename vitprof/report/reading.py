"""What comes from outside as rows of our own JSON: a document of `latency`, the points of a published table.

Its own file because a file from outside is not to be trusted: what does not fit the models of `schema` is told with
its place in the file, and nothing is guessed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin

from pydantic import ValidationError

from vitprof.comparisons import Point
from vitprof.errors import VitprofError
from vitprof.report.outside import encodable, plain
from vitprof.report.schema import CostPart, Part, ResultDocument, ResultRow

# The version of the document that this vitprof reads and writes.
_VERSION = 1
# Databases hold whole numbers in 32 and in 64 bits.
_LARGEST_KEY = 2**31 - 1
_LARGEST = 2**63 - 1
# So that no ratio of two of them is too large or too small for a number.
_LEAST_MEASURED, _MOST_MEASURED = 1e-30, 1e30
# A time or a count of nothing is passed over wherever rows are compared; these are divided by.
_NEVER_ZERO = ("relative.ratio", "instructions_per_inference.value")
# Any time zone of these is a year that can be written.
_YEARS = range(1970, 9999)
# A throughput that was kept as a time must come back as it was published; a double holds 15.
_SIGNIFICANT_DIGITS = 12
_EXPORT_REMEDY = "give a file that vitprof results export wrote"
_REMEDY = "give a file that vitprof latency --json or vitprof results list --json wrote"


def document_from_text(text: str, name: str) -> ResultDocument:
    """The document of `latency` in the text of file `name`; `VitprofError` says where it is not one."""
    try:
        read = json.loads(text, parse_constant=_refused, parse_float=_finite, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise _damaged(f"{name}, line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(f"{name}: {error}") from error
    version = read.get("schema_version") if isinstance(read, dict) else None
    if isinstance(version, int) and version > _VERSION:
        raise VitprofError(
            f"{name} was written by a newer vitprof: version {version} of the document, this one knows {_VERSION}",
            remedy="pip install --upgrade vitprof",
            stage="import",
        )
    if version != _VERSION or "results" not in read:
        raise _damaged(f"{name} is JSON, but not the document of vitprof latency")
    try:
        document = ResultDocument.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _damaged(", ".join(filter(None, (name, _place(first["loc"])))) + f": {first['msg']}") from error
    return _checked(document, name)


def value_from_text(text: str, place: str) -> Any:
    """The JSON value of one line or one cell of a file, whose place is told where it is none."""
    try:
        return json.loads(text, parse_constant=_refused, parse_float=_finite, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        told = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise _damaged(f"{place}: {told}", _EXPORT_REMEDY) from error


def row_from_value(value: object, place: str) -> dict[str, Any]:
    """A row in the JSON of `latency`, checked as those of a document are; `VitprofError` where it is none."""
    try:
        row = ResultRow.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        where = f"{place}, field {field}" if field else place
        raise _damaged(f"{where}: {first['msg']}", _EXPORT_REMEDY) from error
    wrong = _wrong_key(row)
    if wrong:
        raise _damaged(f"{place} ({plain(row.model)}): {wrong}", _EXPORT_REMEDY)
    # As it is in the file: a row of an earlier version stays one.
    return dict(value) if isinstance(value, Mapping) else {}


def rows_from_stored(documents: Sequence[Mapping[str, Any]]) -> tuple[ResultRow, ...]:
    """The rows of the results store as models; `VitprofError` for one that this version cannot read."""
    try:
        return tuple(ResultRow.model_validate(document) for document in documents)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise VitprofError(
            plain(f"the results store holds a row that cannot be read: {_place(first['loc'])}: {first['msg']}"),
            remedy="pip install --upgrade vitprof, or name another file with --store",
            stage="store",
        ) from error


def filled_row(document: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the results store with every field of today's models, those that a later version added at their default.

    Not checked, unlike `rows_from_stored`: for who reads thousands. Rows are checked when they come in.
    """
    fields, parts = _defaults()
    row = {**fields, **document}
    for name, defaults in parts.items():
        if row[name]:
            row[name] = {**defaults, **row[name]}
    return row


@cache
def _defaults() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The fields of a row that may be missing, and by part the fields of parts."""
    parts = {
        name: _optional(kind)
        for name, field in ResultRow.model_fields.items()
        for kind in get_args(field.annotation)
        if isinstance(kind, type) and issubclass(kind, Part) and get_origin(field.annotation) in (Union, UnionType)
    }
    return _optional(ResultRow), {name: defaults for name, defaults in parts.items() if defaults}


def _optional(model: type[Part]) -> dict[str, Any]:
    # What is left out where it is not known is not filled in either.
    optional = ((name, one) for name, one in model.model_fields.items() if not one.is_required())
    return {name: one.get_default() for name, one in optional if one.exclude_if is None}


def document_from_points(points: Sequence[Point], name: str) -> ResultDocument:
    """A row for each point of the table `name`: throughput at its batch, counts, and nothing that it does not say.

    The time of one inference is not in it: a table does not tell whether its figure is a median, a mean or a best.
    """
    return _checked(ResultDocument(results=tuple(_row(point) for point in points)), name)


def _checked(document: ResultDocument, name: str) -> ResultDocument:
    for index, row in enumerate(document.results):
        wrong = _wrong_key(row)
        if wrong:
            raise _damaged(f"{name}, {_place(('results', index))} ({plain(row.model)}): {wrong}")
    return document


def _row(point: Point) -> ResultRow:
    unknown = (
        *("region", "clock", "latency_ns", "relative", "drift_corrected_ns", "cold_ns", "achieved_macs_per_s"),
        *("memory", "parity", "artifact", "placement", "grade", "protocol_hash", "vitprof_version", "started_at"),
    )
    nothing: dict[str, Any] = dict.fromkeys(unknown)
    return ResultRow(
        model=encodable(point.model),
        source="table",
        size=point.size,
        batch=point.batch,
        precision=point.precision,
        device=encodable(point.device),
        backend=encodable(point.backend),
        backend_version=point.backend_version,
        threads=point.threads,
        outcome="ok",
        throughput_images_per_s=float(f"{1e9 / point.image_ns:.{_SIGNIFICANT_DIGITS}g}"),
        cost=CostPart(
            params=_rounded(point.params),
            macs=_rounded(point.macs),
            weight_bytes=None,
            activation_bytes=None,
            activations=_rounded(point.activations),
            uncounted_ops={},
            coverage=None,
        ),
        warnings=(),
        environment={},
        **nothing,
    )


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def _wrong_key(row: ResultRow) -> str | None:
    """Why the row cannot be kept or compared, although its fields have the right types."""
    keys = {"batch": row.batch, "threads": row.threads, **dict(zip(("height", "width"), row.size or (), strict=False))}
    for name, value in keys.items():
        if value is not None and not 1 <= value <= _LARGEST_KEY:
            return f"{name} {value} is not between 1 and {_LARGEST_KEY}"
    if row.outcome not in ("ok", "failed"):
        return f"outcome '{plain(row.outcome)}' is neither ok nor failed"
    for name, number in _measured(row):
        if (number or name in _NEVER_ZERO) and not _LEAST_MEASURED < number < _MOST_MEASURED:
            return f"{name} {number:g} is nothing that can be measured"
    for name in ("before", "after"):
        if not isinstance(row.environment.get(name), dict | None):
            return f"environment.{name} is no object"
    try:
        year = datetime.fromisoformat(row.started_at).year if row.started_at is not None else _YEARS.start
    except ValueError:
        year = 0
    return None if year in _YEARS else f"started_at '{plain(row.started_at or '')}' is no time"


def _measured(row: ResultRow) -> Iterator[tuple[str, float]]:
    """What ratios and logarithms are taken of."""
    if row.latency_ns:
        yield "latency_ns.p50", row.latency_ns.p50
    if row.throughput_images_per_s is not None:
        yield "throughput_images_per_s", row.throughput_images_per_s
    if row.relative:
        yield "relative.ratio", row.relative.ratio
        # A border of an interval may be below zero.
        yield from (("relative.ci95", abs(border)) for border in row.relative.ci95 or ())
    if row.instructions_per_inference:
        yield "instructions_per_inference.value", row.instructions_per_inference.value
        yield "instructions_per_inference.spread", row.instructions_per_inference.spread
    for name in ("params", "macs", "activation_bytes", "activations"):
        count = getattr(row.cost, name, None)
        if count is not None:
            yield f"cost.{name}", count


def _place(steps: Sequence[int | str]) -> str:
    """`result 4, field latency_ns.p50`: rows are counted from 1, as a person does."""
    row = f"result {steps[1] + 1}" if len(steps) > 1 and isinstance(steps[1], int) else ""
    field = ".".join(map(str, steps[2:] if row else steps))
    return ", ".join(filter(None, (row, f"field {field}" if field else "")))


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value


def _whole(text: str) -> Any:
    if len(text) > len(str(_LARGEST)) + 1 or abs(int(text)) > _LARGEST:
        raise ValueError(f"{text[:30]} is too large a number")
    return int(text)


def _damaged(message: str, remedy: str = _REMEDY) -> VitprofError:
    return VitprofError(plain(message), remedy=remedy, stage="import")
