"""Batch-norm statistics as training would have left them.

A fresh network has means of zero and variances of one, whatever its random weights make of an image. Deep ones then
grow without bound (MobileOne-S0: activations of 1.7e16, beyond fp16's 6.5e4) or die out, so that outputs hardly depend
on the image and a parity check on them proves little. One pass over a few random images sets each statistic to what the
layer really sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# A channel that is 1x1 by the time it is normalised still has a variance over as many values.
_IMAGES = 8


def calibrate_batch_norms(module: torch.nn.Module, image_shape: tuple[int, int, int], seed: int) -> int:
    """How many batch norms now have the statistics of seeded random images of `image_shape` (C, H, W).

    Zero, and nothing changed, where there are none or the forward does not take these images.
    """
    import torch

    norms = [
        part
        for part in module.modules()
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and part.track_running_stats
    ]
    if not norms:
        return 0
    before = [(part.momentum, {name: value.clone() for name, value in part.named_buffers()}) for part in norms]
    images = torch.randn(_IMAGES, *image_shape, generator=torch.Generator().manual_seed(seed))
    try:
        for part in norms:
            part.reset_running_stats()
            # None: the plain mean over what is seen, not a moving one.
            part.momentum = None
            part.train()
        with torch.no_grad():
            module(images)
    except Exception:  # A forward is foreign code; what is wrong with it is told when it is run for its outputs.
        _restore(norms, [buffers for _, buffers in before])
        return 0
    finally:
        for part, (momentum, _) in zip(norms, before, strict=True):
            part.momentum = momentum
            part.eval()
    return len(norms)


def _restore(norms: list[torch.nn.modules.batchnorm._BatchNorm], buffers: list[dict[str, torch.Tensor]]) -> None:
    for part, values in zip(norms, buffers, strict=True):
        for name, buffer in part.named_buffers():
            buffer.copy_(values[name])
