"""What MIL's operators that move values do: shapes, slices, gathers, padding. No value is changed by any of them.

Its own file because these are one topic of the table in `mil_ops`. Arguments have MIL's names and its order of axes;
each function does what the definition of the same name in `coremltools.converters.mil.mil.ops.defs` says.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def ints(values: Tensor) -> tuple[int, ...]:
    """The whole numbers of a tensor, a single one too."""
    return tuple(int(value) for value in values.reshape(-1).tolist())


def reshape(x: Tensor, shape: Tensor) -> Tensor:
    """0 stands for the dimension of `x` as far from the right, -1 for what is left."""
    sizes = list(ints(shape))
    for place, size in enumerate(sizes):
        from_right = len(sizes) - place
        if size == 0:
            sizes[place] = x.shape[-from_right] if from_right <= x.ndim else 1
    return x.reshape(sizes)


def transpose(x: Tensor, perm: Tensor) -> Tensor:
    return x.permute(ints(perm))


def expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    """`axes` are places in the result."""
    rank = x.ndim + axes.numel()
    for axis in sorted(axis % rank for axis in ints(axes)):
        x = x.unsqueeze(axis)
    return x


def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(ints(axes))


def shape(x: Tensor) -> Tensor:
    return torch.tensor(x.shape)


def concat(values: Sequence[Tensor], axis: Tensor, interleave: Tensor) -> Tensor:
    """Interleaved: the first slices of all values, then the second ones."""
    if values[0].ndim == 0:
        return torch.stack(tuple(values))
    place = int(axis) % values[0].ndim
    if bool(interleave):
        return torch.stack(tuple(values), place + 1).flatten(place, place + 1)
    return torch.cat(tuple(values), place)


def stack(values: Sequence[Tensor], axis: Tensor) -> Tensor:
    return torch.stack(tuple(values), int(axis))


def split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return tuple(x.split(ints(split_sizes), int(axis)))
    if num_splits is None:
        raise ValueError("neither num_splits nor split_sizes")
    return tuple(x.chunk(int(num_splits), int(axis)))


def slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    *,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    """numpy's slicing: a masked begin or end is left out, a squeezed axis is indexed by its begin."""
    first, last = ints(begin), ints(end)
    steps = (1,) * x.ndim if stride is None else ints(stride)
    open_first, open_last, single = (
        (0,) * x.ndim if mask is None else ints(mask) for mask in (begin_mask, end_mask, squeeze_mask)
    )
    for axis, size in enumerate(x.shape):
        if single[axis]:
            places = range(first[axis] % size, first[axis] % size + 1)
        else:
            start = None if open_first[axis] else first[axis]
            stop = None if open_last[axis] else last[axis]
            places = range(*slice(start, stop, steps[axis]).indices(size))
        if places != range(size):
            # Not by a slice: torch takes no negative steps.
            x = x.index_select(axis, torch.tensor(places, dtype=torch.int64))
    return x.squeeze([axis for axis, is_single in enumerate(single) if is_single])


def slice_by_size(x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
    """A size of -1: all from the begin on."""
    for axis, (first, count) in enumerate(zip(ints(begin), ints(size), strict=True)):
        start = first % x.shape[axis]
        x = x.narrow(axis, start, x.shape[axis] - start if count == -1 else count)
    return x


def crop(x: Tensor, crop_height: Tensor, crop_width: Tensor) -> Tensor:
    """Both hold what is cut off before and behind, of the last two axes."""
    for axis, amounts in ((-2, crop_height), (-1, crop_width)):
        before, after = ints(amounts)
        x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x


def gather(
    x: Tensor,
    indices: Tensor,
    axis: Tensor | int,
    batch_dims: Tensor | int = 0,
    validate_indices: Tensor | None = None,
) -> Tensor:
    """(*x[:axis], *indices[batch_dims:], *x[axis + 1:]); the first `batch_dims` axes are those of both."""
    place = int(axis) % x.ndim
    if int(batch_dims):
        parts = [gather(one, at, place - 1, int(batch_dims) - 1) for one, at in zip(x, indices, strict=True)]
        return torch.stack(parts)
    taken = x.index_select(place, _from_start(indices, x.shape[place]).reshape(-1))
    return taken.reshape(*x.shape[:place], *indices.shape, *x.shape[place + 1 :])


def gather_along_axis(x: Tensor, indices: Tensor, axis: Tensor, validate_indices: Tensor | None = None) -> Tensor:
    return x.gather(int(axis), _from_start(indices, x.shape[int(axis)]))


def gather_nd(
    x: Tensor, indices: Tensor, batch_dims: Tensor | int = 0, validate_indices: Tensor | None = None
) -> Tensor:
    """The last axis of `indices` holds places on the first axes of `x`."""
    if int(batch_dims):
        return torch.stack([gather_nd(one, at, int(batch_dims) - 1) for one, at in zip(x, indices, strict=True)])
    return x[tuple(indices.unbind(-1))]


def _from_start(indices: Tensor, size: int) -> Tensor:
    return torch.where(indices < 0, indices + size, indices)


def tile(x: Tensor, reps: Tensor) -> Tensor:
    return x.repeat(ints(reps))


def reverse(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.flip(tuple(range(x.ndim)) if axes is None else ints(axes))


def pad(x: Tensor, pad: Tensor, mode: str, constant_val: Tensor) -> Tensor:
    """`pad`: before and behind of each of the last axes, in their order."""
    amounts = ints(pad)
    pairs = [(amounts[place], amounts[place + 1]) for place in range(0, len(amounts), 2)]
    if mode == "constant":
        return padded(x, pairs, float(constant_val))
    if mode not in {"reflect", "replicate"}:
        raise ValueError(f"mode {mode}")
    for axis, (before, after) in enumerate(pairs, x.ndim - len(pairs)):
        last = x.shape[axis] - 1
        places = torch.arange(-before, last + 1 + after)
        inside = last - (last - places.abs()).abs() if mode == "reflect" else places.clamp(0, last)
        x = x.index_select(axis, inside)
    return x


def padded(x: Tensor, pairs: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """`x` with that many values before and behind on each of its last axes."""
    # torch begins with the last axis.
    return functional.pad(x, [amount for pair in reversed(pairs) for amount in pair], value=value)


def pixel_shuffle(x: Tensor, upscale_factor: Tensor) -> Tensor:
    return functional.pixel_shuffle(x, int(upscale_factor))


def pixel_unshuffle(x: Tensor, downscale_factor: Tensor) -> Tensor:
    return functional.pixel_unshuffle(x, int(downscale_factor))


def depth_to_space(x: Tensor, block_size: Tensor) -> Tensor:
    """(N, b * b * C, H, W) to (N, C, H * b, W * b). In the channels the place in the block comes first.

    In those of `pixel_shuffle` it comes last.
    """
    block = int(block_size)
    n, channels, height, width = x.shape
    blocks = x.reshape(n, block, block, channels // block**2, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, height * block, width * block)


def space_to_depth(x: Tensor, block_size: Tensor) -> Tensor:
    """(N, C, H, W) to (N, b * b * C, H / b, W / b), what `depth_to_space` undoes."""
    block = int(block_size)
    n, channels, height, width = x.shape
    blocks = x.reshape(n, channels, height // block, block, width // block, block)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, height // block, width // block)


def sliding_windows(x: Tensor, axis: Tensor, size: Tensor, stride: Tensor) -> Tensor:
    """Windows along the axis, their values on a new axis behind it."""
    place = int(axis) % x.ndim
    return x.unfold(place, int(size), int(stride)).movedim(-1, place + 1)
