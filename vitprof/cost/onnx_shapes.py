"""A walk over an ONNX graph that knows the shape of every tensor, from the shape of the image alone.

Its own file because counting needs shapes and nothing else of a graph. Each node by itself goes through onnx's shape
inference, in order: the weights are never handed on, so a model of gigabytes takes no more than its node list. Shape
arithmetic (Shape, Gather, Concat… before a Reshape) is computed on the way, so that a file with a free batch has the
same fixed shapes as one without.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitprof.cost.formulas import Shape, product
from vitprof.cost.onnx_contrib_shapes import CONTRIB_SHAPES, SUM_OUTPUTS

# Sizes, axes and index ranges; a table that is longer is data, and its values decide no shape.
MAX_KNOWN_VALUES = 4096
# Their outputs are fixed by shapes, whatever the values.
_SHAPE_OPS = frozenset({"Shape", "Size"})
# What leaves a weight a weight: it is moved, cut, or kept in another type.
_MOVES = frozenset(
    {"Cast", "Concat", "DequantizeLinear", "Expand", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Slice",
     "Split", "Squeeze", "Transpose", "Unsqueeze"}
)  # fmt: skip
_DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Value:
    """What is known of a tensor before anything runs."""

    # An onnx TypeProto; None where not even the type is known.
    type: Any
    shape: Shape | None
    depends_on_input: bool
    # A parameter or constant, or one that was only moved.
    is_weight: bool = False
    # Its values as a numpy array, where they are few and fixed.
    content: Any = None

    @property
    def value_bytes(self) -> int:
        """Bytes a value: 4 for every float, for the count describes the model in fp32."""
        return _value_bytes(self.type.tensor_type.elem_type if self.type is not None else 0)

    @property
    def size_bytes(self) -> int | None:
        return None if self.shape is None else product(self.shape) * self.value_bytes


@dataclass(frozen=True)
class Call:
    """One node with what is known of its tensors; an input that is left out is None."""

    node: Any
    # With its domain before it, where that is not ONNX's own.
    op: str
    attributes: Mapping[str, Any]
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    # The calls of each subgraph that may run: two of an If whose condition is not known, the body of a Loop.
    inner: tuple[tuple[Call, ...], ...] = ()

    @property
    def depends_on_input(self) -> bool:
        return any(value.depends_on_input for value in self.outputs)


def walk(model: Any, input_name: str, input_shape: Shape) -> tuple[Call, ...]:
    """Every node of the main graph in order, but for constants, with `input_name` of `input_shape`.

    What shape inference cannot tell stays None; it is no error.
    """
    opsets = {"" if entry.domain in _DEFAULT_DOMAINS else entry.domain: entry.version for entry in model.opset_import}
    image = next(value for value in model.graph.input if value.name == input_name)
    typed = _tensor_type(image.type.tensor_type.elem_type, input_shape)
    given = {input_name: Value(typed, input_shape, depends_on_input=True)}
    return _Walker(opsets).calls(model.graph, given)


class _Walker:
    """Walks graphs of one model: what its opset imports say is the same in all of them."""

    def __init__(self, opsets: dict[str, int]) -> None:
        self._opsets = opsets

    def calls(self, graph: Any, values: dict[str, Value]) -> tuple[Call, ...]:
        """The calls of a graph; `values` is what is known from outside, and takes all that is learnt."""
        for tensor in graph.initializer:
            values[tensor.name] = _weight(tensor)
        for sparse in graph.sparse_initializer:
            values[sparse.values.name] = _constant({"sparse_value": sparse})
        for value in graph.input:
            if value.name not in values:
                values[value.name] = _declared(value.type)
        declared = {value.name: value.type for value in (*graph.value_info, *graph.output)}
        return tuple(call for node in graph.node if (call := self._call(node, values, declared)))

    def _call(self, node: Any, values: dict[str, Value], declared: Mapping[str, Any]) -> Call | None:
        attributes = {attribute.name: _attribute(attribute) for attribute in node.attribute}
        if node.op_type == "Constant":
            values[node.output[0]] = _constant(attributes)
            return None
        inputs = tuple(values.get(name) if name else None for name in node.input)
        inner: list[tuple[Call, ...]] = []
        outputs: tuple[Value, ...] | None = None
        if node.op_type == "If":
            inner, outputs = self._branches(attributes, inputs, values)
        elif subgraphs := [attribute.g for attribute in node.attribute if attribute.HasField("g")]:
            inner = [self.calls(graph, dict(values)) for graph in subgraphs]
        if outputs is None:
            outputs = self._outputs(node, attributes, inputs, declared)
        values.update(zip(node.output, outputs, strict=False))
        op = node.op_type if node.domain in _DEFAULT_DOMAINS else f"{node.domain}.{node.op_type}"
        return Call(node, op, attributes, inputs, outputs, tuple(inner))

    def _branches(
        self, attributes: Mapping[str, Any], inputs: tuple[Value | None, ...], values: dict[str, Value]
    ) -> tuple[list[tuple[Call, ...]], tuple[Value, ...]]:
        names: tuple[str, ...] = ("then_branch", "else_branch")
        if inputs[0] is not None and inputs[0].content is not None:
            names = names[:1] if bool(inputs[0].content) else names[1:]
        inner, outputs = [], []
        for name in names:
            scope = dict(values)
            inner.append(self.calls(attributes[name], scope))
            outputs.append([scope.get(value.name, _declared(value.type)) for value in attributes[name].output])
        return inner, tuple(_either(*pair) for pair in zip(*outputs, strict=True))

    def _outputs(
        self,
        node: Any,
        attributes: Mapping[str, Any],
        inputs: tuple[Value | None, ...],
        declared: Mapping[str, Any],
    ) -> tuple[Value, ...]:
        known = [value for value in inputs if value is not None]
        # A Loop or Scan reads the graph around it as well.
        has_body = any(attribute.HasField("g") for attribute in node.attribute)
        depends = node.op_type not in _SHAPE_OPS and (has_body or any(value.depends_on_input for value in known))
        is_weight = not depends and node.op_type in _MOVES and any(value.is_weight for value in known)
        types = self._types(node, attributes, inputs)
        values = []
        for name in node.output:
            typed = types.get(name)
            if _shape(typed) is None and _shape(declared.get(name)) is not None:
                typed = declared[name]
            values.append(Value(typed, _shape(typed), depends, is_weight))
        if not depends:
            return self._with_content(node, inputs, values)
        return tuple(values)

    def _types(self, node: Any, attributes: Mapping[str, Any], inputs: tuple[Value | None, ...]) -> Mapping[str, Any]:
        import onnx

        domain = "" if node.domain in _DEFAULT_DOMAINS else node.domain
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opsets.get(domain, 1), domain)
            types = self._inferred(schema, node, inputs)
        except Exception:  # Inference raises whatever it finds inconsistent, as a type of its own.
            types = {}
        if any(_shape(typed) is not None for typed in types.values()):
            return types
        op = f"{domain}.{node.op_type}" if domain else node.op_type
        return _contrib_types(op, node, attributes, inputs) or types

    def _inferred(self, schema: Any, node: Any, inputs: tuple[Value | None, ...]) -> Mapping[str, Any]:
        import onnx

        known = [(name, value) for name, value in zip(node.input, inputs, strict=True) if value is not None]
        types = {name: value.type for name, value in known}
        data = {
            name: onnx.numpy_helper.from_array(value.content, name)
            for name, value in known
            if value.content is not None
        }
        imports = [onnx.helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        return dict(onnx.shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=imports))

    def _with_content(self, node: Any, inputs: tuple[Value | None, ...], values: list[Value]) -> tuple[Value, ...]:
        """`values` with what the node computes, where all of it is small and fixed; the shape comes with it."""
        sizes = [product(value.shape) if value.shape is not None else None for value in values]
        if any(size is None or size > MAX_KNOWN_VALUES for size in sizes):
            return tuple(values)
        arrays = _computed(node, inputs, self._opsets)
        if arrays is None:
            return tuple(values)
        return tuple(_known(value, array) for value, array in zip(values, arrays, strict=True))


def _computed(node: Any, inputs: tuple[Value | None, ...], opsets: Mapping[str, int]) -> list[Any] | None:
    import numpy as np
    import onnx
    from onnx.reference import ReferenceEvaluator

    if node.op_type in _SHAPE_OPS:
        return _measured(node, inputs[0])
    if any(value is not None and value.content is None for value in inputs) or node.op_type.startswith("Random"):
        return None
    feeds = {name: value.content for name, value in zip(node.input, inputs, strict=True) if value is not None}
    try:
        graph = onnx.helper.make_graph(
            [node],
            "one",
            [onnx.helper.make_tensor_value_info(name, 0, None) for name in feeds],
            [onnx.helper.make_tensor_value_info(name, 0, None) for name in node.output if name],
        )
        imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        answers = iter(ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=imports)).run(None, feeds))
        return [np.asarray(next(answers)) if name else np.zeros(0) for name in node.output]
    except Exception:  # The reference takes no custom operator and raises whatever a wrong one leads to.
        return None


def _measured(node: Any, value: Value | None) -> list[Any] | None:
    import numpy as np

    if value is None or value.shape is None:
        return None
    if node.op_type == "Size":
        return [np.asarray(product(value.shape), dtype=np.int64)]
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    return [np.asarray(value.shape[bounds.get("start", 0) : bounds.get("end")], dtype=np.int64)]


def _known(value: Value, array: Any) -> Value:
    shape = tuple(int(size) for size in array.shape)
    return Value(value.type, shape, value.depends_on_input, value.is_weight, array)


def _contrib_types(
    op: str, node: Any, attributes: Mapping[str, Any], inputs: tuple[Value | None, ...]
) -> Mapping[str, Any]:
    rule = CONTRIB_SHAPES.get(op)
    shapes = [value.shape if value is not None else None for value in inputs]
    first = inputs[0] if inputs else None
    if rule is None or first is None or first.type is None:
        return {}
    try:
        shape = rule(attributes, shapes)
    except (IndexError, TypeError, ValueError):
        # An operand whose shape is not known, or not what the operator takes.
        return {}
    typed = _tensor_type(first.type.tensor_type.elem_type, shape)
    position = SUM_OUTPUTS.get(op, 0)
    return {name: typed for i, name in enumerate(node.output) if name and i in (0, position)}


def _either(first: Value, second: Value | None = None) -> Value:
    """What is known of an If's output from its branches: what both agree on."""
    if second is None:
        return first
    shape = first.shape if first.shape == second.shape else None
    return Value(first.type if shape is not None else None, shape, True)


def _weight(tensor: Any) -> Value:
    import onnx

    shape = tuple(tensor.dims)
    content = None
    # Values that lie outside the file are weights, and the file with them may be absent.
    if product(shape) <= MAX_KNOWN_VALUES and tensor.data_location != onnx.TensorProto.EXTERNAL:
        with contextlib.suppress(TypeError, ValueError):
            # A tensor of strings, or with fewer values than its shape says: no size of anything.
            content = onnx.numpy_helper.to_array(tensor)
    return Value(_tensor_type(tensor.data_type, shape), shape, False, is_weight=True, content=content)


def _constant(attributes: Mapping[str, Any]) -> Value:
    import numpy as np
    import onnx

    [(name, held)] = attributes.items()
    if name == "value":
        return _weight(held)
    if name == "sparse_value":
        shape = tuple(held.dims)
        return Value(_tensor_type(held.values.data_type, shape), shape, False, is_weight=True)
    if name.startswith("value_string"):
        return Value(None, None, False, is_weight=True)
    array = np.asarray(held, dtype=np.float32 if "float" in name else np.int64)
    return _weight(onnx.numpy_helper.from_array(array))


def _declared(typed: Any) -> Value:
    """A tensor of which only the file's own word is known: another input, or one of a loop's body."""
    return Value(typed, _shape(typed), depends_on_input=True)


def _shape(typed: Any) -> Shape | None:
    """The fixed shape in a TypeProto, None where it has none or a dimension is free."""
    if typed is None or not typed.tensor_type.HasField("shape"):
        return None
    dims = typed.tensor_type.shape.dim
    return tuple(dim.dim_value for dim in dims) if all(dim.HasField("dim_value") for dim in dims) else None


def _tensor_type(elem_type: int, shape: Shape) -> Any:
    import onnx

    return onnx.helper.make_tensor_type_proto(elem_type, shape)


def _attribute(attribute: Any) -> Any:
    import onnx

    held = onnx.helper.get_attribute_value(attribute)
    return held.decode("utf-8", "replace") if isinstance(held, bytes) else held


def _value_bytes(elem_type: int) -> int:
    from onnx import TensorProto, helper

    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    if elem_type in floats or elem_type not in TensorProto.DataType.values():
        return 4
    try:
        return int(helper.tensor_dtype_to_np_dtype(elem_type).itemsize)
    except KeyError:
        # Strings, and an elem_type that is not set.
        return 4
