"""The images that a model is fed, for timing and for parity: random, seeded, the same everywhere.

Never zeros: sparse or skipped work would flatter some runtimes, and a parity check on zeros checks biases only.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitprof.errors import VitprofError
from vitprof.runner.sensors import memory_available_bytes
from vitprof.units import text_from_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Four images tell a swapped axis or a batch mix-up from chance, and cost little to run through torch.
MIN_IMAGES = 4
# Images are held twice: as they are drawn or put together, and as the bytes that are written.
_COPIES = 2


def input_count(batch: int) -> int:
    """How many inputs of `batch` images hold at least `MIN_IMAGES` images."""
    return max(1, math.ceil(MIN_IMAGES / batch))


def check_room(shape: tuple[int, ...], dtype: str, cache_root: Path) -> None:
    """`VitprofError` where memory here or the disk of the cache cannot hold the inputs for (N, C, H, W) `shape`.

    Asked before any is made: a batch of millions would fill either first, and then fail for whoever else needs it.
    """
    batch, *image = shape
    images = batch * input_count(batch)
    needed = images * math.prod(image) * dtype_of(dtype).itemsize
    memory, disk = memory_available_bytes(), _free_bytes(cache_root)
    lacking, room = None, ""
    if disk is not None and needed > disk:
        lacking = f"the disk of {cache_root} has {text_from_bytes(disk)} free"
        room = "set VITPROF_CACHE_DIR to a folder with more room"
    elif memory is not None and _COPIES * needed > memory:
        lacking = f"to write them takes {_COPIES} times that of memory, of which {text_from_bytes(memory)} are free"
        room = "close other programs"
    if lacking:
        raise VitprofError(
            f"{images} images of {'x'.join(map(str, image))} take {text_from_bytes(needed)}; {lacking}",
            remedy=f"take a smaller batch or size, or {room}",
            stage="export",
        )


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        # Whoever writes there says what is wrong with it.
        return None


def seeded_inputs(shape: tuple[int, ...], dtype: str, count: int, seed: int) -> list[npt.NDArray[np.floating]]:
    """`count` arrays of `shape`, standard normal: what images are after the usual normalisation."""
    import numpy as np

    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape, dtype=np.float32).astype(dtype) for _ in range(count)]


def seeded_pixels(shape: tuple[int, ...], count: int, seed: int) -> list[npt.NDArray[np.uint8]]:
    """`count` arrays of `shape`, every value from 0 to 255 as likely as any other."""
    import numpy as np

    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]


def dtype_of(name: str) -> np.dtype[Any]:
    """The type that `name` stands for, `bfloat16` among them, which numpy knows from ml_dtypes only."""
    import numpy as np

    if name == "bfloat16":
        import ml_dtypes  # noqa: F401 - tells numpy of it

    return np.dtype(name)


def write_tensors(path: Path, tensors: list[npt.NDArray[np.floating]]) -> None:
    """The raw values back to back, little-endian: readable on the device without numpy's own format."""
    with path.open("wb") as file:
        for tensor in tensors:
            file.write(tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes())
