"""Makes `cpu-ref-1.onnx`, the reference cell of every measurement on a CPU.

    python devices/reference/make_cpu_ref_1.py [FILE]

A small backbone with what backbones spend their time on: dense 3×3 convolutions, depthwise and pointwise
convolutions, matrix products with attention between them. About 180 MMACs and 0.9 MB of weights: 2 to 5 ms on one
core, so a 50-ms block holds a dozen calls, and it fits in the second-level cache beside the model that is measured.

The file is committed and never changes: numbers are ratios to it. Another reference would be `cpu-ref-2`.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17
_IR_VERSION = 8
_INPUT_SHAPE = (1, 3, 224, 224)
_STEM, _STAGE_1, _STAGE_2, _STAGE_3 = 24, 48, 80, 128
_HEADS = 4
_TOKENS = 14 * 14
_CLASSES = 100


class _Graph:
    """Collects nodes and seeded weights; every method returns the name of its output."""

    def __init__(self) -> None:
        # RandomState's stream is frozen by numpy's own promise, default_rng's is not.
        self._random = np.random.RandomState(1)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def weight(self, *shape: int) -> str:
        values = self._random.standard_normal(shape) / math.sqrt(math.prod(shape[1:]) or 1)
        return self.constant(values.astype(np.float32))

    def constant(self, values: np.ndarray) -> str:
        name = f"w_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x: str, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        weight = self.weight(channels_out, channels_in // groups, kernel, kernel)
        pads = [kernel // 2] * 4
        strides = [stride, stride]
        return self.node("Conv", x, weight, kernel_shape=[kernel, kernel], strides=strides, pads=pads, group=groups)

    def separable(self, x: str, channels: int, stride: int = 1) -> str:
        """Depthwise 3×3, then an inverted bottleneck of pointwise convolutions, added to its input."""
        y = self.conv(x, channels, channels, 3, stride, groups=channels)
        y = self.node("Relu", self.conv(y, channels, 2 * channels, 1))
        return self.node("Add", x, self.conv(y, 2 * channels, channels, 1))

    def heads(self, x: str, order: list[int]) -> str:
        """(1, tokens, channels) as (1, heads, …) in the given order of axes."""
        shape = self.constant(np.array([1, _TOKENS, _HEADS, _STAGE_3 // _HEADS], dtype=np.int64))
        return self.node("Transpose", self.node("Reshape", x, shape), perm=order)

    def attention(self, x: str) -> str:
        query = self.heads(self.node("MatMul", x, self.weight(_STAGE_3, _STAGE_3)), [0, 2, 1, 3])
        key = self.heads(self.node("MatMul", x, self.weight(_STAGE_3, _STAGE_3)), [0, 2, 3, 1])
        value = self.heads(self.node("MatMul", x, self.weight(_STAGE_3, _STAGE_3)), [0, 2, 1, 3])
        scale = self.constant(np.array((_STAGE_3 // _HEADS) ** -0.5, dtype=np.float32))
        scores = self.node("Softmax", self.node("Mul", self.node("MatMul", query, key), scale), axis=-1)
        mixed = self.node("Transpose", self.node("MatMul", scores, value), perm=[0, 2, 1, 3])
        tokens = self.node("Reshape", mixed, self.constant(np.array([1, _TOKENS, _STAGE_3], dtype=np.int64)))
        return self.node("Add", x, self.node("MatMul", tokens, self.weight(_STAGE_3, _STAGE_3)))

    def mlp(self, x: str) -> str:
        hidden = self.node("Relu", self.node("MatMul", x, self.weight(_STAGE_3, 2 * _STAGE_3)))
        return self.node("Add", x, self.node("MatMul", hidden, self.weight(2 * _STAGE_3, _STAGE_3)))


def cpu_ref_1() -> onnx.ModelProto:
    """The model: (1, 3, 224, 224) float32 images to (1, 100) float32."""
    graph = _Graph()
    x = graph.node("Relu", graph.conv("image", 3, _STEM, 3, stride=2))
    x = graph.separable(graph.node("Relu", graph.conv(x, _STEM, _STAGE_1, 3, stride=2)), _STAGE_1)
    x = graph.separable(graph.node("Relu", graph.conv(x, _STAGE_1, _STAGE_2, 3, stride=2)), _STAGE_2)
    x = graph.conv(graph.conv(x, _STAGE_2, _STAGE_2, 3, stride=2, groups=_STAGE_2), _STAGE_2, _STAGE_3, 1)
    flat = graph.constant(np.array([1, _STAGE_3, _TOKENS], dtype=np.int64))
    x = graph.node("Transpose", graph.node("Reshape", x, flat), perm=[0, 2, 1])
    x = graph.mlp(graph.attention(x))
    pooled = graph.node("ReduceMean", x, axes=[1], keepdims=0)
    output = graph.node("MatMul", pooled, graph.weight(_STAGE_3, _CLASSES))
    body = helper.make_graph(
        graph.nodes,
        "cpu-ref-1",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, _INPUT_SHAPE)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, (1, _CLASSES))],
        graph.weights,
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="vitprof")
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("cpu-ref-1.onnx")
    path.write_bytes(cpu_ref_1().SerializeToString(deterministic=True))
    sys.stdout.write(f"{path}: {path.stat().st_size:,} bytes\n")
