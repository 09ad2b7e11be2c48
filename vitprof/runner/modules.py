"""The module itself on the device: built anew by its library or by the user's own factory, with the host's weights.

Eager torch costs what `model(x)` costs, and nothing that can be exported costs the same: programs of torch.export were
4 to 7 % slower on small networks, TorchScript 6 to 28 % faster (docs/decisions/0013). A pickled module would need no
recipe, and would run whatever is in it.

A recipe is a JSON file: `library` (timm, torchvision, python), `name` and `options` or `path` and `factory`, `seed`,
`fuse`, `half`, `bfloat16`, `weights` (the file beside it).
"""

from __future__ import annotations

import json
import os
import random
import sys
import types
from typing import TYPE_CHECKING, Any, Mapping

from vitprof.runner.torchvision_compat import import_timm, import_torchvision

if TYPE_CHECKING:
    import torch


def module_of(recipe_path: str) -> torch.nn.Module:
    """The module in inference form. Whatever its library or factory raises goes through."""
    import torch

    with open(recipe_path, encoding="utf-8") as file:
        recipe = json.load(file)
    random.seed(recipe["seed"])
    torch.manual_seed(recipe["seed"])
    module = _built(recipe).eval().float()
    if recipe["fuse"]:
        import_timm()
        from timm.utils import reparameterize_model

        module = reparameterize_model(module, inplace=True)
    if recipe["half"]:
        module = module.half()
    # Recipes from before there was bf16 do not say it.
    if recipe.get("bfloat16"):
        module = module.bfloat16()
    weights = torch.load(os.path.join(os.path.dirname(recipe_path), recipe["weights"]), weights_only=True)
    module.load_state_dict(weights)
    return module.eval().requires_grad_(False)


def _built(recipe: Mapping[str, Any]) -> Any:
    if recipe["library"] == "python":
        return _from_factory(recipe["path"], recipe["factory"])
    # JSON has no tuples.
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in recipe["options"].items()}
    if recipe["library"] == "timm":
        return import_timm().create_model(recipe["name"], **options)
    models = import_torchvision().models
    if recipe["name"] in models.list_models(module=models.segmentation):
        # They fetch a backbone's weights unless told not to; the others do not know the option.
        options["weights_backbone"] = None
    return models.get_model(recipe["name"], weights=None, **options)


def _from_factory(path: str, factory: str) -> Any:
    """As the host ran it: its folder first on the path; it may return (module, image)."""
    import_timm()
    sys.path.insert(0, os.path.dirname(path))
    module = types.ModuleType("_vitprof_factory")
    module.__file__ = path
    sys.modules[module.__name__] = module
    with open(path, "rb") as file:
        exec(compile(file.read(), path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the user's own file
    found = module.__dict__[factory]
    # A module that the file itself has made, or what makes one.
    made = found if hasattr(found, "state_dict") and not isinstance(found, type) else found()
    return made[0] if isinstance(made, tuple) else made
