"""A `.pt2` file of `torch.export.save` to the module that runs its program.

Its own file because a program is no module that was built: its weights, its batch and its input size are what they
were when it was exported, and it can only be asked, not changed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitprof.errors import UsageError, VitprofError, first_line
from vitprof.models.archives import check_is_program, write_safe_copy
from vitprof.models.built import USUAL, Built, Size, is_out_of_memory, text_from_size, unnamed_size, without_gradients
from vitprof.records import ModelSpec

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class _Dim:
    """One dimension of a program's input. `usual`: what it is, or for a free one what it was when it was exported."""

    usual: int | None
    is_fixed: bool
    least: int | None = None
    most: int | None = None

    def nearest(self, asked: int) -> int:
        """`asked`, where the program takes it."""
        if self.is_fixed:
            return self.usual or asked
        at_least = max(asked, self.least or 1)
        return at_least if self.most is None else min(at_least, self.most)

    def __str__(self) -> str:
        if self.is_fixed:
            return str(self.usual)
        return f"≥{self.least or 1}" if self.most is None else f"{self.least or 1}..{self.most}"


# How schemas of torch's operators call the switch between training and inference.
_TRAINING = ("training", "train")


def from_program(spec: ModelSpec, trust: bool) -> Built:
    """The module of a `.pt2` file. Without `trust` nothing is loaded that can run code.

    `UsageError` where batch or size contradict the program; `VitprofError` where it cannot be loaded.
    """
    path = Path(spec.path or "")
    check_is_program(path)
    program = _trusted(path) if trust else _checked(path)
    _check_inference(program.graph_module, path)
    dims = _image_dims(program, path)
    _check_batch(dims[0], spec, path)
    own, fixups = _own_size(dims, spec, path)
    module = program.module(check_guards=False)
    # torch makes both raise; but a program is in one mode for good, and whoever wraps the module calls them.
    del module.train, module.eval
    return Built(without_gradients(module), own, fixups, is_finished=True)


def _trusted(path: Path) -> torch.export.ExportedProgram:
    import torch

    try:
        program: torch.export.ExportedProgram = torch.export.load(path)
        return program
    except Exception as error:
        raise _unloadable(path, error) from error


def _checked(path: Path) -> torch.export.ExportedProgram:
    # Not torch.export.load, which hides the cause and then tries the pickled layout of older versions.
    from torch.export.pt2_archive._package import load_pt2

    with tempfile.TemporaryDirectory(prefix="vitprof-") as folder:
        copy = Path(folder) / "model.pt2"
        write_safe_copy(path, copy)
        try:
            program: torch.export.ExportedProgram = load_pt2(str(copy)).exported_programs["model"]
            return program
        except Exception as error:
            raise _unloadable(path, error) from error


def _unloadable(path: Path, error: Exception) -> VitprofError:
    import torch

    if is_out_of_memory(error):
        raise error
    return VitprofError(
        f"torch {torch.__version__} cannot load {path}: {type(error).__name__}: {first_line(error)}",
        remedy="export it again with this version of torch, from a module on the CPU, or give path.py:factory",
        stage="model",
    )


def _check_inference(module: torch.nn.Module, path: Path) -> None:
    # Branches and loops are modules with graphs of their own.
    graphs = (part.graph for part in module.modules() if hasattr(part, "graph"))
    training = next((node for graph in graphs for node in graph.nodes if _is_training(node)), None)
    if training is not None:
        raise VitprofError(
            f"{path} was exported in training mode: its {training.target} is not what inference runs",
            remedy="call model.eval() before torch.export.export",
            stage="model",
        )


def _is_training(node: Any) -> bool:
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None:
        return False
    named = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)) | node.kwargs
    return any(named.get(name) is True for name in _TRAINING)


def _image_dims(program: torch.export.ExportedProgram, path: Path) -> tuple[_Dim, ...]:
    """(N, C, H, W) of the only input."""
    import torch

    names = program.graph_signature.user_inputs
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    image = values.get(names[0]) if len(names) == 1 else None
    if not isinstance(image, torch.Tensor):
        raise _no_image(path, f"has {len(names)} inputs ({', '.join(map(str, names)) or 'none'}) instead of one image")
    if image.ndim != 4 or image.dtype is not torch.float32:
        shape = "x".join(map(str, image.shape))
        raise _no_image(path, f"takes {str(image.dtype).removeprefix('torch.')} values of the shape {shape}")
    return tuple(_dim(size, program.range_constraints) for size in image.shape)


def _dim(size: Any, ranges: Mapping[Any, Any]) -> _Dim:
    if isinstance(size, int):
        return _Dim(size, is_fixed=True)
    usual = int(size.node.hint) if size.node.has_hint() else None
    limits = ranges.get(size.node.expr)
    if limits is None:
        # A multiple of another dimension: what it takes is seen when it is tried.
        return _Dim(usual, is_fixed=False)
    return _Dim(usual, is_fixed=False, least=_whole(limits.lower), most=_whole(limits.upper))


def _whole(limit: Any) -> int | None:
    return int(limit) if limit.is_Integer else None


def _no_image(path: Path, why: str) -> VitprofError:
    return VitprofError(
        f"{path} {why}",
        remedy="export a module whose one input is float32 images of the shape (N, C, H, W)",
        stage="model",
    )


def _check_batch(own: _Dim, spec: ModelSpec, path: Path) -> None:
    fitting = own.nearest(spec.batch)
    if fitting == spec.batch:
        return
    remedy = f"--batch {fitting}"
    if own.is_fixed:
        remedy += ", or export it with dynamic_shapes=({0: torch.export.Dim('batch')},)"
    raise UsageError(f"{path} is made for batches of {own}, not of {spec.batch}", remedy=remedy, stage="model")


def _own_size(dims: tuple[_Dim, ...], spec: ModelSpec, path: Path) -> tuple[Size, tuple[str, ...]]:
    """The program's own size, or where all is free the usual one; `UsageError` where it cannot take `spec.size`."""
    channels, height, width = dims[1:]
    if spec.size is not None:
        fitting = (height.nearest(spec.size[0]), width.nearest(spec.size[1]))
        if fitting != spec.size:
            raise UsageError(
                f"{path} is made for the size {height}x{width}, not {spec.size[0]}x{spec.size[1]}",
                remedy=f"--size {text_from_size(fitting)}",
                stage="model",
            )
    if height.usual is None or width.usual is None:
        (_, *sides), fixups = unnamed_size(spec, "the program")
        return (channels.usual or USUAL[0], sides[0], sides[1]), fixups
    return (channels.usual or USUAL[0], height.usual, width.usual), ()
