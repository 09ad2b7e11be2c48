"""TensorRT's profile: the time of each layer by its profiler, joined with what the engine inspector says of the layer.

The inspector keeps in a layer's metadata which nodes of the ONNX file it was made of (`[ONNX Layer: /blocks.0/Add]`),
where the engine was built with detailed verbosity. TensorRT for RTX writes the same.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Sequence, Tuple

from vitprof.runner.backends import BackendError
from vitprof.runner.profiles import WARM_UP_CALLS, middle_half, profiled_runs
from vitprof.runner.wire import Profile, ProfiledOp, ProfileRequest

# Several stand behind one another, in some versions with a separator (U+001E) between them. A name may hold brackets
# of its own; TensorRT adds a suffix (`__…`) where it made another operator of a node.
_ONNX_LAYER = re.compile(r"\[ONNX Layer: (.+?)\](?=\[ONNX Layer: |__|\s|$)")
# What the parser calls a node without a name: after its first output.
_NAMELESS = "node_of_"
_NS_PER_MS = 1e6

# (name of the layer, milliseconds), in the order of the engine.
Times = List[Tuple[str, float]]


@dataclass(frozen=True)
class Layer:
    """One layer of an engine: `kind` is TensorRT's own word, `members` are the ONNX nodes that it was made of."""

    name: str
    kind: str
    members: Tuple[str, ...]
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]


def layers_from_inspector(text: str) -> Tuple[Layer, ...]:
    """The layers in the inspector's JSON, of TensorRT 10, 11 and RTX; names alone where it was not built for more."""
    try:
        # Not strict: the separator in the metadata is written as it is.
        entries = json.loads(text, strict=False)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        message = f"the engine inspector's text is not what is known: {text[:80]!r}"
        raise BackendError("profile", message, "profile it with --backend ort") from error
    return tuple(_layer(entry) for entry in entries)


def _layer(entry: Any) -> Layer:
    if isinstance(entry, str):
        return Layer(entry, "", members_from_name(entry), (), ())
    name = str(entry.get("Name", ""))
    return Layer(
        name=name,
        kind=str(entry.get("LayerType", "")),
        members=members_from_metadata(str(entry.get("Metadata", ""))) or members_from_name(name),
        inputs=_tensors(entry.get("Inputs")),
        outputs=_tensors(entry.get("Outputs")),
    )


def members_from_metadata(metadata: str) -> Tuple[str, ...]:
    """`[ONNX Layer: /conv/Conv][ONNX Layer: /act/Relu]` as two names."""
    names = (_bare(name) for name in _ONNX_LAYER.findall(metadata.replace("\x1e", " ")))
    return tuple(dict.fromkeys(names))


def members_from_name(name: str) -> Tuple[str, ...]:
    """`/conv/Conv + /act/Relu` as two names: what there is without metadata."""
    return tuple(dict.fromkeys(_bare(part) for part in name.split(" + ")))


def _bare(name: str) -> str:
    return name[len(_NAMELESS) :] if name.startswith(_NAMELESS) else name


def _tensors(entries: Any) -> Tuple[str, ...]:
    return tuple(str(one.get("Name", "")) for one in entries or () if isinstance(one, dict))


def ops_from_runs(runs: Sequence[Times], layers: Sequence[Layer]) -> Tuple[ProfiledOp, ...]:
    """One operator a layer that was timed, its time the mean over the runs; `BackendError` where nothing was."""
    if not runs or not any(runs):
        message = "TensorRT's profiler reported no layer"
        raise BackendError("profile", message, "profile it with --backend ort or torch")
    known = {layer.name: layer for layer in layers}
    sums: Dict[str, float] = {}
    calls: Dict[str, int] = {}
    for name, milliseconds in (one for run in runs for one in run):
        sums[name] = sums.get(name, 0.0) + milliseconds * _NS_PER_MS
        calls[name] = calls.get(name, 0) + 1
    readers: Dict[str, List[str]] = {}
    for layer in layers:
        for tensor in layer.inputs:
            if layer.name in sums:
                readers.setdefault(tensor, []).append(layer.name)
    ops = []
    for name, total_ns in sums.items():
        layer = known.get(name, Layer(name, "", members_from_name(name), (), ()))
        fed = (one for tensor in layer.outputs for one in readers.get(tensor, ()))
        ops.append(
            ProfiledOp(
                name=name,
                op=layer.kind or "unknown",
                ns=total_ns / len(runs),
                calls=max(1, calls[name] // len(runs)),
                members=layer.members,
                feeds=tuple(dict.fromkeys(fed)),
            )
        )
    return tuple(ops)


def profile(runs: Sequence[Times], runs_ns: Sequence[int], layers: Sequence[Layer]) -> Profile:
    """The profile of runs that took `runs_ns` each, of an engine that consists of `layers`."""
    kept = middle_half(runs_ns)
    return Profile(
        ops=ops_from_runs([runs[index] for index in kept], layers),
        total_ns=sum(runs_ns[index] for index in kept) / len(kept),
        runs=len(kept),
    )


def recorded(
    library: Any, context: Any, call: Callable[[], None], request: ProfileRequest, clock: Callable[[], int]
) -> Tuple[List[Times], List[int]]:
    """The layers' times of each run of an execution context, and that of the whole run in nanoseconds.

    `library` is `tensorrt` or `tensorrt_rtx`. A context with a profiler waits for the end of each inference.
    """
    recorder = _recorder(library)
    context.profiler = recorder
    runs: List[Times] = []

    def run() -> None:
        call()
        runs.append(recorder.take())

    runs_ns = profiled_runs(run, request, clock)
    return runs[WARM_UP_CALLS:], runs_ns


def layers_of(library: Any, engine: Any, context: Any) -> Tuple[Layer, ...]:
    """What the engine inspector knows of an engine, for the shapes that its context was told."""
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    return layers_from_inspector(inspector.get_engine_information(library.LayerInformationFormat.JSON))


def _recorder(library: Any) -> Any:
    class Recorder(library.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            # TensorRT's own classes refuse what has not called this.
            library.IProfiler.__init__(self)
            self._times: Times = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self._times.append((layer_name, ms))

        def take(self) -> Times:
            times, self._times = self._times, []
            return times

    return Recorder()
