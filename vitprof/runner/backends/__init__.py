"""The runtimes that the runner can drive: one file each, all of the same shape.

A backend file has `version() -> str` and `load(plan) -> Session`. It imports its runtime inside these functions, so
that this table costs nothing to read: the host reads it too, to say what to install.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Optional, Protocol, Tuple

from vitprof.runner.wire import Profile, ProfileRequest


class Session(Protocol):
    """A loaded model, ready to infer. `loop.py` times `call`, and nothing else."""

    build_ns: Optional[int]
    placement_ops_share: Optional[float]

    def call(self) -> None:
        """One inference on input 0, returning when it is complete."""

    def outputs(self, index: int) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
        """(name, dtype, shape, little-endian bytes) of every output for input `index`."""

    def profile(self, request: ProfileRequest, clock: Callable[[], int]) -> Profile:
        """Where the time of a call goes, by the runtime's own profiler; loaded with `Plan.profile_path`."""


class BackendError(Exception):
    """A backend refused: `stage`, what happened, what to type next."""

    def __init__(self, stage: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.remedy = remedy


@dataclass(frozen=True)
class Backend:
    """One row of the table."""

    module: str
    # What the runtime loads, as in `Artifact.format`; None where it needs no file.
    format: Optional[str]
    # Import name of the runtime and what to type where it is missing.
    requires: Optional[str]
    install: str
    # Comes with an extra of the package, so that its absence is no fault.
    is_extra: bool = False
    # Tells which of its operators take the time.
    has_profile: bool = False


BACKENDS: Mapping[str, Backend] = {
    "ort": Backend("vitprof.runner.backends.ort", "onnx", "onnxruntime", "pip install onnxruntime", has_profile=True),
    "torch": Backend("vitprof.runner.backends.torch", "module", "torch", "pip install torch", has_profile=True),
    "compile": Backend("vitprof.runner.backends.compile", "module", "torch", "pip install torch"),
    "openvino": Backend(
        "vitprof.runner.backends.openvino",
        "onnx",
        "openvino",
        "pip install 'vitprof[openvino]'",
        is_extra=True,
        has_profile=True,
    ),
    "fake": Backend("vitprof.runner.backends.fake", None, None, "", has_profile=True),
}


def backend_module(name: str) -> Any:
    """The module of backend `name`; `BackendError` where its runtime is not installed."""
    entry = BACKENDS.get(name)
    if entry is None:
        raise BackendError("load", f"this runner has no backend '{name}'", f"use one of: {', '.join(sorted(BACKENDS))}")
    try:
        if entry.requires:
            importlib.import_module(entry.requires)
    except ImportError as error:
        raise BackendError("load", f"backend '{name}' cannot be imported: {error}", entry.install) from error
    return importlib.import_module(entry.module)
