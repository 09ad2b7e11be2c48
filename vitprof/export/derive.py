"""Artifacts made from another artifact, without the model: a batch, fp16, int8.

Its own file because nothing here loads a module: the ONNX file, its images and the outputs of the original are there.

fp16: weights and arithmetic in half precision (onnxruntime's converter); operators that have no fp16 form keep fp32.
int8: static QDQ quantisation (onnxruntime.quantization), ranges from seeded random images. No accuracy is claimed for
it; the parity figures say how far its outputs are from the original's.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitprof.errors import VitprofError, first_line
from vitprof.export import cache
from vitprof.export.inputs import check_room, input_count, seeded_inputs, write_tensors
from vitprof.export.parity import compare, read_tensors
from vitprof.export.quiet import silenced
from vitprof.records import Artifact, ModelSpec, ParityVerdict, Precision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.floating[Any]]

# Neither one image nor the two that were traced, so that a constant left by either shows.
_TRIED_BATCH = 3
# A handful: each is a run of the whole network, and no accuracy is claimed for what comes of it.
_CALIBRATION_IMAGES = 8
# Not the images that parity is taken on.
_CALIBRATION_SEED = 1_000_003
# Its parsers take zero points of zero only and no dequantised int32, as which a bias would come.
_TENSORRT_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
}


def check_any_batch(path: Path, inputs: list[Array], expected: list[list[Array]]) -> None:
    """`VitprofError` unless the ONNX file gives several images at once what the module gave each alone."""
    import numpy as np
    import onnxruntime

    if any(output.ndim == 0 or output.shape[0] != 1 for output in expected[0]):
        raise VitprofError(
            "the outputs have no axis for the images", remedy="measure it with --batch 1", stage="export"
        )
    images = np.concatenate(inputs[:_TRIED_BATCH])
    together = [np.concatenate(one) for one in zip(*expected[:_TRIED_BATCH], strict=True)]
    try:
        with silenced():
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            actual = session.run(None, {session.get_inputs()[0].name: images})
    except Exception as error:  # ONNX Runtime raises a class of its own per status code.
        raise _not_any_batch(first_line(error)) from error
    parity = compare(together, actual, Precision.FP32, where="host")
    if parity.verdict not in (ParityVerdict.MATCH, ParityVerdict.NOT_CHECKED):
        raise _not_any_batch(f"its outputs differ, {parity.reason}")


def _not_any_batch(why: str) -> VitprofError:
    return VitprofError(
        f"the export with a free batch does not take {_TRIED_BATCH} images: {why}",
        remedy="report the model with the output of vitprof doctor",
        stage="export",
    )


def at_batch(base: Artifact, spec: ModelSpec, cache_root: Path, key: str) -> Artifact:
    """`base`, a file for every batch, with inputs and expected outputs for `spec.batch` images; no new export."""
    import numpy as np

    check_room((spec.batch, *base.input_shape[1:]), base.input_dtype, cache_root)
    images = _images_of(base)
    count = input_count(spec.batch)
    places = [[(i * spec.batch + k) % len(images) for k in range(spec.batch)] for i in range(count)]
    outputs = _expected_of(base)
    with cache.staging(cache_root) as folder:
        _link(cache.files_in(base.path.parent), base.folder, folder)
        write_tensors(folder / base.inputs, [np.concatenate([images[k] for k in one]) for one in places])
        expected = [[np.concatenate(o) for o in zip(*(outputs[k] for k in one), strict=True)] for one in places]
        write_tensors(folder / str(base.expected), [tensor for one in expected for tensor in one])
        artifact = dataclasses.replace(
            base,
            folder=folder,
            spec=spec,
            input_shape=(spec.batch, *base.input_shape[1:]),
            input_count=count,
            expected_outputs=tuple((str(tensor.dtype), tensor.shape) for tensor in expected[0]),
        )
        return cache.publish(cache_root, key, folder, artifact)


def in_precision(base: Artifact, spec: ModelSpec, cache_root: Path, key: str, format: str = "onnx") -> Artifact:
    """`base`, an fp32 ONNX file, in the precision of `spec`; the expected outputs stay those of fp32.

    int8 comes in two forms: "onnx" for ONNX Runtime and OpenVINO, "onnx-qdq" for TensorRT's parsers.
    """
    start = time.perf_counter()
    convert, told = _CONVERTERS[spec.precision, format]
    with cache.staging(cache_root) as folder:
        (folder / base.file).parent.mkdir()
        _link([base.folder / base.expected] if base.expected else [], base.folder, folder)
        try:
            with silenced():
                convert(base, folder / base.file)
        except OSError:
            # The disk, not the model: whoever owns the folder says so.
            raise
        except Exception as error:  # Both converters raise whatever a graph makes them stumble over.
            raise VitprofError(
                f"{spec.name} cannot be converted to {spec.precision}: {first_line(error)}",
                remedy="measure it with --precision fp32",
                stage="export",
            ) from error
        files = cache.files_in((folder / base.file).parent)
        dtype = "float16" if spec.precision is Precision.FP16 else base.input_dtype
        write_tensors(folder / base.inputs, [images.astype(dtype) for images in _images_of(base)])
        artifact = dataclasses.replace(
            base,
            folder=folder,
            format=format,
            spec=spec,
            sha256=cache.files_sha256(files),
            bytes=sum(file.stat().st_size for file in files),
            input_dtype=dtype,
            fixups=(*base.fixups, told),
            seconds=base.seconds + time.perf_counter() - start,
        )
        return cache.publish(cache_root, key, folder, artifact)


def _to_fp16(base: Artifact, path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    _save(convert_float_to_float16(onnx.load(str(base.path)), keep_io_types=False), path)


def _to_int8(base: Artifact, path: Path, options: Mapping[str, bool] | None = None) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._images = iter(_calibration_images(base))

        def get_next(self) -> dict[str, Array] | None:
            images = next(self._images, None)
            return None if images is None else {base.input_name: images}

    with tempfile.TemporaryDirectory(prefix="vitprof-") as scratch:
        # Shapes and folded norms, without which the quantiser skips operators.
        plain = Path(scratch) / "plain.onnx"
        quant_pre_process(str(base.path), str(plain), skip_symbolic_shape=True)
        quantize_static(
            str(plain),
            str(path),
            Images(),
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options=options,
        )


def _to_int8_qdq(base: Artifact, path: Path) -> None:
    _to_int8(base, path, _TENSORRT_OPTIONS)


_INT8_TOLD = f"quantised to int8 (static QDQ, {_CALIBRATION_IMAGES} seeded random images"
# What converts, by precision and format, and what the fix-ups say of it.
_CONVERTERS = {
    (Precision.FP16, "onnx"): (_to_fp16, "converted to fp16; operators without an fp16 form keep fp32"),
    (Precision.INT8, "onnx"): (_to_int8, f"{_INT8_TOLD})"),
    (Precision.INT8, "onnx-qdq"): (_to_int8_qdq, f"{_INT8_TOLD}, symmetric, biases in fp32)"),
}


def _save(model: Any, path: Path) -> None:
    """In one piece where a protobuf message can hold it, else with the weights beside it."""
    import onnx
    from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

    try:
        onnx.save_model(model, str(path))
    except (EncodeError, ValueError):
        onnx.save_model(model, str(path), save_as_external_data=True, location=f"{path.name}.data")


def _calibration_images(base: Artifact) -> Iterator[Array]:
    count = max(1, _CALIBRATION_IMAGES // base.input_shape[0])
    yield from seeded_inputs(base.input_shape, base.input_dtype, count, base.spec.seed + _CALIBRATION_SEED)


def _link(files: list[Path], source: Path, target: Path) -> None:
    """The same files under `target`, without taking their space twice where the file system can."""
    for file in files:
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, place)
        except OSError:
            shutil.copyfile(file, place)


def _images_of(artifact: Artifact) -> list[Array]:
    shapes = [(artifact.input_dtype, artifact.input_shape)] * artifact.input_count
    return read_tensors(artifact.folder / artifact.inputs, shapes)


def _expected_of(artifact: Artifact) -> list[list[Array]]:
    """The original's outputs, input by input."""
    per_input = len(artifact.expected_outputs)
    tensors = read_tensors(artifact.folder / str(artifact.expected), artifact.expected_outputs * artifact.input_count)
    return [tensors[i : i + per_input] for i in range(0, len(tensors), per_input)]
