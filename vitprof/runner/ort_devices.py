"""ONNX Runtime on an NVIDIA GPU: which provider with which options, whether it is really the one that runs the model.

Its own file because ONNX Runtime falls back without an error: a provider whose libraries do not load is left out, and
nodes that a provider does not take run on the processor. Both are looked for here and told.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional, Tuple

from vitprof.runner.accelerator import nvidia
from vitprof.runner.backends import Accelerator, BackendError
from vitprof.runner.options import RunOptions
from vitprof.runner.wire import Plan

_CPU = "CPUExecutionProvider"
_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_INSTALL = "pip uninstall onnxruntime, then pip install onnxruntime-gpu"
# Has ONNX Runtime 1.24 or newer say which provider took which nodes.
ASSIGNMENT_ENTRY = "session.record_ep_graph_assignment_info"

# An output's type in a file, as numpy calls it.
NUMPY_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}

Provider = Tuple[str, Dict[str, str]]


def providers_of(plan: Plan, options: RunOptions) -> List[Provider]:
    """The provider asked for with its options, before those that take what it leaves."""
    cuda: Provider = (
        _PROVIDERS["cuda"],
        {
            "device_id": str(options.index),
            "use_tf32": _bit(options.tf32),
            # The search for the fastest convolutions, as cuDNN's benchmark is called here.
            "cudnn_conv_algo_search": "EXHAUSTIVE" if options.cudnn_benchmark else "HEURISTIC",
            "enable_cuda_graph": _bit(options.cuda_graph and options.provider == "cuda"),
        },
    )
    if options.provider == "cuda":
        return [cuda, (_CPU, {})]
    tensorrt = {
        "device_id": str(options.index),
        "trt_fp16_enable": _bit(plan.precision == "fp16"),
        "trt_int8_enable": _bit(plan.precision == "int8"),
        "trt_cuda_graph_enable": _bit(options.cuda_graph),
        "trt_engine_cache_enable": _bit(options.engine_cache),
        "trt_engine_cache_path": os.path.join(os.path.dirname(plan.inputs), "engines"),
    }
    return [(_PROVIDERS["tensorrt"], tensorrt), cuda, (_CPU, {})]


def prepare(onnxruntime: Any, options: RunOptions) -> None:
    """Before a session is made: `BackendError` where this build of ONNX Runtime has no such provider."""
    wanted = _PROVIDERS[options.provider]
    available = onnxruntime.get_available_providers()
    if wanted not in available:
        message = f"this ONNX Runtime {onnxruntime.__version__} has no {wanted}; it has {', '.join(available)}"
        raise BackendError("load", message, _INSTALL)
    if not options.tf32:
        # TensorRT's provider has no option for it; NVIDIA's libraries read this when they are loaded.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    # CUDA and cuDNN out of NVIDIA's own packages, where they were installed by pip (ONNX Runtime 1.21 or newer).
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        preload()


def accelerator(options: RunOptions) -> Accelerator:
    """What the GPU tells; ONNX Runtime has no device clock to ask, and from Python no figures of its arena."""
    stated = {
        "provider": _PROVIDERS[options.provider],
        "cudnn_benchmark": options.cudnn_benchmark,
        "cuda_graph": options.cuda_graph,
    }
    return nvidia(options, _nobody_knows, _nobody_knows, stated)


def _nobody_knows() -> Optional[int]:
    return None


def check_provider(session: Any, options: RunOptions) -> None:
    """`BackendError` where the session was made without the provider that was asked for."""
    wanted = _PROVIDERS[options.provider]
    got = list(session.get_providers())
    if wanted not in got:
        raise BackendError(
            "load",
            f"ONNX Runtime left {wanted} out and would run on {', '.join(got)}: its CUDA or cuDNN does not load",
            "see which library is missing with --debug; pip install 'onnxruntime-gpu[cuda,cudnn]' brings them",
        )


def placement_share(session: Any) -> Optional[float]:
    """Share of the nodes that run on the GPU, 0-1; None where this version of ONNX Runtime does not tell."""
    ask = getattr(session, "get_provider_graph_assignment_info", None)
    if ask is None:
        return None
    try:
        counts = [(part.ep_name, len(part.get_nodes())) for part in ask()]
    except Exception:  # Its status classes have no base but this; a missing figure is no reason to fail.
        return None
    return share_from_counts(counts)


def share_from_counts(counts: List[Tuple[str, int]]) -> Optional[float]:
    """Of (provider, nodes): what is not the processor's."""
    total = sum(nodes for _, nodes in counts)
    return sum(nodes for name, nodes in counts if name != _CPU) / total if total else None


def _bit(is_on: bool) -> str:
    return "1" if is_on else "0"
