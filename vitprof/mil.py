"""A Core ML program (MIL) as plain values: its operators with names, types and shapes, and none of its weights' values.

Its own file because three sides share it and may not know each other: whoever reads a saved package, whoever counts
its work, and whoever judges where it will run. Types are written as Apple's compiler writes them: fp16, fp32, int32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Number = int | float | bool | str

FLOATS = ("fp16", "fp32", "fp64", "bf16")


@dataclass(frozen=True)
class MilValue:
    """One tensor of a program."""

    name: str
    dtype: str
    # None: not fixed before it runs.
    shape: tuple[int, ...] | None
    # It is stored in the program, or a compressed form of it is.
    is_constant: bool = False
    depends_on_input: bool = False
    # Dotted name of the module's parameter that a constant is, where its name says so.
    parameter: str = ""
    # Of a small constant; the values of weights are never read.
    content: tuple[Number, ...] | None = None

    @property
    def size(self) -> int | None:
        """How many values it holds."""
        return None if self.shape is None else math.prod(self.shape)


@dataclass(frozen=True)
class MilOp:
    """One operator, with the values of each of its parameters in order."""

    type: str
    name: str
    inputs: dict[str, tuple[MilValue, ...]]
    outputs: tuple[MilValue, ...]
    # Dotted path of the module that it comes from; empty: the model itself, or not known.
    module: str = ""

    def input(self, name: str) -> MilValue | None:
        """The first value of a parameter; None where it is left out."""
        values = self.inputs.get(name, ())
        return values[0] if values else None

    @property
    def values_in(self) -> tuple[MilValue, ...]:
        return tuple(value for values in self.inputs.values() for value in values)

    @property
    def depends_on_input(self) -> bool:
        return any(value.depends_on_input for value in self.outputs)


@dataclass(frozen=True)
class MilProgram:
    """A program's main function in order, its constants left out: they are in the operators that read them."""

    # The version of the operators, as the file calls it: "CoreML6" is iOS 16.
    opset: str
    inputs: tuple[MilValue, ...]
    ops: tuple[MilOp, ...]
    # Core ML is given an image, whose pixels the program reads as a tensor.
    takes_image: bool = False
