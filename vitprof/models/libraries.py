"""timm's and torchvision's names to modules.

Its own file because it is the only one that runs their builders, and fetches published weights.
"""

from __future__ import annotations

import contextlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from vitprof.errors import UsageError, VitprofError, first_line
from vitprof.models.built import Built, Size, size_error
from vitprof.models.listing import torchvision_size
from vitprof.records import ModelSpec, Source
from vitprof.runner.torchvision_compat import import_timm, import_torchvision

if TYPE_CHECKING:
    import torch

# Long enough for a slow line to answer one request, short enough to wait for: timm's own retries take 46 s to give up.
PROBE_TIMEOUT_S = 5.0


def from_timm(spec: ModelSpec) -> Built:
    """The module of a timm name, its input size set where its builder can."""
    own = _timm_size(spec.name)
    options: tuple[dict[str, Any], ...] = ({"img_size": spec.size}, {})
    return _created(spec, own, import_timm().create_model, options)


def from_torchvision(spec: ModelSpec) -> Built:
    """The module of a torchvision name, its input size set where its builder can."""
    own = torchvision_size(spec.name)
    # The vision transformers take the one, MaxViT the other.
    options: tuple[dict[str, Any], ...] = ({"image_size": spec.size and spec.size[0]}, {"input_size": spec.size}, {})
    return _created(spec, own, _create_torchvision, options)


def _created(spec: ModelSpec, own: Size, create: Callable[..., Any], size_options: tuple[dict[str, Any], ...]) -> Built:
    options = size_options if spec.size not in (None, own[1:]) else ({},)
    with _weights_only(), _offline_if_unreachable(spec):
        module, kept = _built(lambda **kept: create(spec.name, pretrained=spec.pretrained, **kept), options, spec, own)
    return Built(module, own, recipe={"library": spec.source.value, "name": spec.name, "options": kept})


def _timm_size(name: str) -> Size:
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
    create: Callable[..., torch.nn.Module], options: tuple[dict[str, Any], ...], spec: ModelSpec, own: Size
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Tries the options in turn, and says which it took: a builder that does not know one raises a TypeError."""
    for kept in options:
        try:
            return create(**kept), kept
        except TypeError as error:
            if not kept or "unexpected keyword" not in str(error):
                raise _creation_error(error, spec, own, bool(kept)) from error
        except Exception as error:  # A builder is foreign code: it may raise anything.
            raise _creation_error(error, spec, own, bool(kept)) from error
    raise AssertionError("the last of the options is none at all")


def _creation_error(error: Exception, spec: ModelSpec, own: Size, has_size: bool) -> VitprofError:
    if spec.pretrained:
        return VitprofError(
            f"no pretrained weights for {spec.name}: {first_line(error)}",
            remedy="leave out --pretrained (the speed does not depend on the weights' values), "
            "or fetch them first on a machine with a network",
            stage="model",
        )
    if has_size:
        return size_error(error, spec, own)
    return VitprofError(
        f"{spec.name} cannot be built: {first_line(error)}",
        remedy="give another model (vitprof models '*'), or report this with the output of vitprof doctor",
        stage="model",
    )


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
