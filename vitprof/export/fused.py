"""Which nodes of an ONNX file each operator of a runtime does the work of.

Its own file because runtimes run another graph than the one they were given: nodes are fused, split and renamed, and
changes of layout are put between them. The evidence is names. ONNX Runtime keeps the name of a tensor that comes out
of a fused node, calls a node with blocked channels by the tensor that it computes (`nchwc_transformer.cc`:
`<tensor>_nchwc`), and any other node by the one that it takes the place of; OpenVINO remembers the layers of the file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitprof.runner.wire import ProfiledOp

_BLOCKED = "_nchwc"
# What ONNX Runtime puts before the name of a tensor in another precision, and behind a name that is taken.
_CAST = "InsertedPrecisionFreeCast_"
_TOKEN = re.compile(r"_token_\d+$")
# ONNX Runtime's own changes of layout: no node of the file, and the same values before and after.
_REORDERS = frozenset({"ReorderInput", "ReorderOutput"})
# They hand on their first input's values: what computes the output of such a node computes its input.
_MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Identity"})
# They read the shape of a tensor and nothing of what is in it.
_SHAPES = frozenset({"Shape", "Size"})


@dataclass(frozen=True)
class _Node:
    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def identity(self) -> str:
        """As the counted rows have it: the name, or where there is none the first output."""
        return self.name or self.outputs[0]


class Graph:
    """The nodes in the order in which they run, and which of them makes a tensor."""

    def __init__(self, path: Path) -> None:
        import onnx

        proto = onnx.load(str(path), load_external_data=False).graph
        # What stands in the graph is constant: no operator does its work.
        self.nodes = tuple(
            _Node(node.name, node.op_type, tuple(node.input), tuple(node.output))
            for node in proto.node
            if node.op_type != "Constant"
        )
        self.named = {node.name: node for node in self.nodes if node.name}
        self.maker = {tensor: place for place, node in enumerate(self.nodes) for tensor in node.outputs if tensor}

    def made_by(self, tensor: str) -> _Node | None:
        place = self.maker.get(tensor)
        return None if place is None else self.nodes[place]

    def readers(self) -> Mapping[int, tuple[int, ...]]:
        found: dict[int, list[int]] = {}
        for place, node in enumerate(self.nodes):
            for tensor in node.inputs:
                if tensor in self.maker:
                    found.setdefault(self.maker[tensor], []).append(place)
        return {place: tuple(dict.fromkeys(readers)) for place, readers in found.items()}


def with_members_of_graph(original: Path, optimised: Path, ops: Sequence[ProfiledOp]) -> tuple[ProfiledOp, ...]:
    """`ops` of ONNX Runtime with the nodes of `original` that each does the work of, and the operators it feeds.

    `optimised`: the graph that ran. It lists its nodes in the order in which they run, as the profile does.
    """
    before, after = Graph(original), Graph(optimised)
    if [op.op for op in ops] != [node.op for node in after.nodes]:
        # Another graph than the one that ran: nothing can be said.
        return tuple(ops)
    readers = after.readers()
    fed = tuple(
        dataclasses.replace(op, feeds=tuple(ops[one].name for one in readers.get(place, ())))
        for place, op in enumerate(ops)
    )
    return _with_members(before, fed, _computed(before, after))


def with_members_of_names(original: Path, ops: Sequence[ProfiledOp]) -> tuple[ProfiledOp, ...]:
    """`ops` of OpenVINO with the nodes of `original` that each does the work of, from the names in their members.

    OpenVINO names what it makes of a node after the node, with something behind a slash, and the last one after the
    output of the model. Of a product and the sum that adds its bias it keeps the sum's name only.
    """
    graph = Graph(original)
    known = {node.outputs[0]: node for node in graph.nodes}
    known.update({node.name: node for node in graph.nodes if node.name})
    computed: dict[str, int] = {}
    # Whole names first: `fc/transpose_a` only prepares what `fc` does.
    for is_whole in (True, False):
        for place, op in enumerate(ops):
            for name in op.members:
                node = known.get(name if is_whole else name.rpartition("/")[0])
                for tensor in node.outputs if node else ():
                    computed.setdefault(tensor, place)
    return _with_members(graph, ops, computed)


def _with_members(before: Graph, ops: Sequence[ProfiledOp], computed: Mapping[str, int]) -> tuple[ProfiledOp, ...]:
    """Each node is given to the first operator that needs it: from the tensors that it finishes back to others'."""
    claimed: dict[int, int] = {}
    for tensor, place in sorted(computed.items(), key=lambda pair: pair[1]):
        is_move = ops[place].op in _MOVES
        waiting = [tensor]
        while waiting:
            one = before.maker.get(waiting.pop())
            if one is None or one in claimed or (is_move and before.nodes[one].op not in _MOVES):
                continue
            claimed[one] = place
            if before.nodes[one].op not in _SHAPES:
                waiting += [name for name in before.nodes[one].inputs if name not in computed]
    members: dict[int, list[str]] = {}
    for one in sorted(claimed):
        members.setdefault(claimed[one], []).append(before.nodes[one].identity)
    return tuple(dataclasses.replace(op, members=tuple(members.get(place, ()))) for place, op in enumerate(ops))


def _computed(before: Graph, after: Graph) -> Mapping[str, int]:
    """Which node of `after` finishes the work on a tensor of `before`, for as many tensors as names tell of."""
    found: dict[str, int] = {}
    for place, node in enumerate(after.nodes):
        for name in (*node.outputs, *_own_names(node, before)):
            tensor = name.removeprefix(_CAST)
            if tensor in before.maker:
                found.setdefault(tensor, place)
    # From the last to the first: what a node's output is says what its input is.
    for place in reversed(range(len(after.nodes))):
        node = after.nodes[place]
        if node.op in _REORDERS or node.op in _MOVES:
            _hand_on(node, place, before, after, found)
        else:
            _align(node, place, before, after, found)
    return found


def _own_names(node: _Node, before: Graph) -> tuple[str, ...]:
    """Tensors of the original graph that a node's own name tells of."""
    if node.name.endswith(_BLOCKED):
        return (node.name.removesuffix(_BLOCKED),)
    namesake = before.named.get(_TOKEN.sub("", node.name))
    # A `QLinearConv` or `FusedConv` does the work of the `Conv` that it is called after.
    return namesake.outputs if namesake is not None and namesake.op in node.op else ()


def _hand_on(node: _Node, place: int, before: Graph, after: Graph, found: dict[str, int]) -> None:
    """What a node only moves was computed by whatever makes its input."""
    maker = after.maker.get(node.inputs[0])
    for tensor in [tensor for tensor, by in found.items() if by == place]:
        source = tensor
        while node.op in _MOVES and (made_by := before.made_by(source)) and made_by.op in _MOVES:
            source = made_by.inputs[0]
        if source == tensor:
            del found[tensor]
        if maker is not None and source in before.maker:
            found.setdefault(source, maker)


def _align(node: _Node, place: int, before: Graph, after: Graph, found: dict[str, int]) -> None:
    """Where the same operator stands in both graphs, so do its inputs: what makes one makes the other."""
    for tensor in [tensor for tensor, by in found.items() if by == place]:
        twin = _twin(tensor, node, before, found)
        if twin is None:
            continue
        for mine, theirs in zip(node.inputs, twin.inputs, strict=False):
            if mine in after.maker and theirs in before.maker:
                found.setdefault(theirs, after.maker[mine])


def _twin(tensor: str, node: _Node, before: Graph, found: Mapping[str, int]) -> _Node | None:
    """The original node of the same operator behind `tensor`: its activation may have been fused into it."""
    while (made_by := before.made_by(tensor)) is not None:
        if made_by.op == node.op:
            return made_by
        behind = [name for name in made_by.inputs if name in before.maker and name not in found]
        if len(behind) != 1:
            return None
        tensor = behind[0]
    return None
