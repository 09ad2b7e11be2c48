"""PLAN.toml: what a sweep measures, read and checked before anything else happens.

Its own file because a plan is written by hand and measured for hours: whatever is wrong with it is told at once, all
of it together, each with its line, the key, the value and what is allowed instead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from vitprof.devices import profiles, reach
from vitprof.errors import UsageError
from vitprof.models.catalogue import Catalogue, find
from vitprof.models.files import is_path
from vitprof.protocols import Effort
from vitprof.records import Device, ModelSpec, Precision, Source, typed_name
from vitprof.runner.backends import BACKENDS
from vitprof.sweeping.lines import Place, lines_of, long_number
from vitprof.units import MOST, size_from_text

Size = tuple[int, int]
_AXES = ("models", "backends", "devices", "batches", "sizes", "precisions", "threads")
_KEYS = (*_AXES, "effort", "metrics", "exclude")
_REMEDY = "mend the plan; docs/interface.md explains every key"
_T = TypeVar("_T")


class PlanMetric(StrEnum):
    """What a plan may ask for. All but the last come of one measurement of a cell, as far as its device tells them."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"
    MEMORY = "memory"
    ENERGY = "energy"
    INSTRUCTIONS = "instructions"


@dataclass(frozen=True)
class Exclusion:
    """Cells that match all of these are left out; None: whatever they have there. `models` may be globs."""

    line: int
    models: tuple[str, ...] | None = None
    backends: tuple[str, ...] | None = None
    devices: tuple[str, ...] | None = None
    batches: tuple[int, ...] | None = None
    sizes: tuple[Size, ...] | None = None
    precisions: tuple[Precision, ...] | None = None
    threads: tuple[int, ...] | None = None

    def matches(self, spec: ModelSpec, backend: str, device: str, threads: int | None) -> bool:
        """Whether the cell has what every given key asks for."""
        pairs = (
            (self.backends, backend),
            (self.devices, device),
            (self.batches, spec.batch),
            (self.sizes, spec.size),
            (self.precisions, spec.precision),
            (self.threads, threads),
        )
        return all(wanted is None or value in wanted for wanted, value in pairs) and (
            self.models is None or any(_is_named(spec, glob) for glob in self.models)
        )


@dataclass(frozen=True)
class Plan:
    """A plan that can be measured. `backends` empty: the first of each device; `sizes` and `threads` None: its own."""

    path: Path
    text: str
    # Every model that the names and globs mean, with its own size where that is known.
    models: tuple[ModelSpec, ...]
    backends: tuple[str, ...]
    devices: tuple[Device, ...]
    batches: tuple[int, ...]
    sizes: tuple[Size | None, ...]
    precisions: tuple[Precision, ...]
    threads: tuple[int | None, ...]
    effort: Effort
    metrics: tuple[PlanMetric, ...]
    exclusions: tuple[Exclusion, ...]
    # Of keys and elements, for whoever finds a fault later.
    lines: Mapping[Place, int]


@dataclass(frozen=True)
class Fault:
    """What is wrong with a plan, and where."""

    line: int
    text: str


def read_plan(path: Path, names: Callable[[], Catalogue]) -> Plan:
    """The plan in the file `path`; `UsageError` that tells everything wrong with it, each with its line.

    `names` is called only where a model is named rather than a file; files are looked for beside the plan.
    """
    try:
        # Some editors begin a file with a mark, which is not TOML.
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", remedy="give the path of a PLAN.toml") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error.reason}", remedy="save it as UTF-8") from error
    if long := long_number(text):
        # The parser refuses thousands of digits without their line, and takes them in hexadecimal; nothing prints them.
        line, length = long
        raise refusal(path, [Fault(line, f"a number of {length} characters; the largest that may be meant is {MOST}")])
    try:
        told = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Beside what is no TOML: lists in lists in lists.
        raise UsageError(f"{path} is not TOML: {error}", remedy=_REMEDY) from error
    reader = _Reader(path, told, lines_of(text))
    plan = reader.plan(text, names)
    if reader.faults or plan is None:
        raise refusal(path, reader.faults)
    return plan


def refusal(path: Path, faults: Sequence[Fault]) -> UsageError:
    """All faults of a plan as one error, in the order of their lines."""
    ordered = sorted(dict.fromkeys(faults), key=lambda fault: fault.line)
    if len(ordered) == 1:
        return UsageError(f"{path}, line {ordered[0].line}: {ordered[0].text}", remedy=_REMEDY, stage="plan")
    listed = "".join(f"\n  line {fault.line}: {fault.text}" for fault in ordered)
    return UsageError(f"{path} has {len(ordered)} faults:{listed}", remedy=_REMEDY, stage="plan")


class _Wrong(Exception):
    """A value that cannot be meant; `str` of it says why and what is allowed."""


class _Reader:
    """Reads one plan and collects everything wrong with it."""

    def __init__(self, path: Path, told: Mapping[str, Any], lines: Mapping[Place, int]) -> None:
        self.faults: list[Fault] = []
        self._path = path
        self._told = told
        self._lines = lines

    def plan(self, text: str, names: Callable[[], Catalogue]) -> Plan | None:
        """None where a fault leaves nothing to go on with."""
        self._check_keys(self._told, (), _KEYS)
        if "models" not in self._told:
            self._fault((), "key 'models' is missing; it names what is measured: models = [\"vit_tiny_patch16_224\"]")
        plan = Plan(
            path=self._path,
            text=text,
            models=self._models(names),
            backends=self._values(("backends",), self._told, _backend) or (),
            devices=self._devices(),
            batches=self._values(("batches",), self._told, _at_least_one) or (1,),
            sizes=self._values(("sizes",), self._told, _size) or (None,),
            precisions=self._values(("precisions",), self._told, _precision) or (Precision.FP32,),
            threads=self._values(("threads",), self._told, _at_least_one) or (None,),
            effort=self._effort(),
            metrics=self._values(("metrics",), self._told, _metric) or (PlanMetric.LATENCY,),
            exclusions=self._exclusions(),
            lines=self._lines,
        )
        self._check_instructions(plan)
        return None if self.faults else plan

    def _fault(self, place: Place, text: str) -> None:
        # The nearest that has a line: a list within a list has none of its own.
        nearest = next((self._lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in self._lines), 1)
        self.faults.append(Fault(nearest, text))

    def _check_keys(self, table: Mapping[str, Any], place: Place, allowed: Sequence[str]) -> None:
        for key in table:
            if key not in allowed:
                self._fault((*place, key), f"unknown key '{key}'{_allowed(key, allowed)}")

    def _values(self, place: Place, table: Mapping[str, Any], parse: Callable[[Any], _T]) -> tuple[_T, ...] | None:
        """The parsed elements of a list; None where the key is missing or the list is of no use."""
        key = str(place[-1])
        if key not in table:
            return None
        given = table[key]
        if not isinstance(given, list):
            self._fault(place, f"key '{key}' must be a list, not {given!r}: {key} = [{_toml(given)}]")
            return None
        if not given:
            self._fault(place, f"key '{key}' is an empty list; leave the key out, or name at least one")
        found: dict[_T, None] = {}
        for index, value in enumerate(given):
            try:
                parsed = parse(value)
            except _Wrong as wrong:
                self._fault((*place, index), f"key '{key}': {wrong}")
                continue
            if parsed in found:
                self._fault((*place, index), f"key '{key}': {_toml(value)} stands there twice")
            found[parsed] = None
        return tuple(found)

    def _models(self, names: Callable[[], Catalogue]) -> tuple[ModelSpec, ...]:
        """What the names and globs mean, each model once: two globs may well overlap."""
        texts = self._values(("models",), self._told, _text) or ()
        given = self._told.get("models")
        found: dict[ModelSpec, None] = {}
        for text in texts:
            try:
                found.update(dict.fromkeys(self._found(text, names)))
            except UsageError as error:
                index = given.index(text) if isinstance(given, list) else 0
                self._fault(("models", index), f"key 'models': {error.message}")
        return tuple(found)

    def _found(self, text: str, names: Callable[[], Catalogue]) -> tuple[ModelSpec, ...]:
        if not is_path(text):
            return find(text, names)
        # Wherever the sweep is resumed from, it is the same file; its name stays as it was written.
        beside = text if text.startswith("~") else str(self._path.resolve().parent / text)
        return tuple(dataclasses.replace(one, name=text) for one in find(beside, names))

    def _devices(self) -> tuple[Device, ...]:
        named = self._values(("devices",), self._told, _device) if "devices" in self._told else ("local",)
        return tuple(profiles.device(name) for name in named or ())

    def _effort(self) -> Effort:
        given = self._told.get("effort", Effort.STANDARD.value)
        if given not in list(Effort):
            self._fault(("effort",), f"key 'effort': unknown effort {_toml(given)}{_allowed(given, list(Effort))}")
            return Effort.STANDARD
        return Effort(given)

    def _exclusions(self) -> tuple[Exclusion, ...]:
        given = self._told.get("exclude", [])
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            self._fault(("exclude",), "key 'exclude' must be tables: write [[exclude]] above its keys")
            return ()
        return tuple(self._exclusion(("exclude", index), one) for index, one in enumerate(given))

    def _exclusion(self, place: Place, told: Mapping[str, Any]) -> Exclusion:
        self._check_keys(told, place, _AXES)
        if not told:
            self._fault(place, f"[[exclude]] without a key would leave out everything; allowed: {', '.join(_AXES)}")

        def values(key: str, parse: Callable[[Any], _T]) -> tuple[_T, ...] | None:
            return self._values((*place, key), told, parse)

        return Exclusion(
            line=self._lines.get(place, self._lines.get(place[:1], 1)),
            models=values("models", _text),
            backends=values("backends", _backend),
            devices=values("devices", _device),
            batches=values("batches", _at_least_one),
            sizes=values("sizes", _size),
            precisions=values("precisions", _precision),
            threads=values("threads", _at_least_one),
        )

    def _check_instructions(self, plan: Plan) -> None:
        if PlanMetric.INSTRUCTIONS not in plan.metrics or not plan.devices:
            return
        place = ("metrics", list(self._told["metrics"]).index(PlanMetric.INSTRUCTIONS.value))
        emulated = [device for device in plan.devices if device.kind == profiles.Kind.EMULATED]
        if not emulated or (len(plan.metrics) == 1 and len(emulated) < len(plan.devices)):
            others = ", ".join(device.name for device in plan.devices if device not in emulated)
            self._fault(
                place, f"key 'metrics': nothing counts the instructions of {others}; an emulated device: emulated-a72"
            )
        for index, threads in enumerate(plan.threads):
            if threads not in (None, 1):
                # Threads that wait for each other execute instructions too, as many as it happens to take.
                what = f"key 'threads': {threads} with metric 'instructions', which are counted on one thread"
                self._fault(("threads", index), what)


def unsupported(plan: Plan, pairs: Iterable[tuple[Device, str]]) -> list[Fault]:
    """A fault for every backend that a device of the plan has not; `pairs`: those of the cells."""
    faults = []
    for device, backend in dict.fromkeys((device.name, backend) for device, backend in pairs):
        profile = next(one for one in plan.devices if one.name == device)
        if reach.offers(profile, backend):
            continue
        offered = [one for one in profile.backends if reach.offers(profile, one)]
        places: tuple[Place, ...] = (("backends",), ("devices",))
        if backend in plan.backends:
            places = (("backends", plan.backends.index(backend)), *places)
        line = next((plan.lines[place] for place in places if place in plan.lines), 1)
        leave_out = f'[[exclude]] with devices = ["{device}"] and backends = ["{backend}"]'
        what = f"key 'backends': device '{device}' has no '{backend}' here; it has {', '.join(offered)}"
        faults.append(Fault(line, f"{what}; leave these cells out: {leave_out}"))
    return faults


def _is_named(spec: ModelSpec, glob: str) -> bool:
    if glob.startswith("timm:"):
        return spec.source is Source.TIMM and fnmatchcase(spec.name, glob.removeprefix("timm:"))
    # The name of a file may hold what is a mark in a glob.
    return spec.name == glob or any(fnmatchcase(one, glob) for one in (spec.name, typed_name(spec.name, spec.source)))


def _text(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    raise _Wrong(f"{_toml(value)} is no name; write names and globs in quotes")


def _backend(value: Any) -> str:
    # `fake` is for tests and the doctor.
    allowed = [name for name in BACKENDS if name != "fake"]
    if isinstance(value, str) and value in BACKENDS:
        return value
    raise _Wrong(f"unknown backend {_toml(value)}{_allowed(value, allowed)}")


def _device(value: Any) -> str:
    try:
        return profiles.device(_text(value)).name
    except UsageError as error:
        raise _Wrong(error.message) from error


def _precision(value: Any) -> Precision:
    if isinstance(value, str) and value in list(Precision):
        return Precision(value)
    raise _Wrong(f"unknown precision {_toml(value)}{_allowed(value, list(Precision))}")


def _metric(value: Any) -> PlanMetric:
    if isinstance(value, str) and value in list(PlanMetric):
        return PlanMetric(value)
    raise _Wrong(f"unknown metric {_toml(value)}{_allowed(value, list(PlanMetric))}")


def _at_least_one(value: Any) -> int:
    # TOML's true is an int to Python.
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _Wrong(f"{_toml(value)} is no whole number of 1 or more")
    if value > MOST:
        raise _Wrong(f"{value} is above {MOST}")
    return value


def _size(value: Any) -> Size:
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        with contextlib.suppress(UsageError):
            return size_from_text(str(value))
    raise _Wrong(f'{_toml(value)} is no input size; allowed: 224, or "256x192" (height x width, in pixels)')


def _toml(value: Any) -> str:
    """A value as it stands in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else str(value)


def _allowed(value: Any, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(value), allowed, n=1)
    meant = f"; did you mean '{near[0]}'? " if near else "; "
    return f"{meant}allowed: {', '.join(allowed)}"
