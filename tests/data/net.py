"""The module that `net.tflite` was made from: `vitprof export tests/data/net.py:net --to litert --batch 2 --size 8`."""

from __future__ import annotations

import torch


class Net(torch.nn.Module):
    """A convolution, ReLU, the mean and a product: two outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.Linear(4, 5)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.stem(image).relu()
        return {"logits": self.head(features.mean((2, 3))), "features": features}


def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()
