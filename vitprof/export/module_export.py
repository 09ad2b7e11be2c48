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


def write_module(module: torch.nn.Module, recipe: Mapping[str, object], folder: Path, *, dtype: str) -> Path:
    """The path of the recipe in `folder`, for a module in `dtype`: float32, float16 or bfloat16."""
    import torch

    weights = {
        name: value.to(getattr(torch, dtype)) if dtype != "float32" and value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    torch.save(weights, folder / _WEIGHTS)
    path = folder / "recipe.json"
    told = {"half": dtype == "float16", "bfloat16": dtype == "bfloat16", "weights": _WEIGHTS}
    path.write_text(json.dumps({**recipe, **told}, indent=1, sort_keys=True))
    return path


def write_script(module: torch.jit.ScriptModule, folder: Path) -> Path:
    """The path of the TorchScript file in `folder`."""
    path = folder / "model.pt"
    module.save(str(path))
    return path
