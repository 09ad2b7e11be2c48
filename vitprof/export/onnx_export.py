"""A module to an ONNX file with static shapes, by torch's TorchScript exporter.

TorchScript and not dynamo for now: docs/decisions/0006.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitprof.errors import VitprofError
from vitprof.export.outputs import flat_tensors

if TYPE_CHECKING:
    import torch

# The newest that the TorchScript exporter was tried with on all surveyed models; every runtime here reads it.
OPSET = 17
INPUT_NAME = "image"
EXPORTER = "torch.onnx.export (TorchScript)"
# A protobuf message, so an ONNX file in one piece, ends at 2 GiB; the rest of the graph takes some of it.
MAX_WEIGHT_BYTES = 2**31 - 2**26


@dataclass(frozen=True)
class OnnxExport:
    """Facts of a finished export."""

    opset: int
    exporter: str
    input_name: str


def export_onnx(module: torch.nn.Module, input_shape: tuple[int, ...], path: Path) -> OnnxExport:
    """Writes `module` for fp32 images of `input_shape` to `path`.

    `VitprofError` (stage "export") where the exporter cannot; `OSError` where the file cannot be written.
    """
    import torch

    _check_fits(module)
    image = torch.zeros(input_shape)
    try:
        with _silenced(), _without_fast_attention(), torch.no_grad():
            torch.onnx.export(
                _flattening(module), (image,), path, input_names=[INPUT_NAME], opset_version=OPSET, dynamo=False
            )
    except OSError:
        # The disk, not the model: whoever owns the folder says so.
        raise
    except Exception as error:  # The exporter runs the model's own code and raises whatever that does.
        raise VitprofError(
            f"the model does not export to ONNX: {_first_line(error)}",
            remedy="report the model with the output of vitprof doctor, or give an .onnx file made another way",
            stage="export",
        ) from error
    return OnnxExport(opset=OPSET, exporter=EXPORTER, input_name=INPUT_NAME)


def _check_fits(module: torch.nn.Module) -> None:
    weight_bytes = sum(p.numel() * p.element_size() for p in module.parameters())
    if weight_bytes > MAX_WEIGHT_BYTES:
        raise VitprofError(
            f"the model's weights are {weight_bytes / 1e9:.1f} GB, and an ONNX file in one piece holds 2.1 GB",
            remedy="give a smaller model, or an .onnx file with its weights in a file beside it",
            stage="export",
        )


def _flattening(module: torch.nn.Module) -> Any:
    """`module` with its tensors in a row: the tracer refuses dicts. A function, so that torch is imported here."""
    import torch

    class Flattening(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return flat_tensors(self.inner(image))

    return Flattening().eval()


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Warnings and dumps are about the exporter, not about anything that the reader could mend.

    At the level of file descriptors: on a failure torch's C++ side prints the whole graph, thousands of lines.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        with Path(os.devnull).open("wb") as nowhere, warnings.catch_warnings():
            for descriptor in (1, 2):
                os.dup2(nowhere.fileno(), descriptor)
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)


@contextlib.contextmanager
def _without_fast_attention() -> Iterator[None]:
    """`torch.nn.MultiheadAttention` (torchvision's ViTs) as plain operators: its fused form has none in ONNX."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
