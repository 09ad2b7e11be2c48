"""Which nodes of a file the operators of a runtime do the work of, on graphs made by hand and on real ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
from onnx import helper

from vitprof.devices.profiles import reference_model
from vitprof.export.fused import with_members_of_graph, with_members_of_names
from vitprof.runner.wire import ProfiledOp


def _file(path: Path, *nodes: onnx.NodeProto) -> Path:
    onnx.save(helper.make_model(helper.make_graph(nodes, "made", [], [])), str(path))
    return path


def _node(op: str, name: str, inputs: str, outputs: str) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=name)


def _members(original: Path, optimised: Path) -> dict[str, tuple[str, ...]]:
    nodes = onnx.load(str(optimised)).graph.node
    ops = [ProfiledOp(node.name, node.op_type, 1.0) for node in nodes]
    return {op.name: op.members for op in with_members_of_graph(original, optimised, ops)}


def test_a_product_keeps_its_sum_behind_the_reshapes_that_were_put_around_it(tmp_path: Path) -> None:
    original = _file(
        tmp_path / "a.onnx",
        _node("MatMul", "fc/MatMul", "x w", "fc/m"),
        _node("Add", "fc/Add", "fc/m b", "fc/a"),
        _node("Div", "act/Div", "fc/a two", "act/d"),
        _node("Erf", "act/Erf", "act/d", "act/e"),
        _node("Mul", "act/Mul", "fc/a act/e", "act/y"),
    )
    optimised = _file(
        tmp_path / "b.onnx",
        _node("Reshape", "in", "x shape", "flat"),
        _node("Gemm", "fc/MatMul/MatMulAddFusion", "flat w b", "flat_out"),
        _node("Reshape", "out", "flat_out shape", "fc/a"),
        _node("Gelu", "Gelu", "fc/a", "act/y"),
    )
    assert _members(original, optimised) == {
        "in": (),
        "fc/MatMul/MatMulAddFusion": ("fc/MatMul", "fc/Add"),
        "out": (),
        "Gelu": ("act/Div", "act/Erf", "act/Mul"),
    }


def test_blocked_convolutions_are_known_by_the_tensor_in_their_name(tmp_path: Path) -> None:
    original = _file(
        tmp_path / "a.onnx",
        _node("Conv", "c1", "x w1", "c1_out"),
        _node("Relu", "r1", "c1_out", "r1_out"),
        _node("Conv", "c2", "r1_out w2", "c2_out"),
        _node("Add", "sum", "c2_out r1_out", "sum_out"),
        _node("Conv", "c3", "sum_out w3", "c3_out"),
        _node("Flatten", "flat", "c3_out", "y"),
    )
    optimised = _file(
        tmp_path / "b.onnx",
        _node("Conv", "r1_out_nchwc", "x v1", "t1"),
        # The sum was fused into the second one; only what the third one reads tells of it.
        _node("Conv", "c2_out_nchwc", "t1 v2 t1", "t2"),
        _node("Conv", "c3_out_nchwc", "t2 v3", "t3"),
        _node("ReorderOutput", "back", "t3", "c3_out"),
        _node("Flatten", "flat", "c3_out", "y"),
    )
    assert _members(original, optimised) == {
        "r1_out_nchwc": ("c1", "r1"),
        "c2_out_nchwc": ("c2", "sum"),
        "c3_out_nchwc": ("c3",),
        "back": (),
        "flat": ("flat",),
    }


def test_a_node_that_was_replaced_is_known_by_its_name(tmp_path: Path) -> None:
    original = _file(
        tmp_path / "a.onnx",
        _node("QuantizeLinear", "q", "x s z", "q_out"),
        _node("DequantizeLinear", "dq", "q_out s z", "dq_out"),
        _node("Conv", "a/Conv", "dq_out w", "a_out"),
        _node("Conv", "b/Conv", "a_out w2", "b_out"),
        _node("Cast", "", "b_out", "y"),
    )
    optimised = _file(
        tmp_path / "b.onnx",
        _node("QuantizeLinear", "q", "x s z", "q_out"),
        _node("QLinearConv", "a/Conv_token_7", "q_out s z w", "a/Conv"),
        _node("Conv", "InsertedPrecisionFreeCast_b_out_nchwc", "a/Conv w2", "t"),
        _node("Cast", "", "t", "y"),
    )
    assert _members(original, optimised) == {
        "q": ("q",),
        "a/Conv_token_7": ("dq", "a/Conv"),
        "InsertedPrecisionFreeCast_b_out_nchwc": ("b/Conv",),
        # Without a name a node is known by its first output.
        "": ("y",),
    }


def test_a_shape_that_is_read_does_not_claim_what_made_the_tensor(tmp_path: Path) -> None:
    original = _file(
        tmp_path / "a.onnx",
        _node("MatMul", "m", "x w", "m_out"),
        _node("Softmax", "s", "m_out", "s_out"),
        _node("Shape", "shape", "m_out", "sizes"),
        _node("Expand", "r", "other sizes", "r_out"),
    )
    optimised = _file(
        tmp_path / "b.onnx", _node("Expand", "r", "other sizes", "r_out"), _node("FusedProduct", "f", "x w", "s_out")
    )
    assert _members(original, optimised) == {"r": ("shape", "r"), "f": ("m", "s")}


def test_another_graph_than_the_one_that_ran_says_nothing(tmp_path: Path) -> None:
    original = _file(tmp_path / "a.onnx", _node("Conv", "c", "x w", "y"))
    ops = (ProfiledOp("c", "Conv", 1.0), ProfiledOp("d", "Relu", 1.0))
    assert with_members_of_graph(original, original, ops) == ops


def test_names_of_openvino_lead_to_nodes_and_to_what_stands_before_them(tmp_path: Path) -> None:
    original = _file(
        tmp_path / "a.onnx",
        _node("Conv", "/c/Conv", "x w", "c_out"),
        _node("Relu", "/c/Relu", "c_out", "r_out"),
        _node("MatMul", "/fc/MatMul", "r_out w2", "m_out"),
        _node("Add", "/fc/Add", "m_out b", "400"),
    )
    ops = (
        ProfiledOp("reorder", "Reorder", 1.0),
        ProfiledOp("conv", "Convolution", 1.0, members=("/c/Conv/WithoutBiases", "/c/Relu", "Constant_7")),
        # Called after the output of the model; the product before the sum has no name any more.
        ProfiledOp("turn", "Transpose", 1.0, members=("/fc/Add/transpose_b",)),
        ProfiledOp("fc", "FullyConnected", 1.0, members=("400",)),
    )
    assert [op.members for op in with_members_of_names(original, ops)] == [
        (),
        ("/c/Conv", "/c/Relu"),
        (),
        ("/fc/MatMul", "/fc/Add"),
    ]


def test_every_product_of_a_real_model_is_found_in_one_operator_that_multiplies(tmp_path: Path) -> None:
    original, optimised = reference_model("cpu-ref-1"), tmp_path / "optimised.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(optimised), 3
    onnxruntime.InferenceSession(str(original), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(str(optimised)).graph.node
    ops = with_members_of_graph(original, optimised, [ProfiledOp(node.name, node.op_type, 1.0) for node in nodes])
    products = {
        node.name or node.output[0]: node.op_type
        for node in onnx.load(str(original)).graph.node
        if node.op_type in ("Conv", "MatMul", "Gemm")
    }
    found = Counter(name for op in ops for name in op.members if name in products)
    assert found == dict.fromkeys(products, 1) and len(products) >= 15
    assert all(any(kind in op.op for kind in ("Conv", "MatMul", "Gemm")) for op in ops if products.keys() & op.members)
    assert any(op.op.startswith("Reorder") and not op.members and op.feeds for op in ops)
