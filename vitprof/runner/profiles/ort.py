"""ONNX Runtime's profile: a Chrome trace with one event for each node of each run, beside the graph as it ran.

The graph is kept because nodes are fused and their layout is changed: what each one does is found on the host, from
the names of its tensors.

On a GPU the event of a node is as long as launching its kernels takes, whatever these take then. Builds of ONNX
Runtime with `--enable_cuda_profiling` write an event for each kernel (`"cat": "Kernel"`) behind that of its node; the
time of a node is the sum of these, and without any there is no profile.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from vitprof.runner.backends import BackendError
from vitprof.runner.profiles import middle_half, profiled_runs
from vitprof.runner.wire import Profile, ProfiledOp, ProfileRequest

# The end of a node event's name, on any device.
_KERNEL = "_kernel_time"
# The category of what ran on a GPU.
_ON_GPU = "Kernel"
# Weights above this many bytes go to a file of their own, which nobody reads.
_LARGEST_KEPT_BYTES = "1024"


def enable(options: Any, path: str) -> None:
    """Session options that profile, and write the optimised graph; all files begin with `path`."""
    options.enable_profiling = True
    options.profile_file_prefix = path
    options.optimized_model_filepath = _graph(path)
    beside = os.path.basename(_weights(path))
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", beside)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", _LARGEST_KEPT_BYTES
    )


def profile(
    session: Any,
    call: Callable[[], None],
    path: str,
    request: ProfileRequest,
    clock: Callable[[], int],
    *,
    is_on_gpu: bool = False,
) -> Profile:
    """The profile of an `InferenceSession` that was loaded with `enable`; ends the profiling."""
    with contextlib.suppress(OSError):
        os.remove(_weights(path))
    runs_ns = profiled_runs(call, request, clock)
    trace_path = session.end_profiling()
    with open(trace_path, encoding="utf-8") as file:
        events = json.load(file)
    os.remove(trace_path)
    runs = runs_from_trace(with_kernel_times(events) if is_on_gpu else events)[-len(runs_ns) :]
    kept = middle_half(runs_ns)
    return Profile(
        ops=ops_from_runs([runs[index] for index in kept]),
        total_ns=sum(runs_ns[index] for index in kept) / len(kept),
        runs=len(kept),
        graph=_graph(path),
    )


def runs_from_trace(events: Sequence[Mapping[str, Any]]) -> List[List[Mapping[str, Any]]]:
    """The node events of each run, in the order in which the nodes ran."""
    runs: List[List[Mapping[str, Any]]] = [[]]
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith(_KERNEL):
            runs[-1].append(event)
        elif event.get("name") == "model_run":
            # Written when the run has ended, after its nodes.
            runs.append([])
    return runs[:-1]


def with_kernel_times(events: Sequence[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """The events, each node's as long as its kernels took; `BackendError` where the trace has no kernels.

    A node of the processor's own keeps its time; one of the GPU without a kernel took none of it.
    """
    found: List[Dict[str, Any]] = []
    has_kernels = False
    node: Optional[Dict[str, Any]] = None
    for event in events:
        if event.get("cat") == _ON_GPU and node is not None:
            node["dur"] += event["dur"]
            has_kernels = True
        elif event.get("cat") == "Node" and str(event["name"]).endswith(_KERNEL):
            is_on_cpu = event["args"].get("provider") == "CPUExecutionProvider"
            node = {**event, "dur": event["dur"] if is_on_cpu else 0}
            found.append(node)
        else:
            found.append(dict(event))
    if not has_kernels:
        raise BackendError(
            "profile",
            "this ONNX Runtime tells of a GPU only how long its kernels take to launch, not to run",
            "profile it with --backend trt or torch, or with an ONNX Runtime built with --enable_cuda_profiling",
        )
    return list(found)


def ops_from_runs(runs: Sequence[Sequence[Mapping[str, Any]]]) -> "tuple[ProfiledOp, ...]":
    """One operator a node, its time the mean over the runs; `BackendError` where the runs differ or there is none."""
    if not runs or not runs[0] or len({len(run) for run in runs}) > 1:
        counts = sorted({len(run) for run in runs})
        raise BackendError(
            "profile",
            f"ONNX Runtime's profile has {counts or 'no'} node events a run: a graph with branches cannot be profiled",
            "profile it with --backend torch or openvino",
        )
    sums: Dict[int, float] = {}
    for run in runs:
        for place, event in enumerate(run):
            sums[place] = sums.get(place, 0.0) + event["dur"]
    return tuple(
        ProfiledOp(
            name=str(event["name"])[: -len(_KERNEL)],
            op=str(event["args"]["op_name"]),
            # The trace is in microseconds.
            ns=sums[place] * 1000 / len(runs),
        )
        for place, event in enumerate(runs[0])
    )


def _graph(path: str) -> str:
    return f"{path}.onnx"


def _weights(path: str) -> str:
    return f"{path}.weights"
