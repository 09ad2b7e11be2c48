"""A ModelSpec to an Artifact of a format in the cache: load, count, run, export, check the weights, publish.

One level above models, cost and export, which do not know each other. `cached` is the light half, for the host: it
imports no torch. `prepare` is the heavy one and runs in a process of its own, so that its memory ends with it.

    module ─► onnx, one image ─► fp16, int8 (derive.py)
           ├► onnx, free batch ─► every batch above one (derive.py)
           ├► pt2
           ├► coreml: an ML program, with what of it may leave the Neural Engine
           ├► litert: a .tflite file, made in an environment of its own
           ├► onnx of the same precision and batch ─► trt-rtx (trt_rtx_export.py)
           └► module: a recipe and the weights, for eager torch
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitprof.counts import Cost
from vitprof.errors import UsageError, VitprofError, first_line
from vitprof.export import cache, coreml_export, coreml_image, derive, litert_export, locks, trt_rtx_export
from vitprof.export.inputs import check_room, dtype_of, input_count, seeded_inputs, seeded_pixels, write_tensors
from vitprof.export.onnx_export import BATCH_NAME, INPUT_NAME
from vitprof.export.onnx_file import external_files, read_onnx
from vitprof.models.dependencies import content_sha256, remember_source_files, source_files
from vitprof.places import places
from vitprof.records import ANY_BATCH, Artifact, Exporter, ModelSpec, Precision, Source
from vitprof.writers import WRITERS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vitprof.models.load import Loaded

    Array = npt.NDArray[np.floating[Any]]

# The file and whatever lies beside it (weights over 2 GB) have a folder where they meet none of ours.
MODEL_FOLDER = "model"
INPUTS_FILE = "inputs.bin"
# int8 in the form that TensorRT's parsers take; ONNX Runtime is faster with its own.
QDQ_FORMAT = "onnx-qdq"
EXPECTED_FILE = "expected.bin"


def cached(spec: ModelSpec, format: str, cache_root: Path) -> Artifact | None:
    """The artifact of `spec`, where one is in the cache; imports no torch."""
    artifact = cache.read(cache_root, key(spec, format, cache_root))
    return artifact and _as_asked(artifact, spec)


def prepare(spec: ModelSpec, format: str, cache_root: Path, trust: bool = False) -> Artifact:
    """The artifact of `spec`, made where the cache has none. Every failure is a `VitprofError`.

    `trust`: a file that can run code of its maker may be read.
    """
    spec = _for_format(spec, format)
    present = cached(spec, format, cache_root)
    if present is not None:
        return present
    _check_can_be_made(spec, format)
    try:
        with locks.preparing(cache_root, key(spec, format, cache_root)):
            # Another process may have made it while this one waited.
            present = cached(spec, format, cache_root)
            return present or _as_asked(_made(spec, format, cache_root, trust), spec)
    except MemoryError as error:
        raise _out_of_memory(spec) from error
    except RuntimeError as error:
        # torch has no type of its own for this.
        if "can't allocate memory" not in str(error):
            raise
        raise _out_of_memory(spec) from error


def _as_asked(artifact: Artifact, spec: ModelSpec) -> Artifact:
    """With the name by which it was asked for; a given file keeps the precision that it was found to have."""
    return dataclasses.replace(artifact, spec=dataclasses.replace(spec, precision=artifact.spec.precision))


def key(spec: ModelSpec, format: str, cache_root: Path) -> str:
    """Under which the artifact of `spec` is kept; a file is read for it, and a bad one is a `VitprofError`."""
    spec = _for_format(spec, format)
    if spec.path is None:
        return cache.artifact_key(spec, format)
    path = Path(spec.path)
    if spec.source is Source.ONNX:
        # external_files says what is wrong with a path that leads nowhere or outside.
        beside = [path.parent / name for name in external_files(path)]
        return cache.artifact_key(spec, format, cache.files_sha256([path, *beside]))
    files = source_files(path, spec.factory, cache_root) if spec.factory else (path,)
    # Of a file that is gone nothing was ever kept.
    return cache.artifact_key(spec, format, content_sha256(files) or "gone")


def _for_format(spec: ModelSpec, format: str) -> ModelSpec:
    """`spec` with what is of no matter to `format` left out and its defaults filled in: the same file, the same key."""
    chosen = spec.compute_capabilities or trt_rtx_export.DEFAULT_COMPUTE_CAPABILITIES
    return dataclasses.replace(
        spec,
        compute_capabilities=chosen if format == trt_rtx_export.FORMAT else (),
        image_input=spec.image_input and format == coreml_export.FORMAT,
    )


def built_from(spec: ModelSpec) -> tuple[ModelSpec, str]:
    """The ONNX artifact, as `spec` and format, that an engine of `spec` is built from."""
    return _for_format(spec, "onnx"), QDQ_FORMAT if spec.precision is Precision.INT8 else "onnx"


def _check_can_be_made(spec: ModelSpec, format: str) -> None:
    if format in (QDQ_FORMAT, trt_rtx_export.FORMAT):
        return
    if spec.source is Source.ONNX and format != "onnx":
        raise UsageError(
            f"{spec.name}: an .onnx file cannot become .{format}, it has no torch module behind it",
            remedy="use --backend ort or openvino",
            stage="export",
        )
    if format == coreml_export.FORMAT:
        if spec.precision is Precision.BF16:
            raise UsageError(
                f"{spec.name}: Core ML has no bf16; it has fp32 and fp16",
                remedy="use --precision fp16",
                stage="export",
            )
        if spec.image_input and spec.batch > 1:
            raise UsageError(
                f"{spec.name}: an image input of Core ML is one image, not a batch of {spec.batch}",
                remedy="leave out --batch or --image-input",
                stage="export",
            )
        coreml_export.check_installed()
    if format == litert_export.FORMAT:
        if spec.precision is not Precision.FP32:
            raise UsageError(
                f"{spec.name}: LiteRT files are made in fp32 only, not in {spec.precision}",
                remedy="leave out --precision",
                stage="export",
            )
        litert_export.check_set_up(places().cache_root)
    if spec.precision is Precision.INT8 and format != "onnx":
        raise UsageError(
            f"{spec.name}: int8 is made for ONNX only, not for .{format}",
            remedy="use --backend ort or openvino, or --precision fp32",
            stage="export",
        )


def _made(spec: ModelSpec, format: str, cache_root: Path, trust: bool) -> Artifact:
    if format == trt_rtx_export.FORMAT:
        source = built_from(spec)
        with _needed(*source, cache_root):
            base = prepare(*source, cache_root, trust)
            return trt_rtx_export.built(base, spec, cache_root, key(spec, format, cache_root))
    # No library turns an fp32 file into one in bf16, so it is made of the module, and for its batch alone.
    is_bf16_file = format == "onnx" and spec.precision is Precision.BF16
    if is_bf16_file:
        _check_bf16_file(spec)
    elif format in ("onnx", QDQ_FORMAT) and spec.precision is not Precision.FP32:
        full = dataclasses.replace(spec, precision=Precision.FP32)
        with _needed(full, "onnx", cache_root):
            base = prepare(full, "onnx", cache_root, trust)
            if base.spec.precision is not Precision.FP32:
                return _as_given(base, spec)
            return derive.in_precision(base, spec, cache_root, key(spec, format, cache_root), format)
    if spec.source is Source.ONNX:
        return _from_file(spec, cache_root)
    if format == "onnx" and spec.batch > 1 and not is_bf16_file:
        return _at_batch(spec, cache_root, trust)
    return _from_module(spec, format, cache_root, trust)


def _check_bf16_file(spec: ModelSpec) -> None:
    if spec.source is Source.ONNX:
        what, remedy = "an .onnx file cannot become bf16, it has no torch module behind it", "use --precision fp16"
    elif spec.exporter is Exporter.DYNAMO:
        what, remedy = "files in bf16 are written by the TorchScript exporter only", "leave out --exporter"
    else:
        return
    raise UsageError(f"{spec.name}: {what}", remedy=remedy, stage="export")


def _as_given(artifact: Artifact, spec: ModelSpec) -> Artifact:
    """A file that came in a lower precision, where that is the one asked for: converting it again would be another."""
    if artifact.spec.precision is spec.precision:
        return artifact
    raise UsageError(
        f"{spec.name} is in {artifact.spec.precision} already and cannot become {spec.precision}",
        remedy="leave out --precision, or give the fp32 file",
        stage="export",
    )


def _at_batch(spec: ModelSpec, cache_root: Path, trust: bool) -> Artifact:
    """From the one file for every batch, or where that cannot be made from a file for this batch alone."""
    for_any = dataclasses.replace(spec, batch=ANY_BATCH)
    with _needed(for_any, "onnx", cache_root):
        try:
            base = prepare(for_any, "onnx", cache_root, trust)
        except VitprofError as error:
            # A program may be made for this one batch and refuse a single image; all else that is wrong stays wrong.
            if error.stage != "export" and spec.source is not Source.PT2:
                raise
            why = f"exported for batches of {spec.batch} alone: {error.message}"
            return _from_module(spec, "onnx", cache_root, trust, (why,))
        return derive.at_batch(base, spec, cache_root, key(spec, "onnx", cache_root))


@contextlib.contextmanager
def _needed(spec: ModelSpec, format: str, cache_root: Path) -> Iterator[None]:
    """What is made from the artifact of `spec` finds it until the end of the block."""
    with locks.InUse(cache_root) as in_use:
        in_use.add(key(spec, format, cache_root))
        yield


def _from_module(spec: ModelSpec, format: str, cache_root: Path, trust: bool, notes: tuple[str, ...] = ()) -> Artifact:
    from vitprof.cost.count import count
    from vitprof.models.load import load

    start = time.perf_counter()
    is_for_any_batch = spec.batch == ANY_BATCH
    loaded = load(dataclasses.replace(spec, batch=1) if is_for_any_batch else spec, trust)
    check_room(loaded.input_shape, "uint8" if spec.image_input else "float32", cache_root)
    given, inputs = _images(spec, loaded)
    expected = _expected(spec, loaded, inputs)
    cost = count(loaded.module, loaded.input_shape)
    with cache.staging(cache_root) as folder:
        (folder / MODEL_FOLDER).mkdir()
        written = WRITERS[format](spec, loaded, folder / MODEL_FOLDER)
        if is_for_any_batch:
            derive.check_any_batch(written.path, inputs, expected)
        write_tensors(folder / INPUTS_FILE, [images.astype(dtype_of(written.input_dtype)) for images in given])
        write_tensors(folder / EXPECTED_FILE, [tensor for outputs in expected for tensor in outputs])
        files = cache.files_in(folder / MODEL_FOLDER)
        artifact = Artifact(
            folder=folder,
            file=str(written.path.relative_to(folder)),
            format=format,
            sha256=cache.files_sha256(files),
            bytes=sum(file.stat().st_size for file in files),
            spec=spec,
            input_name=INPUT_NAME,
            input_shape=loaded.input_shape,
            input_dtype=written.input_dtype,
            input_count=len(inputs),
            inputs=INPUTS_FILE,
            expected=EXPECTED_FILE,
            expected_outputs=tuple((str(tensor.dtype), tensor.shape) for tensor in expected[0]),
            expected_missing=None,
            opset=written.opset,
            exporter=written.exporter,
            versions={**cache.package_versions(format), **loaded.versions},
            fixups=(*loaded.fixups, *written.fixups, *notes),
            cost=cost,
            seconds=time.perf_counter() - start,
            symbolic_batch=BATCH_NAME if is_for_any_batch else None,
            folded_weights=written.folded,
            count_doubt=_count_doubt(cost, written.counted),
            program=written.program,
            lint=written.lint,
        )
        if loaded.content_sha256 is None:
            return cache.publish(cache_root, cache.artifact_key(spec, format), folder, artifact)
        if spec.path and spec.factory:
            remember_source_files(Path(spec.path), spec.factory, loaded.source_files, cache_root)
        # The key of what was read, not of what may have changed meanwhile.
        return cache.publish(cache_root, cache.artifact_key(spec, format, loaded.content_sha256), folder, artifact)


def _images(spec: ModelSpec, loaded: Loaded) -> tuple[Sequence[npt.NDArray[Any]], list[Array]]:
    """What the file is given, and what the module takes for it: another thing only where pixels are normalised."""
    count = input_count(loaded.input_shape[0])
    if not spec.image_input:
        inputs = seeded_inputs(loaded.input_shape, "float32", count, spec.seed)
        return inputs, inputs
    normalisation = coreml_image.normalisation_of(spec, loaded.module, loaded.input_shape[1])
    pixels = seeded_pixels(loaded.input_shape, count, spec.seed)
    return pixels, [normalisation.applied(one) for one in pixels]


def _count_doubt(cost: Cost, counted: Cost | None) -> str | None:
    """Why the file's count is another than the module's; None where both agree or one of them has none."""
    from vitprof.cost.agreement import agreement, text_from_agreement

    if counted is None:
        return None
    found = agreement(cost, counted)
    if found.difference_share is None or found.agrees:
        return None
    return "; ".join(text_from_agreement(found))


def _expected(spec: ModelSpec, loaded: Loaded, inputs: list[Array]) -> list[list[Array]]:
    """The module's own outputs, for each input in turn."""
    import torch

    from vitprof.runner.tensors import flat_tensors

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
            f"{spec.name} fails on an input of {shape}: {type(error).__name__}: {first_line(error)}",
            remedy="give another --size, or a model that takes one image batch (vitprof models '*')",
            stage="model",
        ) from error
    if not answers[0]:
        raise VitprofError(
            f"{spec.name} answers with no tensor", remedy="give a model that returns tensors", stage="model"
        )
    return [[tensor.numpy() for tensor in answer] for answer in answers]


def _from_file(spec: ModelSpec, cache_root: Path) -> Artifact:
    from vitprof.cost.onnx_count import count_onnx

    start = time.perf_counter()
    path = Path(spec.path or "")
    facts = read_onnx(path, spec.batch, spec.size)
    check_room(facts.input_shape, facts.input_dtype, cache_root)
    cost = count_onnx(path, facts.input_shape, input_name=facts.input_name)
    beside = external_files(path)
    inputs = seeded_inputs(facts.input_shape, facts.input_dtype, input_count(spec.batch), spec.seed)
    with cache.staging(cache_root) as folder:
        copies = [_copied(path.parent, name, folder / MODEL_FOLDER) for name in (path.name, *beside)]
        write_tensors(folder / INPUTS_FILE, inputs)
        sha256 = cache.files_sha256(copies)
        artifact = Artifact(
            folder=folder,
            file=f"{MODEL_FOLDER}/{path.name}",
            format="onnx",
            sha256=sha256,
            bytes=sum(copy.stat().st_size for copy in copies),
            spec=dataclasses.replace(spec, precision=facts.precision),
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
            cost=cost,
            seconds=time.perf_counter() - start,
        )
        # The key of what was copied, not of what may have changed meanwhile.
        return cache.publish(cache_root, cache.artifact_key(spec, "onnx", sha256), folder, artifact)


def _copied(source: Path, name: str, target: Path) -> Path:
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(source / name, target / name))


def _out_of_memory(spec: ModelSpec) -> VitprofError:
    return VitprofError(
        f"this machine's memory is too small to load {spec.name} at batch {spec.batch}",
        remedy="give a smaller --batch or --size, or close other programs",
        stage="model",
    )
