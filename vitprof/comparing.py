"""`vitprof compare`: points from a published table, from the store, or measured now; then what they say together.

    FILE ─ read_table ───────────────┐
    store ─ rows ─ points ───────────┼─► groups ─ disagreement ─► ranks, inversions with reasons
    MODEL ─ measure what is missing ─┘   └─ pair_verdicts ──────► A against B

One level above the pipeline, because it calls `measure` for what the store does not have.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from vitprof import prepare
from vitprof.analysis.disagreement import disagreement, measured_groups, table_groups
from vitprof.analysis.verdicts import pair_verdicts
from vitprof.comparisons import Disagreement, Limits, PairVerdict, Point
from vitprof.devices import lease, profiles, reach
from vitprof.errors import ExitCode, UsageError, VitprofError
from vitprof.layers import LayersRequest, keep, profile_layers
from vitprof.measurements import Region
from vitprof.pipeline import Request, measure
from vitprof.places import Places
from vitprof.placing import format_of
from vitprof.points import LeftOut, points_from_document
from vitprof.protocols import protocol_on
from vitprof.records import Artifact, Device, ModelSpec, typed_name
from vitprof.report.document import dicts_from_results
from vitprof.report.progress import Progress
from vitprof.runner.backends import BACKENDS
from vitprof.store.tables import Unusable, read_table
from vitprof.workshop import Workshop

_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """Which pairs count as inversions, how many are shown, and of which models."""

    limits: Limits = Limits()  # noqa: RUF009 - a frozen value
    all_pairs: bool = False
    # Searched for in the model's name.
    match: str | None = None
    # The models of shown inversions get a layer profile, where they have none.
    with_layers: bool = False


@dataclass(frozen=True)
class Sides:
    """What is compared with what: the first name of a list is the baseline of the others."""

    backends: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compared:
    """What came of it. `left_out` and `unusable`: rows that gave no point, each with its reason."""

    groups: tuple[Disagreement, ...]
    pairs: tuple[PairVerdict, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    unusable: tuple[Unusable, ...] = ()
    exit_codes: frozenset[ExitCode] = frozenset()
    troubles: tuple[VitprofError, ...] = field(default=())

    @property
    def left_out_texts(self) -> tuple[str, ...]:
        """What is not in the comparison, and why."""
        rows = [f"{one.model} on {one.backend}, {one.device}: {one.reason}" for one in self.left_out]
        return (*rows, *(f"line {one.line}, {one.model or 'no name'}: {one.reason}" for one in self.unusable))


def check_table_alone(models: Sequence[str], sides: Sides) -> None:
    """`UsageError` where a published table and something to measure are asked for together."""
    if models or any(vars(sides).values()):
        raise UsageError(
            "--from compares the rows of a table; it takes no MODEL, --backends, --devices or --runs",
            remedy="choose rows with --match, or bring the table into the store: vitprof results import FILE",
        )


def compare_table(path: Path, map_path: Path | None, choice: Choice) -> Compared:
    """What a published table says: all of its rows together, then one group for each batch size."""
    table = read_table(path, map_path)
    points = matching(table.points, choice)
    if not points:
        raise UsageError(
            f"no usable row of {path} has a model that matches '{choice.match}'", remedy="leave out --match, or mend it"
        )
    groups = tuple(disagreement(group, choice.limits, choice.all_pairs) for group in table_groups(points))
    return Compared(groups, unusable=table.unusable)


def compare_stored(
    sides: Sides, choice: Choice, places: Places, models: Sequence[str] = (), region: str = Region.CALL
) -> Compared:
    """What the store holds of every side, over the models that all of them have; nothing is measured."""
    points, left_out = _stored(sides, places, models, region)
    common = _in_all(matching(points, choice), sides)
    if not common:
        raise _nothing_stored(sides, places, points, region)
    return _compared(common, sides, choice, left_out)


def stored_points(
    sides: Sides, places: Places, models: Sequence[str] = (), region: str = Region.CALL
) -> tuple[Point, ...]:
    """The latest result of every cell that the store has of the sides, of models that match one of the globs."""
    return _stored(sides, places, models, region)[0]


def _stored(
    sides: Sides, places: Places, models: Sequence[str], region: str
) -> tuple[tuple[Point, ...], tuple[LeftOut, ...]]:
    from vitprof.store.results import open_store

    with open_store(places.ready_store()) as store:
        rows = [
            row
            for run in sides.runs or (None,)
            for glob in models or ("*",)
            # The store keeps names without the library that they are from.
            for row in store.rows(_bare(glob), backends=sides.backends, devices=sides.devices, run=run)
            # Two regions are two quantities. A published table does not say which is its own: a `call`, as most are.
            if _is_meant(glob, row.document) and (row.document["region"] or Region.CALL) == region
        ]
        read = [points_from_document([row.document], row.run) for row in rows]
        points = store.with_time_shares([point for found, _ in read for point in found])
    return points, tuple(one for _, missing in read for one in missing)


def _bare(glob: str) -> str:
    return glob.removeprefix("torchvision:").removeprefix("timm:")


def _is_meant(glob: str, row: _Row) -> bool:
    typed = typed_name(row["model"], row["source"])
    return glob == "*" or fnmatchcase(typed, glob.removeprefix("timm:"))


def compare_measured(request: Request, sides: Sides, choice: Choice, places: Places, progress: Progress) -> Compared:
    """Every model on every side: measured where the store has no result of the same file by the same protocol."""
    rows: list[_Row] = []
    codes: set[ExitCode] = set()
    troubles: list[VitprofError] = []
    # Before anything is measured on the first of them.
    for device in sides.devices or (request.device,):
        reach.check_times_count(profiles.device(device, request.device_file))
    for device in sides.devices or (request.device,):
        one = dataclasses.replace(request, device=device, backends=sides.backends or request.backends)
        present, missing = _present(one, places, progress)
        rows += present
        for backends, names in missing.items():
            run = measure(dataclasses.replace(one, models=names, backends=backends), places, progress)
            rows += dicts_from_results(run.results)
            codes |= run.exit_codes
            troubles += run.troubles
            if ExitCode.INTERRUPTED in codes:
                break
    found, left_out = points_from_document(rows)
    points = matching(found, choice)
    compared = _compared(_with_shares(points, places), sides, choice, left_out)
    if choice.with_layers and ExitCode.INTERRUPTED not in codes:
        troubles += _profiled(compared.groups, request, places, progress)
        compared = _compared(_with_shares(points, places), sides, choice, left_out)
    return dataclasses.replace(compared, exit_codes=frozenset(codes), troubles=tuple(troubles))


def _with_shares(points: Sequence[Point], places: Places) -> tuple[Point, ...]:
    from vitprof.store.results import open_store

    with open_store(places.ready_store()) as store:
        return store.with_time_shares(points)


def _profiled(
    groups: Sequence[Disagreement], request: Request, places: Places, progress: Progress
) -> list[VitprofError]:
    """Keeps a layer profile of every model in a shown inversion that has none; returns what went wrong."""
    wanted = {
        (point.model, point.backend, point.device, point.batch): point
        for group in groups
        for inversion in group.inversions
        for point in (inversion.slower, inversion.faster)
        if point.time_shares is None and BACKENDS[point.backend].has_profile
    }
    troubles = []
    for point in wanted.values():
        asked = LayersRequest(
            point.model,
            request.like,
            device=point.device,
            device_file=request.device_file,
            backend=point.backend,
            threads=point.threads,
            trust=request.trust,
            timeouts=request.timeouts,
        )
        try:
            keep(profile_layers(asked, places, progress), places)
        except VitprofError as error:
            troubles.append(error)
    return troubles


def _present(
    request: Request, places: Places, progress: Progress
) -> tuple[list[_Row], dict[tuple[str, ...], tuple[str, ...]]]:
    """The stored rows that serve, and by the backends that lack one the models that are to be measured on them."""
    from vitprof.store.results import open_store

    device = reach.device_for(profiles.device(request.device, request.device_file), request.backends)
    threads = request.threads or _threads(device, places)
    backends = request.backends or device.backends[:1]
    for backend in backends:
        # Before anything is exported for it.
        reach.check_backend(backend, device)
        reach.check_installed(backend, device)
    protocol_hash = protocol_on(device, request.protocol).hash
    with open_store(places.ready_store()) as store:
        stored = {
            _cell(row.document): row.document for row in reversed(store.rows(devices=(device.name,), is_all=True))
        }
    rows: list[_Row] = []
    missing: dict[tuple[str, ...], list[str]] = {}
    with Workshop(places.cache_root, progress, trust=request.trust) as workshop:
        specs = workshop.specs(request.models, request.like)
    for spec in specs:
        lacking = []
        for backend in backends:
            artifact = _cached(spec, format_of(backend, spec.precision), places)
            precision = artifact.spec.precision if artifact else spec.precision
            wanted = (device.name, backend, spec.batch, precision.value, threads, protocol_hash)
            row = stored.get((*wanted, artifact.sha256)) if artifact else None
            if row is None:
                lacking.append(backend)
            else:
                rows.append({**row, "model": spec.name})
        if lacking:
            missing.setdefault(tuple(lacking), []).append(spec.typed_name)
    return rows, {backends: tuple(names) for backends, names in missing.items()}


def _threads(device: Device, places: Places) -> int:
    """As `measure` takes them; a device elsewhere is asked for its cores, unless its profile says it all."""
    known = lease.known_threads(device)
    if known is not None:
        return known
    with reach.connected(device, places.cache_root) as transport:
        return lease.threads_of(device, transport)


def _cached(spec: ModelSpec, format: str, places: Places) -> Artifact | None:
    """The artifact, where it need not be made: a result of a file that is gone is measured again."""
    try:
        return prepare.cached(spec, format, places.cache_root)
    except VitprofError:
        # `measure` makes the failed row, with its reason.
        return None


def _cell(row: _Row) -> tuple[object, ...] | None:
    """What must be equal for a stored row to stand for a new measurement: the file itself, not only its name."""
    if row["outcome"] != "ok" or not row["artifact"]:
        return None
    names = ("device", "backend", "batch", "precision", "threads", "protocol_hash")
    return (*(row[name] for name in names), row["artifact"]["sha256"])


def _compared(points: Sequence[Point], sides: Sides, choice: Choice, left_out: tuple[LeftOut, ...]) -> Compared:
    groups = tuple(disagreement(group, choice.limits, choice.all_pairs) for group in measured_groups(points))
    return Compared(groups, _pairs(points, sides), left_out)


def _pairs(points: Sequence[Point], sides: Sides) -> tuple[PairVerdict, ...]:
    """The baseline against each of the others, by whatever the sides differ in."""
    return tuple(
        verdict
        for name, of_point in (("runs", _run), ("devices", _device), ("backends", _backend))
        for other in getattr(sides, name)[1:]
        for verdict in pair_verdicts(
            [point for point in points if of_point(point) == getattr(sides, name)[0]],
            [point for point in points if of_point(point) == other],
            baseline=getattr(sides, name)[0],
            candidate=other,
        )
    )


def _run(point: Point) -> str | None:
    return point.run


def _device(point: Point) -> str | None:
    return point.device


def _backend(point: Point) -> str | None:
    return point.backend


def _in_all(points: Sequence[Point], sides: Sides) -> list[Point]:
    """The points of the models that every named side has, each at the same size and batch."""
    kept = list(points)
    for names, of_point in ((sides.runs, _run), (sides.devices, _device), (sides.backends, _backend)):
        for name in names:
            have = {_model(point) for point in points if of_point(point) == name}
            kept = [point for point in kept if _model(point) in have]
    return kept


def _model(point: Point) -> tuple[object, ...]:
    return (point.model, point.size, point.batch)


def matching(points: Iterable[Point], choice: Choice) -> list[Point]:
    try:
        pattern = re.compile(choice.match or "")
    except re.error as error:
        raise UsageError(f"--match '{choice.match}' is no regular expression: {error}", remedy="mend it") from error
    return [point for point in points if pattern.search(point.model)]


def _nothing_stored(sides: Sides, places: Places, points: Sequence[Point], region: str) -> UsageError:
    """What the store lacks of what was asked for, and how it gets there."""
    of_region = () if region == Region.CALL else (f"region {region}",)
    parts = (sides.backends, sides.devices, sides.runs, of_region)
    asked = " and ".join(", ".join(names) for names in parts if names)
    held = sorted({f"{point.backend} on {point.device}" for point in stored_points(Sides(), places, region=region)})
    if not held:
        what = f"the store {places.shown_store} holds no results of region {region}"
    elif points:
        what = f"the store {places.shown_store} has no model that all of {asked or 'these'} have measured"
    else:
        what = f"the store {places.shown_store} holds nothing of {asked or 'these models'}; it has: {', '.join(held)}"
    example = ",".join(sides.backends) or "ort,torch"
    return UsageError(
        what,
        remedy=f"name models to measure them now (vitprof compare MODEL… --backends {example}), "
        "or bring results: vitprof results import FILE",
    )
