"""A layer profile from a model's name: the artifact, one process under the runtime's profiler, the counts beside it.

Its own file beside the pipeline because nothing here is a measurement: a profiler costs time in every operator, so
the process is never timed and its figures are shares.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitprof.analysis.layers import layer_profile
from vitprof.comparisons import ProfiledModel
from vitprof.counts import OpRow
from vitprof.devices import lease, profiles, reach
from vitprof.devices.transports import RunnerFailed, Transport
from vitprof.errors import UsageError, VitprofError
from vitprof.export import coreml_export, trt_rtx_export
from vitprof.export.coreml_operators import read_operators
from vitprof.export.locks import InUse
from vitprof.group import Timeouts
from vitprof.keeping import check_store
from vitprof.places import Places
from vitprof.placing import format_of, plan_of
from vitprof.prepare import QDQ_FORMAT, built_from
from vitprof.records import Artifact, Device, ModelSpec
from vitprof.report.progress import NoProgress, Progress
from vitprof.runner.backends import BACKENDS
from vitprof.runner.wire import Plan, Profile, ProfileRequest, Ready
from vitprof.workshop import Workshop

# Modules are added up to so many parts of their path: `blocks.3`, `stages.1`.
DEPTH = 2


@dataclass(frozen=True)
class LayersRequest:
    """Which model is to be profiled on what. `like`: everything about the model but its name."""

    model: str
    like: ModelSpec
    device: str = "local"
    device_file: Path | None = None
    # None: the device's first that can be profiled.
    backend: str | None = None
    threads: int | None = None
    depth: int = DEPTH
    trust: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)


def profile_layers(request: LayersRequest, places: Places, progress: Progress | None = None) -> ProfiledModel:
    """The layer profile of one model on one backend; every failure is a `VitprofError`."""
    check_store(places)
    progress = progress or NoProgress()
    asked = (request.backend,) if request.backend else ()
    device = reach.device_for(profiles.device(request.device, request.device_file), asked)
    reach.check_times_count(device)
    backend = _backend(request.backend, device)
    reach.check_precision(backend, request.like.precision)
    reach.check_installed(backend, device)
    with InUse(places.cache_root) as in_use, reach.connected(device, places.cache_root) as transport:
        with Workshop(places.cache_root, progress, trust=request.trust) as workshop:
            spec = one_model(workshop.specs((request.model,), request.like), request.model)
            artifact = workshop.artifact(spec, format_of(backend, spec.precision), in_use)
            # An engine's layers are named after the nodes of the ONNX file that it was built from.
            is_engine = artifact.format == trt_rtx_export.FORMAT
            source = workshop.artifact(*built_from(spec), in_use) if is_engine else artifact
        threads = request.threads or lease.threads_of(device, transport)
        with (
            tempfile.TemporaryDirectory(prefix="vitprof-") as scratch,
            lease.held(device, transport, lambda what: progress.stage("wait", what)) as held,
        ):
            # Shares of time say nothing that a warm device would spoil: what is not ready is waited for, not told.
            held.wait_until_ready()
            progress.stage("profile", f"{artifact.spec.name} on {backend}")
            path = transport.scratch("profile", Path(scratch))
            options = reach.options_of(device, backend)
            plan = dataclasses.replace(plan_of(artifact, backend, threads, transport, options), profile_path=path)
            ready, profile = profile_of(plan, transport, request.timeouts)
            graph = transport.fetch(profile.graph, Path(scratch)) if profile.graph else None
            profile, rows = _explained(profile, graph, source)
    return ProfiledModel(
        spec=artifact.spec,
        input_shape=artifact.input_shape,
        device=device.name,
        backend=backend,
        backend_version=ready.backend_version,
        threads=threads,
        profile=layer_profile(profile, rows, batch=artifact.spec.batch, depth=request.depth),
    )


def keep(profiled: ProfiledModel, places: Places) -> None:
    """Leaves the shares of time in the results store, where `compare` finds reasons in them; `VitprofError`.

    Estimated shares are not kept: what they would give as a reason is a guess.
    """
    if profiled.profile.is_estimate:
        return
    # Not before there is something to keep: the database library takes its time to load.
    from vitprof.store.results import open_store

    with open_store(places.ready_store()) as store:
        store.add_profile(profiled)


def profile_of(plan: Plan, transport: Transport, timeouts: Timeouts) -> tuple[Ready, Profile]:
    """What a fresh process says of itself and of its operators; `VitprofError` where it breaks."""
    link = None
    try:
        link = transport.start(plan)
        ready = link.receive(timeouts.load_s)
        link.send(ProfileRequest())
        profile = link.receive(timeouts.block_s)
    except RunnerFailed as failed:
        failure = failed.failure
        raise VitprofError(failure.error, remedy=failure.remedy, stage=failure.stage) from failed
    finally:
        if link is not None:
            link.close()
    assert isinstance(ready, Ready) and isinstance(profile, Profile)  # noqa: S101 - the protocol of wire.py
    return ready, profile


def _explained(profile: Profile, graph: Path | None, artifact: Artifact) -> tuple[Profile, Sequence[OpRow]]:
    """The profile with the members of its operators by the names of the counted ones, and these."""
    if artifact.format == coreml_export.FORMAT:
        counted = read_operators(artifact.folder)
        if counted is None:
            remedy = f"export it again: vitprof cache clear {artifact.spec.name}"
            raise VitprofError(f"{artifact.path} was made by an older vitprof", remedy=remedy, stage="profile")
        return profile, counted
    if artifact.format not in ("onnx", QDQ_FORMAT):
        return profile, artifact.cost.rows
    from vitprof.cost.onnx_count import count_onnx
    from vitprof.export.fused import with_members_of_graph, with_members_of_names

    batch, channels, height, width = artifact.input_shape
    rows = count_onnx(artifact.path, (batch, channels, height, width), input_name=artifact.input_name).rows
    if graph is not None:
        ops = with_members_of_graph(artifact.path, graph, profile.ops)
    else:
        ops = with_members_of_names(artifact.path, profile.ops)
    return dataclasses.replace(profile, ops=ops), rows


def one_model(specs: Sequence[ModelSpec], text: str) -> ModelSpec:
    """The only one of `specs`, which `text` names; `UsageError` where there are several."""
    if len(specs) != 1:
        named = ", ".join(spec.name for spec in specs[:3])
        raise UsageError(f"'{text}' names {len(specs)} models ({named}, …)", remedy="name one model")
    return specs[0]


def _backend(name: str | None, device: Device) -> str:
    profiled = [one for one in device.backends if one in BACKENDS and BACKENDS[one].has_profile]
    offered = [one for one in profiled if reach.offers(device, one)]
    if name is None and offered:
        return offered[0]
    reach.check_backend(name or "", device)
    if name not in profiled:
        raise UsageError(
            f"backend '{name}' cannot tell which of its operators take the time",
            remedy=f"use --backend {', '.join(offered)}" if offered else "choose another --device",
            stage="backend",
        )
    return str(name)
