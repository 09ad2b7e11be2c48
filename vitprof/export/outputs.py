"""What a forward returns, as a flat row of tensors: models answer with tensors, tuples, dicts and named tuples.

Its own file because the export and the expected outputs must agree on the order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def flat_tensors(value: Any) -> tuple[torch.Tensor, ...]:
    """The tensors in `value`, depth first, dicts in their own order; whatever is no tensor is left out."""
    import torch

    if isinstance(value, torch.Tensor):
        return (value,)
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return tuple(tensor for part in parts for tensor in flat_tensors(part))
