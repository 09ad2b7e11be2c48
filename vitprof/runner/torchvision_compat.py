"""timm and torchvision, imported where torchvision's own binary does not fit torch.

PyPI's torchvision is built against CUDA's torch; beside a CPU build of torch its library does not load, and
`import torchvision` (so `import timm` too) fails on the operators that the library would have registered. Models and
transforms are plain Python: declaring the two operators that the import asks for is enough for them.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

# torch forgets operators once their Library is collected.
_kept_alive: list[Any] = []


def import_timm() -> Any:
    """The timm package."""
    import_torchvision()
    import timm

    return timm


def import_torchvision() -> Any:
    """The torchvision package; without its compiled operators where these do not load."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    _forget_torchvision()
    _declare_operators()
    return importlib.import_module("torchvision")


def _forget_torchvision() -> None:
    """A failed import leaves half of the package behind, which the next one would take for whole."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept_alive.append(library)
