"""torch.compile (inductor, its default mode): the model of the torch backend, compiled on the device at load.

Compiling is the session's build time; inductor keeps what it compiled in a cache of its own (TORCHINDUCTOR_CACHE_DIR),
so only the first process of a model pays it in full.
"""

from __future__ import annotations

import os
import shutil
import time

from vitprof.runner.backends import BackendError, is_out_of_memory
from vitprof.runner.backends import torch as eager
from vitprof.runner.options import run_options
from vitprof.runner.torch_devices import place_of
from vitprof.runner.wire import Plan

_COMPILERS = ("g++", "c++", "clang++", "cl")
_INSTALL = "install a C++ compiler: sudo apt install g++ (Debian, Ubuntu), xcode-select --install (macOS)"


def version() -> str:
    return eager.version()


def load(plan: Plan) -> eager.TorchSession:
    if plan.profile_path:
        message = "torch.compile has no profile by layer: it makes kernels of its own out of several layers"
        raise BackendError("load", message, "profile the model with --backend torch, ort or openvino")
    _check_compiler()
    # Workers would stay beside the timed process; the one that compiles here is enough for one model.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import torch

    options = run_options(plan)
    place = place_of(options)
    session = eager.TorchSession(plan, torch.compile(eager.model_of(plan, options, place), dynamic=False), place)
    start_ns = time.perf_counter_ns()
    try:
        session.call()
    except Exception as error:  # Dynamo, inductor and the compiler behind it each raise classes of their own.
        if is_out_of_memory(error):
            raise
        raise BackendError(
            "build",
            f"torch.compile failed: {type(error).__name__}: {_first_line(error)}",
            "measure it with --backend torch; see the compiler's own words with --debug",
        ) from error
    session.build_ns = time.perf_counter_ns() - start_ns
    if options.cuda_graph:
        session.use_graph()
    return session


def _check_compiler() -> None:
    wanted = os.environ.get("CXX")
    names = (wanted,) if wanted else _COMPILERS
    if not any(shutil.which(name) for name in names):
        raise BackendError("build", f"torch.compile needs a C++ compiler; there is no {', '.join(names)}", _INSTALL)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else ""
