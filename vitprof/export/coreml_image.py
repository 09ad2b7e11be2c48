"""An image as a Core ML program's input: 8-bit RGB pixels, which the program itself turns into what the model takes.

Its own file because it knows pixels, and the converter next to it modules. An image input of Core ML has a bias for
each channel but one scale for all, and the deviations of most models differ from channel to channel. So Core ML's own
scale stays 1 and its bias 0, and every channel has its factor inside the program:
(pixel / 255 - mean) / std = pixel * 1 / (255 std) - mean / std. Of that the converter makes one operator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitprof.errors import UsageError
from vitprof.records import ModelSpec, Source
from vitprof.runner.torchvision_compat import import_torchvision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

# How the runner's inputs of such a program are kept.
DTYPE = "uint8"
CHANNELS = 3
_LARGEST = 255


@dataclass(frozen=True)
class Normalisation:
    """What a model takes away from its images, and what it divides them by: of red, green and blue, as shares of 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def applied(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Images (N, 3, H, W) in float32, as the original module takes them."""
        import numpy as np

        mean, std = (np.reshape(one, (1, CHANNELS, 1, 1)) for one in (self.mean, self.std))
        normalised: npt.NDArray[np.float32] = ((pixels / _LARGEST - mean) / std).astype(np.float32)
        return normalised

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:g}" for value in one) for one in (self.mean, self.std))
        return f"mean {mean}, std {std}"


def normalisation_of(spec: ModelSpec, module: torch.nn.Module, channels: int) -> Normalisation:
    """The model's own, as timm's modules and torchvision's weights name it.

    `UsageError` where it takes no images of three channels, or names none.
    """
    if channels != CHANNELS:
        raise UsageError(
            f"{spec.name} takes {channels} channels, and an image of Core ML has {CHANNELS}: red, green and blue",
            remedy="leave out --image-input",
            stage="export",
        )
    for holder in _holders(spec, module):
        mean, std = _channels_of(holder, "mean"), _channels_of(holder, "std")
        if mean and std and min(std) > 0:
            return Normalisation(mean, std)
    raise UsageError(
        f"{spec.name} does not say how its images are normalised",
        remedy="set its module's default_cfg = {'mean': (…), 'std': (…)}, as timm's have, or leave out --image-input",
        stage="export",
    )


def normalising(module: torch.nn.Module, normalisation: Normalisation) -> Any:
    """As `flattening` of `onnx_export`, for pixels of 0 to 255 in float32."""
    import torch

    from vitprof.runner.tensors import flat_tensors

    class Normalising(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            mean, std = (
                torch.tensor(one, dtype=torch.float64).reshape(1, CHANNELS, 1, 1)
                for one in (normalisation.mean, normalisation.std)
            )
            # Named so that they are no parameters of the model's.
            self.register_buffer("pixel_factor", (1 / (_LARGEST * std)).float())
            self.register_buffer("pixel_offset", (-mean / std).float())
            self.inner = module

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return flat_tensors(self.inner(pixels * self.pixel_factor + self.pixel_offset))

    return Normalising().eval()


def _holders(spec: ModelSpec, module: torch.nn.Module) -> tuple[Any, ...]:
    if spec.source is Source.TORCHVISION:
        weights = getattr(import_torchvision().models.get_model_weights(spec.name), "DEFAULT", None)
        return () if weights is None else (weights.transforms(),)
    return getattr(module, "default_cfg", None), getattr(module, "pretrained_cfg", None)


def _channels_of(holder: Any, name: str) -> tuple[float, ...] | None:
    values = holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)
    if not isinstance(values, Sequence) or len(values) != CHANNELS:
        return None
    is_number = all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
    return tuple(map(float, values)) if is_number else None
