"""An ONNX file to its Cost: the second counter, for files that have no module behind them and as a check of the first.

Its own file beside `count` because it reads a graph instead of running a program; only the formulas are the same. The
weights are never read, so that those of a file of gigabytes may even be absent.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from vitprof.cost.formulas import Shape
from vitprof.cost.onnx_contrib import CONTRIB_RULES
from vitprof.cost.onnx_rules import RULES, UnknownShape, Work
from vitprof.cost.onnx_shapes import MAX_KNOWN_VALUES, Call, Value, walk
from vitprof.counts import MAC_KINDS, Cost, Kind, Ledgers, OpRow
from vitprof.errors import VitprofError, first_line

# fp32, whatever the file is kept in: the count describes the model.
BYTES_PER_VALUE = 4
# What multiplies and adds by its nature. One of these without a rule makes the total a lower bound.
_COMPUTES = re.compile(r"conv|gemm|matmul|attention|einsum|lstm|gru|rnn|linear|fft|dft|moe", re.IGNORECASE)
_LOOPS = ("Loop", "Scan", "SequenceMap")
# vitprof's exporter holds the model as this attribute of a module that flattens its outputs.
_WRAPPER = "inner"
# Where torch's newer exporter keeps the modules that called a node.
_SCOPES = "pkg.torch.onnx.name_scopes"


def count_onnx(path: Path, input_shape: tuple[int, int, int, int], *, input_name: str | None = None) -> Cost:
    """The cost of one image; `macs` is None where no product's shapes are known.

    `input_shape` (N, C, H, W) fills what the file leaves free of its image input (`input_name`, by default its first
    input that is no weight); a file made for N images is divided by N. One row a node, constants left out. `ops`,
    `activation_bytes` and the ledgers are of what runs for each image: no views, and nothing that is computed from
    weights, constants and sizes alone. Such nodes have rows and their MACs are in the total, as in the first counter.
    A Transpose is no view: ONNX tensors have no strides. `VitprofError` where the file cannot be read, has no such
    input, or fixes another shape.
    """
    model = _inlined(_sorted(_parsed(path)))
    weights = [tensor for tensor in model.graph.initializer if tensor.data_type in _float_types()]
    params = sum(math.prod(tensor.dims) for tensor in weights)
    image = _image_input(model.graph, input_name, path)
    shape, images = _one_image(image, input_shape, path)
    tally = _Tally(images)
    try:
        tally.add_all(walk(model, image.name, shape))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # Whatever a rule expects is checked there; here the graph itself is broken, an If without a branch.
        raise _unfit(path, f"cannot be counted: it is no valid graph ({first_line(error)})") from error
    return tally.cost(params)


@dataclass
class _Tally:
    """Rows and sums of the calls so far, for one of `images` images."""

    images: int
    rows: list[OpRow] = field(default_factory=list)
    ledgers: Ledgers = field(default_factory=Ledgers)
    uncounted: Counter[str] = field(default_factory=Counter)
    ops: int = 0
    activation_bytes: int = 0
    is_lower_bound: bool = False

    def add_all(self, calls: tuple[Call, ...]) -> None:
        for call in calls:
            if call.op == "If":
                self._add_heavier(call)
            elif call.op in _LOOPS:
                self._add_loop(call)
            else:
                self._add(call)

    def cost(self, params: int) -> Cost:
        rows = _without_wrapper(self.rows)
        counted = any(row.macs for row in rows)
        moved = sum(row.bytes_moved for row in rows)
        known = sum(row.bytes_moved for row in rows if row.kind is not Kind.UNKNOWN)
        return Cost(
            params=params,
            macs=None if self.is_lower_bound and not counted else sum(row.macs for row in rows),
            weight_bytes=BYTES_PER_VALUE * params,
            activation_bytes=self.activation_bytes,
            ops=self.ops,
            uncounted_ops=dict(self.uncounted),
            coverage=known / moved if moved else None,
            rows=rows,
            ledgers=self.ledgers,
            is_lower_bound=self.is_lower_bound,
        )

    def _add(self, call: Call) -> None:
        work = self._work(call)
        row = _row(call, work, self.images)
        self.rows.append(row)
        if call.depends_on_input and not work.is_view:
            self.ops += 1
            self.activation_bytes += row.bytes_out
            self.ledgers = self.ledgers + _divided(work.ledgers, self.images)

    def _work(self, call: Call) -> Work:
        rule = RULES.get(call.op) or CONTRIB_RULES.get(call.op)
        if rule is None:
            return self._unknown(call, call.op, bool(_COMPUTES.search(call.op)))
        try:
            return rule(call)
        except UnknownShape as error:
            is_product = bool(_COMPUTES.search(call.op))
            return self._unknown(call, f"{call.op} (shape not known: {error})", is_product)
        except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError):
            # A file need not be valid: too few inputs, an attribute that is missing or of another type.
            return self._unknown(call, f"{call.op} (not as its definition has it)", bool(_COMPUTES.search(call.op)))

    def _unknown(self, call: Call, name: str, is_product: bool) -> Work:
        if call.depends_on_input:
            # Arithmetic on sizes that cannot be followed is no work of the model.
            self.uncounted[name] += 1
            self.is_lower_bound |= is_product
        return Work(Kind.UNKNOWN)

    def _add_heavier(self, call: Call) -> None:
        """The branch with more MACs: which one runs is not known, so it is named where the other has fewer."""
        branches = [_Tally(self.images) for _ in call.inner]
        for branch, calls in zip(branches, call.inner, strict=True):
            branch.add_all(calls)
        macs = [sum(row.macs for row in branch.rows) for branch in branches]
        self._merge(branches[macs.index(max(macs))])
        if len(set(macs)) > 1:
            self.uncounted["If (the branch with more MACs is counted)"] += 1

    def _merge(self, other: _Tally) -> None:
        self.rows += other.rows
        self.ledgers = self.ledgers + other.ledgers
        self.uncounted += other.uncounted
        self.ops += other.ops
        self.activation_bytes += other.activation_bytes
        self.is_lower_bound |= other.is_lower_bound

    def _add_loop(self, call: Call) -> None:
        """How often a body runs stands in no shape, so its work is left out and said to be."""
        body = _Tally(self.images)
        for calls in call.inner:
            body.add_all(calls)
        has_products = body.is_lower_bound or any(row.kind in MAC_KINDS for row in body.rows)
        work = self._unknown(call, f"{call.op} (number of rounds not known)", has_products)
        self.rows.append(_row(call, work, self.images))


def _row(call: Call, work: Work, images: int) -> OpRow:
    depends = call.depends_on_input
    share = images if depends else 1
    read = {name: value for name, value in zip(call.node.input, call.inputs, strict=True) if value is not None}
    read_bytes = {name: value.size_bytes or 0 for name, value in read.items()}
    bytes_out = 0 if work.is_view else sum(value.size_bytes or 0 for value in call.outputs)
    if work.is_view:
        read_bytes = {}
    elif work.reads_part:
        read_bytes[call.node.input[0]] = min(bytes_out, read_bytes[call.node.input[0]])
    weight_bytes = sum(size for name, size in read_bytes.items() if not read[name].depends_on_input)
    first = next((value for value in call.outputs), None)
    return OpRow(
        op=call.op,
        kind=work.kind,
        module=module_of(call.node),
        calls=1,
        macs=work.macs // share,
        # Weights are read once, however many images there are.
        bytes_in=(sum(read_bytes.values()) - weight_bytes) // share + weight_bytes,
        bytes_out=bytes_out // share,
        shape_out=_shape_of(first),
        weight_bytes=weight_bytes,
        name=call.node.name or next(iter(call.node.output), ""),
        depends_on_input=depends,
    )


def _shape_of(value: Value | None) -> Shape:
    return value.shape if value is not None and value.shape is not None else ()


def _divided(ledgers: Ledgers, images: int) -> Ledgers:
    return Ledgers(*(entry // images for entry in vars(ledgers).values()))


def module_of(node: Any) -> str:
    """The dotted path of the module that a node comes from; empty where its exporter did not say.

    torch's older exporter writes it into the name, `/stages/stages.0/conv/Conv`, where a part of a list repeats the
    list; its newer one keeps the stack of modules with the node. A batch norm that was folded into a convolution leaves
    its own path there, so the convolution's is taken from its weight.
    """
    scopes = _scopes(node)
    if scopes is not None:
        if scopes and "batch_norm" in scopes[-1] and node.op_type.startswith("Conv") and len(node.input) > 1:
            weight = node.input[1]
            return weight.removesuffix(".weight") if weight.endswith(".weight") else _last_module(scopes)
        return _last_module(scopes)
    if not node.name.startswith("/"):
        return ""
    parts = node.name.split("/")[1:-1]
    # `stages.0` after `stages` is its part 0.
    short = [part.removeprefix(f"{before}.") for before, part in zip(["", *parts], parts, strict=False)]
    return ".".join(short)


def _scopes(node: Any) -> list[str] | None:
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            try:
                scopes = ast.literal_eval(entry.value)
            except (SyntaxError, ValueError):
                return None
            return [str(scope) for scope in scopes] if isinstance(scopes, list) else None
    return None


def _last_module(scopes: list[str]) -> str:
    # The last one is the operator.
    return scopes[-2] if len(scopes) > 1 else ""


def _without_wrapper(rows: list[OpRow]) -> tuple[OpRow, ...]:
    """The rows under the paths that the model itself has, where vitprof's exporter wrapped it."""
    named = [row.module for row in rows if row.module]
    if not all(module == _WRAPPER or module.startswith(f"{_WRAPPER}.") for module in named):
        return tuple(rows)
    return tuple(replace(row, module=row.module.removeprefix(_WRAPPER).removeprefix(".")) for row in rows)


def _parsed(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is cut off or no ONNX file"
        raise _unfit(path, f"cannot be counted: {why}") from error
    if not model.graph.node:
        raise _unfit(path, "cannot be counted: it holds no graph")
    return model


def _sorted(model: Any) -> Any:
    """The model with each node behind those that it reads: onnxruntime's converter to fp16 appends casts at the end."""
    nodes = list(model.graph.node)
    maker = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    if all(maker.get(name, -1) < place for place, node in enumerate(nodes) for name in node.input):
        return model
    needs = [{maker[name] for name in node.input if name in maker} for node in nodes]
    try:
        order = list(TopologicalSorter(dict(enumerate(needs))).static_order())
    except CycleError:
        # The walk says what it cannot follow.
        return model
    del model.graph.node[:]
    model.graph.node.extend(nodes[place] for place in order)
    return model


def _inlined(model: Any) -> Any:
    """The model with its own functions written out where they are called."""
    if not model.functions:
        return model
    from onnx.inliner import inline_local_functions

    for tensor in model.graph.initializer:
        # The whole model passes through one message, which ends at 2 GB.
        if math.prod(tensor.dims) > MAX_KNOWN_VALUES:
            tensor.ClearField("raw_data")
    return inline_local_functions(model)


def _unfit(path: Path, why: str) -> VitprofError:
    return VitprofError(
        f"{path} {why}", remedy="give a model with one input of images (N, C, H, W), whole", stage="count"
    )


def _image_input(graph: Any, name: str | None, path: Path) -> Any:
    # Files of older exporters list the weights among the inputs.
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    chosen = [value for value in inputs if name in (None, value.name)]
    if not chosen:
        named = ", ".join(value.name for value in inputs) or "none"
        raise _unfit(path, f"has no input {name!r} (its inputs: {named})" if name else "has no input")
    return chosen[0]


def _one_image(value: Any, input_shape: Shape, path: Path) -> tuple[Shape, int]:
    """The shape to walk the graph with, and how many images that is: one where the batch is free."""
    dims = [dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim]
    asked = (1 if dims and dims[0] is None else input_shape[0], *input_shape[1:])
    if len(dims) != len(input_shape) or any(dim not in (None, size) for dim, size in zip(dims, asked, strict=True)):
        made = "x".join("any" if dim is None else str(dim) for dim in dims) or "no shape"
        wanted = "x".join(map(str, input_shape))
        raise _unfit(path, f"takes {made} at its input {value.name!r}, not {wanted}")
    return asked, asked[0]


def _float_types() -> tuple[int, ...]:
    from onnx import TensorProto

    return (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
