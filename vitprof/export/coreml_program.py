"""A saved .mlpackage to its MIL program as plain values, on any machine: nothing is loaded into Core ML.

Its own file because it alone reads Apple's protobuf (`mlmodel/format/MIL.proto` of https://github.com/apple/coremltools).
Weights are left where they are: a constant's type and shape stand in the program, only small ones are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vitprof.errors import VitprofError, first_line
from vitprof.export.quiet import silenced
from vitprof.mil import MilOp, MilProgram, MilValue, Number
from vitprof.records import ProgramFacts

MAIN = "main"
# Sizes, axes, flags and equations; a longer constant is data, and its values decide no shape.
_MAX_READ_VALUES = 64
# Put before names by vitprof's exporter, which holds the model as `inner`, and by torch.export ("p": a parameter).
_PREFIX = re.compile(r"^(p_)?inner_")
# Put behind them where the converter keeps a constant in another type.
_SUFFIX = re.compile(r"_(to_fp16|to_fp32|promoted)$")


def read_program(package: Path, modules: Mapping[str, str] | None = None, parameters: Iterable[str] = ()) -> MilProgram:
    """The main function of the ML program in `package`.

    `modules`: the module of each operator by its name, as the converter knew it; `parameters`: dotted names of the
    model's parameters, by which constants are recognised and the modules of operators that read them.
    `VitprofError` where it is no ML program.
    """
    spec = _ml_program(package)
    function = spec.mlProgram.functions[MAIN]
    block = function.block_specializations[function.opset]
    walk = _Walk(modules or {}, {_sanitised(name): name for name in parameters})
    inputs = tuple(walk.add(_value(one.name, one.type, depends_on_input=True)) for one in function.inputs)
    # The function itself has tensors only: that an input is an image stands in the description.
    takes_image = any(one.type.WhichOneof("Type") == "imageType" for one in spec.description.input)
    return MilProgram(function.opset, inputs, tuple(walk.ops(block.operations)), takes_image)


def facts_of(program: MilProgram, params: int | None, macs: int | None) -> ProgramFacts:
    """How many operators of each type and of each data type there are, the most frequent first."""
    return ProgramFacts(
        ops=_counts(op.type for op in program.ops),
        dtypes=_counts(op.outputs[0].dtype for op in program.ops if op.outputs),
        params=params,
        macs=macs,
        takes_image=program.takes_image,
    )


def _counts(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _ml_program(package: Path) -> Any:
    try:
        with silenced():
            from coremltools.models.utils import load_spec

            spec = load_spec(str(package))
    except Exception as error:  # Of a broken file the library and protobuf raise classes of their own.
        raise _unfit(package, first_line(error)) from error
    if spec.WhichOneof("Type") != "mlProgram" or MAIN not in spec.mlProgram.functions:
        raise _unfit(package, "it holds no ML program")
    return spec


def _unfit(package: Path, why: str) -> VitprofError:
    return VitprofError(
        f"{package} cannot be read: {why}",
        remedy="give a .mlpackage whose model is an ML program (coremltools: convert_to='mlprogram')",
        stage="count",
    )


class _Walk:
    """The values that are known so far, by name."""

    def __init__(self, modules: Mapping[str, str], parameters: Mapping[str, str]) -> None:
        self._modules = modules
        self._parameters = parameters
        self._values: dict[str, MilValue] = {}

    def add(self, value: MilValue) -> MilValue:
        self._values[value.name] = value
        return value

    def ops(self, operations: Iterable[Any]) -> list[MilOp]:
        """The operators in order; constants, compressed ones too, become values."""
        found = []
        for operation in operations:
            if operation.type == "const" or operation.type.startswith("constexpr_"):
                self._add_constant(operation)
            else:
                found.append(self._op(operation))
        return found

    def _add_constant(self, operation: Any) -> None:
        for output in operation.outputs:
            value = operation.attributes["val"] if operation.type == "const" else None
            parameter = self._parameters.get(_bare(output.name), "")
            content = _content(value) if value is not None else None
            self.add(_value(output.name, output.type, is_constant=True, parameter=parameter, content=content))

    def _op(self, operation: Any) -> MilOp:
        inputs = {
            name: tuple(self._bound(binding) for binding in argument.arguments)
            for name, argument in sorted(operation.inputs.items())
        }
        # What runs inside of a branch or loop may read anything from outside.
        depends = bool(operation.blocks) or any(one.depends_on_input for values in inputs.values() for one in values)
        outputs = tuple(self.add(_value(one.name, one.type, depends_on_input=depends)) for one in operation.outputs)
        name = _name(operation)
        # A parameter's name is whole; the converter's path lacks lists of modules, which are never called.
        module = _module_of(inputs) or self._modules.get(name, "")
        return MilOp(operation.type, name, inputs, outputs, module)

    def _bound(self, binding: Any) -> MilValue:
        if binding.WhichOneof("binding") == "value":
            return _value("", binding.value.type, is_constant=True, content=_content(binding.value))
        # A name that nothing defines: the program is not valid, which is for whoever needs the value to say.
        return self._values.get(binding.name) or MilValue(binding.name, "", None)


def _module_of(inputs: Mapping[str, tuple[MilValue, ...]]) -> str:
    """The module whose parameter an operator reads."""
    named = [value.parameter for values in inputs.values() for value in values if value.parameter]
    return named[0].rpartition(".")[0] if named else ""


def _name(operation: Any) -> str:
    given = operation.attributes["name"].immediateValue.tensor.strings.values if operation.attributes else ()
    return str(given[0]) if given else next((one.name for one in operation.outputs), operation.type)


def _sanitised(name: str) -> str:
    """A dotted name as the converter writes it: names of MIL hold letters, digits and underscores."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def _bare(name: str) -> str:
    return _PREFIX.sub("", _SUFFIX.sub("", name))


_DTYPES = {"float16": "fp16", "float32": "fp32", "float64": "fp64", "bfloat16": "bf16"}


def _value(name: str, type: Any, **known: Any) -> MilValue:
    """`type`: a MIL ValueType; what is no tensor has its own word for a data type and no shape."""
    from coremltools.proto import MIL_pb2

    if type.WhichOneof("type") != "tensorType":
        return MilValue(name, (type.WhichOneof("type") or "unknown").removesuffix("Type"), None, **known)
    word = MIL_pb2.DataType.Name(type.tensorType.dataType).lower()
    return MilValue(name, _DTYPES.get(word, word), _shape(type.tensorType), **known)


def _shape(tensor: Any) -> tuple[int, ...] | None:
    if tensor.rank < 0 or any(one.WhichOneof("dimension") != "constant" for one in tensor.dimensions):
        return None
    return tuple(int(one.constant.size) for one in tensor.dimensions)


# The fields of a TensorValue that hold one Python value apiece; halves and bytes are packed, and no shape needs them.
_FIELDS: Mapping[str, Callable[[Any], Number]] = {
    "ints": int,
    "longInts": int,
    "bools": bool,
    "floats": float,
    "doubles": float,
    "strings": str,
}


def _content(value: Any) -> tuple[Number, ...] | None:
    """The values of a small constant that stands in the program itself."""
    if value.WhichOneof("value") != "immediateValue" or value.immediateValue.WhichOneof("value") != "tensor":
        return None
    tensor = value.immediateValue.tensor
    field = tensor.WhichOneof("value")
    if field not in _FIELDS:
        return None
    values = getattr(tensor, field).values
    return tuple(map(_FIELDS[field], values)) if len(values) <= _MAX_READ_VALUES else None
