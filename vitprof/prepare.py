"""A ModelSpec to an Artifact in the cache: load, count, run, export, check the weights, publish.

One level above models, cost and export, which do not know each other. `cached` is the light half, for the host: it
imports no torch. `prepare` is the heavy one and runs in a process of its own, so that its memory ends with it.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitprof.errors import VitprofError
from vitprof.export import cache
from vitprof.export.inputs import input_count, seeded_inputs, write_tensors
from vitprof.export.onnx_file import external_files, read_onnx
from vitprof.export.weights import Weight, folded_weights, reached_weights, text_from_folded
from vitprof.records import Artifact, ModelSpec, Source

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vitprof.models.load import Loaded

    Array = npt.NDArray[np.floating[Any]]

MODEL_FILE = "model.onnx"
INPUTS_FILE = "inputs.bin"
EXPECTED_FILE = "expected.bin"
# A given file keeps its own name, and those beside it theirs, in a folder where they meet none of ours.
SOURCE_FOLDER = "source"


def cached(spec: ModelSpec, cache_root: Path) -> Artifact | None:
    """The artifact of `spec`, where one is in the cache; imports no torch."""
    artifact = cache.read(cache_root, _key(spec))
    return artifact and dataclasses.replace(artifact, spec=spec)


def prepare(spec: ModelSpec, cache_root: Path) -> Artifact:
    """The artifact of `spec`, made where the cache has none. Every failure is a `VitprofError`."""
    present = cached(spec, cache_root)
    if present is not None:
        return present
    make = _from_file if spec.source is Source.ONNX else _from_module
    try:
        return dataclasses.replace(make(spec, cache_root), spec=spec)
    except MemoryError as error:
        raise _out_of_memory(spec) from error
    except RuntimeError as error:
        # torch has no type of its own for this.
        if "can't allocate memory" not in str(error):
            raise
        raise _out_of_memory(spec) from error


def _key(spec: ModelSpec) -> str:
    if spec.source is not Source.ONNX:
        return cache.artifact_key(spec)
    path = _path(spec)
    # external_files first: it says what is wrong with a path that leads nowhere or outside.
    files = [path, *(path.parent / name for name in external_files(path))]
    return cache.artifact_key(spec, cache.files_sha256(files))


def _path(spec: ModelSpec) -> Path:
    if spec.path is None:
        raise ValueError(f"{spec.name}: a file source without a path")
    return Path(spec.path)


def _from_module(spec: ModelSpec, cache_root: Path) -> Artifact:
    from vitprof.cost.count import count
    from vitprof.export.onnx_export import export_onnx
    from vitprof.models.load import load

    start = time.perf_counter()
    loaded = load(spec)
    inputs = seeded_inputs(loaded.input_shape, "float32", input_count(spec.batch), spec.seed)
    expected = _expected(spec, loaded, inputs)
    cost = count(loaded.module, loaded.input_shape)
    with cache.staging(cache_root) as folder:
        export = export_onnx(loaded.module, loaded.input_shape, folder / MODEL_FILE)
        folded = _folded(loaded, folder / MODEL_FILE)
        write_tensors(folder / INPUTS_FILE, inputs)
        write_tensors(folder / EXPECTED_FILE, [tensor for outputs in expected for tensor in outputs])
        artifact = Artifact(
            folder=folder,
            file=MODEL_FILE,
            format="onnx",
            sha256=cache.files_sha256([folder / MODEL_FILE]),
            bytes=(folder / MODEL_FILE).stat().st_size,
            spec=spec,
            input_name=export.input_name,
            input_shape=loaded.input_shape,
            input_dtype="float32",
            input_count=len(inputs),
            inputs=INPUTS_FILE,
            expected=EXPECTED_FILE,
            expected_outputs=tuple((str(tensor.dtype), tensor.shape) for tensor in expected[0]),
            expected_missing=None,
            opset=export.opset,
            exporter=export.exporter,
            versions={**cache.package_versions(), **loaded.versions},
            fixups=loaded.fixups if not folded else (*loaded.fixups, text_from_folded(folded)),
            cost=cost,
            seconds=time.perf_counter() - start,
            folded_weights=tuple(map(str, folded)),
        )
        return cache.publish(cache_root, _key(spec), folder, artifact)


def _expected(spec: ModelSpec, loaded: Loaded, inputs: list[Array]) -> list[list[Array]]:
    """The module's own outputs, for each input in turn."""
    import torch

    from vitprof.export.outputs import flat_tensors

    try:
        with torch.inference_mode():
            answers = [flat_tensors(loaded.module(torch.from_numpy(images))) for images in inputs]
    except MemoryError:
        raise
    except Exception as error:  # A forward is foreign code: it may raise anything.
        if "can't allocate memory" in str(error):
            raise
        shape = "x".join(map(str, loaded.input_shape))
        raise VitprofError(
            f"{spec.name} fails on an input of {shape}: {type(error).__name__}: {_first_line(error)}",
            remedy="give another --size, or a model that takes one image batch (vitprof models '*')",
            stage="model",
        ) from error
    if not answers[0]:
        raise VitprofError(
            f"{spec.name} answers with no tensor", remedy="give a model that returns tensors", stage="model"
        )
    return [[tensor.numpy() for tensor in answer] for answer in answers]


def _folded(loaded: Loaded, path: Path) -> tuple[Weight, ...]:
    import torch

    reached = reached_weights(loaded.module, torch.zeros(1, *loaded.input_shape[1:]))
    return folded_weights(reached, path)


def _from_file(spec: ModelSpec, cache_root: Path) -> Artifact:
    start = time.perf_counter()
    path = _path(spec)
    facts = read_onnx(path, spec.batch, spec.size)
    beside = external_files(path)
    inputs = seeded_inputs(facts.input_shape, facts.input_dtype, input_count(spec.batch), spec.seed)
    with cache.staging(cache_root) as folder:
        copies = [_copied(path.parent, name, folder / SOURCE_FOLDER) for name in (path.name, *beside)]
        write_tensors(folder / INPUTS_FILE, inputs)
        sha256 = cache.files_sha256(copies)
        artifact = Artifact(
            folder=folder,
            file=f"{SOURCE_FOLDER}/{path.name}",
            format="onnx",
            sha256=sha256,
            bytes=sum(copy.stat().st_size for copy in copies),
            spec=spec,
            input_name=facts.input_name,
            input_shape=facts.input_shape,
            input_dtype=facts.input_dtype,
            input_count=len(inputs),
            inputs=INPUTS_FILE,
            expected=None,
            expected_outputs=(),
            expected_missing="an .onnx source has no original module to compare with",
            opset=facts.opset,
            exporter=facts.producer,
            versions={},
            fixups=(),
            cost=facts.cost,
            seconds=time.perf_counter() - start,
        )
        # The key of what was copied, not of what may have changed meanwhile.
        return cache.publish(cache_root, cache.artifact_key(spec, sha256), folder, artifact)


def _copied(source: Path, name: str, target: Path) -> Path:
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(source / name, target / name))


def _out_of_memory(spec: ModelSpec) -> VitprofError:
    return VitprofError(
        f"this machine's memory is too small to load {spec.name} at batch {spec.batch}",
        remedy="give a smaller --batch or --size, or close other programs",
        stage="model",
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
