from pathlib import Path

import numpy as np
import pytest

from vitprof.errors import VitprofError
from vitprof.export.inputs import write_tensors
from vitprof.export.parity import compare, read_tensors
from vitprof.records import Parity, ParityVerdict, Precision

Arrays = list[np.ndarray]  # type: ignore[type-arg]


def logits(images: int = 4, classes: int = 10) -> Arrays:
    values = np.random.default_rng(0).standard_normal((images, 1, classes))
    return list(values)


def verdict(expected: Arrays, actual: Arrays) -> Parity:
    return compare(expected, actual, Precision.FP32, "device")


def shifted(expected: Arrays, share: float) -> Arrays:
    """The smallest logit of each image moved by `share` of the largest magnitude of its output: top-1 stays."""
    moved = [output.copy() for output in expected]
    for output in moved:
        output[0, np.argmin(output)] -= share * abs(output).max()
    return moved


def test_equal_outputs_match() -> None:
    parity = verdict(logits(), logits())
    assert parity == Parity(ParityVerdict.MATCH, "device", 0.0, pytest.approx(1.0), 1.0, None)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1e-6, "match"), (0.9e-3, "match"), (1.2e-3, "drift"), (1.8e-2, "drift"), (2.5e-2, "broken"), (1.0, "broken")],
)
def test_the_verdict_follows_the_relative_error(share: float, expected: str) -> None:
    parity = verdict(logits(), shifted(logits(), share))
    assert parity.verdict == expected
    assert parity.max_rel_error == pytest.approx(share, rel=1e-3)


def test_the_error_is_relative_to_the_largest_value_of_its_own_output() -> None:
    small, large = np.array([[1.0, 2.0]]), np.array([[[1000.0, 2000.0]]])
    parity = verdict([small, large, -small, -large], [small, large + np.array([[0.0, 1.0]]), -small, -large])
    assert parity.max_rel_error == 1 / 2000


def test_an_error_spread_over_everything_is_told_by_the_cosine() -> None:
    # One value of 1,000 beside a million of ±1, of which half lose their sign: an error of 2 in 1,000 (drift), while
    # the two vectors have 1e6 - 0 of 2e6 in common: cosine 0.5 (broken).
    signs = np.where(np.arange(1_000_000) % 2, 1.0, -1.0)
    flipped = np.where(np.arange(1_000_000) % 4 < 2, signs, -signs)
    expected = [np.append(signs, peak)[None] for peak in (1000.0, -1000.0)]
    actual = [np.append(flipped, peak)[None] for peak in (1000.0, -1000.0)]
    parity = verdict(expected, actual)
    assert parity.max_rel_error == pytest.approx(2e-3)
    assert parity.cosine == pytest.approx(0.5)
    assert parity.verdict == ParityVerdict.BROKEN


def test_opposite_outputs_are_broken_with_a_cosine_of_minus_one() -> None:
    parity = verdict(logits(), [-output for output in logits()])
    assert (parity.verdict, parity.cosine) == (ParityVerdict.BROKEN, pytest.approx(-1.0))


def test_another_top_1_turns_a_match_into_drift() -> None:
    expected = [np.array([[1.0, 1.0001, -1.0]]), np.array([[-1.0, 0.0, 1.0]])]
    actual = [np.array([[1.0001, 1.0, -1.0]]), np.array([[-1.0, 0.0, 1.0]])]
    parity = verdict(expected, actual)
    assert (parity.verdict, parity.top1_agreement) == (ParityVerdict.DRIFT, 0.5)
    assert "50%" in (parity.reason or "")


def test_top_1_is_taken_from_the_first_output_that_has_two_axes() -> None:
    maps = [np.random.default_rng(i).standard_normal((1, 2, 3, 3)) for i in range(2)]
    expected = [maps[0], logits(2)[0], maps[1], logits(2)[1]]
    assert verdict(expected, expected).top1_agreement == 1.0
    assert verdict(maps, maps).top1_agreement is None


def test_a_batch_of_images_counts_each_image() -> None:
    expected = np.array([[0.0, 1.0], [1.0, 0.9999], [0.0, 1.0], [1.0, 0.0]])
    actual = np.array([[0.0, 1.0], [0.9999, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert verdict([expected], [actual]).top1_agreement == 0.75


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_break_the_parity(value: float) -> None:
    actual = logits()
    actual[2][0, 3] = value
    parity = verdict(logits(), actual)
    assert (parity.verdict, parity.max_rel_error) == (ParityVerdict.BROKEN, None)
    assert parity.reason == "1 of the output values are not finite"


def test_another_shape_or_number_of_outputs_breaks_the_parity() -> None:
    assert "shape (10,) instead of (1, 10)" in (verdict(logits(), [o[0] for o in logits()]).reason or "")
    assert "3 outputs instead of 4" in (verdict(logits(), logits()[:3]).reason or "")


def test_originals_that_are_not_finite_are_not_checked() -> None:
    parity = verdict([np.full((1, 3), np.nan)], [np.zeros((1, 3))])
    assert (parity.verdict, parity.reason) == (ParityVerdict.NOT_CHECKED, "the original's outputs are not finite")


def test_constant_originals_are_not_checked_because_anything_would_pass() -> None:
    parity = verdict([np.zeros((1, 3))] * 4, [np.zeros((1, 3))] * 4)
    assert parity.verdict == ParityVerdict.NOT_CHECKED
    assert "constant" in (parity.reason or "")


def test_originals_that_hardly_depend_on_the_image_are_not_checked() -> None:
    outputs = [logits(1)[0] * (1 + image * 1e-7) for image in range(4)]
    parity = verdict(outputs, outputs)
    assert parity.verdict == ParityVerdict.NOT_CHECKED
    assert "from image to image" in (parity.reason or "")


def test_outputs_that_the_image_moves_little_are_held_to_a_tenth_of_that() -> None:
    base = np.array([[1.0, 0.5, 0.2, 0.1]])
    expected = [base + np.array([[0.0, 0.0, 0.0, image * 1e-3]]) for image in range(2)]
    assert verdict(expected, expected).verdict == ParityVerdict.MATCH
    # A backend that ignores the image: within the limit of 1e-3, and wrong.
    assert verdict(expected, [expected[0], expected[0]]).verdict == ParityVerdict.DRIFT


def test_tensors_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    outputs = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([[7.0]], dtype=np.float16)]
    write_tensors(tmp_path / "outputs.bin", outputs * 2)
    described = [("float32", (2, 3)), ("float16", (1, 1))] * 2
    for read, written in zip(read_tensors(tmp_path / "outputs.bin", described), outputs * 2, strict=True):
        assert read.dtype == written.dtype
        assert np.array_equal(read, written)


def test_a_file_that_ends_too_soon_is_told(tmp_path: Path) -> None:
    (tmp_path / "outputs.bin").write_bytes(bytes(7))
    with pytest.raises(VitprofError, match="ends after 7 bytes"):
        read_tensors(tmp_path / "outputs.bin", [("float32", (2,))])
