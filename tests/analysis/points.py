"""Points made up for the tests of comparison."""

from __future__ import annotations

from typing import Any

from vitprof.comparisons import Point
from vitprof.counts import Kind, KindSum


def point(model: str = "model", image_ns: float = 1e6, **facts: Any) -> Point:
    given: dict[str, Any] = {"size": (224, 224), "batch": 1, "precision": "fp32", "device": "local", "backend": "ort"}
    return Point(model, image_ns=image_ns, **{**given, **facts})


def kind(kind: Kind, megabytes: float, macs: float = 0, *, weights: float = 0, calls: int = 1) -> KindSum:
    """Of its bytes, in megabytes, `weights` are parameters; half of the rest is read and half written."""
    moving = round((megabytes - weights) * 1e6)
    read, written = round(weights * 1e6) + moving // 2, moving - moving // 2
    return KindSum(kind, calls, round(macs), read, written, round(weights * 1e6))
