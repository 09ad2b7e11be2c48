"""Weights that a compiler may fold away, drawn anew.

timm starts the last norm scale of residual blocks, some heads and many biases at zero, other scales at one. A compiler
drops what is multiplied by zero and every addition of zero: resnet18 became 2.8 MB instead of 46.8 MB, ran in 5.1 ms
instead of 63.8 ms, and gave equal outputs all the same. A trained network has none of these, so neither may the one
that is timed. A layer scale of 1e-6 is no better: it hides its whole block from the parity check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Spread of weights that start at zero: timm's own for the heads, embeddings and tokens that it does draw.
ZERO_STD = 0.02
# Scales that start constant: around one, and far enough from it that nothing takes them for one.
SCALE_LOW, SCALE_HIGH = 0.5, 1.5
# Below this a constant is a layer scale's start (1e-6 to 0.1 in timm), not a temperature.
SMALL_SCALE = 0.1 + 1e-6


def redraw_constant_parameters(module: torch.nn.Module, seed: int) -> tuple[int, int]:
    """(tensors, values) of the parameters with one and the same value throughout, which now have drawn ones."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    tensors = values = 0
    with torch.no_grad():
        for owner in module.modules():
            for name, parameter in owner.named_parameters(recurse=False):
                if _is_constant(parameter):
                    parameter.copy_(_drawn(owner, name, parameter, generator))
                    tensors, values = tensors + 1, values + parameter.numel()
    return tensors, values


def _is_constant(parameter: torch.Tensor) -> bool:
    return (
        parameter.is_floating_point()
        and parameter.numel() > 1
        and bool((parameter == parameter.flatten()[0]).all().item())
    )


def _drawn(owner: torch.nn.Module, name: str, parameter: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    import torch

    value = float(parameter.flatten()[0])
    if value == 0 and not _is_norm_scale(owner, name, parameter):
        return torch.empty(parameter.shape).normal_(0, ZERO_STD, generator=generator)
    scale = 1.0 if abs(value) <= SMALL_SCALE else value
    return torch.empty(parameter.shape).uniform_(SCALE_LOW, SCALE_HIGH, generator=generator) * scale


def _is_norm_scale(owner: torch.nn.Module, name: str, parameter: torch.Tensor) -> bool:
    # By class name: timm, torchvision and papers' code each have norm classes of their own with no common base.
    return name == "weight" and parameter.ndim == 1 and "norm" in type(owner).__name__.lower()
