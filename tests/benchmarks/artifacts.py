"""Artifacts for benchmarks, exported once into the user's own cache."""

from __future__ import annotations

from vitprof.places import places
from vitprof.records import Artifact, ModelSpec, Source
from vitprof.report.progress import NoProgress
from vitprof.workshop import Workshop


def prepared(name: str) -> Artifact:
    """The artifact of a model with every default, as `vitprof latency NAME` uses it."""
    with Workshop(places().cache_root, NoProgress()) as workshop:
        [spec] = workshop.specs((name,), ModelSpec("", Source.TIMM))
        return workshop.artifact(spec)
