"""What other counters say of a module, and why they differ from this one.

Its own file because each of them has its own idea of what to count: torch's FlopCounterMode (2 flops a MAC, blind to
the CPU's fused attention), fvcore (MACs under the name of flops, with norms and pools added), and three that hook
modules and see no product that is called as a function. Each is asked as its users ask it: on the module with its
weights, on the CPU.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from vitprof.counts import Cost, Kind, OpRow, OtherCount
from vitprof.errors import first_line
from vitprof.runner.torchvision_compat import import_torchvision
from vitprof.units import text_from_count

if TYPE_CHECKING:
    import torch

# fvcore's entries that are multiply-adds of the kind counted here.
_FVCORE_PRODUCTS = frozenset({"conv", "linear", "matmul", "addmm", "bmm", "baddbmm", "mv", "einsum", "dot"})
_ATTENTION_MARK = "attention"


def cross_check(module: torch.nn.Module, input_shape: tuple[int, ...], cost: Cost) -> tuple[OtherCount, ...]:
    """What every counter that is installed says of one image through `module`, which has its weights."""
    shape = (1, *input_shape[1:])
    with contextlib.suppress(ImportError):
        # Some import it, and may meet one that was built for another torch.
        import_torchvision()
    return tuple(
        _asked(counter, module, shape, cost)
        for counter in _COUNTERS
        if importlib.util.find_spec(counter.package) is not None
    )


# In its own words, in MACs, and why they differ.
_Answer = tuple[str, int, tuple[str, ...]]


@dataclass(frozen=True)
class _Counter:
    name: str
    package: str
    ask: Callable[[torch.nn.Module, tuple[int, ...], Cost], _Answer]


def _asked(counter: _Counter, module: torch.nn.Module, shape: tuple[int, ...], cost: Cost) -> OtherCount:
    try:
        # Some of them leave hooks and buffers behind.
        twin = copy.deepcopy(module).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            printed, macs, reasons = counter.ask(twin, shape, cost)
    except Exception as error:  # A foreign program on a foreign model: it may raise anything.
        return OtherCount(counter.name, _version(counter.package), error=f"{type(error).__name__}: {first_line(error)}")
    return OtherCount(counter.name, _version(counter.package), printed, macs, reasons)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _flop_counter_mode(module: torch.nn.Module, shape: tuple[int, ...], cost: Cost) -> _Answer:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    for parameter in module.parameters():
        # It asserts on a parameter with a gradient that is handed to a submodule.
        parameter.requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(shape))
    flops = counter.get_total_flops()
    told = _explained(cost, flops // 2, missed={"fused attention": _attention_macs(cost)})
    return f"{flops:,} flops", flops // 2, ("it counts flops, 2 for each MAC", *told)


def _fvcore(module: torch.nn.Module, shape: tuple[int, ...], cost: Cost) -> _Answer:
    import torch
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, torch.zeros(shape))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    total = int(analysis.total())
    added = {name: int(value) for name, value in analysis.by_operator().items() if name not in _FVCORE_PRODUCTS}
    is_blind = any(_ATTENTION_MARK in name for name in analysis.unsupported_ops())
    missed = {"fused attention": _attention_macs(cost)} if is_blind else {}
    return f"{total:,} flops", total, ("it calls MACs flops", *_explained(cost, total, added=added, missed=missed))


def _thop(module: torch.nn.Module, shape: tuple[int, ...], cost: Cost) -> _Answer:
    import thop
    import torch

    missed = _outside_modules(module, cost)
    macs = int(thop.profile(module, inputs=(torch.zeros(shape),), verbose=False)[0])
    return f"{macs:,} MACs", macs, _explained(cost, macs, missed=missed)


def _ptflops(module: torch.nn.Module, shape: tuple[int, ...], cost: Cost) -> _Answer:
    import ptflops

    missed = _outside_modules(module, cost)
    quiet = {"as_strings": False, "print_per_layer_stat": False, "verbose": False, "backend": "pytorch"}
    macs = int(ptflops.get_model_complexity_info(module, shape[1:], **quiet)[0])
    return f"{macs:,} MACs", macs, _explained(cost, macs, missed=missed)


def _torchinfo(module: torch.nn.Module, shape: tuple[int, ...], cost: Cost) -> _Answer:
    import torch
    import torchinfo

    missed = _outside_modules(module, cost)
    macs = int(torchinfo.summary(module, input_data=torch.zeros(shape), verbose=0).total_mult_adds)
    inside = [row for row in cost.rows if row.kind is Kind.LINEAR and isinstance(_part(module, row), torch.nn.Linear)]
    tokens = {"all tokens of a Linear but one": sum(row.macs - row.macs // _tokens(row) for row in inside)}
    return f"{macs:,} mult-adds", macs, _explained(cost, macs, missed={**missed, **tokens})


_COUNTERS = (
    _Counter("torch FlopCounterMode", "torch", _flop_counter_mode),
    _Counter("fvcore", "fvcore", _fvcore),
    _Counter("thop", "thop", _thop),
    _Counter("ptflops", "ptflops", _ptflops),
    _Counter("torchinfo", "torchinfo", _torchinfo),
)


def _attention_macs(cost: Cost) -> int:
    return sum(row.macs for row in cost.rows if row.kind is Kind.ATTENTION)


def _outside_modules(module: torch.nn.Module, cost: Cost) -> dict[str, int]:
    """MACs of products that are called as functions, and of modules that only derive from torch's own."""
    functions = derived = 0
    for row in cost.rows:
        if row.macs and not _is_product(part := _part(module, row)):
            functions += row.macs
        elif row.macs and not type(part).__module__.startswith("torch.nn"):
            derived += row.macs
    return {"products called as functions": functions, "modules that derive from torch's": derived}


def _part(module: torch.nn.Module, row: OpRow) -> Any:
    return module.get_submodule(row.module)


def _is_product(part: Any) -> bool:
    import torch

    return isinstance(part, torch.nn.Linear | torch.nn.modules.conv._ConvNd)


def _tokens(row: OpRow) -> int:
    return max(1, math.prod(row.shape_out) // row.shape_out[-1]) if row.shape_out else 1


def _explained(
    cost: Cost, macs: int, *, added: Mapping[str, int] | None = None, missed: Mapping[str, int] | None = None
) -> tuple[str, ...]:
    """What makes up the difference to `cost`, each part with its size, and what is left without a reason.

    `missed`: what the counter may be blind to. It is believed where it brings the totals closer together.
    """
    told = []
    left = macs - (cost.macs or 0)
    if added:
        told.append("it adds " + ", ".join(f"{name} {text_from_count(value)}" for name, value in added.items()))
        left -= sum(added.values())
    for what, value in (missed or {}).items():
        if value and abs(left + value) < abs(left):
            told.append(f"it does not see {what}: {text_from_count(value)}")
            left += value
    if left:
        how = "more" if left > 0 else "less"
        told.append(f"{text_from_count(abs(left))} {how} without a reason known here")
    return tuple(told)
