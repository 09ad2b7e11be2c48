"""Whether an exported file still holds the weights of the module it was made from.

An exporter or optimiser that folds a convolution away gives equal outputs and too good a time; only the weights tell.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Smaller ones (a scale, a 3-tap kernel) may rightly be merged into a neighbour, and cost nothing.
MIN_VALUES = 16
# As many names as a line holds; the count tells the rest.
_NAMED = 3


@dataclass(frozen=True)
class Weight:
    """A matrix or kernel of a module: where, and how many values."""

    module: str
    values: int

    def __str__(self) -> str:
        return f"{self.module} ({self.values:,} values)"


def reached_weights(module: torch.nn.Module, image: torch.Tensor) -> tuple[Weight, ...]:
    """The weights with two axes or more of the submodules that a forward of `image` calls, equal ones once."""
    found: dict[bytes, Weight] = {}
    for name, weight in _used_weights(module, image):
        if weight.ndim >= 2 and weight.numel() >= MIN_VALUES:
            # By content: the exporter stores equal weights (ConViT's identities) once, as it does shared ones.
            content = hashlib.sha256(weight.numpy(force=True).tobytes()).digest()
            found.setdefault(content, Weight(name, weight.numel()))
    return tuple(found.values())


def _used_weights(module: torch.nn.Module, image: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    import torch

    if isinstance(module, torch.fx.GraphModule):
        # A program calls no submodules; its graph names what it reads.
        read = {node.target for node in module.graph.nodes if node.op == "get_attr" and node.users}
        return [(n.removesuffix(".weight"), weight) for n, weight in module.named_parameters() if n in read]
    if isinstance(module, torch.jit.ScriptModule):
        # Takes no hooks, and its code does not tell which weights are dead.
        return []
    called: list[torch.nn.Module] = []
    # A hook must return nothing: anything else would take the place of the input.
    hooks = [part.register_forward_pre_hook(lambda m, _: called.append(m)) for part in module.modules()]
    try:
        with torch.inference_mode():
            module(image)
    finally:
        for hook in hooks:
            hook.remove()
    names = {part: name for name, part in module.named_modules()}
    weights = ((names[part], part._parameters.get("weight")) for part in called)
    return [(name, weight) for name, weight in weights if weight is not None]


def folded_weights(weights: tuple[Weight, ...], path: Path) -> tuple[Weight, ...]:
    """Those of `weights` that have no constant with as many values in the ONNX file.

    By number of values, because exporters transpose, fuse and rename: of several with the same number one may be named
    for another.
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = _constants(graph)
    names = {name for name, _ in constants}
    left = Counter(values for _, values in constants)
    missing: list[Weight] = []
    # Those with their name still in the file come first, so that the ones without it are the ones found missing.
    for weight in sorted(weights, key=lambda w: not any(name.endswith(f"{w.module}.weight") for name in names)):
        if left[weight.values]:
            left[weight.values] -= 1
        else:
            missing.append(weight)
    return tuple(weight for weight in weights if weight in missing)


def text_from_folded(folded: tuple[Weight, ...]) -> str:
    """`weights folded away: layer1.0.conv2 (36,864 values), …`"""
    more = f", … ({len(folded)} in all)" if len(folded) > _NAMED else ""
    return f"weights folded away: {', '.join(map(str, folded[:_NAMED]))}{more}"


def _constants(graph: Any) -> list[tuple[str, int]]:
    """(name, values) of every constant tensor; exporters write them as initialisers or as Constant nodes."""
    import numpy as np

    tensors = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        tensors += [(node.output[0], a.t) for a in node.attribute if node.op_type == "Constant" and a.HasField("t")]
    return [(name, int(np.prod(tensor.dims))) for name, tensor in tensors]
