"""A module to an ONNX file, by either of torch's two exporters.

Its own file because both are needed: each fails on models that the other takes (docs/decisions/0011). The default goes
first, the other one stands in for it, and what happened is told in the fix-ups.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitprof.errors import VitprofError, first_line
from vitprof.export.quiet import silenced
from vitprof.records import Exporter
from vitprof.runner.tensors import flat_tensors

if TYPE_CHECKING:
    import torch

INPUT_NAME = "image"
BATCH_NAME = "batch"
# The newest that each exporter was tried with on all surveyed models; every runtime here reads both.
OPSETS = {Exporter.TORCHSCRIPT: 17, Exporter.DYNAMO: 20}
TITLES = {Exporter.TORCHSCRIPT: "torch.onnx.export (TorchScript)", Exporter.DYNAMO: "torch.onnx.export (dynamo)"}
# By evidence over forty models: docs/decisions/0011.
DEFAULT_ORDER = (Exporter.TORCHSCRIPT, Exporter.DYNAMO)
# As much of a foreign error as a reader wants in a table.
_CAUSE_LETTERS = 160
# A protobuf message, so an ONNX file in one piece, ends at 2 GiB; the rest of the graph takes some of it.
MAX_WEIGHT_BYTES = 2**31 - 2**26


@dataclass(frozen=True)
class OnnxExport:
    """Facts of a finished export. `fixups`: what had to be done so that it came about."""

    opset: int
    exporter: str
    fixups: tuple[str, ...] = ()


def export_onnx(
    module: torch.nn.Module,
    input_shape: tuple[int, ...],
    path: Path,
    exporter: Exporter | None = None,
    *,
    any_batch: bool = False,
) -> OnnxExport:
    """Writes `module` for images of `input_shape` in the type of its weights (fp32 or bf16) to `path`.

    Weights over 2 GB go into `<path>.data` beside it.

    With `any_batch` the file leaves the number of images free, under the name "batch". `VitprofError` (stage
    "export") where no exporter can; `OSError` where the file cannot be written.
    """
    troubles: list[str] = []
    for one in [exporter] if exporter else _order(module):
        for unfuse in (False, True):
            if unfuse and not has_fused_attention(module):
                continue
            try:
                with attention_apart(module) if unfuse else contextlib.nullcontext():
                    _write(one, module, input_shape, path, any_batch)
            except OSError:
                # The disk, not the model: whoever owns the folder says so.
                raise
            except Exception as error:  # The exporter runs the model's own code and raises whatever that does.
                troubles.append(f"{one.value} exporter failed{' with attention apart' * unfuse}: {cause_of(error)}")
                continue
            apart = ("attention exported in its parts",) if unfuse else ()
            return OnnxExport(OPSETS[one], TITLES[one], (*troubles, *apart))
    raise VitprofError(
        f"the model does not export to ONNX: {'; '.join(troubles)}",
        remedy="leave out --exporter: the other one may take it"
        if exporter
        else "report the model with the output of vitprof doctor, or give an .onnx file made another way",
        stage="export",
    )


def cause_of(error: BaseException) -> str:
    """What went wrong at the bottom: torch's own first line says which of its steps failed, in colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = first_line(error)
    # TorchScript appends the node with all its types and the file of torch that it comes from.
    return text if len(text) <= _CAUSE_LETTERS else f"{text[: _CAUSE_LETTERS - 1]}…"


def _order(module: torch.nn.Module) -> tuple[Exporter, ...]:
    import torch

    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        # torch.export takes no TorchScript.
        return (Exporter.TORCHSCRIPT,)
    if _weight_bytes(module) > MAX_WEIGHT_BYTES:
        # The other one's single file cannot hold them.
        return (Exporter.DYNAMO,)
    return DEFAULT_ORDER


def _write(
    exporter: Exporter, module: torch.nn.Module, input_shape: tuple[int, ...], path: Path, any_batch: bool
) -> None:
    import torch

    if exporter is Exporter.TORCHSCRIPT:
        _check_fits(module)
        options: dict[str, Any] = {
            "dynamo": False,
            "dynamic_axes": {INPUT_NAME: {0: BATCH_NAME}} if any_batch else None,
        }
    else:
        batch = {INPUT_NAME: {0: torch.export.Dim(BATCH_NAME, max=2**16)}} if any_batch else None
        is_large = _weight_bytes(module) > MAX_WEIGHT_BYTES
        options = {"dynamo": True, "dynamic_shapes": batch, "external_data": is_large}
    # torch.export takes a dimension of one for a constant.
    shape = (max(2, input_shape[0]), *input_shape[1:]) if any_batch else input_shape
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    image = torch.zeros(shape, dtype=dtype)
    with silenced(), without_fast_attention(), torch.no_grad():
        flat = flattening(module)
        if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
            # The exporter cannot look into TorchScript from outside; what is traced already it takes as it is.
            flat = torch.jit.trace(flat, image)
        torch.onnx.export(
            flat,
            (image,),
            path,
            input_names=[INPUT_NAME],
            opset_version=OPSETS[exporter],
            **options,
        )


def _weight_bytes(module: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def _check_fits(module: torch.nn.Module) -> None:
    weight_bytes = _weight_bytes(module)
    if weight_bytes > MAX_WEIGHT_BYTES:
        raise VitprofError(
            f"the model's weights are {weight_bytes / 1e9:.1f} GB, and this exporter's one file holds 2.1 GB",
            remedy="use --exporter dynamo",
            stage="export",
        )


def flattening(module: torch.nn.Module) -> Any:
    """`module` with its tensors in a row: the tracer refuses dicts. A function, so that torch is imported here."""
    import torch

    class Flattening(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return flat_tensors(self.inner(image))

    return Flattening().eval()


def has_fused_attention(module: torch.nn.Module) -> bool:
    return any(getattr(part, "fused_attn", False) for part in module.modules())


@contextlib.contextmanager
def attention_apart(module: torch.nn.Module) -> Iterator[None]:
    """timm's attention as products and a softmax: its fused call takes only four axes in ONNX (Hiera has five)."""
    fused = [part for part in module.modules() if getattr(part, "fused_attn", False)]
    for part in fused:
        part.fused_attn = False
    try:
        yield
    finally:
        for part in fused:
            part.fused_attn = True


@contextlib.contextmanager
def without_fast_attention() -> Iterator[None]:
    """`torch.nn.MultiheadAttention` (torchvision's ViTs) as plain operators: its fused form has none in ONNX."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
