"""The models by which `vitprof devices calibrate` measures what a runtime can reach at most on a device.

Models and not loops of their own, so that they are exported, run, checked and timed as every other model is. A file of
factories: each returns (module, image).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

GEMM_SIZE = 1024
CONV_CHANNELS, CONV_SIZE = 256, 56
# 25.2 MB. Three of them are far beyond a last-level cache of 32 MB; one of 32 MiB would be new memory from the system
# at each call of eager torch, whose pages cost five times the copy (glibc never keeps a freed block of that size).
COPY_SHAPE = (6, 1024, 1024)
LAUNCH_OPS, LAUNCH_SIZE = 200, 16


def gemm() -> tuple[nn.Module, Tensor]:
    """The image, a square matrix, times a parameter."""
    return _Product(GEMM_SIZE), torch.zeros(1, 1, GEMM_SIZE, GEMM_SIZE)


def conv() -> tuple[nn.Module, Tensor]:
    """A 3x3 convolution: runtimes whose matrix products come from another library reach more with it."""
    layer = nn.Conv2d(CONV_CHANNELS, CONV_CHANNELS, 3, padding=1, bias=False)
    return layer, torch.zeros(1, CONV_CHANNELS, CONV_SIZE, CONV_SIZE)


def copy() -> tuple[nn.Module, Tensor]:
    """One addition of a parameter as large as the image: two reads and a write, which nothing can fuse or leave out."""
    return _Sum(), torch.zeros(1, *COPY_SHAPE)


def launch() -> tuple[nn.Module, Tensor]:
    """A chain of tiny products with other parameters each: time for starting operators, and for next to nothing else.

    Products only: runtimes fuse what stands between them into them.
    """
    return _Chain(), torch.zeros(1, 1, LAUNCH_SIZE, LAUNCH_SIZE)


class _Product(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        # So scaled, outputs are about as large as inputs.
        self.weight = nn.Parameter(torch.randn(size, size) / size**0.5)

    def forward(self, image: Tensor) -> Tensor:
        return image @ self.weight


class _Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, *COPY_SHAPE))

    def forward(self, image: Tensor) -> Tensor:
        return image + self.weight


class _Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        # Orthogonal: two hundred random matrices in a row would end in zeros or infinities.
        rotations = [torch.linalg.qr(torch.randn(LAUNCH_SIZE, LAUNCH_SIZE))[0] for _ in range(LAUNCH_OPS)]
        self.weights = nn.ParameterList(nn.Parameter(one) for one in rotations)

    def forward(self, image: Tensor) -> Tensor:
        for weight in self.weights:
            image = image @ weight
        return image
