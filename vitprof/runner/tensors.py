"""What a forward returns, as a flat row of tensors: models answer with tensors, tuples, dicts and named tuples.

In the runner because the outputs on the device and the expected ones of the host must agree on the order; the host's
exporters import it from here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Tuple

if TYPE_CHECKING:
    import torch


def flat_tensors(value: Any) -> Tuple[torch.Tensor, ...]:
    """The tensors in `value`, depth first, dicts in their own order; whatever is no tensor is left out."""
    import torch

    if isinstance(value, torch.Tensor):
        return (value,)
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return tuple(tensor for part in parts for tensor in flat_tensors(part))


def bytes_from_tensor(tensor: torch.Tensor) -> bytes:
    """The values in order, in the machine's own byte order. Not by way of numpy: torch installs without it."""
    dense = tensor.detach().contiguous()
    return ctypes.string_at(dense.data_ptr(), dense.numel() * dense.element_size())
