"""A program rewritten so that no tensor in it has more than four axes: LiteRT's GPU refuses those, and all with them.

Its own file because it knows graphs and no model. What has more axes is mostly not computed with: attention splits
one product into queries, keys and values by `reshape` to five axes, `permute` and `unbind`; windows are cut out by
`reshape` to six. Such a chain only moves values, so whatever its end holds can be written as slice, reshape, permute,
reshape of what it began with, with four axes in between.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitprof.export.axes import Factor, Moves, Shape, neighbours, span_of
from vitprof.export.quiet import silenced

if TYPE_CHECKING:
    import torch

MAX_RANK = 4
# Another order of the same sums may move the outputs this far; a value in a wrong place moves them by all they are.
_SAME_REL_ERROR = 1e-4

# By the names of torch's operators, so that this table needs no torch. They keep every value and its order …
_REGROUPS = frozenset(
    {"reshape", "view", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "clone", "alias"}
)
# … these act on single values or on the last axis alone …
_ROWWISE = frozenset({"linear", "gelu", "silu", "relu", "hardswish", "sigmoid", "dropout"})
# … these on the last two, with all axes before them counting through, …
_BATCHED = frozenset({"matmul", "scaled_dot_product_attention"})
# … and these on values that stand at the same place.
_PAIRWISE = frozenset({"add", "sub", "mul", "div"})


@dataclass
class Counts:
    """What was rewritten, and how many operators on more than four axes are left."""

    chains: int = 0
    operators: int = 0
    constants: int = 0
    left: int = 0


def rewritten(module: torch.nn.Module, image: torch.Tensor) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """A module that computes the same with four axes, and the fix-up that tells it; `module` itself where nothing is
    to be done, where it cannot be traced, or where the outputs differ.
    """
    import torch

    from vitprof.runner.tensors import flat_tensors

    try:
        with silenced(), torch.no_grad():
            program = torch.export.export(module, (image,), strict=False)
            # No decomposition, but without operators that write into their input: values move freely then.
            graph = program.run_decompositions({}).module(check_guards=False)
            counts = rewrite(graph)
            # Not zeros: they are the same wherever they stand.
            tried = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
            wanted, found = flat_tensors(module(tried)), flat_tensors(graph(tried))
    except Exception:  # Tracing is foreign code; whoever exports the module next says what is wrong with it.
        return module, ()
    if counts.chains + counts.operators + counts.constants == 0 or not _are_same(wanted, found):
        return module, ()
    return graph, (_text(counts),)


def rewrite(graph_module: torch.fx.GraphModule) -> Counts:
    """Rewrites a graph of torch.export in place."""
    counts = Counts()
    counts.constants = _fold_constants(graph_module)
    for node in list(graph_module.graph.nodes):
        counts.operators += _with_fewer_axes(node)
    for node in list(graph_module.graph.nodes):
        counts.chains += _straightened(node)
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    counts.left = sum(_is_high(node) for node in graph_module.graph.nodes if node.op == "call_function")
    return counts


def _text(counts: Counts) -> str:
    done = (
        (counts.chains, "chains of views"),
        (counts.operators, "operators"),
        (counts.constants, "constants"),
    )
    parts = ", ".join(f"{number} {name}" for number, name in done if number)
    left = f"; {counts.left} operators on more are left" if counts.left else ""
    return f"rewritten with at most {MAX_RANK} axes: {parts}{left}"


def _are_same(wanted: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> bool:
    def is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
        largest = float(one.abs().max())
        return one.shape == other.shape and float((one - other).abs().max()) <= _SAME_REL_ERROR * largest

    return len(wanted) == len(found) and all(map(is_same, wanted, found))


# Facts of a node.


def _name(node: torch.fx.Node) -> str:
    """`reshape` for aten.reshape.default; empty for what is no operator of aten."""
    schema = getattr(node.target, "_schema", None)
    return str(schema.name).removeprefix("aten::") if schema is not None and node.op == "call_function" else ""


def _shape(node: Any) -> Shape | None:
    """None for what is no single tensor of known sizes."""
    import torch

    value = getattr(node, "meta", {}).get("val")
    shape = tuple(value.shape) if isinstance(value, torch.Tensor) else None
    return shape if shape is not None and all(isinstance(size, int) and size > 0 for size in shape) else None


def _is_high(node: torch.fx.Node) -> bool:
    return len(_shape(node) or ()) > MAX_RANK


def _arguments(node: torch.fx.Node) -> dict[str, Any]:
    schema = node.target._schema
    given = dict(zip((one.name for one in schema.arguments), node.args, strict=False))
    defaults = {one.name: one.default_value for one in schema.arguments if one.has_default_value()}
    return {**defaults, **given, **node.kwargs}


# Chains of views.


def _straightened(node: torch.fx.Node) -> bool:
    """Whether the values of `node`, the end of a chain through more than four axes, now come from its beginning."""
    shape = _shape(node)
    if shape is None or len(shape) > MAX_RANK:
        return False
    chain = [node]
    while (before := _input_of_view(chain[-1])) is not None:
        rank = len(_shape(before) or range(MAX_RANK + 1))
        if rank <= MAX_RANK:
            break
        chain.append(before)
    if before is None or len(chain) == 1:
        return False
    plan = _plan(_shape(before) or (), chain[::-1])
    now = before
    for moves in plan:
        now = _emit(now, moves, node)
    if plan:
        node.replace_all_uses_with(_viewed(now, shape, node))
    return bool(plan)


def _plan(shape: Shape, steps: Sequence[torch.fx.Node]) -> list[Moves]:
    """As few permutations of at most four axes as do the work of `steps`; none where they cannot."""
    plan: list[Moves] = []
    while steps:
        for count in range(len(steps), 0, -1):
            moves = Moves.of(shape)
            if all(_follow(moves, step) for step in steps[:count]) and len(_groups(moves)) <= MAX_RANK:
                break
        else:
            return []
        plan.append(moves)
        shape, steps = tuple(math.prod(factor.size for factor in row) for row in moves.rows), steps[count:]
    return plan


def _groups(moves: Moves) -> list[list[Factor]]:
    return neighbours([factor for factor in moves.source if factor not in moves.fixed], moves.place)


def _input_of_view(node: torch.fx.Node) -> torch.fx.Node | None:
    """What a node that only moves values takes them from; through `unbind`, which has several outputs."""
    if node.op != "call_function" or not node.args:
        return None
    source: Any = node.args[0]
    if node.target is operator.getitem:
        return source.args[0] if _name(source) == "unbind" else None
    return source if _name(node) in _REGROUPS | {"permute", "transpose", "select"} else None


def _follow(moves: Moves, node: torch.fx.Node) -> bool:
    rank = len(moves.rows)
    if node.target is operator.getitem:
        unbind: Any = node.args[0]
        index: Any = node.args[1]
        axis = _arguments(unbind)["dim"] % rank
        moves.select(axis, index % math.prod(factor.size for factor in moves.rows[axis]))
        return True
    name, arguments = _name(node), _arguments(node)
    if name == "permute":
        moves.permute([axis % rank for axis in arguments["dims"]])
    elif name == "transpose":
        order = list(range(rank))
        one, other = arguments["dim0"] % rank, arguments["dim1"] % rank
        order[one], order[other] = other, one
        moves.permute(order)
    elif name == "select":
        axis = arguments["dim"] % rank
        moves.select(axis, arguments["index"] % math.prod(factor.size for factor in moves.rows[axis]))
    else:
        shape = _shape(node)
        return shape is not None and moves.regroup(shape)
    return True


def _emit(source: torch.fx.Node, moves: Moves, end: torch.fx.Node) -> torch.fx.Node:
    """The values of `source` moved: a slice for each fixed factor, then reshape and permute, before `end`."""
    import torch

    now, factors = source, list(moves.source)
    for factor, index in moves.fixed.items():
        one, before, width = span_of(factors, factor)
        now = _viewed(now, (one, before, width), end)
        size = width // factor.size
        span = (2, index * size, (index + 1) * size)
        now = _called(torch.ops.aten.slice.Tensor, now, span, (one, before, size), end)
        factors.remove(factor)
    place, groups = moves.place, _groups(moves)
    order = sorted(range(len(groups)), key=lambda index: place[groups[index][0]])
    if order == sorted(order):
        return now
    # A leading axis of one stands for the image, as the GPU expects it of four.
    lead = [1] * (MAX_RANK - len(groups))
    sizes = (*lead, *(math.prod(factor.size for factor in group) for group in groups))
    axes = [*range(len(lead)), *(len(lead) + index for index in order)]
    now = _viewed(now, sizes, end)
    return _called(torch.ops.aten.permute.default, now, (axes,), tuple(sizes[axis] for axis in axes), end)


def _viewed(node: torch.fx.Node, shape: Shape, end: torch.fx.Node) -> torch.fx.Node:
    import torch

    if _shape(node) == shape:
        return node
    return _called(torch.ops.aten.reshape.default, node, (list(shape),), shape, end)


def _called(target: Any, node: torch.fx.Node, args: tuple[Any, ...], shape: Shape, end: torch.fx.Node) -> torch.fx.Node:
    """`target` of `node`, which gives a tensor of `shape`, before `end`."""
    with node.graph.inserting_before(end):
        call = node.graph.call_function(target, (node, *args))
    call.meta["val"] = node.meta["val"].new_empty(shape)
    return call


# Operators that compute on more than four axes.


def _with_fewer_axes(node: torch.fx.Node) -> bool:
    """Whether `node` computes on four axes now, between two reshapes that become part of the chains around it."""
    shape, name = _shape(node), _name(node)
    if shape is None or len(shape) <= MAX_RANK:
        return False
    inputs = [one for one in node.args if hasattr(one, "meta") and len(_shape(one) or ()) == len(shape)]
    if name in _ROWWISE or (name == "layer_norm" and len(_arguments(node)["normalized_shape"]) == 1):
        return _reshaped(node, inputs[:1], lambda one: (1, math.prod(one[:-1]), one[-1]))
    if name in _BATCHED and len({(_shape(one) or ())[:-2] for one in inputs}) == 1 and not _has_mask(node):
        return _reshaped(node, inputs, lambda one: (math.prod(one[:-3]), *one[-3:]))
    if name == "softmax" and _arguments(node)["dim"] % len(shape) == len(shape) - 1:
        return _reshaped(node, inputs, lambda one: (math.prod(one[:-3]), *one[-3:]))
    ones = [axis for axis, size in enumerate(shape) if size == 1][: len(shape) - MAX_RANK]
    if name in _PAIRWISE and len(shape) - len(ones) <= MAX_RANK:
        # Of an operand with fewer axes the missing ones are in front.
        short = [one for one in node.args if hasattr(one, "meta") and one not in inputs]
        if not any(len(_shape(one) or ()) > len(shape) - 1 - max(ones) for one in short):
            return _reshaped(node, inputs, lambda one: tuple(s for axis, s in enumerate(one) if axis not in ones))
    return False


def _has_mask(node: torch.fx.Node) -> bool:
    return _arguments(node).get("attn_mask") is not None


def _reshaped(node: torch.fx.Node, inputs: Sequence[torch.fx.Node], smaller: Any) -> bool:
    import torch

    graph, value = node.graph, node.meta["val"]
    for one in dict.fromkeys(inputs):
        node.replace_input_with(one, _viewed(one, smaller(_shape(one)), node))
    with graph.inserting_after(node):
        back = graph.call_function(torch.ops.aten.reshape.default, (node, list(value.shape)))
    back.meta["val"] = value
    node.replace_all_uses_with(back, delete_user_cb=lambda user: user is not back)
    node.meta["val"] = value.new_empty(smaller(tuple(value.shape)))
    return True


# What no image changes.


def _fold_constants(graph_module: torch.fx.GraphModule) -> int:
    """Puts values in the place of what is computed from weights alone and through more than four axes (tables of
    positions, masks of windows); how many.
    """
    import torch

    graph = graph_module.graph
    values: dict[torch.fx.Node, Any] = {}
    high: set[torch.fx.Node] = set()
    for node in graph.nodes:
        if node.op == "get_attr":
            values[node] = operator.attrgetter(str(node.target))(graph_module)
        elif node.op == "call_function" and all(one in values for one in node.all_input_nodes):
            args = torch.fx.node.map_arg(node.args, values.__getitem__)
            values[node] = node.target(*args, **torch.fx.node.map_arg(node.kwargs, values.__getitem__))
            if _is_high(node) or high & set(node.all_input_nodes):
                high.add(node)
    folded = [node for node in _last_constants(graph, values) if node in high]
    for number, node in enumerate(folded):
        name = f"_vitprof_constant_{number}"
        graph_module.register_buffer(name, values[node].detach().clone())
        with graph.inserting_before(node):
            constant = graph.get_attr(name)
        constant.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(constant)
    graph.eliminate_dead_code()
    return len(folded)


def _last_constants(graph: torch.fx.Graph, values: dict[torch.fx.Node, Any]) -> Iterator[torch.fx.Node]:
    """Computed constants that something reads which depends on the image."""
    for node in graph.nodes:
        is_constant = node.op == "call_function" and node in values and _shape(node) is not None
        if is_constant and any(user not in values for user in node.users):
            yield node
