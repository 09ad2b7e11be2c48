"""A module to its Cost: multiply-accumulates, other work, bytes and operators of one image, from shapes alone.

The module's shapes run on the meta device, so nothing is computed and no weight is held. The rule of each operator
stands in `rules`, how they are collected in `dispatch`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from vitprof.cost.dispatch import Tally, tallied
from vitprof.counts import Cost, Kind, OpRow

if TYPE_CHECKING:
    import torch

# fp32, whatever the module is held in: the count describes the model, not the copy that is measured.
BYTES_PER_VALUE = 4


def count(module: torch.nn.Module, input_shape: tuple[int, ...]) -> Cost:
    """The cost of one image of `input_shape` ((N, C, H, W), N taken as 1); `macs` is None where nothing counts it."""
    params = sum(parameter.numel() for parameter in module.parameters())
    weight_bytes = BYTES_PER_VALUE * params
    # One image; a program that was made for another batch takes only that one.
    for shape in dict.fromkeys(((1, *input_shape[1:]), input_shape)):
        # A forward that reads values, or makes tensors of its own, fails on meta; the CPU then runs it for real.
        tally = _tried(module, shape, "meta") or _tried(module, shape, "cpu")
        if tally is not None:
            return _cost(params, weight_bytes, tally, shape[0])
    return Cost(params, macs=None, weight_bytes=weight_bytes, activation_bytes=None, ops=None)


def coverage_of(rows: tuple[OpRow, ...]) -> float | None:
    """The share of all bytes moved that operators with a rule move; None where nothing moves."""
    total = sum(row.bytes_moved for row in rows)
    known = sum(row.bytes_moved for row in rows if row.kind is not Kind.UNKNOWN)
    return known / total if total else None


def _cost(params: int, weight_bytes: int, tally: Tally, images: int) -> Cost:
    rows = tally.rows(images)
    return Cost(
        params=params,
        macs=sum(row.macs for row in rows),
        weight_bytes=weight_bytes,
        activation_bytes=sum(row.bytes_out for row in rows),
        ops=sum(row.calls for row in rows),
        uncounted_ops=tally.unknown,
        coverage=coverage_of(rows),
        rows=rows,
        ledgers=tally.ledgers.of_one(images),
        is_lower_bound=tally.is_lower_bound,
    )


def _tried(module: torch.nn.Module, shape: tuple[int, ...], device: str) -> Tally | None:
    import torch

    if device == "cpu" and any(parameter.is_meta for parameter in module.parameters()):
        # Built without weights: there is nothing to run for real.
        return None
    try:
        return tallied(_twin(module, device), torch.zeros(shape, device=device))
    except Exception:  # A forward is foreign code: it may raise anything.
        return None


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
    return torch.nn.Parameter(empty, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else empty
