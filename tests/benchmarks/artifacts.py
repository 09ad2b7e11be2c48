"""Artifacts for benchmarks, exported once into the user's own cache, and two of them timed against each other."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vitprof.analysis.comparison import paired_ratio
from vitprof.cells import Cell
from vitprof.devices.transports.local import LocalTransport
from vitprof.export.locks import InUse
from vitprof.group import Setting, measure_group
from vitprof.measurements import Interval
from vitprof.places import places
from vitprof.protocols import Effort, protocol
from vitprof.records import Artifact, ModelSpec, Source
from vitprof.reference import reference_plan, timed_as
from vitprof.report.progress import NoProgress
from vitprof.runner.wire import Plan
from vitprof.store.journal import Journal
from vitprof.workshop import Workshop

_DEADLINE_S = 600.0
_DEFAULTS = ModelSpec("", Source.TIMM)


def prepared(name: str, format: str = "onnx", like: ModelSpec = _DEFAULTS) -> Artifact:
    """The artifact of a model, by default as `vitprof latency NAME` uses it."""
    root = places().cache_root
    with InUse(root) as in_use, Workshop(root, NoProgress()) as workshop:
        [spec] = workshop.specs((name,), like)
        return workshop.artifact(spec, format, in_use)


def ratio_of(baseline: Artifact, candidate: Artifact, backend: str, effort: Effort = Effort.QUICK) -> Interval | None:
    """Time of `candidate` ÷ time of `baseline` on one thread, round by round in one group."""
    transport = LocalTransport(places().cache_root)
    rules = protocol(effort)
    reference = timed_as(reference_plan(transport, places().cache_root, rules.reference), rules, _DEADLINE_S)
    cells = [
        Cell(name, timed_as(_plan(artifact, backend), rules, _DEADLINE_S))
        for name, artifact in (("baseline", baseline), ("candidate", candidate))
    ]
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        group = measure_group(cells, reference, Setting(transport, rules, journal, NoProgress()))
        journal.close()
    return paired_ratio(group.cells[0].samples, group.cells[1].samples)


def _plan(artifact: Artifact, backend: str) -> Plan:
    return Plan(
        backend=backend,
        artifact=str(artifact.path),
        inputs=str(artifact.folder / artifact.inputs),
        input_name=artifact.input_name,
        input_shape=artifact.input_shape,
        input_dtype=artifact.input_dtype,
        input_count=artifact.input_count,
        symbolic_batch=artifact.symbolic_batch,
    )
