"""Tiny ONNX graphs for the counter: an image, weights, nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from vitprof.cost.onnx_count import count_onnx
from vitprof.counts import Cost, OpRow

FLOAT = TensorProto.FLOAT


def node(op: str, inputs: str, outputs: str = "out", *, name: str = "", domain: str = "", **attributes: Any) -> Any:
    """A node; `inputs` and `outputs` are names with spaces between, `_` for one that is left out."""
    ins, outs = ([part.replace("_", "") for part in text.split()] for text in (inputs, outputs))
    return helper.make_node(op, ins, outs, name=name, domain=domain, **attributes)


def weight(name: str, shape: Sequence[int], kind: int = FLOAT, values: Sequence[Any] | None = None) -> Any:
    size = 1
    for side in shape:
        size *= side
    return helper.make_tensor(name, kind, shape, values if values is not None else [1] * size)


def graph(
    nodes: Sequence[Any], weights: Sequence[Any], image: Sequence[Any], inputs: Mapping[str, Sequence[int]] = {}
) -> Any:
    given = {"image": image, **inputs}
    return helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in given.items()],
        [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)],
        weights,
    )


def saved(path: Path, made: Any, opset: int = 20, **fields: Any) -> Path:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    imports.append(helper.make_opsetid("com.microsoft.nchwc", 1))
    onnx.save(helper.make_model(made, opset_imports=imports, **fields), str(path))
    return path


def counted(
    path: Path,
    nodes: Sequence[Any],
    weights: Sequence[Any] = (),
    image: Sequence[Any] = (1, 3, 8, 8),
    opset: int = 20,
    inputs: Mapping[str, Sequence[int]] = {},
) -> Cost:
    """The cost of a graph of `nodes` over an image of a shape of four sides."""
    file = saved(path / "model.onnx", graph(nodes, weights, image, inputs), opset)
    batch, channels, height, width = image
    return count_onnx(file, (batch, channels, height, width), input_name="image")


def last(cost: Cost) -> OpRow:
    return cost.rows[-1]
