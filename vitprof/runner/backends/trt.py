"""TensorRT: an ONNX file built into an engine on the GPU that runs it, then called.

TensorRT 10 and 11. Networks are strongly typed in both (in 11 there is no other kind), so the precision is that of
the file: no flag may let TensorRT compute in less than what was asked for. An engine is kept beside the artifact with
everything in its key that it depends on; building takes seconds to minutes, and no two builds are quite the same
engine.
"""

from __future__ import annotations

import time
from typing import Any, Optional, Tuple

from vitprof.runner import cuda
from vitprof.runner.accelerator import nvidia
from vitprof.runner.backends import BackendError
from vitprof.runner.engine import EngineSession, logger_of, refusal
from vitprof.runner.engine_cache import cache_of, key_of_engine, key_of_gpu
from vitprof.runner.options import RunOptions, run_options
from vitprof.runner.wire import Plan

_OLDEST_MAJOR = 10
_ENGINE, _TIMINGS = "engine", "timings"
_ELSEWHERE = "measure it with --backend ort; TensorRT's own words with --debug"


def version() -> str:
    import tensorrt

    return str(tensorrt.__version__)


def load(plan: Plan) -> EngineSession:
    import tensorrt as library

    if int(version().partition(".")[0]) < _OLDEST_MAJOR:
        message = f"TensorRT {version()} is too old: {_OLDEST_MAJOR} or newer is needed"
        raise BackendError("load", message, "pip install -U tensorrt")
    options = run_options(plan)
    gpu = cuda.gpu(options.index, options.spin)
    logger = logger_of(library)
    runtime = library.Runtime(logger)
    cache, key = cache_of(plan), _key(plan, options)
    kept = cache.read(_ENGINE, key) if options.engine_cache else None
    # A kept engine that does not load was written by what no longer fits: it is built again.
    engine = runtime.deserialize_cuda_engine(kept) if kept else None
    build_ns: Optional[int] = None
    if engine is None:
        timings_key = key_of_gpu(cuda.driver_facts(options.index), version())
        start_ns = time.perf_counter_ns()
        built, timings = build(library, logger, plan, options, cache.read(_TIMINGS, timings_key))
        build_ns = time.perf_counter_ns() - start_ns
        cache.keep(_ENGINE, key, built)
        cache.keep(_TIMINGS, timings_key, timings)
        engine, kept = runtime.deserialize_cuda_engine(built), built
    context = engine.create_execution_context() if engine else None
    if context is None:
        raise refusal("load", "TensorRT cannot load the engine that it has built", logger, _ELSEWHERE)
    session = EngineSession(library, plan, engine, context, gpu)
    session.build_ns, session.runtime, session.logger = build_ns, runtime, logger
    finish(session, plan, options, gpu)
    if plan.engine_path and kept:
        with open(plan.engine_path, "wb") as file:
            file.write(kept)
    return session


def finish(session: EngineSession, plan: Plan, options: RunOptions, gpu: cuda.Gpu) -> None:
    """The last steps of loading, which TensorRT for RTX shares: the graph, and what the session tells of the GPU."""
    if options.cuda_graph and not plan.profile_path:
        session.use_graph()
    stated = {"cuda_graph": options.cuda_graph, "wait": "spin" if options.spin else "block"}
    # Now, while this process alone is starting: what others take later would be counted as its own.
    used_bytes = gpu.used_bytes()
    session.accelerator = nvidia(options, session.device_ns, lambda: used_bytes, stated)


def _key(plan: Plan, options: RunOptions) -> str:
    return key_of_engine(plan, cuda.driver_facts(options.index), version(), {"tf32": options.tf32})


def build(library: Any, logger: Any, plan: Plan, options: RunOptions, timings: Optional[bytes]) -> Tuple[bytes, bytes]:
    """(serialised engine of the plan's file for the plan's shape, timings of kernels with those of this build)."""
    builder = library.Builder(logger)
    network = builder.create_network(network_flags(library))
    parser = library.OnnxParser(network, logger)
    # By path, so that weights in a file beside it are found.
    if not parser.parse_from_file(plan.artifact):
        message = f"TensorRT cannot read the ONNX file: {parser_error(parser)}"
        raise BackendError("build", message, _ELSEWHERE)
    config = builder.create_builder_config()
    configure(library, config, options)
    _fix_shape(builder, network, config, plan)
    timing_cache = config.create_timing_cache(timings or b"")
    config.set_timing_cache(timing_cache, ignore_mismatch=False)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise refusal("build", "TensorRT cannot build an engine", logger, _ELSEWHERE)
    return bytes(memoryview(serialized)), bytes(memoryview(timing_cache.serialize()))


def network_flags(library: Any) -> int:
    """Strongly typed where that has to be asked for; where networks can be nothing else there may be no such flag."""
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def configure(library: Any, config: Any, options: RunOptions) -> None:
    """Names of nodes in every layer, and fp32 in fp32 unless TF32 was asked for."""
    config.profiling_verbosity = library.ProfilingVerbosity.DETAILED
    tf32 = getattr(library.BuilderFlag, "TF32", None)
    if tf32 is not None:
        (config.set_flag if options.tf32 else config.clear_flag)(tf32)


def _fix_shape(builder: Any, network: Any, config: Any, plan: Plan) -> None:
    """One optimisation profile that knows the plan's own shape and no other, where the file leaves some of it free."""
    image = network.get_input(0)
    if all(side >= 0 for side in image.shape):
        return
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, plan.input_shape, plan.input_shape, plan.input_shape)
    config.add_optimization_profile(profile)


def parser_error(parser: Any) -> str:
    """What the parser found first: `node /blocks.0/attn/Foo (Foo): …`."""
    if not parser.num_errors:
        return "it does not say why"
    error = parser.get_error(0)
    place = f"node {error.node_name()} ({error.node_operator()}): " if error.node_name() else ""
    return f"{place}{error.desc()}"
