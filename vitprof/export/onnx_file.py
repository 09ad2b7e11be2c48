"""An `.onnx` file that the user gives: what it wants for an input, and whether it can be trusted to be read.

Its own file because nothing here has a module behind it: shapes, weights and external files all come from the protobuf,
which is read without its weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitprof.errors import UsageError, VitprofError
from vitprof.records import Precision

# What a file with weights outside itself must contain: the key under which ONNX names such a file.
EXTERNAL_MARK = b"location"
_CHUNK_BYTES = 1 << 20
# Any of these makes a graph an int8 one: QDQ form, operator form, dynamic quantisation.
_INT8_OPS = frozenset({"QuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"})


@dataclass(frozen=True)
class OnnxFile:
    """What a file says of itself, its free dimensions filled in."""

    input_name: str
    input_shape: tuple[int, int, int, int]
    input_dtype: str
    precision: Precision
    opset: int
    producer: str


def read_onnx(path: Path, batch: int, size: tuple[int, int] | None) -> OnnxFile:
    """The file's input for `batch` images of `size`; its free dimensions are taken from these.

    `VitprofError` where it cannot be read or takes no single image; `UsageError` where batch or size contradict it.
    """
    model = _parsed(path)
    value = _only_input(model.graph, path)
    name, dtype, dims = value.name, _dtype(value, path), _dims(value, path)
    return OnnxFile(
        input_name=name,
        input_shape=_filled(dims, batch, size, path),
        input_dtype=dtype,
        precision=_precision(model.graph),
        opset=max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0),
        producer=f"{model.producer_name} {model.producer_version}".strip() or "not named in the file",
    )


def _precision(graph: Any) -> Precision:
    """What most of the weights are kept in; a graph with quantised products counts as int8."""
    from onnx import TensorProto

    if any(node.op_type in _INT8_OPS for node in graph.node):
        return Precision.INT8
    values = {kind: sum(math.prod(t.dims) for t in graph.initializer if t.data_type == kind) for kind in _float_types()}
    return Precision.FP16 if max(values, key=lambda kind: values[kind]) == TensorProto.FLOAT16 else Precision.FP32


def external_files(path: Path) -> tuple[str, ...]:
    """The files that hold the model's weights beside it, relative to its folder; none for most models.

    `VitprofError` where one lies outside that folder or is absent.
    """
    if not _mentions_external(path):
        return ()
    # Sorted: the order of the tensors must not change the hash.
    names = sorted({location for tensor in _tensors(_parsed(path).graph) for location in _locations(tensor)})
    for name in names:
        _check_inside(path, name)
    return tuple(names)


def _mentions_external(path: Path) -> bool:
    """Read in pieces, and without importing onnx: the usual file has its weights inside and may be large."""
    tail = b""
    with _opened(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            if EXTERNAL_MARK in tail + chunk:
                return True
            tail = chunk[-len(EXTERNAL_MARK) :]
    return False


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


def _parsed(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise _unreadable(path, "it is cut off or no ONNX file") from error
    # An empty file is a valid empty message.
    if not model.ir_version or not model.graph.node:
        raise _unreadable(path, "it holds no graph")
    return model


def _unreadable(path: Path, why: str) -> VitprofError:
    return VitprofError(
        f"{path} cannot be read: {why}",
        remedy="export or copy the file again",
        stage="model",
    )


def _check_inside(path: Path, name: str) -> None:
    folder = path.resolve().parent
    target = (folder / name).resolve()
    # Resolved, so that neither `..` nor a link leads out: the file would be copied to a device.
    if Path(name).is_absolute() or not target.is_relative_to(folder):
        raise VitprofError(
            f"{path} keeps weights in {name!r}, outside its own folder",
            remedy="save the model again with its weights beside it (onnx.save_model(..., location='weights.bin'))",
            stage="model",
        )
    if not target.is_file():
        raise VitprofError(
            f"{path} keeps weights in {name!r}, which is not there",
            remedy=f"copy {name} into {folder}",
            stage="model",
        )


def _locations(tensor: Any) -> list[str]:
    import onnx

    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return []
    return [entry.value for entry in tensor.external_data if entry.key == "location"]


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor with values, in subgraphs too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from ([attribute.t] if attribute.HasField("t") else [])
            yield from attribute.tensors
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _tensors(inner)


def _float_types() -> dict[int, int]:
    """Bytes a value of each type that weights come in."""
    from onnx import TensorProto

    return {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2, TensorProto.BFLOAT16: 2, TensorProto.DOUBLE: 8}


def _only_input(graph: Any, path: Path) -> Any:
    # Files of older exporters list the weights among the inputs.
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        named = ", ".join(value.name for value in inputs) or "none"
        raise _no_image(path, f"has {len(inputs)} inputs ({named}) instead of one")
    return inputs[0]


def _no_image(path: Path, why: str) -> VitprofError:
    return VitprofError(
        f"{path} {why}",
        remedy="give a model with one input: float32 or float16 images of the shape (N, C, H, W)",
        stage="model",
    )


def _dtype(value: Any, path: Path) -> str:
    from onnx import TensorProto

    names = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
    kind = value.type.tensor_type.elem_type
    if kind not in names:
        known = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else str(kind)
        raise _no_image(path, f"takes {known} values at its input {value.name!r}")
    return names[kind]


def _dims(value: Any, path: Path) -> tuple[int | None, ...]:
    """The input's dimensions, `None` for a free one."""
    tensor = value.type.tensor_type
    dims = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim)
    if len(dims) != 4:
        raise _no_image(path, f"takes {len(dims)} dimensions at its input {value.name!r}, an image batch has 4")
    return dims


def _filled(
    dims: tuple[int | None, ...], batch: int, size: tuple[int, int] | None, path: Path
) -> tuple[int, int, int, int]:
    own_batch, channels, *own_size = dims
    if own_batch not in (None, batch):
        raise UsageError(
            f"{path} is made for batches of {own_batch}, not of {batch}", remedy=f"--batch {own_batch}", stage="model"
        )
    height, width = (_side(own, i, size, own_size, path) for i, own in enumerate(own_size))
    # RGB, where the file leaves even the channels free.
    return (batch, channels or 3, height, width)


def _side(own: int | None, axis: int, size: tuple[int, int] | None, own_size: list[int | None], path: Path) -> int:
    if own is None and size is None:
        raise UsageError(
            f"{path} leaves its input size free, so it has none of its own", remedy="--size 224", stage="model"
        )
    if own is not None and size is not None and size[axis] != own:
        asked = f"{size[0]}x{size[1]}"
        made = "x".join(str(side or "any") for side in own_size)
        remedy = f"--size {made}" if None not in own_size else f"--size with {own} there"
        raise UsageError(f"{path} is made for the size {made}, not {asked}", remedy=remedy, stage="model")
    return own if own is not None else size[axis] if size is not None else 0
