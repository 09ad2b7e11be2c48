"""The runtimes that the runner can drive: one file each, all of the same shape.

A backend file has `version() -> str` and `load(plan) -> Session`. It imports its runtime inside these functions, so
that this table costs nothing to read: the host reads it too, to say what to install.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Tuple, Union

from vitprof.runner.wire import OUT_OF_MEMORY, Profile, ProfileRequest

_OUT_OF_MEMORY = re.compile(
    # Python; C++; ONNX Runtime's arena and XNNPACK, but not what LiteRT says when an operator refuses its shapes.
    r"memoryerror|bad_alloc|bad allocation|failed to allocate(?! tensors)|smaller than requested bytes"
    # torch on Linux and on Windows; the system, but not its linker, which lacks room in a table.
    r"|can't allocate memory|not enough memory: you tried|cannot allocate memory(?! in static tls)"
    # CUDA, Metal, oneDNN beneath OpenVINO; Vulkan; TensorRT; names of errors of CUDA, cuBLAS, cuDNN and OpenCL.
    r"|out of memory|outofmemory|out_of_(?:host_|device_)?memory|gpu memory[^.]*could not be allocated"
    r"|memoryallocation|_alloc_failed|cl_mem_object_allocation_failure",
    re.IGNORECASE,
)
SMALLER = "use a smaller model, --batch or --size"


# What is timed (`Plan.region`).
CALL, E2E = "call", "e2e"


class Session(Protocol):
    """A loaded model, ready to infer. `loop.py` times `call`, or where it is asked for `host_call` (`timed_call`)."""

    build_ns: Optional[int]
    placement_ops_share: Optional[float]

    def call(self) -> None:
        """One inference on input 0, returning when it is complete."""

    def outputs(self, index: int) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
        """(name, dtype, shape, little-endian bytes) of every output for input `index`."""

    def profile(self, request: ProfileRequest, clock: Callable[[], int]) -> Profile:
        """Where the time of a call goes, by the runtime's own profiler; loaded with `Plan.profile_path`."""


class Accelerator(Protocol):
    """What a session tells of the device beside the processor that does its work: its attribute `accelerator`.

    `loop.py` and `serve.py` ask between blocks, never inside a timed region.
    """

    def environment(self) -> Dict[str, Any]:
        """What the device is and what it was told: clocks, wait, precision of products, …"""

    def sensors(self) -> Dict[str, Any]:
        """Clock, temperature, power and throttling at this moment."""

    def peak_bytes(self) -> Optional[int]:
        """The most device memory that the runtime's own allocator has held, None where it does not tell."""

    def driver_peak_bytes(self) -> Optional[int]:
        """The most that the process has held at any reading as the driver sees it: code and context are in it."""

    def call_ns(self) -> Optional[int]:
        """One more inference, timed by the device's own clock; None where it has none."""


def accelerator_of(session: Session) -> Optional[Accelerator]:
    """The session's accelerator; None for one that runs on the processor."""
    accelerator: Optional[Accelerator] = getattr(session, "accelerator", None)
    return accelerator


def timed_call(session: Session, region: str) -> Callable[[], None]:
    """What is timed in `region`: `call`, or for `e2e` the session's `host_call`, which not every backend has.

    A `host_call` takes the image from the host's memory and leaves the outputs in it.
    """
    if region == CALL:
        return session.call
    host_call: Optional[Callable[[], None]] = getattr(session, "host_call", None)
    if region != E2E or host_call is None:
        message = f"this backend cannot be timed from host memory to host memory (region '{region}')"
        raise BackendError("load", message, "leave out --region")
    return host_call


def graph_timer_of(session: Session) -> Optional[Callable[[], Optional[int]]]:
    """What times one more inference launched as one graph, by the device's clock; None where calls are no other.

    By the session's method `graph_timer`; a model that cannot be recorded raises whatever its runtime raises.
    """
    record: Optional[Callable[[], Optional[Callable[[], Optional[int]]]]] = getattr(session, "graph_timer", None)
    return record() if record else None


class Remote(Protocol):
    """What a session tells of a device beyond the one that runs it, such as a phone on a cable: its attribute `remote`.

    A call goes over the cable, which takes longer than the inference. The device times it itself.
    """

    load_ns: int

    def clock(self) -> int:
        """Nanoseconds that the device has spent in calls: it moves on by each call, and stands still between them."""


def remote_of(session: Session) -> Optional[Remote]:
    """The device beyond this one; None where the model runs on this one."""
    remote: Optional[Remote] = getattr(session, "remote", None)
    return remote


class BackendError(Exception):
    """A backend refused: `stage`, what happened, what to type next; `kind` as in a `Failure`."""

    def __init__(self, stage: str, message: str, remedy: str, kind: Optional[str] = None) -> None:
        super().__init__(message)
        self.stage = stage
        self.remedy = remedy
        self.kind = kind


def out_of_memory(stage: str, said: str, where: str = "") -> BackendError:
    """The refusal of a runtime for want of memory (`where`: of which), in its own words."""
    return BackendError(stage, f"out of memory{where}: {said}", SMALLER, OUT_OF_MEMORY)


def is_out_of_memory(said: Union[str, BaseException]) -> bool:
    """Whether a runtime gave up for want of memory, the processor's or a device's: each says it in its own way."""
    text = said if isinstance(said, str) else f"{type(said).__name__} {said}"
    return _OUT_OF_MEMORY.search(text) is not None


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
    # Runs on NVIDIA's GPUs and on nothing else: the driver is asked before the runtime is imported.
    needs_nvidia: bool = False
    # Its runtime is there on macOS only, although the package may be installed elsewhere.
    needs_macos: bool = False
    # Can be timed from host memory to host memory.
    has_e2e: bool = False
    # What it computes in.
    precisions: Tuple[str, ...] = ("fp32", "fp16")


_FLOATS = ("fp32", "fp16", "bf16")

BACKENDS: Mapping[str, Backend] = {
    "ort": Backend(
        "vitprof.runner.backends.ort",
        "onnx",
        "onnxruntime",
        "pip install onnxruntime",
        has_profile=True,
        has_e2e=True,
        precisions=("fp32", "fp16", "int8"),
    ),
    "torch": Backend(
        "vitprof.runner.backends.torch",
        "module",
        "torch",
        "pip install torch",
        has_profile=True,
        has_e2e=True,
        precisions=_FLOATS,
    ),
    "compile": Backend(
        "vitprof.runner.backends.compile", "module", "torch", "pip install torch", has_e2e=True, precisions=_FLOATS
    ),
    "openvino": Backend(
        "vitprof.runner.backends.openvino",
        "onnx",
        "openvino",
        "pip install 'vitprof[openvino]'",
        is_extra=True,
        has_profile=True,
        has_e2e=True,
        precisions=(*_FLOATS, "int8"),
    ),
    "trt": Backend(
        "vitprof.runner.backends.trt",
        "onnx",
        "tensorrt",
        "pip install 'vitprof[trt]'",
        is_extra=True,
        has_profile=True,
        needs_nvidia=True,
        has_e2e=True,
        precisions=(*_FLOATS, "int8"),
    ),
    "trt-rtx": Backend(
        "vitprof.runner.backends.trt_rtx",
        "trt-rtx",
        "tensorrt_rtx",
        "pip install 'vitprof[trt-rtx]'",
        is_extra=True,
        has_profile=True,
        needs_nvidia=True,
        has_e2e=True,
        precisions=(*_FLOATS, "int8"),
    ),
    "litert": Backend(
        "vitprof.runner.backends.litert",
        "litert",
        "ai_edge_litert",
        "pip install 'vitprof[litert]'",
        is_extra=True,
        has_e2e=True,
        precisions=("fp32",),
    ),
    "litert-gpu": Backend(
        "vitprof.runner.backends.litert_gpu",
        "litert",
        "ai_edge_litert",
        "pip install 'vitprof[litert]'",
        is_extra=True,
    ),
    "coreml": Backend(
        "vitprof.runner.backends.coreml",
        "coreml",
        "coremltools",
        "pip install 'vitprof[coreml]'",
        is_extra=True,
        has_profile=True,
        needs_macos=True,
        has_e2e=True,
    ),
    # It needs no file, and takes any that others load.
    "fake": Backend("vitprof.runner.backends.fake", "onnx", None, "", has_profile=True, has_e2e=True),
}


def backend_module(name: str) -> Any:
    """The module of backend `name`; `BackendError` where its runtime is not installed."""
    entry = BACKENDS.get(name)
    if entry is None:
        raise BackendError("load", f"this runner has no backend '{name}'", f"use one of: {', '.join(sorted(BACKENDS))}")
    # First the adapter, which imports nothing of the runtime yet and may have something to say of how it is imported.
    module = importlib.import_module(entry.module)
    try:
        if entry.requires:
            importlib.import_module(entry.requires)
    except ImportError as error:
        raise BackendError("load", f"backend '{name}' cannot be imported: {error}", entry.install) from error
    return module
