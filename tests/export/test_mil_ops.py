"""Each function of the table against what coremltools infers for constants, or against sums worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vitprof.export.mil_eval import evaluate_function
from vitprof.export.quiet import silenced

with silenced():
    ct = pytest.importorskip("coremltools", reason="the vocabulary of the programs is coremltools'")
    from coremltools.converters.mil import Builder as mb

Array = np.ndarray  # type: ignore[type-arg]
Results = list[Array]

RANDOM = np.random.default_rng(0)
# Signs, a zero, and what rounds both ways.
MIXED = np.array([[-2.5, -1.0, -0.4, 0.0], [0.5, 1.5, 2.0, 7.25]], np.float32)
POSITIVE = np.abs(MIXED) + np.float32(0.5)
CUBE = RANDOM.standard_normal((2, 3, 4)).astype(np.float32)
IMAGE = RANDOM.standard_normal((1, 3, 4, 5)).astype(np.float32)
WHOLE = np.array([[7, -7, 3], [4, -4, 5]], np.int32)
TRUTH = np.array([[True, False, True, False], [True, True, False, False]])


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int32)


def computed(kind: str, **arguments: Any) -> tuple[Results, list[Any]]:
    """What the table makes of one operator on constants, and what coremltools infers (None where it does not)."""
    made: list[Any] = []

    @mb.program(input_specs=[], opset_version=ct.target.iOS18)  # type: ignore[untyped-decorator]
    def program() -> Any:
        result = getattr(mb, kind)(**arguments)
        made.extend(result if isinstance(result, (list, tuple)) else [result])
        return result

    ours = evaluate_function(program.functions["main"], {})
    return [ours[var.name] for var in made], [var.val for var in made]


def one(kind: str, **arguments: Any) -> Array:
    (result,), _ = computed(kind, **arguments)
    return result


def row(kind: str, **arguments: Any) -> list[float]:
    """The values of a result along its last axis."""
    return [float(value) for value in one(kind, **arguments).reshape(-1)]


INFERRED: list[tuple[str, dict[str, Any]]] = [
    *((kind, {"x": MIXED}) for kind in (
        "abs", "ceil", "cos", "erf", "exp", "exp2", "floor", "identity", "relu", "relu6", "round", "shape", "sigmoid",
        "sign", "sin", "softplus", "softsign", "square", "tanh",
    )),
    ("sqrt", {"x": POSITIVE}),
    ("rsqrt", {"x": POSITIVE, "epsilon": np.float32(0.1)}),
    ("inverse", {"x": POSITIVE}),
    ("inverse", {"x": POSITIVE, "epsilon": np.float32(0.5)}),
    ("log", {"x": POSITIVE, "epsilon": np.float32(0.5)}),
    ("gelu", {"x": MIXED, "mode": "EXACT"}),
    ("gelu", {"x": MIXED, "mode": "TANH_APPROXIMATION"}),
    ("gelu", {"x": MIXED, "mode": "SIGMOID_APPROXIMATION"}),
    ("elu", {"x": MIXED, "alpha": np.float32(0.7)}),
    ("leaky_relu", {"x": MIXED, "alpha": np.float32(0.2)}),
    ("prelu", {"x": IMAGE, "alpha": floats(0.1, 0.2, 0.3)}),
    ("sigmoid_hard", {"x": MIXED, "alpha": np.float32(0.25), "beta": np.float32(0.5)}),
    ("clip", {"x": MIXED, "alpha": np.float32(-1), "beta": np.float32(1.75)}),
    ("thresholded_relu", {"x": MIXED.copy(), "alpha": np.float32(1.5)}),
    ("threshold", {"x": MIXED, "alpha": np.float32(0.25)}),
    ("softmax", {"x": CUBE, "axis": 1}),
    ("layer_norm", {"x": CUBE, "axes": [-1], "epsilon": np.float32(0.1)}),
    ("layer_norm", {"x": CUBE, "axes": [1, 2], "gamma": CUBE[0], "beta": CUBE[1], "epsilon": np.float32(0.1)}),
    ("l2_norm", {"x": np.stack([CUBE, 2 * CUBE]), "epsilon": np.float32(0.1)}),
    ("linear", {"x": CUBE, "weight": CUBE[0], "bias": floats(1, 2, 3)}),
    ("linear", {"x": CUBE, "weight": CUBE[0]}),
    ("matmul", {"x": CUBE, "y": CUBE, "transpose_y": True}),
    ("matmul", {"x": CUBE, "y": CUBE, "transpose_x": True}),
    ("matmul", {"x": CUBE[0], "y": CUBE.swapaxes(1, 2)}),
    ("einsum", {"values": (CUBE, CUBE.transpose(2, 1, 0)), "equation": "chw,whr->chr"}),
    ("scaled_dot_product_attention", {"query": CUBE, "key": CUBE, "value": 2 * CUBE}),
    ("scaled_dot_product_attention", {
        "query": CUBE, "key": CUBE, "value": CUBE, "attn_mask": np.tril(np.ones((3, 3), bool)),
    }),
    ("scaled_dot_product_attention", {"query": CUBE, "key": CUBE, "value": CUBE, "attn_mask": CUBE[:, :, :3]}),
    *((kind, {"x": MIXED, "y": POSITIVE}) for kind in (
        "add", "sub", "mul", "real_div", "floor_div", "mod", "maximum", "minimum", "greater", "greater_equal", "less",
        "less_equal", "equal", "not_equal",
    )),
    ("pow", {"x": POSITIVE, "y": MIXED}),
    ("add", {"x": CUBE, "y": floats(1, 2, 3, 4)}),
    ("equal", {"x": MIXED, "y": np.float32(1.5)}),
    ("floor_div", {"x": WHOLE, "y": ints(2, 2, 2)}),
    ("mod", {"x": WHOLE, "y": ints(3, 3, 3)}),
    *((kind, {"x": TRUTH, "y": ~TRUTH[::-1]}) for kind in ("logical_and", "logical_or", "logical_xor")),
    ("logical_not", {"x": TRUTH}),
    ("select", {"cond": TRUTH, "a": MIXED, "b": POSITIVE}),
    ("cast", {"x": MIXED, "dtype": "int32"}),
    ("cast", {"x": MIXED, "dtype": "bool"}),
    ("cast", {"x": WHOLE, "dtype": "fp32"}),
    ("cast", {"x": MIXED / 3, "dtype": "fp16"}),
    *((f"reduce_{kind}", {"x": CUBE, "axes": [0, -1], "keep_dims": keep}) for keep in (True, False) for kind in (
        "l1_norm", "l2_norm", "log_sum_exp", "max", "mean", "min", "prod", "sum", "sum_square",
    )),
    ("reduce_sum", {"x": CUBE}),
    ("reduce_max", {"x": WHOLE, "axes": [1]}),
    ("reduce_argmax", {"x": CUBE, "axis": 1, "keep_dims": True}),
    ("reduce_argmin", {"x": CUBE, "axis": -1}),
    ("cumsum", {"x": CUBE, "axis": 2}),
    ("cumsum", {"x": CUBE, "axis": 1, "reverse": True}),
    ("reshape", {"x": CUBE, "shape": [4, -1]}),
    ("reshape", {"x": CUBE, "shape": [0, -1, 2]}),
    ("reshape", {"x": CUBE, "shape": [0, 0, 0, -1]}),
    ("transpose", {"x": CUBE, "perm": [2, 0, -2]}),
    ("expand_dims", {"x": CUBE, "axes": [0, -1]}),
    ("squeeze", {"x": CUBE[:1, :, :1], "axes": [0]}),
    ("squeeze", {"x": CUBE[:1, :, :1]}),
    ("concat", {"values": (CUBE, 2 * CUBE), "axis": -2}),
    ("stack", {"values": (CUBE, 2 * CUBE), "axis": 1}),
    ("split", {"x": CUBE, "split_sizes": [1, 2], "axis": 1}),
    ("split", {"x": CUBE, "num_splits": 2, "axis": -1}),
    ("slice_by_index", {"x": CUBE, "begin": [0, 1, -3], "end": [1, 3, -1]}),
    ("slice_by_index", {"x": CUBE, "begin": [0, 0, 0], "end": [2, 0, 0], "end_mask": [False, True, True],
                        "stride": [1, 2, 3]}),
    ("slice_by_index", {"x": CUBE, "begin": [0, 0, -1], "end": [2, 3, -4], "begin_mask": [True, False, False],
                        "stride": [1, 1, -1]}),
    ("slice_by_index", {"x": CUBE, "begin": [1, 0, -2], "end": [0, 3, 0], "squeeze_mask": [True, False, True]}),
    ("slice_by_size", {"x": CUBE, "begin": [0, 1, -3], "size": [1, -1, 2]}),
    ("gather", {"x": CUBE, "indices": ints(2, 0, 1, 1), "axis": 1}),
    ("gather", {"x": CUBE, "indices": np.array([[3, 0], [1, 2]], np.int32), "axis": -1}),
    ("gather", {"x": CUBE, "indices": np.int32(2), "axis": 1}),
    ("gather", {"x": CUBE, "indices": np.array([[2, 0], [1, 1]], np.int32), "axis": 1, "batch_dims": 1}),
    ("gather_along_axis", {"x": CUBE, "indices": np.array([[[2, 0, 1, 1]], [[0, 0, 2, 1]]], np.int32), "axis": 1}),
    ("tile", {"x": CUBE, "reps": [1, 2, 3]}),
    ("reverse", {"x": CUBE, "axes": [0, 2]}),
    ("reverse", {"x": CUBE}),
    ("pad", {"x": CUBE, "pad": [1, 2, 3, 0], "mode": "constant", "constant_val": np.float32(7)}),
    ("pad", {"x": CUBE, "pad": [1, 2, 3, 0], "mode": "reflect"}),
    ("pad", {"x": CUBE, "pad": [1, 1, 1, 2, 3, 0], "mode": "replicate"}),
    ("range_1d", {"start": np.int32(2), "end": np.int32(11), "step": np.int32(3)}),
    ("range_1d", {"start": np.float32(0), "end": np.float32(1), "step": np.float32(0.25)}),
    ("fill", {"shape": [2, 3], "value": np.float32(1.5)}),
    ("fill_like", {"ref_tensor": CUBE, "value": np.int32(3)}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "arguments"), INFERRED, ids=[f"{n}-{kind}" for n, (kind, _) in enumerate(INFERRED)])
def test_an_operator_gives_what_coremltools_infers(kind: str, arguments: dict[str, Any]) -> None:
    ours, theirs = computed(kind, **arguments)
    for mine, inferred in zip(ours, theirs, strict=True):
        assert inferred is not None
        assert mine.shape == np.shape(inferred)
        np.testing.assert_allclose(mine, inferred, rtol=2e-6, atol=2e-6)


def test_silu_is_the_value_times_its_sigmoid() -> None:
    # 2 / (1 + e^-2) = 1.7615942
    assert row("silu", x=floats(-2, 0, 2)) == pytest.approx([-0.2384058, 0, 1.7615942], abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("relu", {}),
        ("relu6", {}),
        ("leaky_relu", {"alpha": np.float32(0.1)}),
        ("elu", {"alpha": np.float32(0.1)}),
        ("thresholded_relu", {"alpha": np.float32(0)}),
        ("sigmoid_hard", {"alpha": np.float32(1), "beta": np.float32(1)}),
        ("clip", {"alpha": np.float32(0), "beta": np.float32(1)}),
        ("threshold", {"alpha": np.float32(0)}),
    ],
)
def test_an_activation_does_not_hide_what_is_not_a_number(kind: str, options: dict[str, Any]) -> None:
    # An overflow upstream must reach the outputs.
    assert np.isnan(one(kind, x=floats(float("nan")), **options)).all()


def test_an_exclusive_sum_leaves_the_value_itself_out() -> None:
    # Of an input, not of a constant: coremltools 9.0 cannot infer the sum of one.
    @mb.program(input_specs=[mb.TensorSpec((3,))])  # type: ignore[untyped-decorator]
    def program(x: Any) -> Any:
        return mb.cumsum(x=x, exclusive=True), mb.cumsum(x=x, exclusive=True, reverse=True)

    forward, backward = evaluate_function(program.functions["main"], {"x": floats(1, 2, 4)}).values()
    assert (forward.tolist(), backward.tolist()) == ([0, 1, 3], [6, 4, 0])


def test_interleaved_values_take_turns() -> None:
    # The example of the operator's definition.
    first, second = np.array([[1, 2], [3, 4], [5, 6]], np.float32), np.array([[7, 8], [9, 10], [11, 12]], np.float32)
    expected = [[1, 2], [7, 8], [3, 4], [9, 10], [5, 6], [11, 12]]
    assert one("concat", values=(first, second), axis=0, interleave=True).tolist() == expected


def test_gather_nd_reads_at_coordinates() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert row("gather_nd", x=x, indices=np.array([[1, 2], [0, 1]], np.int32)) == [5, 1]
    # With one axis of batch: row 0 at 2, row 1 at 0.
    assert row("gather_nd", x=x, indices=np.array([[2], [0]], np.int32), batch_dims=1) == [2, 3]


def test_crop_cuts_the_last_two_axes() -> None:
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    assert one("crop", x=x, crop_height=[1, 0], crop_width=[1, 2]).tolist() == [[[5], [9]]]


def test_windows_stand_behind_the_axis_they_slide_on() -> None:
    x = np.arange(5, dtype=np.float32).reshape(5, 1)
    windows = one("sliding_windows", x=x, axis=0, size=3, stride=2)
    assert windows.tolist() == [[[0], [1], [2]], [[2], [3], [4]]]


def test_blocks_and_shuffled_pixels_differ_in_the_order_of_channels() -> None:
    # Eight channels of one pixel, named by their number, to two channels of 2 x 2. Blocks: channel 2 i + c goes to
    # place i of channel c; shuffled: channel 4 c + i.
    x = np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1)
    blocks = one("depth_to_space", x=x, block_size=2)
    assert blocks.tolist() == [[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]]
    assert one("space_to_depth", x=blocks, block_size=2).tolist() == x.tolist()
    shuffled = one("pixel_shuffle", x=x, upscale_factor=2)
    assert shuffled.tolist() == [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]]
    assert one("pixel_unshuffle", x=shuffled, downscale_factor=np.uint32(2)).tolist() == x.tolist()


def test_batch_norm_scales_each_channel() -> None:
    # (3 - 1) / sqrt(3.75 + 0.25) = 1, times 5, plus 2; (3 - 3) …, plus 4.
    arguments = {"mean": floats(1, 3), "variance": floats(3.75, 1), "gamma": floats(5, 6), "beta": floats(2, 4)}
    assert row("batch_norm", x=np.full((1, 2, 1), 3, np.float32), epsilon=np.float32(0.25), **arguments) == [7, 4]


def test_instance_norm_takes_each_image_and_channel_apart() -> None:
    # Mean 2, variance 1, with 0.5625 under the root 1.25: -1 / 1.25 and 1 / 1.25, times 10.
    x = floats(1, 3, 101, 103).reshape(1, 2, 2)
    normal = row("instance_norm", x=x, gamma=floats(10, 10), beta=floats(0, 1), epsilon=np.float32(0.5625))
    assert normal == pytest.approx([-8, 8, -7, 9], abs=1e-4)


LINE = floats(1, 2, 3, 4).reshape(1, 1, 4)
# Reads as decimal places what is under it.
DIGITS = floats(1, 10).reshape(1, 1, 2)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"pad_type": "valid"}, [21, 32, 43]),
        ({"pad_type": "same"}, [21, 32, 43, 4]),
        ({"pad_type": "same_lower"}, [10, 21, 32, 43]),
        ({"pad_type": "same", "strides": [3]}, [21, 4]),
        ({"pad_type": "custom", "pad": [2, 1]}, [0, 10, 21, 32, 43, 4]),
        ({"pad_type": "valid", "dilations": [2]}, [31, 42]),
        ({"pad_type": "valid", "bias": floats(0.5)}, [21.5, 32.5, 43.5]),
    ],
)
def test_a_convolution_pads_as_it_is_told(options: dict[str, Any], expected: list[float]) -> None:
    assert row("conv", x=LINE, weight=DIGITS, **options) == expected


def test_a_convolution_keeps_groups_apart() -> None:
    # Each of two channels by its own kernel: 1 + 20, and 3 * 1 + 4 * 100.
    x = floats(1, 2, 3, 4).reshape(1, 2, 2)
    weight = floats(1, 10, 1, 100).reshape(2, 1, 2)
    assert row("conv", x=x, weight=weight, pad_type="valid", groups=2) == [21, 403]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # 1 * (1, 10, 100) and, two further, 2 * (1, 10, 100).
        ({}, [1, 10, 102, 20, 200]),
        ({"pad_type": "custom", "pad": [1, 1]}, [10, 102, 20]),
        ({"pad_type": "same"}, [1, 10, 102, 20]),
        ({"pad_type": "custom", "pad": [1, 1], "output_shape": [1, 1, 4]}, [10, 102, 20, 200]),
        ({"pad_type": "custom", "pad": [1, 0], "output_shape": [1, 1, 5]}, [10, 102, 20, 200, 0]),
        ({"bias": floats(0.5)}, [1.5, 10.5, 102.5, 20.5, 200.5]),
    ],
)
def test_a_transposed_convolution_cuts_its_padding_off(options: dict[str, Any], expected: list[float]) -> None:
    x, weight = floats(1, 2).reshape(1, 1, 2), floats(1, 10, 100).reshape(1, 1, 3)
    assert row("conv_transpose", x=x, weight=weight, strides=[2], **options) == expected


POOL = {"kernel_sizes": [3], "strides": [2], "pad_type": "custom", "pad": [1, 1]}


def test_an_average_counts_the_padding_unless_told_not_to() -> None:
    x = floats(1, 2, 3).reshape(1, 1, 3)
    # (0, 1, 2) and (2, 3, 0): by three, or by two.
    assert row("avg_pool", x=x, **POOL) == pytest.approx([1, 5 / 3])
    assert row("avg_pool", x=x, **POOL, exclude_padding_from_average=True) == pytest.approx([1.5, 2.5])


def test_a_last_window_that_is_not_full_counts_what_is_in_it() -> None:
    x = floats(1, 2, 3, 4, 5).reshape(1, 1, 5)
    window = {"kernel_sizes": [2], "strides": [2], "pad_type": "valid"}
    assert row("avg_pool", x=x, **window) == [1.5, 3.5]
    assert row("avg_pool", x=x, **window, ceil_mode=True) == [1.5, 3.5, 5]
    assert row("max_pool", x=x, **window, ceil_mode=True) == [2, 4, 5]


def test_padding_is_no_maximum() -> None:
    assert row("max_pool", x=floats(-1, -2, -3).reshape(1, 1, 3), **POOL) == [-1, -2]
    assert row("max_pool", x=floats(-1, -2, -3, -4).reshape(1, 1, 4), kernel_sizes=[2], pad_type="same") == [
        -1, -2, -3, -4,
    ]  # fmt: skip


# The values are the places themselves, so a result shows its grid points: those of resize_bilinear's definition.
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("UNALIGN_CORNERS", [0, 0.1, 0.5, 0.9, 1]),
        ("STRICT_ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1]),
        ("ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1]),
        ("DEFAULT", [0, 0.4, 0.8, 1, 1]),
        ("OFFSET_CORNERS", [0.1, 0.3, 0.5, 0.7, 0.9]),
    ],
)
def test_a_resized_line_has_the_grid_points_of_its_mode(mode: str, expected: list[float]) -> None:
    x = floats(0, 1).reshape(1, 1, 1, 2)
    sizes = {"target_size_height": 1, "target_size_width": 5}
    assert row("resize_bilinear", x=x, **sizes, sampling_mode=mode) == pytest.approx(expected, abs=1e-6)
    named = {"shape": [1, 5], "resized_dims": np.uint32(2), "interpolation_mode": "LINEAR", "sampling_mode": mode}
    assert row("resize", x=x, **named) == pytest.approx(expected, abs=1e-6)


def test_a_single_point_is_the_first_or_the_middle_one() -> None:
    x = floats(0, 1, 2).reshape(1, 1, 1, 3)
    sizes = {"target_size_height": 1, "target_size_width": 1}
    assert row("resize_bilinear", x=x, **sizes, sampling_mode="STRICT_ALIGN_CORNERS") == [0]
    assert row("resize_bilinear", x=x, **sizes, sampling_mode="ALIGN_CORNERS") == [1]


def test_upsampling_takes_factors() -> None:
    x = floats(0, 1).reshape(1, 1, 1, 2)
    factors = {"scale_factor_height": 1, "scale_factor_width": 2}
    # Points -0.25, 0.25, 0.75, 1.25 within 0 to 1; with corners aligned, thirds.
    assert row("upsample_bilinear", x=x, **factors, align_corners=False) == [0, 0.25, 0.75, 1]
    assert row("upsample_bilinear", x=x, **factors, align_corners=True) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert row("upsample_nearest_neighbor", x=x, **factors) == [0, 0, 1, 1]


def test_both_axes_are_resized() -> None:
    x = floats(0, 1, 10, 11).reshape(1, 1, 2, 2)
    wide = one("resize_nearest_neighbor", x=x, target_size_height=3, target_size_width=4)
    # Rows 0, 2/3 and 4/3 of two: 0, 0, 1.
    assert wide.tolist() == [[[[0, 0, 1, 1], [0, 0, 1, 1], [10, 10, 11, 11]]]]
    smooth = one("resize_bilinear", x=x, target_size_height=3, target_size_width=2, sampling_mode="ALIGN_CORNERS")
    assert smooth.tolist() == [[[[0, 1], [5, 6], [10, 11]]]]
    kept = one("resize", x=x, shape=[0, 4], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR")
    assert kept.tolist() == [[[[0, 0, 1, 1], [10, 10, 11, 11]]]]
