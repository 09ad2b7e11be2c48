"""A module for the torch backends: a recipe by which the device builds it again, and its weights beside it.

Weights go as a dict of tensors, which torch reads back without unpickling anything else (`weights_only`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_WEIGHTS = "weights.pt"


def write_module(module: torch.nn.Module, recipe: Mapping[str, object], folder: Path, *, is_half: bool) -> Path:
    """The path of the recipe in `folder`."""
    import torch

    weights = {
        name: value.half() if is_half and value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    torch.save(weights, folder / _WEIGHTS)
    path = folder / "recipe.json"
    path.write_text(json.dumps({**recipe, "half": is_half, "weights": _WEIGHTS}, indent=1, sort_keys=True))
    return path


def write_script(module: torch.jit.ScriptModule, folder: Path) -> Path:
    """The path of the TorchScript file in `folder`."""
    path = folder / "model.pt"
    module.save(str(path))
    return path
