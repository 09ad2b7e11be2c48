"""A ModelSpec to the torch module that stands for it: seeded, in inference form, nothing in it that folds away.

Its own file because it is the only one that runs timm's and torchvision's builders.
"""

from __future__ import annotations

import contextlib
import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitprof.errors import UsageError, VitprofError
from vitprof.models.listing import torchvision_size
from vitprof.models.redraw import redraw_constant_parameters
from vitprof.models.torchvision_compat import import_timm, import_torchvision
from vitprof.records import ModelSpec, Source

if TYPE_CHECKING:
    import torch

# Long enough for a slow line to answer one request, short enough to wait for: timm's own retries take 46 s to give up.
PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Loaded:
    """A module in inference form: `eval()`, no gradients; with what was done to it."""

    module: torch.nn.Module
    # (N, C, H, W)
    input_shape: tuple[int, int, int, int]
    fixups: tuple[str, ...]
    versions: dict[str, str]


def load(spec: ModelSpec) -> Loaded:
    """The module of a timm or torchvision name.

    `UsageError` where the model cannot take `spec.size`; `VitprofError` where it cannot be built.
    """
    import torch

    torch.manual_seed(spec.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, own = _created(spec)
    module = module.eval().requires_grad_(False)
    fixups = [] if spec.pretrained else _redrawn(module, spec.seed)
    if spec.reparam and spec.source is Source.TIMM:
        module, fused = _reparameterised(module, spec)
        fixups += fused
    height, width = spec.size or own[1:]
    if (height, width) != own[1:]:
        _check_size(module, spec, own, (1, own[0], height, width))
    return Loaded(module, (spec.batch, own[0], height, width), tuple(fixups), _versions(spec.source))


def _created(spec: ModelSpec) -> tuple[torch.nn.Module, tuple[int, int, int]]:
    if spec.source is Source.TIMM:
        own = _timm_size(spec.name)
        create = import_timm().create_model
        size_options: tuple[dict[str, Any], ...] = ({"img_size": spec.size}, {})
    elif spec.source is Source.TORCHVISION:
        own = torchvision_size(spec.name)
        create = _create_torchvision
        # The vision transformers take the one, MaxViT the other.
        size_options = ({"image_size": spec.size and spec.size[0]}, {"input_size": spec.size}, {})
    else:
        raise ValueError(f"{spec.source} has no module")
    options = size_options if spec.size not in (None, own[1:]) else ({},)
    with _weights_only(), _offline_if_unreachable(spec):
        return _built(lambda **kept: create(spec.name, pretrained=spec.pretrained, **kept), options, spec, own), own


def _timm_size(name: str) -> tuple[int, int, int]:
    try:
        size = import_timm().get_pretrained_cfg_value(name, "input_size")
    except RuntimeError as error:
        # A tag after the dot that the model does not have; the catalogue knows only those with weights of their own.
        raise UsageError(
            f"there is no timm model '{name}': {error}", remedy=f"give {name.partition('.')[0]}", stage="model"
        ) from error
    if size is None:
        raise UsageError(f"there is no timm model '{name}'", remedy="vitprof models '*' lists names", stage="model")
    return (int(size[0]), int(size[1]), int(size[2]))


def _create_torchvision(name: str, *, pretrained: bool, **options: Any) -> torch.nn.Module:
    models = import_torchvision().models
    # Segmentation models fetch a backbone's weights unless told not to; the others do not know the option.
    if name in models.list_models(module=models.segmentation):
        options["weights_backbone"] = None
    created: torch.nn.Module = models.get_model(name, weights="DEFAULT" if pretrained else None, **options)
    return created


def _built(
    create: Callable[..., torch.nn.Module],
    options: tuple[dict[str, Any], ...],
    spec: ModelSpec,
    own: tuple[int, int, int],
) -> torch.nn.Module:
    """Tries the options in turn: a builder that does not know one says so with a TypeError."""
    for kept in options:
        try:
            return create(**kept)
        except TypeError as error:
            if not kept or "unexpected keyword" not in str(error):
                raise _creation_error(error, spec, own, bool(kept)) from error
        except Exception as error:  # A builder is foreign code: it may raise anything.
            raise _creation_error(error, spec, own, bool(kept)) from error
    raise AssertionError("the last of the options is none at all")


def _creation_error(error: Exception, spec: ModelSpec, own: tuple[int, int, int], has_size: bool) -> VitprofError:
    if spec.pretrained:
        return VitprofError(
            f"no pretrained weights for {spec.name}: {_first_line(error)}",
            remedy="leave out --pretrained (the speed does not depend on the weights' values), "
            "or fetch them first on a machine with a network",
            stage="model",
        )
    if has_size:
        return _size_error(error, spec, own)
    return VitprofError(
        f"{spec.name} cannot be built: {_first_line(error)}",
        remedy="give another model (vitprof models '*'), or report this with the output of vitprof doctor",
        stage="model",
    )


def _size_error(error: Exception, spec: ModelSpec, own: tuple[int, int, int]) -> UsageError:
    asked = text_from_size(spec.size or own[1:])
    return UsageError(
        f"{spec.name} cannot take the size {asked}; its own is {text_from_size(own[1:])} ({_first_line(error)})",
        remedy=f"--size {text_from_size(own[1:])}",
        stage="model",
    )


def text_from_size(size: tuple[int, int]) -> str:
    """`224` or `256x192`, as `--size` reads it."""
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _check_size(
    module: torch.nn.Module, spec: ModelSpec, own: tuple[int, int, int], shape: tuple[int, int, int, int]
) -> None:
    import torch

    try:
        with torch.inference_mode():
            module(torch.zeros(shape))
    except Exception as error:  # A forward is foreign code: asserts, shape errors, index errors all mean the size.
        raise _size_error(error, spec, own) from error


def _redrawn(module: torch.nn.Module, seed: int) -> list[str]:
    tensors, values = redraw_constant_parameters(module, seed)
    return [f"drew {tensors} constant-valued tensors ({values:,} values) anew"] if tensors else []


def _reparameterised(module: torch.nn.Module, spec: ModelSpec) -> tuple[torch.nn.Module, list[str]]:
    import_timm()
    from timm.utils import reparameterize_model

    try:
        fused: torch.nn.Module = reparameterize_model(module)
    except Exception as error:  # Each family fuses with code of its own.
        raise VitprofError(
            f"{spec.name} cannot be fused for inference: {_first_line(error)}",
            remedy="--no-reparam measures it as built",
            stage="model",
        ) from error
    if fused.state_dict().keys() == module.state_dict().keys():
        return module, []
    return fused.eval().requires_grad_(False), ["fused re-parameterisable blocks for inference"]


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
    """torchvision reads its files with a plain unpickle, which runs whatever is in them; this forbids that."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _offline_if_unreachable(spec: ModelSpec) -> Iterator[None]:
    """Cached weights only, where the hub does not answer: the hub's client would retry for most of a minute."""
    if not (spec.pretrained and spec.source is Source.TIMM):
        yield
        return
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _answers(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(url: str) -> bool:
    try:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (the hub's own address)
        urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S).close()  # noqa: S310
    except urllib.error.HTTPError:
        # Any answer is an answer.
        return True
    except OSError:
        return False
    return True


def _versions(source: Source) -> dict[str, str]:
    import torch

    library = import_timm() if source is Source.TIMM else import_torchvision()
    return {"torch": str(torch.__version__), source.value: str(library.__version__)}


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
