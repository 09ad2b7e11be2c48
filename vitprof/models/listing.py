"""The names that timm and torchvision know, with each model's own input size.

Its own file because it imports both, which `catalogue` must not; it runs once per pair of their versions.
"""

from __future__ import annotations

from typing import Any

from vitprof.models.catalogue import Catalogue, Size
from vitprof.runner.torchvision_compat import import_timm, import_torchvision


def build_catalogue() -> Catalogue:
    """Every timm model, and torchvision's classification and segmentation models."""
    return Catalogue(timm=_timm_sizes(), torchvision=_torchvision_sizes(), timm_tags=_timm_tag_sizes())


def torchvision_size(name: str) -> Size:
    """(C, H, W) that the default weights of a torchvision model were made for."""
    torchvision = import_torchvision()
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    # Classification presets crop; segmentation presets only resize.
    sizes = getattr(transforms, "crop_size", None) or transforms.resize_size
    return (3, int(sizes[0]), int(sizes[-1]))


def _torchvision_sizes() -> dict[str, Size]:
    torchvision = import_torchvision()
    # The others take no single image: detection wants lists, video a time axis, optical flow two images.
    modules = (torchvision.models, torchvision.models.segmentation)
    names: list[str] = [name for module in modules for name in torchvision.models.list_models(module=module)]
    return {name: torchvision_size(name) for name in sorted(names)}


def _timm_sizes() -> dict[str, Size]:
    timm = import_timm()
    return {name: _timm_size(timm, name) for name in timm.list_models()}


def _timm_tag_sizes() -> dict[str, Size]:
    """Tagged names whose size is not that of the plain name; the rest are found by the plain name."""
    timm = import_timm()
    sizes = {name: _timm_size(timm, name) for name in timm.list_pretrained() if "." in name}
    return {name: size for name, size in sizes.items() if size != _timm_size(timm, name.partition(".")[0])}


def _timm_size(timm: Any, name: str) -> Size:
    channels, height, width = timm.get_pretrained_cfg_value(name, "input_size")
    return (int(channels), int(height), int(width))
