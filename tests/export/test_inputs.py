from pathlib import Path

import numpy as np
import pytest

from vitprof.errors import VitprofError
from vitprof.export.inputs import check_room, input_count, seeded_inputs, seeded_pixels, write_tensors


@pytest.mark.parametrize(("batch", "count"), [(1, 4), (2, 2), (3, 2), (4, 1), (64, 1)])
def test_at_least_four_images_are_compared(batch: int, count: int) -> None:
    assert input_count(batch) == count
    assert batch * input_count(batch) >= 4


def test_images_are_seeded_different_from_each_other_and_never_zero() -> None:
    first, second = seeded_inputs((1, 3, 32, 32), "float32", 2, seed=5)
    again = seeded_inputs((1, 3, 32, 32), "float32", 2, seed=5)
    assert np.array_equal(first, again[0])
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, seeded_inputs((1, 3, 32, 32), "float32", 1, seed=6)[0])
    assert (first != 0).all()
    assert abs(first.mean()) < 0.1
    assert 0.9 < first.std() < 1.1


def test_half_precision_images_are_the_same_ones_rounded() -> None:
    (full,), (half,) = (seeded_inputs((1, 3, 8, 8), dtype, 1, seed=0) for dtype in ("float32", "float16"))
    assert np.array_equal(full.astype("float16"), half)


def test_pixels_are_seeded_and_of_every_value() -> None:
    first, second = seeded_pixels((1, 3, 64, 64), 2, seed=5)
    assert first.dtype == np.uint8 and set(first.flat) == set(range(256))
    assert np.array_equal(first, seeded_pixels((1, 3, 64, 64), 1, seed=5)[0])
    assert not np.array_equal(first, second)


def test_tensors_are_written_raw_and_back_to_back(tmp_path: Path) -> None:
    tensors = seeded_inputs((2, 3, 4, 4), "float32", 3, seed=0)
    write_tensors(tmp_path / "inputs.bin", tensors)
    values = np.fromfile(tmp_path / "inputs.bin", dtype="<f4").reshape(3, 2, 3, 4, 4)
    assert np.array_equal(values, np.stack(tensors))


@pytest.mark.parametrize("shape", [(2**31 - 1, 3, 224, 224), (1, 3, 2**31 - 1, 2**31 - 1)])
def test_images_for_which_there_is_no_room_are_refused_before_any_is_made(
    shape: tuple[int, int, int, int], tmp_path: Path
) -> None:
    told = r"^\d+ images of 3x\d+x\d+ take \S+ \S*B; .* free$"
    with pytest.raises(VitprofError, match=told) as caught:
        check_room(shape, "float32", tmp_path)
    assert "smaller batch" in caught.value.remedy
    check_room((64, 3, 32, 32), "float32", tmp_path / "none yet")
