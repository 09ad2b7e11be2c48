"""TensorRT for RTX: an engine that was built ahead on any machine, its kernels compiled on the GPU that runs it.

The compiling happens when the execution context is made and is the session's build time; what was compiled is kept
beside the artifact, so that only the first process of a model pays it in full.
"""

from __future__ import annotations

import time
from typing import Any

from vitprof.runner import cuda
from vitprof.runner.backends import BackendError
from vitprof.runner.backends.trt import finish
from vitprof.runner.engine import EngineSession, logger_of, refusal
from vitprof.runner.engine_cache import cache_of, key_of_engine
from vitprof.runner.options import RunOptions, run_options
from vitprof.runner.wire import Plan

_KERNELS = "kernels"


def version() -> str:
    import tensorrt_rtx

    return str(tensorrt_rtx.__version__)


def load(plan: Plan) -> EngineSession:
    import tensorrt_rtx as library

    options = run_options(plan)
    gpu = cuda.gpu(options.index, options.spin)
    logger = logger_of(library)
    runtime = library.Runtime(logger)
    with open(plan.artifact, "rb") as file:
        engine = runtime.deserialize_cuda_engine(file.read())
    if engine is None:
        raise _refused("engine", options, logger)
    start_ns = time.perf_counter_ns()
    context = _context(engine, plan, options)
    if context is None:
        raise _refused("kernels of the engine", options, logger)
    session = EngineSession(library, plan, engine, context, gpu)
    session.build_ns, session.runtime, session.logger = time.perf_counter_ns() - start_ns, runtime, logger
    finish(session, plan, options, gpu)
    return session


def _context(engine: Any, plan: Plan, options: RunOptions) -> Any:
    """The execution context, its kernels out of the cache where they were compiled before."""
    cache = cache_of(plan)
    key = key_of_engine(plan, cuda.driver_facts(options.index), version(), {})
    config = engine.create_runtime_config()
    kernels = config.create_runtime_cache()
    kept = cache.read(_KERNELS, key) if options.engine_cache else None
    # It refuses what another GPU, driver or version has left, and then everything is compiled.
    is_loaded = bool(kept) and kernels.deserialize(kept)
    config.set_runtime_cache(kernels)
    context = engine.create_execution_context(config)
    if context is not None and not is_loaded:
        cache.keep(_KERNELS, key, bytes(memoryview(kernels.serialize())))
    return context


def _refused(what: str, options: RunOptions, logger: Any) -> BackendError:
    driver = cuda.driver_facts(options.index)
    what = (
        f"TensorRT-RTX {version()} cannot load the {what} on {driver.name} "
        f"(compute capability {driver.compute_capability})"
    )
    return refusal("load", what, logger, "measure it with --backend trt, ort or torch")
