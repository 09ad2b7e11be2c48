"""Whether the outputs on the timed backend are those of the original module.

Relative error of an output: max|actual - expected| / max|expected|, the worst output taken. Relative, because random
weights give outputs from 1e-3 to 1e7; over the maximum, because single values near zero have no relative error to
speak of. Cosine similarity beside it, because an error spread over everything is worse than one outlier.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitprof.errors import VitprofError
from vitprof.export.inputs import dtype_of
from vitprof.records import Parity, ParityVerdict, Precision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tolerance:
    """Limits of `match` and of `drift`; beyond them the outputs are `broken`."""

    match_rel_error: float
    match_cosine: float
    drift_rel_error: float
    drift_cosine: float
    # Outputs that differ less than this from image to image are rounding for the rest: they prove nothing.
    min_variation: float
    # Of what the image changes in the outputs, an error may be this share: a backend that ignores the image has 1.
    image_share: float = 0.1
    # Rounding must not change which logit is the largest. In fp16 it does, between random ones that are nearly equal.
    needs_top1: bool = True


# fp32: another order of the same sums moves outputs by 1e-6 to 1e-5 (seen on 36 models), deep nets with
# random weights by some times that; 1e-3 is above all of it and below any real mistake (a wrong epsilon, padding or
# interpolation gives 1e-2 and more). Up to 2e-2 is what bf16 or tf32 arithmetic under an fp32 name does: to be told.
# Random weights may leave outputs that are nearly the same for every image (hiera_tiny: to 6e-4); below 1e-4 an honest
# error of 1e-5 would be a tenth of all that the image changes.
# fp16: its rounding is 5e-4 a value; honest conversions were off by 1e-3 (vit_tiny) to 2.3e-2 (resnet50).
# bf16: its rounding is 4e-3 a value, eight times that of fp16; with random weights torch's own bf16 was off by 7e-3
# (convnext_atto) to 0.18 with a cosine of 0.987 (repvit_m0_9) in eleven of twelve nets, another runtime's by 0.28 with
# 0.956 (efficientformer_l1). The worst are told as `drift`: a net that is so sensitive gives other outputs in bf16,
# whoever computes them. The twelfth (levit_128s: 0.58, in fp16 0.38) is even told as `broken`. Of 70 nets with a
# mistake in them (an activation left out, a weight zeroed or turned round, biases lost) 41 were `broken`, 26 `drift`, 3
# `match`, off by 3e-2 at most. So `match` says something and `drift` excuses nothing: parity in fp32 tells which.
# int8: how far a quantised net may be off is a question of accuracy, which random weights cannot answer: no limit but
# that it must still be the same network.
TOLERANCES = {
    Precision.FP32: Tolerance(1e-3, 0.9999, 2e-2, 0.99, 1e-4),
    Precision.FP16: Tolerance(5e-2, 0.999, 0.2, 0.98, 5e-3, image_share=0.25, needs_top1=False),
    Precision.BF16: Tolerance(0.1, 0.998, 0.6, 0.9, 2e-2, image_share=0.25, needs_top1=False),
    Precision.INT8: Tolerance(0.0, 1.0, math.inf, 0.5, 0.0),
}
_NO_CLAIM = "int8: the figures are shown, no accuracy is claimed"


def compare(expected: Sequence[Array], actual: Sequence[Array], precision: Precision, where: str) -> Parity:
    """The verdict over all outputs of input 0, then of input 1, ….

    An input's first output with two axes is taken as logits for the top-1 agreement.
    """
    per_input = _outputs_per_input(expected)
    tolerance = TOLERANCES[precision]
    vacuous = _cannot_fail(expected, per_input, tolerance)
    if vacuous:
        return Parity(ParityVerdict.NOT_CHECKED, where=where, reason=vacuous)
    broken = _shapes_differ(expected, actual) or _not_finite(actual)
    if broken:
        return Parity(ParityVerdict.BROKEN, where=where, reason=broken)
    pairs = [(_float64(e), _float64(a)) for e, a in zip(expected, actual, strict=True)]
    error = max(_relative_error(e, a) for e, a in pairs)
    cosine = min(_cosine(e, a) for e, a in pairs)
    top1 = _top1_agreement(pairs, per_input)
    limit = min(tolerance.match_rel_error, tolerance.image_share * _largest_variation(expected, per_input))
    verdict, reason = _verdict(error, cosine, top1, limit, tolerance)
    if precision is Precision.INT8 and verdict is not ParityVerdict.BROKEN:
        verdict, reason = ParityVerdict.NOT_CHECKED, _NO_CLAIM
    return Parity(verdict, where, error if math.isfinite(error) else None, cosine, top1, reason)


def read_tensors(path: Path, outputs: Iterable[tuple[str, tuple[int, ...]]]) -> list[Array]:
    """The arrays of these (dtype, shape) that a raw little-endian file holds back to back.

    `VitprofError` where the file is shorter.
    """
    import numpy as np

    content = path.read_bytes()
    arrays: list[Array] = []
    offset = 0
    for name, shape in outputs:
        dtype = dtype_of(name).newbyteorder("<")
        count = math.prod(shape)
        if offset + count * dtype.itemsize > len(content):
            raise VitprofError(
                f"{path} ends after {len(content):,} bytes, before the outputs it should hold",
                remedy="run again; if it stays, `vitprof doctor` shows the free space",
                stage="parity",
            )
        arrays.append(np.frombuffer(content, dtype, count, offset).reshape(shape))
        offset += count * dtype.itemsize
    return arrays


def _outputs_per_input(expected: Sequence[Array]) -> int:
    """After how many outputs their shapes begin anew: every input has the same ones."""
    shapes = [output.shape for output in expected]
    periods = (n for n in range(1, len(shapes)) if len(shapes) % n == 0 and shapes == shapes[:n] * (len(shapes) // n))
    return next(periods, max(1, len(shapes)))


def _cannot_fail(expected: Sequence[Array], per_input: int, tolerance: Tolerance) -> str | None:
    """Why a comparison with these would prove nothing, if it would."""
    import numpy as np

    if not expected:
        return "the original gave no outputs"
    if not all(np.isfinite(output).all() for output in expected):
        return "the original's outputs are not finite"
    if all(output.size == 0 or (output == output.flat[0]).all() for output in expected):
        return "the original's outputs are constant, so equal outputs would prove nothing"
    variation = _largest_variation(expected, per_input)
    if variation < tolerance.min_variation:
        return f"the original's outputs differ by {variation:.1g} from image to image: one that ignores it would pass"
    return None


def _largest_variation(expected: Sequence[Array], per_input: int) -> float:
    return max(_variation(expected[place::per_input]) for place in range(per_input))


def _variation(outputs: Sequence[Array]) -> float:
    """The largest difference between two images, relative to the largest value; infinite for a single image."""
    import numpy as np

    images = np.concatenate([_float64(np.atleast_2d(output)) for output in outputs])
    largest = float(abs(images).max(initial=0.0))
    if len(images) < 2:
        return math.inf
    return float(abs(images - images[0]).max(initial=0.0)) / largest if largest else 0.0


def _shapes_differ(expected: Sequence[Array], actual: Sequence[Array]) -> str | None:
    if len(expected) != len(actual):
        return f"{len(actual)} outputs instead of {len(expected)}"
    for e, a in zip(expected, actual, strict=True):
        if e.shape != a.shape:
            return f"an output has the shape {a.shape} instead of {e.shape}"
    return None


def _not_finite(actual: Sequence[Array]) -> str | None:
    import numpy as np

    bad = sum(int(np.size(a) - np.isfinite(a).sum()) for a in actual)
    return f"{bad:,} of the output values are not finite" if bad else None


def _float64(array: Array) -> npt.NDArray[np.float64]:
    import numpy as np

    return array.astype(np.float64)


def _relative_error(expected: Array, actual: Array) -> float:
    difference = float(abs(actual - expected).max(initial=0.0))
    if difference == 0:
        return 0.0
    largest = float(abs(expected).max())
    return difference / largest if largest else math.inf


def _cosine(expected: Array, actual: Array) -> float:
    import numpy as np

    norms = float(np.linalg.norm(expected) * np.linalg.norm(actual))
    if norms == 0:
        # Both zero are alike; one of them zero has no direction to compare.
        return 1.0 if np.array_equal(expected, actual) else 0.0
    # Rounding takes equal vectors a little past one.
    return min(1.0, float(np.vdot(expected, actual)) / norms)


def _top1_agreement(pairs: Sequence[tuple[Array, Array]], per_input: int) -> float | None:
    """Share of images with the same largest logit; None where no output looks like logits."""
    import numpy as np

    place = next((i for i, (e, _) in enumerate(pairs[:per_input]) if e.ndim == 2 and e.shape[1] > 1), None)
    if place is None:
        return None
    agreements = [np.argmax(e, axis=-1) == np.argmax(a, axis=-1) for e, a in pairs[place::per_input]]
    return float(np.concatenate(agreements).mean())


def _verdict(
    error: float, cosine: float, top1: float | None, limit: float, tolerance: Tolerance
) -> tuple[ParityVerdict, str | None]:
    facts = f"relative error {error:.2g} (limit {limit:.2g}), cosine {cosine:.6f}"
    if error > tolerance.drift_rel_error or cosine < tolerance.drift_cosine:
        return ParityVerdict.BROKEN, facts
    if error > limit or cosine < tolerance.match_cosine:
        return ParityVerdict.DRIFT, facts
    if tolerance.needs_top1 and top1 is not None and top1 < 1:
        return ParityVerdict.DRIFT, f"the largest logit differs for {(1 - top1):.0%} of the images"
    return ParityVerdict.MATCH, None
