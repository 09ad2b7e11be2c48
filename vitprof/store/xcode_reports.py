"""Xcode's performance reports of Core ML models: a `.mlperf` folder, or the `report.json` in it, as plain values.

Its own file because Apple documents the report's view in Xcode and not its file. The form read here is that of reports
that others have published (jsonVersion 1, deviceResultVersion 4, Xcode 26; for instance 09-perf-report-ipad-m2.json of
https://github.com/D0NMEGA/Cortex); none was taken by whoever wrote this. So what is needed must be there as it was seen
there, and anything else is told with the keys that were found. Times in it are in seconds. The serial number, the
identifiers and the name of the phone that it holds are never read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitprof.errors import VitprofError

SUFFIX = ".mlperf"
_FILE = "report.json"
_VERSION = 1
# MLComputeUnits, as the backend's option calls them.
_COMPUTE_UNITS = ("cpu", "cpu+gpu", "all", "cpu+ane")
_UNITS = {"cpu": "cpu", "gpu": "gpu", "neuralEngine": "ane"}
# Of the arithmetic, as its compiler says it: "Mixed (Float16, Int32)". Float16 and Float32 together are neither.
_PRECISIONS = {"Float16": "fp16", "Float32": "fp32"}
# An input that is an image has these instead of a shape, as texts.
_IMAGE, _IMAGE_CHANNELS = "Image", 3
# Apple counts seconds from there.
_EPOCH = datetime(2001, 1, 1, tzinfo=UTC)
_REMEDY = "give a .mlperf folder (docs/iphone.md), or its report.json; of another form, please report these keys"
_Seconds = Annotated[float, Field(gt=0, lt=1e6)]


@dataclass(frozen=True)
class ReportedOp:
    """One operator, constants left out. `name`: of its first output; `unit`: cpu, gpu, ane."""

    name: str
    op: str
    unit: str | None
    cost_share: float | None


@dataclass(frozen=True)
class XcodeReport:
    """What a report says. Predictions are in the order taken, those of each load of the model together."""

    # The package's file name without its suffix.
    model: str
    model_bytes: int | None
    input_shape: tuple[int, ...] | None
    precision: str | None
    device: str
    system: str
    compute_units: str
    predictions_ns: tuple[tuple[int, ...], ...]
    loads_ns: tuple[int, ...]
    compilations_ns: tuple[int, ...]
    ops: tuple[ReportedOp, ...]
    started_at: str | None


class _Seen(BaseModel):
    # A newer Xcode may add keys; those that are read have the types that were seen.
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Timed(_Seen):
    samples: list[_Seconds]
    startTime: float | None = None


class _Device(_Seen):
    deviceType: dict[str, Any]


class _Usage(_Seen):
    preferred: _Device


class _Cost(_Seen):
    weight: float = Field(ge=0, le=1)


class _Output(_Seen):
    name: str


class _Operation(_Seen):
    operatorName: str
    outputs: list[_Output] = []
    deviceUsage: _Usage | None = None
    cost: _Cost | None = None
    blocks: list[_Block] = []


class _Block(_Seen):
    operations: list[_Operation]


class _Function(_Seen):
    block: _Block


class _Functions(_Seen):
    functions: dict[str, _Function]


class _Program(_Seen):
    only: _Functions = Field(alias="_0")


class _Structure(_Seen):
    program: _Program | None = None


class _RunConfig(_Seen):
    predictionCount: int = Field(ge=1)
    experimentIterations: int = Field(ge=1)


class _Results(_Seen):
    predict: _Timed
    load: _Timed
    compile: _Timed | None = None
    perfRunConfig: _RunConfig | None = None
    modelStructure: _Structure | None = None


class _DeviceInfo(_Seen):
    modelName: str = Field(min_length=1)
    osNameAndVersionWithoutBuildNumber: str = Field(min_length=1)


class _Metadata(_Seen):
    fileName: str = Field(min_length=1)
    size: int | None = None
    # JSON in JSON, as Apple's compiler writes it for a model.
    rawMetadata: str | None = None


class _Report(_Seen):
    jsonVersion: Literal[1]
    computeUnit: int = Field(ge=0, le=3)
    deviceInfo: _DeviceInfo
    deviceResults: _Results
    modelMetadata: _Metadata


def is_report(path: Path) -> bool:
    """Whether `path` is a report's folder, or a JSON file that has what only such a report has."""
    if path.is_dir():
        return (path / _FILE).is_file()
    try:
        if path.suffix == ".json":
            return '"deviceResults"' in path.read_text(encoding="utf-8-sig")
        return path.suffix == SUFFIX and path.is_file()
    except (OSError, UnicodeDecodeError):
        return False


def read_report(path: Path) -> XcodeReport:
    """The report in the folder or file `path`; `VitprofError` that names what is not as it was seen."""
    file = path / _FILE if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
        keys = ", ".join(sorted(found))[:200]
    except (OSError, ValueError, RecursionError, TypeError) as error:
        raise VitprofError(f"cannot read {file}: {error}", remedy=_REMEDY, stage="import") from error
    if not isinstance(found, dict) or "deviceResults" not in found:
        raise _unlike(file, "it has no deviceResults", keys)
    try:
        report = _Report.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise _unlike(file, f"key '{place}': {first['msg']}", keys) from error
    except RecursionError as error:
        raise _unlike(file, "its operators are nested too deeply", keys) from error
    results = report.deviceResults
    told = _told(report.modelMetadata.rawMetadata)
    schema = _input_schema(told)
    return XcodeReport(
        model=report.modelMetadata.fileName,
        model_bytes=report.modelMetadata.size,
        input_shape=_shape(schema),
        precision=_precision(told),
        device=report.deviceInfo.modelName,
        system=report.deviceInfo.osNameAndVersionWithoutBuildNumber,
        compute_units=_COMPUTE_UNITS[report.computeUnit],
        predictions_ns=_by_load(file, results, keys),
        loads_ns=_nanoseconds(results.load.samples),
        compilations_ns=_nanoseconds(results.compile.samples) if results.compile else (),
        ops=tuple(_ops(results.modelStructure)),
        started_at=_time(results.predict.startTime),
    )


def _by_load(file: Path, results: _Results, keys: str) -> tuple[tuple[int, ...], ...]:
    """The predictions of each experiment: before its first one the model was loaded anew."""
    samples, config = _nanoseconds(results.predict.samples), results.perfRunConfig
    if not samples or not results.load.samples:
        raise _unlike(file, "it holds no prediction or no load", keys)
    if config is None or config.predictionCount * config.experimentIterations != len(samples):
        return (samples,)
    count = config.predictionCount
    return tuple(samples[start : start + count] for start in range(0, len(samples), count))


def _nanoseconds(seconds: list[float]) -> tuple[int, ...]:
    return tuple(round(one * 1e9) for one in seconds)


def _ops(structure: _Structure | None) -> Iterator[ReportedOp]:
    if structure is not None and structure.program is not None:
        for function in structure.program.only.functions.values():
            yield from _ops_of(function.block)


def _ops_of(block: _Block) -> Iterator[ReportedOp]:
    for one in block.operations:
        if one.deviceUsage is not None or one.cost is not None:
            op = one.operatorName.rpartition(".")[2]
            name = one.outputs[0].name if one.outputs else op
            yield ReportedOp(name, op, _unit(one.deviceUsage), one.cost.weight if one.cost else None)
        for inner in one.blocks:
            yield from _ops_of(inner)


def _unit(usage: _Usage | None) -> str | None:
    """The device type is an object with one empty member, named after the type."""
    kinds = list(usage.preferred.deviceType) if usage else []
    return _UNITS.get(kinds[0], kinds[0]) if len(kinds) == 1 else None


def _told(raw: str | None) -> Mapping[str, Any]:
    """What the compiler says of the model; empty where that cannot be read."""
    try:
        first = json.loads(raw or "")[0]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return {}
    return first if isinstance(first, dict) else {}


def _precision(told: Mapping[str, Any]) -> str | None:
    """Of what is computed: inputs are fp32 in many an fp16 program."""
    floats = [precision for name, precision in _PRECISIONS.items() if name in str(told.get("computePrecision"))]
    return floats[0] if len(floats) == 1 else None


def _input_schema(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model's only input; empty where there are several, or none."""
    inputs = told.get("inputSchema")
    is_one = isinstance(inputs, list) and len(inputs) == 1 and isinstance(inputs[0], dict)
    return inputs[0] if is_one and inputs else {}


def _shape(schema: Mapping[str, Any]) -> tuple[int, ...] | None:
    if schema.get("type") == _IMAGE:
        sides = [str(schema.get(name)) for name in ("height", "width")]
        is_known = schema.get("isColor") == "1" and all(re.fullmatch(r"\d{1,9}", side, re.ASCII) for side in sides)
        return (1, _IMAGE_CHANNELS, *map(int, sides)) if is_known else None
    text = str(schema.get("shape", ""))
    return tuple(map(int, re.findall(r"\d+", text))) if re.fullmatch(r"\[\d{1,9}(, ?\d{1,9})*\]", text) else None


def _time(seconds: float | None) -> str | None:
    try:
        return None if seconds is None else (_EPOCH + timedelta(seconds=seconds)).isoformat(timespec="seconds")
    except OverflowError:
        return None


def _unlike(file: Path, what: str, keys: str) -> VitprofError:
    message = f"{file} is not the performance report that this version reads (jsonVersion {_VERSION}): {what}"
    return VitprofError(f"{message}; its keys: {keys or 'none'}", remedy=_REMEDY, stage="import")
