"""A module to its Cost: multiply-accumulates, weights and activations of one image, from shapes alone.

The module's shapes run on the meta device, so nothing is computed. torch's `FlopCounterMode` counts the matrix products
and convolutions (2 flops per MAC); one dispatch mode beside it sums what every operator writes. Attention is taken
apart first: the fused operator of the CPU has no formula, and a ViT-Tiny would lose 14 % of its MACs without a word.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitprof.counts import Cost

if TYPE_CHECKING:
    import torch

# fp32, whatever the module is held in: the count describes the model, not the copy that is measured.
BYTES_PER_VALUE = 4
# What multiplies and adds by its nature. One of these without a formula is named instead of counted as zero.
_COMPUTES = re.compile(
    r"_?(\w*conv\w*|\w*(?:mm|mv)|v?dot|\w*attention\w*|fft_\w+|einsum|tensordot|cdist\w*|\w*(?:lstm|gru|rnn)\w*"
    r"|bilinear|trilinear)"
)
# Memory handed out or relabelled, with nothing computed; their schemas do not say so.
_NO_WORK = frozenset({"empty", "empty_strided", "empty_like", "_unsafe_view"})
# The statistics that these return beside their output are for training, and empty on real tensors in inference.
_FIRST_OUTPUT_ONLY = frozenset({"native_batch_norm", "_native_batch_norm_legit_no_training"})


@dataclass
class _Tally:
    ops: int = 0
    activation_bytes: int = 0


def count(module: torch.nn.Module, input_shape: tuple[int, ...]) -> Cost:
    """The cost of one image of `input_shape` ((N, C, H, W), N taken as 1); `macs` is None where nothing counts it."""
    params = sum(parameter.numel() for parameter in module.parameters())
    counted = None
    # One image; a program that was made for another batch takes only that one.
    for shape in dict.fromkeys(((1, *input_shape[1:]), input_shape)):
        # A forward that reads values, or makes tensors of its own, fails on meta; the CPU then runs it for real.
        counted = counted or _tried(module, shape, "meta") or _tried(module, shape, "cpu")
    macs, tally, uncounted = counted or (None, None, {})
    return Cost(
        params=params,
        macs=macs,
        weight_bytes=BYTES_PER_VALUE * params,
        activation_bytes=tally.activation_bytes if tally else None,
        ops=tally.ops if tally else None,
        uncounted_ops=uncounted,
    )


def _tried(module: torch.nn.Module, shape: tuple[int, ...], device: str) -> tuple[int, _Tally, dict[str, int]] | None:
    try:
        macs, tally, uncounted = _counted(_twin(module, device), shape, device)
        tally.activation_bytes //= shape[0]
        return macs // shape[0], tally, uncounted
    except Exception:  # A forward is foreign code: it may raise anything.
        return None


def _counted(module: torch.nn.Module, shape: tuple[int, ...], device: str) -> tuple[int, _Tally, dict[str, int]]:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.zeros(shape, device=device)
    tally, seen = _Tally(), Counter[str]()
    counter = FlopCounterMode(display=False)
    # Not inference_mode: there, composite operators reach a dispatch mode whole.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        # The first call fills caches (LeViT's attention biases) that every later one only reads.
        module(image)
        with counter, _tallying(tally, seen):
            module(image)
    formulas = {str(packet).rpartition(".")[2] for packet in counter.flop_registry}
    uncounted = {name: calls for name, calls in seen.items() if _COMPUTES.fullmatch(name) and name not in formulas}
    return counter.get_total_flops() // 2, tally, uncounted


def _twin(module: torch.nn.Module, device: str) -> torch.nn.Module:
    """A copy on `device` that leaves the module alone; on meta, without ever holding its weights twice."""
    memo: dict[int, Any] = {id(tensor): _emptied(tensor) for tensor in _tensors(module)} if device == "meta" else {}
    twin = copy.deepcopy(module, memo)
    # One by one: TorchScript has no `requires_grad_` of its own.
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    for part in twin.modules():
        # timm chooses the fused form when a module is built; both forms compute the same.
        if hasattr(part, "fused_attn"):
            part.fused_attn = False
    return twin


def _tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _emptied(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    empty = tensor.detach().to("meta")
    # A Parameter is frozen: the counter asserts on one with a gradient that is handed to a submodule (CaiT, PiT).
    return torch.nn.Parameter(empty, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else empty


def _tallying(tally: _Tally, seen: Counter[str]) -> Any:
    """A dispatch mode that adds up operators and what they write; a function, so that torch is imported here."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Tallying(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            name = func._schema.name.partition("::")[2]
            if name not in _NO_WORK and not _is_view(func):
                seen[name] += 1
                tally.ops += 1
                tally.activation_bytes += _bytes_written(name, result)
            return result

    return Tallying()


def _is_view(func: Any) -> bool:
    """Whether an operator returns its input's memory unwritten (in-place operators do write)."""
    aliases = [returned.alias_info for returned in func._schema.returns if returned.alias_info is not None]
    return bool(aliases) and not any(alias.is_write for alias in aliases)


def _bytes_written(name: str, result: Any) -> int:
    import torch
    from torch.utils._pytree import tree_leaves

    tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
    if name in _FIRST_OUTPUT_ONLY:
        tensors = tensors[:1]
    return sum(t.numel() * (BYTES_PER_VALUE if t.is_floating_point() else t.element_size()) for t in tensors)
