"""What of a Core ML program is likely to leave the Neural Engine, or to be slow there, before any device is at hand.

Its own file because it is a table of claims, each with its source beside it: Apple documents no list of what its
engine runs, and only `MLComputePlan` on a device knows. What no source says is not claimed.

- coremltools guide: https://apple.github.io/coremltools/docs-guides/source/typed-execution.html
- Apple: https://machinelearning.apple.com/research/neural-engine-transformers
- ane-guide: https://ane-guide.readthedocs.io, found by compiling for the engine, on an M1 and later
- hollance: https://github.com/hollance/neural-engine/blob/master/docs/unsupported-layers.md, by experiment, maybe dated
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from vitprof.measurements import Doubt
from vitprof.mil import MilOp, MilProgram, MilValue

# More would hide the first; how many they are is said.
_MOST_PLACES = 5
_TYPED_EXECUTION = "coremltools guide, Typed Execution"
_TRANSFORMERS = "Apple, Deploying Transformers on the Apple Neural Engine"
_MEASURED_OPS = "ane-guide.readthedocs.io, chapter 4"
_MEASURED_SHAPES = "ane-guide.readthedocs.io, chapter 17"
_OBSERVED = "hollance/neural-engine, unsupported layers"
# The largest extents: of the last two axes, and of the channels before them (ane-guide, chapter 17).
_MAX_SIDE = 16_384
_MAX_CHANNELS = 65_536
# The widest kernel of a convolution (ane-guide, chapter 17).
_MAX_KERNEL_WIDTH = 13
# What a program needs at its ends even where all between them is fp16.
_CONVERSION = "cast"


@dataclass(frozen=True)
class _Rule:
    """`finds`: what is wrong with one operator, in a few words; empty where nothing is."""

    code: str
    finds: Callable[[MilOp], str]
    says: str
    source: str
    remedy: str


def lint(program: MilProgram) -> tuple[Doubt, ...]:
    """One finding for each rule that some operator breaks, the operators that need no image left out."""
    live = [op for op in program.ops if op.depends_on_input]
    return tuple(_findings(live))


def _findings(ops: Sequence[MilOp]) -> Iterator[Doubt]:
    for rule in _RULES:
        found = [(op, text) for op in ops if (text := rule.finds(op))]
        if found:
            yield Doubt(rule.code, f"{rule.says}: {_places(found, len(ops))} ({rule.source})", rule.remedy)


def _places(found: Sequence[tuple[MilOp, str]], total: int) -> str:
    """`36 of 260 operators (24 reshape, 12 transpose; the first 1x197x3x3x64), in blocks.0.attn, blocks.1.attn`."""
    types = ", ".join(f"{count} {name}" for name, count in Counter(op.type for op, _ in found).most_common())
    places = list(dict.fromkeys(op.module or op.name for op, _ in found))
    more = f" and {len(places) - _MOST_PLACES} more" if len(places) > _MOST_PLACES else ""
    first = f"{len(found)} of {total} operators ({types}; the first {found[0][1]})"
    return f"{first}, in {', '.join(places[:_MOST_PLACES])}{more}"


# What finds.


def _wide_type(op: MilOp) -> str:
    """Arithmetic in a type that the engine has none for."""
    dtype = op.outputs[0].dtype if op.outputs else ""
    return dtype if dtype == "fp32" and op.type != _CONVERSION else ""


def _whole_numbers(op: MilOp) -> str:
    dtypes = [value.dtype for value in op.outputs if value.dtype.startswith(("int", "uint"))]
    return dtypes[0] if dtypes else ""


def _many_axes(op: MilOp) -> str:
    shapes = [value.shape for value in (*op.outputs, *_live_inputs(op)) if value.shape and len(value.shape) > 4]
    return _text(shapes[0]) if shapes else ""


def _long_axis(op: MilOp) -> str:
    return next((_text(value.shape) for value in op.outputs if value.shape and _is_long(value.shape)), "")


def _is_long(shape: Sequence[int]) -> bool:
    return max(shape[-2:]) > _MAX_SIDE or (len(shape) == 4 and shape[1] > _MAX_CHANNELS)


def _live_inputs(op: MilOp) -> tuple[MilValue, ...]:
    return tuple(value for value in op.values_in if value.depends_on_input)


def _wide_kernel(op: MilOp) -> str:
    weight = op.input("weight")
    if op.type not in ("conv", "conv_transpose") or weight is None or not weight.shape:
        return ""
    return f"kernel {_text(weight.shape[2:])}" if weight.shape[-1] > _MAX_KERNEL_WIDTH else ""


def _volume_conv(op: MilOp) -> str:
    weight = op.input("weight")
    is_volume = op.type in ("conv", "conv_transpose") and weight is not None and len(weight.shape or ()) == 5
    return "three spatial axes" if is_volume else ""


def _one_of(*types: str) -> Callable[[MilOp], str]:
    def finds(op: MilOp) -> str:
        return _text(op.outputs[0].shape or ()) if op.type in types and op.outputs else ""

    return finds


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "one value"


_RULES = (
    _Rule(
        "fp32",
        _wide_type,
        "the Neural Engine computes in fp16 only",
        _TYPED_EXECUTION,
        "export with --precision fp16",
    ),
    _Rule(
        "whole numbers",
        _whole_numbers,
        "the Neural Engine has no integer arithmetic",
        _MEASURED_SHAPES,
        "compute indices before the export, as constants of the model",
    ),
    _Rule(
        "more than 4 axes",
        _many_axes,
        "the Neural Engine's own layout has four axes, channels first",
        _TRANSFORMERS,
        "merge axes, windows one axis at a time: github.com/apple/ml-vision-transformers-ane",
    ),
    _Rule(
        "long axis",
        _long_axis,
        f"the Neural Engine was found to take no side over {_MAX_SIDE:,} and no more than {_MAX_CHANNELS:,} channels",
        _MEASURED_SHAPES,
        "use a smaller --size, or split the axis",
    ),
    _Rule(
        "wide kernel",
        _wide_kernel,
        f"the Neural Engine was found to take no kernel wider than {_MAX_KERNEL_WIDTH}",
        _MEASURED_SHAPES,
        "split the kernel, or see on a device where it runs",
    ),
    _Rule(
        "3-D convolution",
        _volume_conv,
        "the Neural Engine has no convolution over three spatial axes",
        _MEASURED_OPS,
        "replace it by convolutions over two axes",
    ),
    _Rule(
        "no such operator",
        _one_of("reduce_prod", "scatter", "scatter_along_axis", "scatter_nd", "lstm", "gru", "rnn"),
        "the Neural Engine has no such operator",
        _MEASURED_OPS,
        "write it as sums and products of whole tensors",
    ),
    _Rule(
        "newer engines only",
        _one_of("sin", "cos"),
        "only engines of the A15 and later have it",
        _MEASURED_OPS,
        "compute it before the export where it needs no image",
    ),
    _Rule(
        "gather",
        _one_of("gather", "gather_along_axis", "gather_nd"),
        "gathers were seen to leave the Neural Engine",
        _OBSERVED,
        "use slices and concatenation, or a product with a constant",
    ),
    _Rule(
        "custom operator",
        _one_of("custom_layer"),
        "code of one's own runs on the CPU or GPU only",
        _OBSERVED,
        "replace it by operators of Core ML",
    ),
)
