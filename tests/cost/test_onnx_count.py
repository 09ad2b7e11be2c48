"""The count of whole files: what is free, absent, nested, quantised, or named by an exporter."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper

from tests.cost.graphs import FLOAT, counted, graph, last, node, saved, weight
from vitprof.cost.onnx_count import count_onnx, module_of
from vitprof.counts import Kind
from vitprof.errors import VitprofError

INT64, BOOL = TensorProto.INT64, TensorProto.BOOL
IMAGE = (1, 3, 8, 8)


def _net() -> tuple[list[Any], list[Any]]:
    """A convolution to 4 channels, a pooling to (N, 4), a product to 10 classes; the batch is taken from the image."""
    nodes = [
        node("Conv", "image w", "x", pads=[1] * 4),
        node("Relu", "x", "y"),
        node("GlobalAveragePool", "y", "p"),
        node("Shape", "image", "sizes"),
        node("Gather", "sizes zero", "n", axis=0),
        node("Concat", "n rest", "shape", axis=0),
        node("Reshape", "p shape", "flat"),
        node("Gemm", "flat v bias"),
    ]
    weights = [
        weight("w", (4, 3, 3, 3)), weight("v", (4, 10)), weight("bias", (10,)),
        weight("zero", (1,), INT64, [0]), weight("rest", (1,), INT64, [4]),
    ]  # fmt: skip
    return nodes, weights


MACS = 64 * 4 * 27 + 40


@pytest.mark.parametrize("batch", [1, 5, "batch", None])
def test_the_count_is_of_one_image_whatever_the_batch(tmp_path: Path, batch: int | str | None) -> None:
    nodes, weights = _net()
    path = saved(tmp_path / "model.onnx", graph(nodes, weights, (batch, 3, 8, 8)))
    cost = count_onnx(path, (batch if isinstance(batch, int) else 7, 3, 8, 8))
    assert cost.macs == MACS
    assert cost.params == 4 * 27 + 40 + 10
    assert cost.weight_bytes == 4 * cost.params
    # Conv, Relu, pooling and Gemm; the Reshape is a view, and what its sizes are computed by needs no image.
    assert cost.ops == 4
    assert cost.activation_bytes == 4 * (256 + 256 + 4 + 10)
    assert (cost.ledgers.elementwise, cost.ledgers.pool) == (256, 256)
    assert (cost.coverage, cost.uncounted_ops, cost.is_lower_bound) == (1.0, {}, False)
    gemm = last(cost)
    # The weights are read once, however many images there are.
    assert (gemm.bytes_in, gemm.weight_bytes, gemm.bytes_out) == (4 * (4 + 50), 4 * 50, 40)


def test_half_precision_counts_as_fp32(tmp_path: Path) -> None:
    half = TensorProto.FLOAT16
    made = graph([node("Conv", "image w")], [weight("w", (4, 3, 1, 1), half)], IMAGE)
    made.input[0].type.tensor_type.elem_type = half
    cost = count_onnx(saved(tmp_path / "model.onnx", made), IMAGE)
    assert (last(cost).bytes_in, last(cost).bytes_out) == (4 * (192 + 12), 4 * 256)
    assert (cost.params, cost.weight_bytes) == (12, 48)


def test_weights_outside_the_file_may_be_absent(tmp_path: Path) -> None:
    absent = TensorProto(name="w", data_type=FLOAT, dims=(4096, 3, 8, 8), data_location=TensorProto.EXTERNAL)
    absent.external_data.add(key="location", value="nowhere.bin")
    small = TensorProto(name="b", data_type=FLOAT, dims=(1,), data_location=TensorProto.EXTERNAL)
    small.external_data.add(key="location", value="nowhere.bin")
    nodes = [node("Conv", "image w", "x"), node("Mul", "x b")]
    cost = count_onnx(saved(tmp_path / "model.onnx", graph(nodes, [absent, small], IMAGE)), IMAGE)
    assert cost.macs == 4096 * 192
    assert cost.params == 4096 * 192 + 1


def test_an_unnamed_node_has_the_name_of_its_output(tmp_path: Path) -> None:
    cost = counted(tmp_path, [node("Relu", "image", "y"), node("Relu", "y", name="second")])
    assert [row.name for row in cost.rows] == ["y", "second"]


def test_constants_are_no_rows_and_fold_no_weight_away(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["w"], value=weight("", (8, 5)))
    cost = counted(tmp_path, [constant, node("MatMul", "image w")])
    assert [(row.op, row.kind) for row in cost.rows] == [("MatMul", Kind.LINEAR)]


def test_what_needs_no_image_is_marked_and_its_macs_are_kept(tmp_path: Path) -> None:
    nodes = [node("MatMul", "a b", "table"), node("Relu", "table", "bias"), node("Add", "image bias")]
    cost = counted(tmp_path, nodes, [weight("a", (8, 2)), weight("b", (2, 8))])
    assert [(row.macs, row.depends_on_input) for row in cost.rows] == [(128, False), (0, False), (0, True)]
    assert (cost.macs, cost.ops, cost.ledgers.elementwise) == (128, 1, 192)


def test_unknown_operators_are_named_and_lower_the_coverage(tmp_path: Path) -> None:
    nodes = [node("Relu", "image", "y"), node("Sprinkle", "y", domain="my.ops")]
    path = saved(tmp_path / "model.onnx", graph(nodes, [], IMAGE))
    cost = count_onnx(path, IMAGE)
    assert cost.uncounted_ops == {"my.ops.Sprinkle": 1}
    assert last(cost).kind is Kind.UNKNOWN
    # Relu reads and writes 192 values; of the unknown one only what it reads is known.
    assert cost.coverage == pytest.approx(2 / 3)
    assert (cost.macs, cost.is_lower_bound) == (0, False)


def test_an_unknown_product_makes_the_total_a_lower_bound(tmp_path: Path) -> None:
    known = node("MatMul", "image w", "y")
    unknown = [node("SparseConv", "y", "x", domain="my.ops"), node("MatMul", "x w")]
    weights = [weight("w", (8, 8))]
    cost = count_onnx(saved(tmp_path / "model.onnx", graph([known, *unknown], weights, IMAGE)), IMAGE)
    assert cost.macs == 24 * 64
    assert cost.is_lower_bound
    # What comes after it has no shape.
    assert cost.uncounted_ops == {"my.ops.SparseConv": 1, "MatMul (shape not known: input 0)": 1}
    nothing = graph([node("SparseConv", "image", domain="my.ops")], [], IMAGE)
    assert count_onnx(saved(tmp_path / "model.onnx", nothing), IMAGE).macs is None


def test_the_files_own_shapes_help_behind_an_unknown_operator(tmp_path: Path) -> None:
    made = graph([node("Sprinkle", "image", "x", domain="my.ops"), node("MatMul", "x w")], [weight("w", (8, 5))], IMAGE)
    made.value_info.append(helper.make_tensor_value_info("x", FLOAT, IMAGE))
    assert count_onnx(saved(tmp_path / "model.onnx", made), IMAGE).macs == 24 * 8 * 5


def _branch(name: str, width: int) -> Any:
    return helper.make_graph(
        [node("MatMul", f"image {name}", f"{name}out")],
        name,
        [],
        [helper.make_tensor_value_info(f"{name}out", FLOAT, None)],
        [weight(name, (8, width))],
    )


def _if(condition: str) -> Any:
    return node("If", condition, "y", then_branch=_branch("then", 5), else_branch=_branch("else", 7))


def test_of_a_branch_the_heavier_side_is_counted_and_named(tmp_path: Path) -> None:
    nodes = [node("ReduceSum", "image", "sum", keepdims=0), node("Cast", "sum", "yes", to=BOOL), _if("yes")]
    cost = counted(tmp_path, nodes)
    assert (cost.macs, cost.is_lower_bound) == (24 * 8 * 7, False)
    assert cost.uncounted_ops == {"If (the branch with more MACs is counted)": 1}


def test_a_branch_that_is_known_is_taken(tmp_path: Path) -> None:
    # 8 columns are not 9, which is known from the shape alone.
    nodes = [node("Shape", "image", "n", start=3), node("Equal", "n nine", "yes"), _if("yes"), node("Relu", "y")]
    cost = counted(tmp_path, nodes, [weight("nine", (1,), INT64, [8])])
    assert (cost.macs, cost.uncounted_ops) == (24 * 8 * 5, {})
    assert last(cost).shape_out == (1, 3, 8, 5)


def test_a_loop_is_left_out_and_said_to_be(tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("MatMul", "v w", "next"), node("Identity", "go", "going")],
        "body",
        [
            helper.make_tensor_value_info("round", INT64, ()),
            helper.make_tensor_value_info("go", BOOL, ()),
            helper.make_tensor_value_info("v", FLOAT, IMAGE),
        ],
        [helper.make_tensor_value_info("going", BOOL, ()), helper.make_tensor_value_info("next", FLOAT, IMAGE)],
    )
    nodes = [node("Conv", "image k", "x"), node("Loop", "rounds yes x", body=body)]
    weights = [
        weight("k", (3, 3, 1, 1)), weight("w", (8, 8)), weight("rounds", (), INT64, [3]), weight("yes", (), BOOL, [1])
    ]  # fmt: skip
    cost = counted(tmp_path, nodes, weights)
    assert (cost.macs, cost.is_lower_bound) == (64 * 9, True)
    assert cost.uncounted_ops == {"Loop (number of rounds not known)": 1}


def test_functions_of_the_model_are_counted_where_they_are_called(tmp_path: Path) -> None:
    imports = [helper.make_opsetid("", 20)]
    twice = helper.make_function(
        "mine", "Twice", ["x", "w"], ["z"], [node("MatMul", "x w", "y"), node("MatMul", "y w", "z")], imports
    )
    made = graph([node("Twice", "image w", domain="mine")], [weight("w", (8, 8))], IMAGE)
    model = helper.make_model(made, functions=[twice], opset_imports=[*imports, helper.make_opsetid("mine", 1)])
    onnx.save(model, str(tmp_path / "model.onnx"))
    assert count_onnx(tmp_path / "model.onnx", IMAGE).macs == 2 * 24 * 64


def test_a_node_that_its_definition_does_not_allow_is_named(tmp_path: Path) -> None:
    cost = counted(tmp_path, [node("Attention", "image image image", domain="com.microsoft")])
    assert cost.uncounted_ops == {"com.microsoft.Attention (not as its definition has it)": 1}
    assert (cost.macs, cost.is_lower_bound) == (None, True)


def test_a_wrong_input_is_refused_with_what_the_file_takes(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", graph([node("Relu", "image")], [], ("batch", 3, 8, 8)))
    with pytest.raises(VitprofError, match=r"takes anyx3x8x8 at its input 'image', not 1x3x9x9") as caught:
        count_onnx(path, (1, 3, 9, 9))
    assert caught.value.remedy
    with pytest.raises(VitprofError, match=r"no input 'picture'.*image"):
        count_onnx(path, IMAGE, input_name="picture")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(VitprofError, match="cannot be counted: it is cut off or no ONNX file"):
        count_onnx(path, IMAGE)
    with pytest.raises(VitprofError, match="No such file"):
        count_onnx(tmp_path / "absent.onnx", IMAGE)


def test_a_broken_graph_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", graph([node("If", "image")], [], IMAGE))
    with pytest.raises(VitprofError, match=r"no valid graph .*then_branch"):
        count_onnx(path, IMAGE)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("/stages/stages.0/blocks/blocks.1/conv/Conv", "stages.0.blocks.1.conv"),
        ("/stages/stages.0/stages.0.1/Add_2", "stages.0.1"),
        # A list that is no module which is called has no part of its own before it.
        ("/layers.3/attn/MatMul", "layers.3.attn"),
        ("/Add", ""),
        ("Conv_7", ""),
        ("", ""),
    ],
)
def test_a_module_is_read_from_the_name_of_a_node(name: str, module: str) -> None:
    assert module_of(node("Conv", "x w", name=name)) == module


def test_a_stack_of_modules_that_is_no_list_says_nothing() -> None:
    broken = node("Conv", "x w")
    broken.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="__import__('os')")
    assert module_of(broken) == ""


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_the_modules_of_a_real_export_have_their_own_paths(tmp_path: Path, exporter: str) -> None:
    torch = pytest.importorskip("torch")
    from vitprof.export.onnx_export import export_onnx
    from vitprof.records import Exporter

    stage = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
    classes = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(512, 10))
    module = torch.nn.Sequential()
    module.add_module("stages", torch.nn.Sequential(stage))
    module.add_module("head", classes)
    path = tmp_path / "model.onnx"
    export_onnx(module.eval(), IMAGE, path, Exporter(exporter))
    cost = count_onnx(path, IMAGE)
    products = [(row.module, row.kind, row.macs) for row in cost.rows if row.macs]
    # The batch norm is folded into the convolution, which keeps its own path.
    assert products == [
        ("stages.0.0", Kind.CONV, 64 * 8 * 27),
        ("head.1", Kind.LINEAR, 512 * 10),
    ]


def test_the_order_of_the_nodes_in_the_file_does_not_matter(tmp_path: Path) -> None:
    """As onnxruntime's converter to fp16 leaves it: its casts come last."""
    nodes = [
        node("Slice", "cast start end", "part", name="slice"),
        node("Conv", "part w", "out", name="conv"),
        node("Cast", "image", "cast", name="cast", to=FLOAT),
    ]
    weights = [weight("w", (4, 3, 1, 1)), weight("start", [4], INT64, [0] * 4), weight("end", [4], INT64, [1, 3, 8, 8])]
    cost = counted(tmp_path, nodes[1:] + nodes[:1], weights)
    assert [row.name for row in cost.rows] == ["cast", "slice", "conv"]
    # 8 x 8 outputs of 4 channels of 3 inputs.
    assert cost.macs == 64 * 4 * 3 and not cost.uncounted_ops
