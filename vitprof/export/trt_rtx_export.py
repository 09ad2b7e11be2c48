"""An ONNX artifact to an engine of TensorRT-RTX, built on the processor: no GPU is needed.

Its own file because the library is an extra of the package and has rules of its own. Its networks are strongly typed:
the precision is that of the ONNX file. It listens to the first logger of a process only, so there is one. An engine
travels to every GPU whose compute capability was named. What the compiler made of the graph (`trt_rtx_layers`) is kept
beside it, because no inspector reads an engine without a GPU.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import time
from functools import cache as once
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vitprof.errors import UnreachableError, UsageError, VitprofError, first_line
from vitprof.export import cache
from vitprof.export.quiet import silenced
from vitprof.export.trt_rtx_layers import is_kept
from vitprof.records import Artifact, ModelSpec

FORMAT = "trt-rtx"
PACKAGE = "tensorrt_rtx"
# What the library itself takes for portable, Ampere to Blackwell; Turing must be named.
DEFAULT_COMPUTE_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0")
_SUFFIX = ".kernels.txt"
_REMEDY = "try --exporter dynamo, or report the model with the output of vitprof doctor"


def check_installed() -> None:
    """`UnreachableError` where the library is not installed; it is not imported."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise UnreachableError(
            f"engines of TensorRT-RTX need the package {PACKAGE}, which is not installed",
            remedy="pip install 'vitprof[trt-rtx]' (Linux on x86 or Windows; no GPU is needed to build)",
            stage="export",
        )


def kernels_file(engine: Path) -> Path:
    """Where the build's list of kernels lies: beside its engine."""
    return engine.with_name(engine.name + _SUFFIX)


def built(base: Artifact, spec: ModelSpec, cache_root: Path, key: str) -> Artifact:
    """The engine of `base`, an ONNX file, for the compute capabilities of `spec`, in the cache under `key`.

    Inputs and expected outputs stay those of `base`. `VitprofError` with the first cause where the library cannot.
    """
    start = time.perf_counter()
    check_installed()
    name = f"model.{FORMAT}"
    with cache.staging(cache_root) as folder:
        engine = folder / "model" / name
        engine.parent.mkdir()
        _build(base, spec, engine)
        for file in filter(None, (base.inputs, base.expected)):
            shutil.copyfile(base.folder / file, folder / file)
        capabilities = ", ".join(spec.compute_capabilities)
        artifact = dataclasses.replace(
            base,
            folder=folder,
            file=str(engine.relative_to(folder)),
            format=FORMAT,
            # Of the engine alone: it is what travels, and what the runner checks.
            sha256=cache.files_sha256([engine]),
            bytes=engine.stat().st_size,
            # A given file keeps the precision that it was found to have.
            spec=dataclasses.replace(spec, precision=base.spec.precision),
            exporter=f"TensorRT-RTX {version(PACKAGE)} for {capabilities}, from {base.exporter}",
            versions={**base.versions, PACKAGE: version(PACKAGE)},
            seconds=base.seconds + time.perf_counter() - start,
            symbolic_batch=None,
        )
        return cache.publish(cache_root, key, folder, artifact)


def _build(base: Artifact, spec: ModelSpec, engine: Path) -> None:
    """Writes the engine, and beside it what the build said of its kernels."""
    import tensorrt_rtx as trt

    log = _log()
    log.clear()
    with silenced():
        builder = trt.Builder(log)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, log)
        if not parser.parse_from_file(str(base.path)):
            raise _failed(spec, "does not take the ONNX file", _parser_cause(parser))
        # A file for every batch is built for this one: the compiler plans for shapes that it knows.
        network.get_input(0).shape = base.input_shape
        config = builder.create_builder_config()
        # Without it the list of kernels has names only.
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.num_compute_capabilities = len(spec.compute_capabilities)
        for place, text in enumerate(spec.compute_capabilities):
            config.set_compute_capability(_compute_capability(text), place)
        serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise _failed(spec, "does not build the engine", next(iter(log.errors), "it does not say why"))
    engine.write_bytes(serialized)
    kernels_file(engine).write_text("\n".join(log.kept) + "\n")


def _failed(spec: ModelSpec, what: str, cause: str) -> VitprofError:
    return VitprofError(f"{spec.name}: TensorRT-RTX {what}: {cause}", remedy=_REMEDY, stage="export")


def _parser_cause(parser: Any) -> str:
    """The first of the parser's errors: later ones follow from it."""
    if not parser.num_errors:
        return "it does not say why"
    error = parser.get_error(0)
    named = ", ".join(filter(None, (error.node_operator(), error.node_name())))
    return f"{error.desc().strip()}{f' ({named})' if named else ''}"


def _compute_capability(text: str) -> Any:
    import tensorrt_rtx as trt

    known = {name: value for name, value in trt.ComputeCapability.__members__.items() if name.startswith("SM")}
    name = f"SM{text.replace('.', '')}"
    if name not in known:
        offered = ", ".join(f"{one[2:-1]}.{one[-1]}" for one in known)
        raise UsageError(
            f"TensorRT-RTX {version(PACKAGE)} builds for no compute capability {text}; it knows {offered}",
            remedy=f"use --compute-capability {next(iter(DEFAULT_COMPUTE_CAPABILITIES))}",
            stage="export",
        )
    return known[name]


@once
def _log() -> Any:
    """The one logger of this process: the library ignores every later one."""
    import tensorrt_rtx as trt

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.clear()

        def clear(self) -> None:
            self.kept: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            # All of it would be hundreds of megabytes for a large model.
            if is_kept(message):
                self.kept.append(message)
            elif severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(first_line(RuntimeError(message)))

    return Log()
