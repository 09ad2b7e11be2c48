"""A plan as cells: what is to be measured, together with what, under which hash, and about how long it takes.

    models × backends × devices × batches × sizes × precisions × threads − [[exclude]] ─ shuffled ─► groups of up to 8

Its own file because all of this is decided before anything is measured and depends on nothing but the plan, the
options and the installed names: a dry run shows just this.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import platform
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitprof import prepare
from vitprof.devices import profiles, reach
from vitprof.errors import UsageError, VitprofError
from vitprof.export.onnx_file import external_files
from vitprof.group import MAX_CELLS
from vitprof.measurements import Protocol
from vitprof.placing import format_of
from vitprof.protocols import protocol_on
from vitprof.records import Device, Metric, ModelSpec, Source
from vitprof.runner.sensors import cpu_model
from vitprof.sweeping.plan import Plan, PlanMetric, refusal, unsupported
from vitprof.sweeps import SweepCell

# The reference's process, preparing, checking and storing, which no cell's share holds.
_GROUP_S = 3.0
# Per set and cell, where an amount is asked for: start, warm-up and the reference blocks between.
_AMOUNT_S = 2.0
# One count of instructions, most of which is the start of the runtime under emulation.
_COUNT_S = 60.0
# One export of a small model, and the start of the process that makes them.
_EXPORT_S, _EXPORTER_START_S = 6.0, 10.0
_HASH_DIGITS = 16
# What `machine_of` calls the one that vitprof runs on.
_HERE = "this machine"


@dataclass(frozen=True)
class Planned:
    """The cells of a plan in its order, and the hash that finds an unfinished run of them."""

    plan: Plan
    protocol: Protocol
    cells: tuple[SweepCell, ...]
    plan_hash: str
    # What is odd and no fault.
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """About how long the measuring takes, and the exports that the cache lacks."""

    seconds: float
    exports: int


def planned_cells(plan: Plan, like: ModelSpec, protocol: Protocol, processor: str | None = None) -> Planned:
    """Numbered, grouped cells of a plan; `like`: what the command line asks of every model.

    `processor`: of the machine that is to measure what is measured here; None: of this one.
    `UsageError` for a backend that a device has not, and for a plan of which nothing is left.
    """
    used = [False] * len(plan.exclusions)
    cells = []
    for cell in _product(plan, like):
        matching = [one.matches(cell.spec, cell.backend, cell.device, cell.threads) for one in plan.exclusions]
        used = [before or now for before, now in zip(used, matching, strict=True)]
        if not any(matching):
            cells.append(cell)
    devices = {device.name: device for device in plan.devices}
    faults = unsupported(plan, ((devices[cell.device], cell.backend) for cell in cells))
    if faults:
        raise refusal(plan.path, faults)
    if not cells:
        raise UsageError(
            f"{plan.path}: every cell is excluded", remedy="take away an [[exclude]], or a key of one", stage="plan"
        )
    warnings = tuple(
        f"{plan.path}, line {one.line}: this [[exclude]] matches no cell"
        for one, is_used in zip(plan.exclusions, used, strict=True)
        if not is_used
    )
    cells = [dataclasses.replace(cell, number=number) for number, cell in enumerate(cells)]
    # Of a store that several machines write to, none goes on with what another calls `local`.
    is_here = any(reach.is_here(devices[name]) for name in {cell.device for cell in cells})
    plan_hash = _hash(cells, protocol, (processor or cpu_model()) if is_here else None)
    return Planned(plan, protocol, _grouped(cells, like.seed), plan_hash, warnings)


def groups_in(cells: Sequence[SweepCell]) -> dict[int, list[SweepCell]]:
    """The cells by their group, groups in order."""
    groups: dict[int, list[SweepCell]] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: cell.group):
        groups[cell.group].append(cell)
    return dict(groups)


def estimate(cells: Sequence[SweepCell], protocol: Protocol, cache_root: Path) -> Estimate:
    """From the caps of the protocol; machines measure at the same time, and exports are made on this one."""
    seconds: dict[str, float] = defaultdict(float)
    for name, of_device in itertools.groupby(sorted(cells, key=lambda cell: cell.device), lambda cell: cell.device):
        device = profiles.device(name)
        seconds[machine_of(device)] += measuring_s(device, list(of_device), protocol)
    exports = len(missing_exports(cells, cache_root))
    seconds[_HERE] += exporting_s(exports)
    return Estimate(max(seconds.values(), default=0.0), exports)


def measuring_s(device: Device, cells: Sequence[SweepCell], protocol: Protocol) -> float:
    """About how long measuring these cells of one device takes."""
    counted = sum(cell.metric is Metric.INSTRUCTIONS for cell in cells)
    followed = protocol_on(device, protocol)
    # Where the machine is noisy, and it mostly is, hardly an interval is met before its time is over.
    per_cell_s = followed.cap_s_per_cell
    if followed.measure_ns is not None or followed.measure_calls is not None:
        per_cell_s = 2 * (followed.measure_ns or 0) / 1e9 + followed.sets * _AMOUNT_S
    groups = len({cell.group for cell in cells})
    return counted * _COUNT_S + (len(cells) - counted) * per_cell_s + groups * _GROUP_S


def exporting_s(exports: int) -> float:
    """About how long so many exports take."""
    return exports * _EXPORT_S + (_EXPORTER_START_S if exports else 0.0)


def exports_of(cells: Sequence[SweepCell]) -> frozenset[tuple[ModelSpec, str]]:
    """The artifacts that these cells need: models, each with a format."""
    return frozenset((cell.spec, format_of(cell.backend, cell.spec.precision)) for cell in cells)


def missing_exports(cells: Sequence[SweepCell], cache_root: Path) -> frozenset[tuple[ModelSpec, str]]:
    """Those that are not in the cache; a file that cannot be exported is not among them."""
    return frozenset((spec, format) for spec, format in exports_of(cells) if not _is_cached(spec, format, cache_root))


def machine_of(device: Device) -> str:
    """What `device` shares with others that cannot be measured at the same time.

    An emulated one takes this machine's cores, and so may a browser: nothing tells whether its page is open here.
    """
    if reach.is_here(device) or device.transport in ("emulated", "browser"):
        return _HERE
    host = (device.host or device.name).rpartition("@")[2]
    return _HERE if host in ("localhost", "127.0.0.1", "::1", platform.node()) else host


def is_this_machine(machine: str) -> bool:
    """Whether what `machine_of` gave is the one that vitprof runs on."""
    return machine == _HERE


def _product(plan: Plan, like: ModelSpec) -> Iterator[SweepCell]:
    """Every cell before exclusions; of a model without a size of its own the size is None."""
    rest = (plan.batches, plan.sizes, plan.precisions, plan.threads)
    for model in plan.models:
        for backend, device in _places(plan):
            for batch, size, precision, threads in itertools.product(*rest):
                spec = dataclasses.replace(
                    like,
                    name=model.name,
                    source=model.source,
                    path=model.path,
                    factory=model.factory,
                    size=size or model.size,
                    batch=batch,
                    precision=precision,
                )
                for metric in _metrics_on(plan, device):
                    yield SweepCell(0, 0, spec, backend, device.name, threads, metric)


def _places(plan: Plan) -> Iterator[tuple[str, Device]]:
    """Backend by backend on every device; without `backends` the first of each device."""
    if not plan.backends:
        yield from ((device.backends[0], device) for device in plan.devices)
    yield from itertools.product(plan.backends, plan.devices)


def _metrics_on(plan: Plan, device: Device) -> Iterator[Metric]:
    """One measurement gives time, memory and energy; instructions are counted where something counts them."""
    if set(plan.metrics) != {PlanMetric.INSTRUCTIONS}:
        yield Metric.LATENCY
    if PlanMetric.INSTRUCTIONS in plan.metrics and device.kind == profiles.Kind.EMULATED:
        yield Metric.INSTRUCTIONS


def _grouped(cells: Sequence[SweepCell], seed: int) -> tuple[SweepCell, ...]:
    """The cells in their order, each with its group.

    Shuffled before they are cut, so that no factor of the plan goes with the time of day; equal parts, since a rest of
    one cell would have a whole reference to itself.
    """
    together: dict[tuple[str, Metric], list[SweepCell]] = defaultdict(list)
    for cell in cells:
        together[cell.device, cell.metric].append(cell)
    groups = itertools.count()
    grouped = []
    for (device, metric), members in together.items():
        order = random.Random(f"{seed} {device} {metric}")  # noqa: S311 - the order of cells, not a secret
        order.shuffle(members)
        parts = math.ceil(len(members) / MAX_CELLS)
        for part in range(parts):
            group = next(groups)
            cut = members[part * len(members) // parts : (part + 1) * len(members) // parts]
            grouped += [dataclasses.replace(cell, group=group) for cell in cut]
    return tuple(sorted(grouped, key=lambda cell: cell.number))


def _hash(cells: Sequence[SweepCell], protocol: Protocol, processor: str | None) -> str:
    """Of what a plan comes to, whatever its order and comments: cells, files of models, protocol, this processor."""
    models = {(Path(cell.spec.path), cell.spec.source) for cell in cells if cell.spec.path is not None}
    files = {file for path, source in models for file in (path, *_beside(path, source))}
    contents = {str(file): _sha256(file) for file in sorted(files)}
    told = {
        "cells": sorted(cell.ask for cell in cells),
        "files": contents,
        "protocol": protocol.hash,
        "processor": processor,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:_HASH_DIGITS]


def _beside(path: Path, source: Source) -> list[Path]:
    """The files with the weights of a model that has them outside its own; none where one cannot be read."""
    if source is not Source.ONNX:
        return []
    try:
        return [path.parent / name for name in external_files(path)]
    except VitprofError:
        # Why is told in the rows of its cells.
        return []


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VitprofError(
            f"cannot read {path}: {error.strerror}", remedy="see that it can be read", stage="plan"
        ) from error


def _is_cached(spec: ModelSpec, format: str, cache_root: Path) -> bool:
    try:
        return prepare.cached(spec, format, cache_root) is not None
    except VitprofError:
        return True
