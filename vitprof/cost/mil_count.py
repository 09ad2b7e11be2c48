"""A Core ML program to its Cost: the second counter for converted models, as `onnx_count` is for ONNX files.

Its own file because a MIL program states every shape, so that nothing needs to be inferred: one rule an operator, from
`mil_rules`. A converter folds what needs no image, and batch norms into convolutions, so its parameters are fewer
by the latters' factors.
"""

from __future__ import annotations

import re
from collections import Counter

from vitprof.cost.formulas import Shape
from vitprof.cost.mil_rules import RULES, UnknownShape, Work
from vitprof.counts import Cost, Kind, Ledgers, OpRow
from vitprof.errors import VitprofError
from vitprof.mil import FLOATS, MilOp, MilProgram, MilValue

# fp32, whatever the program is typed in: the count describes the model.
_FLOAT_BYTES = 4
_VALUE_BYTES = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8}
# What multiplies and adds by its nature, or holds other operators. One of these without a rule: a lower bound.
_COMPUTES = re.compile(r"conv|matmul|linear|attention|einsum|lstm|gru|rnn|cond|while_loop|custom")
# The operands that are a module's parameters whatever they are called.
_WEIGHT_NAMES = ("weight", "bias", "gamma", "beta", "alpha")


def count_mil(program: MilProgram) -> Cost:
    """The cost of one image; a program made for N images is divided by N. `macs` is None where no product is known.

    One row an operator. `ops`, `activation_bytes` and the ledgers leave out views and what needs no image. `params`:
    the floats that products and norms keep, and those that carry the name of a module's parameter; tables that the
    converter computed from such are none. `VitprofError` where the program takes no batch of images.
    """
    images = _images(program)
    rows, ledgers = [], Ledgers()
    uncounted: Counter[str] = Counter()
    ops = activation_bytes = 0
    is_lower_bound = False
    for op in program.ops:
        work, unknown = _work(op)
        row = _row(op, work, images)
        rows.append(row)
        if unknown and op.depends_on_input:
            uncounted[unknown] += 1
            is_lower_bound |= bool(_COMPUTES.search(op.type))
        if op.depends_on_input and not work.is_view:
            ops += 1
            activation_bytes += row.bytes_out
            ledgers += work.ledgers.of_one(images)
    params = _params(program)
    moved = sum(row.bytes_moved for row in rows)
    known = sum(row.bytes_moved for row in rows if row.kind is not Kind.UNKNOWN)
    macs = sum(row.macs for row in rows)
    return Cost(
        params=params,
        macs=None if is_lower_bound and not macs else macs,
        weight_bytes=_FLOAT_BYTES * params,
        activation_bytes=activation_bytes,
        ops=ops,
        uncounted_ops=dict(uncounted),
        coverage=known / moved if moved else None,
        rows=tuple(rows),
        ledgers=ledgers,
        is_lower_bound=is_lower_bound,
    )


def _images(program: MilProgram) -> int:
    shape = program.inputs[0].shape if program.inputs else None
    if not shape or not shape[0]:
        raise VitprofError(
            f"the program takes {'no input' if shape is None else f'an input of {shape}'}, not a batch of images",
            remedy="give a model with one input of images (N, C, H, W)",
            stage="count",
        )
    return shape[0]


def _work(op: MilOp) -> tuple[Work, str]:
    """What `op` does, and where no rule says it the name to report it under."""
    rule = RULES.get(op.type)
    if rule is None:
        return Work(Kind.UNKNOWN), op.type
    try:
        return rule(op), ""
    except UnknownShape as error:
        return Work(Kind.UNKNOWN), f"{op.type} (shape not known: {error})"
    except (IndexError, TypeError, ValueError):
        # A file need not be valid: an operand of another rank than its definition has.
        return Work(Kind.UNKNOWN), f"{op.type} (not as its definition has it)"


def _row(op: MilOp, work: Work, images: int) -> OpRow:
    share = images if op.depends_on_input else 1
    # What is multiplied by itself is read once; constants of whole numbers are strides, axes and the like.
    read = {value.name: value for value in op.values_in if value.dtype in FLOATS or not value.is_constant}
    read_bytes = {} if work.is_view else {name: _size_bytes(value) for name, value in read.items()}
    bytes_out = 0 if work.is_view else sum(map(_size_bytes, op.outputs))
    source = op.input("x")
    if work.reads_part and source is not None and source.name in read:
        read_bytes[source.name] = min(bytes_out, read_bytes[source.name])
    weight_bytes = sum(size for name, size in read_bytes.items() if not read[name].depends_on_input)
    return OpRow(
        op=op.type,
        kind=work.kind,
        module=op.module,
        calls=1,
        macs=work.macs // share,
        # Weights are read once, however many images there are.
        bytes_in=(sum(read_bytes.values()) - weight_bytes) // share + weight_bytes,
        bytes_out=bytes_out // share,
        shape_out=_shape_of(op),
        weight_bytes=weight_bytes,
        name=op.name,
        depends_on_input=op.depends_on_input,
    )


def _shape_of(op: MilOp) -> Shape:
    return op.outputs[0].shape or () if op.outputs else ()


def _size_bytes(value: MilValue) -> int:
    each = _FLOAT_BYTES if value.dtype in FLOATS else _VALUE_BYTES.get(value.dtype, 0)
    return (value.size or 0) * each


def _params(program: MilProgram) -> int:
    """Each constant once, however many operators read it."""
    kept: dict[str, int] = {}
    for op in program.ops:
        for name, values in op.inputs.items():
            for value in values:
                is_own = name in _WEIGHT_NAMES and (value.size or 0) > 1
                if value.is_constant and value.dtype in FLOATS and (is_own or value.parameter):
                    kept[value.name] = value.size or 0
    return sum(kept.values())
