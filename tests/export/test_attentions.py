"""Which nodes are a softmax attention, on graphs made by hand and on the reference model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cost.graphs import graph, node, saved, weight
from vitprof.cost.onnx_count import count_onnx
from vitprof.devices.profiles import reference_model
from vitprof.export.attentions import attentions
from vitprof.kernels import Attention

SIDE = (1, 3, 8, 8)


def _found(path: Path, nodes: Sequence[Any], weights: Sequence[Any] = ()) -> tuple[Attention, ...]:
    file = saved(path / "model.onnx", graph(nodes, weights, SIDE))
    return attentions(file, count_onnx(file, SIDE).rows)


def test_scaling_bias_and_moves_are_on_the_way(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "image image", "qk", name="qk"),
        node("Mul", "qk scale", "scaled", name="scale"),
        node("Add", "scaled bias", "biased", name="bias"),
        node("Softmax", "biased", "weights", name="soft"),
        node("Transpose", "weights", "turned", name="turn", perm=[0, 1, 3, 2]),
        node("MatMul", "turned image", "out", name="av"),
    ]
    assert _found(tmp_path, nodes, [weight("scale", []), weight("bias", (8, 8))]) == (Attention("qk", "soft", "av"),)


def test_talking_heads_have_one_product_with_a_weight_on_each_side(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "image image", "qk", name="qk"),
        node("MatMul", "qk w", "mixed", name="talk"),
        node("Softmax", "mixed", "weights", name="soft"),
        node("MatMul", "weights w", "again", name="talk again"),
        node("MatMul", "again image", "out", name="av"),
    ]
    assert _found(tmp_path, nodes, [weight("w", (8, 8))]) == (Attention("qk", "soft", "av"),)


def test_talking_heads_may_be_convolutions_over_the_maps(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "image image", "qk", name="qk"),
        node("Conv", "qk w", "mixed", name="talk"),
        node("Softmax", "mixed", "weights", name="soft"),
        node("MatMul", "weights image", "out", name="av"),
    ]
    assert _found(tmp_path, nodes, [weight("w", (3, 3, 1, 1))]) == (Attention("qk", "soft", "av"),)


def test_a_gate_and_the_classes_are_no_attention(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "image image", "qk", name="qk"),
        node("Relu", "qk", "relu", name="relu"),
        node("Softmax", "relu", "gate", name="gate"),
        node("Mul", "gate image", "gated", name="gated"),
        node("MatMul", "gated w", "classes", name="head"),
        node("Softmax", "classes", "out", name="classes"),
    ]
    assert _found(tmp_path, nodes, [weight("w", (8, 8))]) == ()


def test_the_reference_model_has_those_that_it_was_made_with() -> None:
    path = reference_model("cpu-ref-1")
    rows = count_onnx(path, (1, 3, 224, 224)).rows
    found = attentions(path, rows)
    assert len(found) == sum(row.op == "Softmax" for row in rows) > 0
    assert len({one.scores for one in found} | {one.values for one in found}) == 2 * len(found)
