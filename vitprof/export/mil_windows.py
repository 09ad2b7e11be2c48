"""What MIL's operators over the spatial axes do: convolutions, pools, resizing.

Its own file because these are one topic of the table in `mil_ops`, with one rule of padding. Arguments have MIL's
names; each function does what the definition of the same name in `coremltools.converters.mil.mil.ops.defs` says.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vitprof.export.mil_layout import ints, padded

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_CONV_TRANSPOSE = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
_AVG_POOL = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_MAX_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}

Pairs = tuple[tuple[int, int], ...]


def conv(
    x: Tensor,
    weight: Tensor,
    *,
    strides: Tensor,
    pad_type: str,
    pad: Tensor,
    dilations: Tensor,
    groups: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """`weight`: (Cout, Cin / groups, *kernel)."""
    spans = _spans(weight, dilations)
    around = padded(x, _padding(pad_type, pad, x.shape[2:], spans, ints(strides)))
    convolve = _CONV[x.ndim - 2]
    return convolve(around, weight, bias, ints(strides), 0, ints(dilations), int(groups))


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    *,
    pad: Tensor,
    pad_type: str,
    strides: Tensor,
    dilations: Tensor,
    groups: Tensor,
    bias: Tensor | None = None,
    output_shape: Tensor | None = None,
) -> Tensor:
    """`weight`: (Cin, Cout / groups, *kernel). Padding is cut off what the unpadded operation gives."""
    steps = ints(strides)
    full = _CONV_TRANSPOSE[x.ndim - 2](x, weight, None, steps, 0, 0, int(groups), ints(dilations))
    cuts = ints(pad) if pad_type == "custom" else (0,) * (2 * len(steps))
    for place, span in enumerate(_spans(weight, dilations)):
        size = full.shape[place + 2]
        before, after = cuts[2 * place : 2 * place + 2]
        if pad_type == "same":
            before = max(0, span - steps[place]) // 2
            after = size - before - x.shape[place + 2] * steps[place]
        if output_shape is not None:
            after = size - before - ints(output_shape)[place + 2]
        # A negative amount cuts; a shape beyond the operation's own is filled up with zeros.
        full = padded(full, [(-before, -after), *[(0, 0)] * (len(steps) - 1 - place)])
    return full if bias is None else full + bias.reshape(-1, *(1,) * len(steps))


def avg_pool(
    x: Tensor,
    *,
    kernel_sizes: Tensor,
    strides: Tensor,
    pad_type: str,
    pad: Tensor,
    ceil_mode: Tensor,
    exclude_padding_from_average: Tensor,
) -> Tensor:
    """What the last window has beyond the padding (`ceil_mode`) is in no average, as in torch."""
    kernel, steps = ints(kernel_sizes), ints(strides)
    pairs = _padding(pad_type, pad, x.shape[2:], kernel, steps)
    beyond = _beyond(x.shape[2:], pairs, kernel, steps, bool(ceil_mode))
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    counted = padded(padded(counted, pairs, 0.0 if bool(exclude_padding_from_average) else 1.0), beyond)
    average = _AVG_POOL[x.ndim - 2]
    # Both are averages over the whole window: its size cancels.
    return average(padded(padded(x, pairs), beyond), kernel, steps) / average(counted, kernel, steps)


def max_pool(
    x: Tensor, *, kernel_sizes: Tensor, strides: Tensor, pad_type: str, pad: Tensor, ceil_mode: Tensor
) -> Tensor:
    kernel, steps = ints(kernel_sizes), ints(strides)
    pairs = _padding(pad_type, pad, x.shape[2:], kernel, steps)
    beyond = _beyond(x.shape[2:], pairs, kernel, steps, bool(ceil_mode))
    nothing = float("-inf")
    return _MAX_POOL[x.ndim - 2](padded(padded(x, pairs, nothing), beyond, nothing), kernel, steps)


def _spans(weight: Tensor, dilations: Tensor) -> tuple[int, ...]:
    """How far a kernel reaches on each axis."""
    return tuple((size - 1) * step + 1 for size, step in zip(weight.shape[2:], ints(dilations), strict=True))


def _padding(pad_type: str, pad: Tensor, sizes: Sequence[int], spans: Sequence[int], steps: Sequence[int]) -> Pairs:
    """Before and behind of each axis. "same": ceil(size / stride) windows, what is odd behind; "same_lower": before."""
    if pad_type == "valid":
        return ((0, 0),) * len(sizes)
    if pad_type == "custom":
        amounts = ints(pad)
        return tuple((amounts[2 * place], amounts[2 * place + 1]) for place in range(len(sizes)))
    if pad_type not in {"same", "same_lower"}:
        raise ValueError(f"pad_type {pad_type}")
    pairs = []
    for size, span, step in zip(sizes, spans, steps, strict=True):
        total = max(0, (-(-size // step) - 1) * step + span - size)
        less, more = total // 2, total - total // 2
        pairs.append((less, more) if pad_type == "same" else (more, less))
    return tuple(pairs)


def _beyond(sizes: Sequence[int], pairs: Pairs, kernel: Sequence[int], steps: Sequence[int], is_ceil: bool) -> Pairs:
    """How far the last window reaches over the padding behind, if windows are counted up."""
    if not is_ceil:
        return ((0, 0),) * len(sizes)
    beyond = []
    for size, (before, after), span, step in zip(sizes, pairs, kernel, steps, strict=True):
        whole = size + before + after
        windows = -(-(whole - span) // step) + 1
        if (windows - 1) * step >= size + before and before + after > 0:
            # It would begin in the padding.
            windows -= 1
        beyond.append((0, max(0, (windows - 1) * step + span - whole)))
    return tuple(beyond)


def upsample_nearest_neighbor(x: Tensor, scale_factor_height: Tensor, scale_factor_width: Tensor) -> Tensor:
    return _nearest(x, (_scaled(x.shape[-2], scale_factor_height), _scaled(x.shape[-1], scale_factor_width)))


def resize_nearest_neighbor(x: Tensor, target_size_height: Tensor, target_size_width: Tensor) -> Tensor:
    return _nearest(x, (int(target_size_height), int(target_size_width)))


def upsample_bilinear(
    x: Tensor, scale_factor_height: Tensor, scale_factor_width: Tensor, align_corners: Tensor
) -> Tensor:
    """The spacing follows from the sizes, whatever the factor was before it was rounded."""
    sizes = (_scaled(x.shape[-2], scale_factor_height), _scaled(x.shape[-1], scale_factor_width))
    return _linear(x, sizes, "STRICT_ALIGN_CORNERS" if bool(align_corners) else "UNALIGN_CORNERS")


def resize_bilinear(x: Tensor, target_size_height: Tensor, target_size_width: Tensor, sampling_mode: str) -> Tensor:
    return _linear(x, (int(target_size_height), int(target_size_width)), sampling_mode)


def resize(x: Tensor, shape: Tensor, resized_dims: Tensor, interpolation_mode: str, sampling_mode: str) -> Tensor:
    """`shape` ends in the new sizes of the last `resized_dims` axes; 0 keeps one."""
    count = int(resized_dims)
    wanted = ints(shape)[len(ints(shape)) - count :]
    kept = x.shape[x.ndim - count :]
    sizes = tuple(size or old for size, old in zip(wanted, kept, strict=True))
    if interpolation_mode == "LINEAR":
        return _linear(x, sizes, sampling_mode)
    if sampling_mode != "DEFAULT":
        # Which of two neighbours equally far away it takes is not documented.
        raise ValueError(f"{interpolation_mode} with sampling mode {sampling_mode}")
    return _nearest(x, sizes)


def _scaled(size: int, factor: Tensor) -> int:
    return int(torch.floor(factor * size))


def _nearest(x: Tensor, sizes: Sequence[int]) -> Tensor:
    for axis, size in enumerate(sizes, x.ndim - len(sizes)):
        x = x.index_select(axis, torch.arange(size) * x.shape[axis] // size)
    return x


def _linear(x: Tensor, sizes: Sequence[int], mode: str) -> Tensor:
    for axis, size in enumerate(sizes, x.ndim - len(sizes)):
        last = x.shape[axis] - 1
        places = _places(mode, last + 1, size).clamp(0, last)
        low = places.floor().long()
        share = (places - low).to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1 - axis))
        x = x.index_select(axis, low) * (1 - share) + x.index_select(axis, (low + 1).clamp(max=last)) * share
    return x


def _places(mode: str, size: int, new_size: int) -> Tensor:
    """Where between the old values each new one lies: the formulas of `resize_bilinear`'s definition."""
    at = torch.arange(new_size, dtype=torch.float64)
    if mode == "DEFAULT":
        return at * size / new_size
    if mode == "UNALIGN_CORNERS":
        return (at + 0.5) * size / new_size - 0.5
    if mode == "OFFSET_CORNERS":
        return (at + 0.5) * max(1, size - 1) / new_size
    if mode not in {"ALIGN_CORNERS", "STRICT_ALIGN_CORNERS"}:
        raise ValueError(f"sampling mode {mode}")
    if new_size == 1:
        return at + (size - 1) / 2 if mode == "ALIGN_CORNERS" else at
    return at * (size - 1) / (new_size - 1)
