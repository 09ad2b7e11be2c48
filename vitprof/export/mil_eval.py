"""A Core ML program computed without Core ML: its operators one after another, by torch on the CPU.

Its own file because walking a program is one thing and what an operator does another (`mil_ops`). It makes the parity
of a conversion a matter of any machine: what is checked is the saved package with its weights, not Apple's runtime.

Precision: every operator computes in float32. What the program stores as fp16 (inputs, weights, each result) is
rounded to fp16 first, so values too large for it become infinite as on the device. Sums inside one operator stay in
float32: a device that adds in fp16 (the Neural Engine does) is further off than this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitprof.errors import VitprofError, first_line
from vitprof.export.coreml_export import check_installed
from vitprof.export.quiet import silenced

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    Array = npt.NDArray[Any]

# Where every package that coremltools writes has its weights; the program calls the folder above "@model_path".
_WEIGHTS = Path("Data/com.apple.CoreML/weights")
_MAIN = "main"
_REMEDY = "measure on a Mac, where Core ML itself gives the outputs"
_STAGE = "parity"


class UnknownOperator(VitprofError):
    """The program has operators without a function in `mil_ops.OPERATORS`; the message names them."""


def evaluate(package: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a saved `.mlpackage` by name, in the types that its program declares.

    `inputs`: all of the program's, by name, in its shapes; an image as the values of its pixels, (N, C, H, W).
    `UnknownOperator` before anything is computed; `VitprofError` (stage "parity") where the package cannot be read,
    an input does not fit or an operator fails; `UnreachableError` without coremltools.
    """
    return evaluate_function(main_function(package), inputs)


def evaluate_function(main: Any, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """As `evaluate`, for a function of a MIL program in memory (coremltools' `Program.functions[...]`)."""
    import torch

    from vitprof.export.mil_ops import OPERATORS

    operations = [one for one in main.operations if one.op_type != "const"]
    unknown = {one.op_type for one in operations if not _is_compressed(one)} - OPERATORS.keys()
    if unknown:
        raise UnknownOperator(
            f"no reference for MIL operators: {', '.join(sorted(unknown))}", remedy=_REMEDY, stage=_STAGE
        )
    last_uses = {var: place for place, one in enumerate(operations) for var in one.get_flattened_inputs()}
    kept = set(main.outputs)
    with torch.inference_mode():
        values = _given(main, inputs)
        for place, operation in enumerate(operations):
            values.update(zip(operation.outputs, _results(operation, values), strict=True))
            for var in (*operation.get_flattened_inputs(), *operation.outputs):
                if last_uses.get(var, -1) <= place and var not in kept:
                    values.pop(var, None)
        return {var.name: _array(_value(var, values), _dtype(var)) for var in main.outputs}


def main_function(package: Path) -> Any:
    """The main function of a saved package's program, its weights read; errors as `evaluate` says."""
    check_installed()
    try:
        with silenced():
            from coremltools.converters.mil.frontend.milproto.load import load
            from coremltools.models.utils import load_spec

            spec = load_spec(str(package))
            program = load(spec, spec.specificationVersion, file_weights_dir=str(package / _WEIGHTS))
            return program.functions[_MAIN]
    except Exception as error:  # It asserts, and raises whatever its builders do.
        raise VitprofError(
            f"coremltools cannot read {package.name} back: {first_line(error)}",
            remedy=f"export the model again; if it stays, {_REMEDY}",
            stage=_STAGE,
        ) from error


def _given(main: Any, inputs: Mapping[str, Array]) -> dict[Any, torch.Tensor]:
    values = {}
    for name, var in main.inputs.items():
        if name not in inputs or tuple(inputs[name].shape) != tuple(var.shape):
            shown = tuple(inputs[name].shape) if name in inputs else "nothing"
            raise VitprofError(
                f"input '{name}' of the program is {tuple(var.shape)}, given was {shown}",
                remedy="give the shape that the package was exported with",
                stage=_STAGE,
            )
        values[var] = _stored(_tensor(inputs[name]), _dtype(var))
    return values


def _results(operation: Any, values: Mapping[Any, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """What an operation makes of these, in the types and shapes that the program declares."""
    from vitprof.export.mil_ops import OPERATORS

    try:
        if _is_compressed(operation):
            # Data in another form: what it stands for is the format's definition, so coremltools', not ours.
            made: Any = _tensor(operation.materialized_val_inference())
        else:
            arguments = {
                name: [_value(one, values) for one in var] if isinstance(var, (list, tuple)) else _value(var, values)
                for name, var in operation.inputs.items()
            }
            made = OPERATORS[operation.op_type](**arguments)
        results = made if isinstance(made, tuple) else (made,)
        for result, var in zip(results, operation.outputs, strict=True):
            _check_shape(tuple(result.shape), tuple(var.shape))
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
        raise VitprofError(
            f"the reference for MIL's {operation.op_type} fails at '{operation.name}': {first_line(error)}",
            remedy=_REMEDY,
            stage=_STAGE,
        ) from error
    return tuple(_stored(result, _dtype(var)) for result, var in zip(results, operation.outputs, strict=True))


def _check_shape(shape: tuple[int, ...], declared: Sequence[Any]) -> None:
    # A dimension that the program leaves open is a symbol.
    if len(shape) != len(declared) or any(
        str(d).isdigit() and int(d) != s for s, d in zip(shape, declared, strict=True)
    ):
        raise ValueError(f"it gives {shape}, the program declares {tuple(declared)}")


def _is_compressed(operation: Any) -> bool:
    return bool(operation.op_type.startswith("constexpr_"))


def _value(var: Any, values: Mapping[Any, torch.Tensor]) -> torch.Tensor | str:
    """What was computed for it, or its constant."""
    if var in values:
        return values[var]
    return var.val if isinstance(var.val, str) else _tensor(var.val)


def _tensor(array: Any) -> torch.Tensor:
    """A number or array as float32, int64 or bool, the only types that operators see."""
    import numpy as np
    import torch

    array = np.asarray(array)
    wanted = {"f": np.float32, "b": np.bool_}.get(array.dtype.kind, np.int64)
    return torch.from_numpy(array.astype(wanted))


def _stored(value: torch.Tensor, dtype: str) -> torch.Tensor:
    """As the program keeps it: rounded to fp16 where it does, of a whole number what stands before the point."""
    import torch

    if dtype == "fp16":
        return value.to(torch.float16).to(torch.float32)
    return value.to({"fp32": torch.float32, "bool": torch.bool}.get(dtype, torch.int64))


def _dtype(var: Any) -> str:
    """MIL's name of the type: "fp16", "fp32", "int32", "bool", …."""
    from coremltools.converters.mil.mil import types

    return str(types.builtin_to_string(var.dtype))


def _array(value: Any, dtype: str) -> Array:
    names = {"fp16": "float16", "fp32": "float32"}
    array: Array = value.numpy()
    return array.astype(names.get(dtype, dtype))
