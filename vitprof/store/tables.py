"""Published tables: times as points and accuracies, from timm's CSVs as they are, others through a column map in TOML.

Its own file because what others published arrives in their words. A row that lacks a number is no error: it is
counted, with its line and its reason. A table that cannot be read at all is one, with its line and its remedy.

A column map names the columns of the file under the keys of `Columns`, and what is equal for all rows:

    [columns]
    model = "name"
    latency_ms = "latency (ms)"     # of one inference; or latency_ns, latency_us, latency_s, samples_per_s
    gmacs = "GMACs"                 # or macs
    mparams = "Params (M)"          # or params; mactivations or activations
    size = "resolution"             # and precision, device, backend, batch

    [constants]
    device = "iphone13"
    backend = "coreml"
    precision = "fp16"
    batch = 1

That of a table of accuracies has `model`, `size`, and `top1` (per cent) or `top1_share` (0–1).
"""

from __future__ import annotations

import csv
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vitprof.comparisons import Point
from vitprof.errors import UsageError, VitprofError
from vitprof.measurements import Interval
from vitprof.records import AS_BUILT
from vitprof.units import NOT_KNOWN, size_from_text

_TIMM = {
    "model": "model",
    "size": "infer_img_size",
    "batch": "infer_batch_size",
    "samples_per_s": "infer_samples_per_sec",
    "step_ms": "infer_step_time",
    "mparams": "param_count",
    "gmacs": "infer_gmacs",
    "mactivations": "infer_macts",
}
_NS_PER_LATENCY = {"latency_ns": 1.0, "latency_us": 1e3, "latency_ms": 1e6, "latency_s": 1e9}
_TIMES = ("samples_per_s", *_NS_PER_LATENCY)
# By field of a point: the keys that give it, with their factor.
_COUNTS = {
    "macs": {"macs": 1.0, "gmacs": 1e9},
    "params": {"params": 1.0, "mparams": 1e6},
    "activations": {"activations": 1.0, "mactivations": 1e6},
}
_COUNT_KEYS = tuple(key for keys in _COUNTS.values() for key in keys)
_TEXTS = ("model", "size", "precision", "device", "backend")
_KEYS = (*_TEXTS, "batch", *_TIMES, *_COUNT_KEYS)
_CONSTANT_KEYS = ("size", "precision", "device", "backend", "batch")
# Of one image: a millionth of a clock tick to thirty thousand years. What lies outside is another column, or unit.
_SHORTEST_NS, _LONGEST_NS = 1e-6, 1e21
# What JSON readers, databases and this program's own exports hold.
_LARGEST_COUNT = 2**63 - 1
# `1,014.45` as timm writes it; any other comma is a mistake.
_NUMBER = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+)?(\.\d*)?([eE][+-]?\d+)?")
_ACCURACY_KEYS = ("model", "size", "top1", "top1_share")
_MAP_REMEDY = "say in a column map what its columns hold (docs/interface.md)"


@dataclass(frozen=True)
class Unusable:
    """A row that says too little, and why."""

    line: int
    model: str
    reason: str


@dataclass(frozen=True)
class Table:
    """The rows of a published table that can be compared, and those that cannot."""

    path: Path
    points: tuple[Point, ...]
    unusable: tuple[Unusable, ...]


@dataclass(frozen=True)
class ColumnMap:
    """Which column holds what, and what holds for all rows. A row needs a number in each key of `required`."""

    columns: Mapping[str, str]
    constants: Mapping[str, str]
    required: tuple[str, ...]


@dataclass(frozen=True)
class Accuracy:
    """Top-1 of one model under the name that the table gives it, tag and all; `size` None: the table does not say."""

    model: str
    size: tuple[int, int] | None
    top1_percent: float


@dataclass(frozen=True)
class Accuracies:
    """A table of accuracies; its rows by the name before the tag (`vit_base` of `vit_base.augreg_in21k`)."""

    path: Path
    by_bare_name: Mapping[str, tuple[Accuracy, ...]]
    unusable: tuple[Unusable, ...]

    def accuracy_of(self, model: str, size: tuple[int, int] | None) -> Accuracy | None:
        """The row of `model` at `size`, whose own name says which tag it is; None where there is none.

        A name without a tag gets the best of its tags: what the architecture was shown to reach, not what timm loads by
        default. Without a `size` there is a row only if the model has one size.
        """
        # Fusing changes no output.
        name = model.removeprefix("timm:").removesuffix(AS_BUILT)
        alike = self.by_bare_name.get(name.partition(".")[0], ())
        named = [row for row in alike if row.model.removeprefix("timm:") == name]
        # A tag that the table lacks is not another tag.
        found = named or ([] if "." in name else alike)
        if size is None and len({row.size for row in found}) > 1:
            return None
        fitting = (row for row in found if None in (row.size, size) or row.size == size)
        return max(fitting, key=lambda row: row.top1_percent, default=None)


class _UnusableRowError(Exception):
    """Ends the reading of one row; never leaves this file."""


def read_table(path: Path, map_path: Path | None = None) -> Table:
    """The points of the CSV at `path`, in its order, duplicates kept; timm's benchmark format unless a map is given.

    Time of one image is the throughput inverted, or the latency of one inference divided by its batch; only the
    latter is kept as a latency. `VitprofError` for a file that cannot be read or in which no row is usable.
    """
    column_map = read_map(map_path) if map_path else ColumnMap(_TIMM, {}, ("step_ms", *_COUNT_KEYS))
    points, unusable = [], []
    for line, fields in _rows(path, tuple(column_map.columns.values())):
        try:
            points.append(_point(fields, column_map, path))
        except _UnusableRowError as error:
            unusable.append(Unusable(line, fields.get(column_map.columns["model"], ""), str(error)))
    if not points:
        first = f"line {unusable[0].line}: {unusable[0].reason}" if unusable else "it has a header only"
        raise _broken(path, f"no row of it can be used; {first}", _MAP_REMEDY)
    return Table(path, tuple(points), tuple(unusable))


def read_accuracies(path: Path, map_path: Path | None = None) -> Accuracies:
    """The accuracies of the CSV at `path`: columns `model`, `top1` and, if there is one, `img_size`; or as mapped."""
    columns, constants = {"model": "model", "top1": "top1"}, dict[str, str]()
    if map_path:
        columns, constants = _sections(map_path, _ACCURACY_KEYS, ("size",))
        if "model" not in columns or ("top1" in columns) == ("top1_share" in columns):
            raise _bad_map(map_path, "it needs model, and top1 or top1_share", "name those columns under [columns]")
    found: dict[str, list[Accuracy]] = {}
    unusable = []
    for line, fields in _rows(path, tuple(columns.values())):
        model = fields[columns["model"]]
        size = fields.get(columns.get("size", "img_size"), "") or constants.get("size", "")
        try:
            row = Accuracy(model, _size(size), _top1_percent(fields, columns))
            found.setdefault(model.removeprefix("timm:").partition(".")[0], []).append(row)
        except _UnusableRowError as error:
            unusable.append(Unusable(line, model, str(error)))
    best = max((row.top1_percent for named in found.values() for row in named), default=0.0)
    if best <= 1:
        # Nobody publishes a table of models that are all below 1 %.
        what = f"its best top1 is {best:g}, which is no percentage" if found else "no row of it can be used"
        raise _broken(path, what, "a column map with top1_share in place of top1 reads shares (docs/interface.md)")
    return Accuracies(path, {name: tuple(named) for name, named in found.items()}, tuple(unusable))


def read_map(path: Path) -> ColumnMap:
    """The column map at `path`; `UsageError` that names the key and what is allowed."""
    columns, constants = _sections(path, _KEYS, _CONSTANT_KEYS)
    _check_keys(path, columns, constants)
    return ColumnMap(columns, constants, ())


def _sections(
    path: Path, column_keys: tuple[str, ...], constant_keys: tuple[str, ...]
) -> tuple[dict[str, str], dict[str, str]]:
    """([columns], [constants]) of the column map at `path`."""
    document = _toml(path)
    unknown = sorted(document.keys() - {"columns", "constants"})
    if unknown:
        raise _bad_map(path, f"unknown table [{unknown[0]}]", "a column map has [columns] and [constants]")
    return _section(path, document, "columns", column_keys), _section(path, document, "constants", constant_keys)


def _toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _bad_map(path, error.strerror or str(error), "give the path of a column map in TOML") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _bad_map(path, f"not TOML: {error}", "see the example of a column map in docs/interface.md") from error


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, fields by column) of each row of the CSV at `path`, empty lines left out.

    `VitprofError` with the line where it is no CSV, lacks one of the `needed` columns, or has a row of another length:
    such a row would put values under the wrong heads.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header, needed)
            try:
                for values in filter(None, reader):
                    _check_length(path, reader.line_num, values, header)
                    yield reader.line_num, dict(zip(header, (value.strip() for value in values), strict=True))
            except csv.Error as error:
                raise _broken(path, f"line {reader.line_num}: {error}", "mend that line") from error
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", remedy="give the path of a CSV file", stage="table"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _broken(path, f"not a CSV in UTF-8: {error}", "save it as CSV in UTF-8") from error


def _positive(fields: Mapping[str, str], column: str) -> float:
    """The number in `column`."""
    text = fields.get(column, "")
    value = float(text.replace(",", "")) if text and _NUMBER.fullmatch(text) and any(map(str.isdigit, text)) else None
    if value is None or not 0 < value < math.inf:
        raise _UnusableRowError(f"column '{column}': '{text}' is not a positive number")
    return value


def _point(fields: Mapping[str, str], column_map: ColumnMap, path: Path) -> Point:
    columns = column_map.columns

    def text(key: str) -> str:
        return fields.get(columns[key], "") if key in columns else column_map.constants.get(key, "")

    def number(key: str) -> float | None:
        """None where the table may leave it open and does."""
        if key not in columns or (key not in column_map.required and not fields.get(columns[key])):
            return None
        return _positive(fields, columns[key])

    if not text("model"):
        raise _UnusableRowError(f"column '{columns['model']}' is empty")
    number("step_ms")
    batch = _batch(fields, column_map)
    image_ns, latency = _time(fields, columns, batch)
    return Point(
        model=text("model"),
        size=_size(text("size")),
        batch=batch,
        precision=text("precision") or NOT_KNOWN,
        device=text("device") or path.stem,
        backend=text("backend") or NOT_KNOWN,
        image_ns=image_ns,
        latency_ns=latency,
        macs=_count(number, _COUNTS["macs"]),
        params=_count(number, _COUNTS["params"]),
        activations=_count(number, _COUNTS["activations"]),
    )


def _count(number: Callable[[str], float | None], keys: Mapping[str, float]) -> float | None:
    """A whole number: 2.03 GMACs are 2,030,000,000 and not 2,029,999,999.9999998."""
    for key, factor in keys.items():
        value = number(key)
        if value is not None:
            if not value * factor < _LARGEST_COUNT:
                raise _UnusableRowError(f"{key} {value:g} is more than can be counted: is it given in another unit?")
            return float(round(value * factor))
    return None


def _batch(fields: Mapping[str, str], column_map: ColumnMap) -> int:
    if "batch" not in column_map.columns:
        return int(column_map.constants["batch"])
    column = column_map.columns["batch"]
    value = _positive(fields, column)
    if not value.is_integer():
        raise _UnusableRowError(f"column '{column}': '{fields[column]}' is not a whole number")
    return int(value)


def _top1_percent(fields: Mapping[str, str], columns: Mapping[str, str]) -> float:
    key = "top1" if "top1" in columns else "top1_share"
    percent = _positive(fields, columns[key]) * (1 if key == "top1" else 100)
    if percent > 100:
        raise _UnusableRowError(f"column '{columns[key]}': '{fields[columns[key]]}' is more than everything")
    return percent


def _time(fields: Mapping[str, str], columns: Mapping[str, str], batch: int) -> tuple[float, Interval | None]:
    """(nanoseconds of one image, latency of one inference where the table has one)."""
    key = next(key for key in _TIMES if key in columns)
    value = _positive(fields, columns[key])
    is_rate = key == "samples_per_s"
    latency_ns = None if is_rate else value * _NS_PER_LATENCY[key]
    image_ns = 1e9 / value if latency_ns is None else latency_ns / batch
    if not _SHORTEST_NS < image_ns < _LONGEST_NS:
        raise _UnusableRowError(f"column '{columns[key]}': '{fields[columns[key]]}' makes {image_ns:g} ns an image")
    return image_ns, None if latency_ns is None else Interval(latency_ns, None, None)


def _size(text: str) -> tuple[int, int] | None:
    try:
        return size_from_text(text) if text else None
    except UsageError as error:
        raise _UnusableRowError(error.message) from error


def _section(path: Path, document: Mapping[str, object], name: str, allowed: tuple[str, ...]) -> dict[str, str]:
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise _bad_map(path, f"'{name}' is not a table", f"write it as [{name}]")
    for key, value in found.items():
        if key not in allowed:
            raise _bad_map(path, f"unknown key '{key}' in [{name}]", f"keys of [{name}]: {', '.join(allowed)}")
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise _bad_map(path, f"key '{key}' in [{name}] is {value!r}", "write text in quotes, or a whole number")
    return {key: str(value).strip() for key, value in found.items()}


def _check_keys(path: Path, columns: Mapping[str, str], constants: Mapping[str, str]) -> None:
    if "model" not in columns:
        raise _bad_map(path, "[columns] names no model", 'add model = "…" with the column of the names')
    times = [key for key in _TIMES if key in columns]
    if len(times) != 1:
        raise _bad_map(path, f"[columns] has {len(times)} columns of time", f"name one of {', '.join(_TIMES)}")
    for keys in _COUNTS.values():
        if len(both := [key for key in keys if key in columns]) > 1:
            raise _bad_map(path, f"[columns] has {' and '.join(both)}", "name one of them")
    twice = sorted(columns.keys() & constants.keys())
    if twice:
        raise _bad_map(path, f"'{twice[0]}' is a column and a constant", "keep one of them")
    if "batch" not in columns and "batch" not in constants:
        raise _bad_map(path, "no batch is given", "add batch = 1 under [constants], or the column that holds it")
    if "batch" in constants and not (
        constants["batch"].isascii() and constants["batch"].isdigit() and int(constants["batch"])
    ):
        raise _bad_map(path, f"batch = {constants['batch']}", "write a whole number above zero")


def _check_header(path: Path, header: list[str], needed: tuple[str, ...]) -> None:
    if not any(header):
        raise _broken(path, "it is empty", "give a CSV whose first line names its columns")
    missing = [name for name in needed if name not in header]
    if missing:
        had = ", ".join(name for name in header if name)
        raise _broken(path, f"line 1: no column '{missing[0]}'; there are: {had}", _MAP_REMEDY)
    twice = next((name for name in needed if header.count(name) > 1), None)
    if twice:
        raise _broken(path, f"line 1: column '{twice}' is there twice", "rename one of the two")


def _check_length(path: Path, line: int, values: list[str], header: list[str]) -> None:
    if len(values) != len(header):
        what = f"line {line}: {len(values)} fields under {len(header)} column heads, the last is '{values[-1]}'"
        raise _broken(path, what, "put fields that hold a comma in quotes, or take that line out")


def _broken(path: Path, what: str, remedy: str) -> VitprofError:
    return VitprofError(f"{path}: {what}", remedy=remedy, stage="table")


def _bad_map(path: Path, what: str, remedy: str) -> UsageError:
    return UsageError(f"column map {path}: {what}", remedy=remedy, stage="table")
