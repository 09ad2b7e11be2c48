"""The softmax attentions of an ONNX file: which nodes a compiler has to put into one kernel to fuse attention.

Its own file because it is a question about the graph alone. From each softmax up to the nearest product of two tensors
that depend on the image, and down to the nearest one: scores and values. On the way lie scaling, masks, position
biases and changes of layout, and with talking heads one product with a weight. A softmax over something else (gates,
the classes) meets a norm, an activation or the output first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from vitprof.counts import Kind, OpRow
from vitprof.export.fused import Graph
from vitprof.kernels import Attention

_ON_THE_WAY = frozenset({Kind.ELEMENTWISE, Kind.DATA_MOVEMENT})
# What mixes heads: a matrix, or a convolution over their maps.
_MIXES = frozenset({Kind.LINEAR, Kind.POINTWISE_CONV})


def attentions(path: Path, rows: Iterable[OpRow]) -> tuple[Attention, ...]:
    """The attentions of the file in the order of its nodes; `rows`: its counted nodes, which tell their kinds."""
    graph = Graph(path)
    kinds = {row.name: row.kind for row in rows if row.depends_on_input}
    readers = graph.readers()

    def makers(place: int) -> list[int]:
        return [graph.maker[name] for name in graph.nodes[place].inputs if name in graph.maker]

    def users(place: int) -> list[int]:
        return list(readers.get(place, ()))

    found = []
    for place, node in enumerate(graph.nodes):
        if kinds.get(node.identity) is Kind.SOFTMAX:
            scores, values = (_nearest_product(place, step, graph, kinds) for step in (makers, users))
            if scores is not None and values is not None:
                found.append(Attention(scores, node.identity, values))
    return tuple(found)


def _nearest_product(
    start: int, step: Callable[[int], list[int]], graph: Graph, kinds: Mapping[str, Kind]
) -> str | None:
    waiting = [(place, False) for place in step(start)]
    seen = set()
    while waiting:
        place, is_mixed = waiting.pop(0)
        name = graph.nodes[place].identity
        kind = kinds.get(name)
        if kind is Kind.ATTENTION:
            return name
        mixes = kind in _MIXES
        if place in seen or not (kind in _ON_THE_WAY or (mixes and not is_mixed)):
            continue
        seen.add(place)
        waiting += [(one, is_mixed or mixes) for one in step(place)]
    return None
