"""What every source of modules hands to `load`: the module as it was made, and the input that it is made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitprof.errors import UsageError, first_line
from vitprof.records import ModelSpec

if TYPE_CHECKING:
    import torch

# (C, H, W)
Size = tuple[int, int, int]
# What nearly every network for images takes; where it is taken for one that names nothing, a fix-up says so.
USUAL: Size = (3, 224, 224)


@dataclass(frozen=True)
class Built:
    """A module before it is brought into inference form. `own` is its own input size (C, H, W)."""

    module: torch.nn.Module
    own: Size
    fixups: tuple[str, ...] = ()
    # A program of a file stays as it was written: no weight is drawn anew, no block fused.
    is_finished: bool = False
    # How a device builds it again (vitprof/runner/modules.py); None for what cannot be built, only loaded.
    recipe: Mapping[str, object] | None = None
    # Of a .py source: the files of the user's own that made the module.
    source_files: tuple[Path, ...] = ()


def without_gradients(module: torch.nn.Module) -> torch.nn.Module:
    """The module itself, its parameters frozen; TorchScript lacks `requires_grad_` for the whole."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


def unnamed_size(spec: ModelSpec, who: str) -> tuple[Size, tuple[str, ...]]:
    """The size for a module that names none, and the fix-up that says so where it was not asked for."""
    if spec.size is not None:
        return (USUAL[0], *spec.size), ()
    return USUAL, (f"input size not named by {who}: {'x'.join(map(str, USUAL))} taken",)


def size_error(error: Exception, spec: ModelSpec, own: Size) -> UsageError:
    """For a module that fails on `spec.size` and would take its own."""
    asked = text_from_size(spec.size or own[1:])
    return UsageError(
        f"{spec.name} cannot take the size {asked}; its own is {text_from_size(own[1:])} ({first_line(error)})",
        remedy=f"--size {text_from_size(own[1:])}",
        stage="model",
    )


def text_from_size(size: tuple[int, int]) -> str:
    """`224` or `256x192`, as `--size` reads it."""
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a foreign error says that memory ran out, which is not the model's fault; torch has no type for it."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)
