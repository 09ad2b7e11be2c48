"""What a compiler fused, from a model's name: an engine is built and its list of kernels read; nothing runs.

Its own file beside `layers` because neither a device nor a runner takes part: it answers for a GPU that is not there.
"""

from __future__ import annotations

from dataclasses import dataclass

from vitprof import prepare
from vitprof.analysis.static_layers import static_layers
from vitprof.export import trt_rtx_export
from vitprof.export.locks import InUse
from vitprof.export.trt_rtx_layers import kernel_list
from vitprof.kernels import StaticLayers, StaticModel
from vitprof.layers import DEPTH, one_model
from vitprof.places import Places
from vitprof.records import Artifact, ModelSpec
from vitprof.report.progress import NoProgress, Progress
from vitprof.workshop import Workshop

BACKEND = "trt-rtx"
# One is asked for, because the kernels may differ: by default that of the GPUs that most people have had for longest.
DEFAULT_COMPUTE_CAPABILITY = "8.6"


@dataclass(frozen=True)
class StaticRequest:
    """Which model is to be compiled. `like`: everything about it but its name, one compute capability among it."""

    model: str
    like: ModelSpec
    depth: int = DEPTH
    trust: bool = False


def compile_layers(request: StaticRequest, places: Places, progress: Progress | None = None) -> StaticModel:
    """The kernels of one model's engine; every failure is a `VitprofError`."""
    trt_rtx_export.check_installed()
    with InUse(places.cache_root) as in_use:
        with Workshop(places.cache_root, progress or NoProgress(), trust=request.trust) as workshop:
            spec = one_model(workshop.specs((request.model,), request.like), request.model)
            engine = workshop.artifact(spec, trt_rtx_export.FORMAT, in_use)
            source = workshop.artifact(*prepare.built_from(spec), in_use)
        layers = _layers(engine, source, request.depth)
    return StaticModel(
        spec=engine.spec,
        input_shape=engine.input_shape,
        backend=BACKEND,
        backend_version=engine.versions[trt_rtx_export.PACKAGE],
        compute_capability=", ".join(spec.compute_capabilities),
        layers=layers,
    )


def _layers(engine: Artifact, source: Artifact, depth: int) -> StaticLayers:
    from vitprof.cost.onnx_count import count_onnx
    from vitprof.export.attentions import attentions

    batch, channels, height, width = source.input_shape
    rows = count_onnx(source.path, (batch, channels, height, width), input_name=source.input_name).rows
    listed = kernel_list(trt_rtx_export.kernels_file(engine.path).read_text())
    return static_layers(listed, rows, attentions(source.path, rows), batch=batch, depth=depth)
