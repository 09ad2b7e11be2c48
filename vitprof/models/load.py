"""A ModelSpec to the torch module that stands for it: seeded, in inference form, nothing in it that folds away.

Its own file because this is the same for every source; how a source makes its module stands in one file each.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitprof.errors import UsageError, VitprofError, first_line
from vitprof.models.built import Built, size_error, without_gradients
from vitprof.models.calibrate import calibrate_batch_norms
from vitprof.models.dependencies import content_sha256
from vitprof.models.redraw import redraw_constant_parameters
from vitprof.records import BUILT_HERE, ModelSpec, Source
from vitprof.runner.torchvision_compat import import_timm, import_torchvision

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Loaded:
    """A module in inference form: `eval()`, no gradients; with what was done to it."""

    module: torch.nn.Module
    # (N, C, H, W)
    input_shape: tuple[int, int, int, int]
    fixups: tuple[str, ...]
    versions: dict[str, str]
    # How the runner builds the module again; None for what it can only load.
    recipe: Mapping[str, object] | None = None
    # Of a file source: the files that made the module (.py only), and the hash of what was read.
    source_files: tuple[Path, ...] = ()
    content_sha256: str | None = None


def load(spec: ModelSpec, trust: bool = False) -> Loaded:
    """The module of a name or file (all but .onnx). `trust`: a file that can run code of its maker may be read.

    `UsageError` where the model cannot take `spec.size` or `spec.batch`, or its file would need `trust`;
    `VitprofError` where it cannot be built.
    """
    import torch

    if spec.pretrained and spec.path is not None:
        raise UsageError(
            f"--pretrained: {spec.name} is a file, which has its own weights",
            remedy="leave out --pretrained",
            stage="model",
        )
    torch.manual_seed(spec.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built, sha256 = _built(spec, trust)
    module = without_gradients(built.module)
    if not built.is_finished:
        module.eval()
    fixups = [*built.fixups]
    if not (spec.pretrained or built.is_finished):
        fixups += _redrawn(module, spec.seed)
        fixups += _calibrated(module, (built.own[0], *(spec.size or built.own[1:])), spec.seed)
    return _finished(module, spec, built, fixups, sha256)


def load_shapes(spec: ModelSpec, trust: bool = False) -> Loaded:
    """As `load`, with no weights where the model's builder can do without: all that counting needs.

    Built on the meta device, on which a tensor has a shape and no values. Weights are never fetched for it.
    """
    import torch

    spec = dataclasses.replace(spec, pretrained=False)
    if spec.source not in (*BUILT_HERE, Source.TORCHVISION):
        return load(spec, trust)
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            built, sha256 = _built(spec, trust)
            return _finished(without_gradients(built.module).eval(), spec, built, [*built.fixups], sha256)
    except UsageError:
        raise
    except Exception:  # A builder that reads values, or draws them in its own way, needs them.
        return load(spec, trust)


def _finished(module: torch.nn.Module, spec: ModelSpec, built: Built, fixups: list[str], sha256: str | None) -> Loaded:
    """Fused for inference where that is wanted, and known to take its input."""
    if spec.is_fused:
        module, fused = _reparameterised(module, spec)
        fixups += fused
    height, width = spec.size or built.own[1:]
    shape = (spec.batch, built.own[0], height, width)
    if shape[2:] != built.own[1:]:
        _check_size(module, spec, built, shape)
    recipe = {**built.recipe, "seed": spec.seed, "fuse": spec.is_fused} if built.recipe else None
    return Loaded(module, shape, tuple(fixups), _versions(spec.source), recipe, built.source_files, sha256)


def _built(spec: ModelSpec, trust: bool) -> tuple[Built, str | None]:
    """The module, and the hash of the files that it was made from."""
    from vitprof.models.factories import from_factory
    from vitprof.models.libraries import from_timm, from_torchvision
    from vitprof.models.programs import from_program
    from vitprof.models.scripts import from_script

    if spec.source is Source.TIMM:
        return from_timm(spec), None
    if spec.source is Source.TORCHVISION:
        return from_torchvision(spec), None
    if spec.source is Source.PYTHON:
        built = from_factory(spec)
        return built, content_sha256(built.source_files)
    if spec.path is None or spec.source is Source.ONNX:
        raise ValueError(f"{spec.name}: {spec.source} has no module")
    # Before it is read: a file that is replaced meanwhile must not be kept under the new one's hash.
    sha256 = content_sha256((Path(spec.path),))
    make = from_program if spec.source is Source.PT2 else from_script
    return make(spec, trust), sha256


def _check_size(module: torch.nn.Module, spec: ModelSpec, built: Built, shape: tuple[int, int, int, int]) -> None:
    import torch

    # A program may be made for one batch; any other module is quicker with one image.
    batch = shape[0] if built.is_finished else 1
    try:
        with torch.inference_mode():
            module(torch.zeros(batch, *shape[1:]))
    except Exception as error:  # A forward is foreign code: asserts, shape errors, index errors all mean the size.
        raise size_error(error, spec, built.own) from error


def _redrawn(module: torch.nn.Module, seed: int) -> list[str]:
    tensors, values = redraw_constant_parameters(module, seed)
    return [f"drew {tensors} constant-valued tensors ({values:,} values) anew"] if tensors else []


def _calibrated(module: torch.nn.Module, image_shape: tuple[int, int, int], seed: int) -> list[str]:
    norms = calibrate_batch_norms(module, image_shape, seed)
    return [f"set the statistics of {norms} batch norms from random images"] if norms else []


def _reparameterised(module: torch.nn.Module, spec: ModelSpec) -> tuple[torch.nn.Module, list[str]]:
    import_timm()
    from timm.utils import reparameterize_model

    before = set(module.state_dict())
    try:
        # In place: not every module of a user's own can be copied.
        fused: torch.nn.Module = reparameterize_model(module, inplace=True)
    except Exception as error:  # Each family fuses with code of its own.
        raise VitprofError(
            f"{spec.name} cannot be fused for inference: {first_line(error)}",
            remedy="--no-reparam measures it as built",
            stage="model",
        ) from error
    if set(fused.state_dict()) == before:
        return fused, []
    return without_gradients(fused.eval()), ["fused re-parameterisable blocks for inference"]


def _versions(source: Source) -> dict[str, str]:
    import torch

    versions = {"torch": str(torch.__version__)}
    if source in (Source.TIMM, Source.TORCHVISION):
        library = import_timm() if source is Source.TIMM else import_torchvision()
        versions[source.value] = str(library.__version__)
    return versions
