"""A module to a program of torch.export (`.pt2`): what the torch backends run on a device without timm.

Weights lie in it as raw bytes under a JSON table, nothing is pickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitprof.errors import VitprofError, first_line
from vitprof.export.quiet import silenced

if TYPE_CHECKING:
    import torch

EXPORTER = "torch.export"


def export_pt2(module: torch.nn.Module, image: torch.Tensor, path: Path) -> None:
    """Writes `module` for images like `image` to `path`; `VitprofError` (stage "export") where torch cannot."""
    import torch

    try:
        with silenced(), torch.no_grad():
            program = torch.export.export(module, (image,), strict=False)
            torch.export.save(program, path)
    except OSError:
        # The disk, not the model: whoever owns the folder says so.
        raise
    except Exception as error:  # torch.export runs the model's own code and raises whatever that does.
        raise VitprofError(
            f"torch.export cannot take the model: {first_line(error)}",
            remedy="measure it with --backend ort, which runs an ONNX export",
            stage="export",
        ) from error
