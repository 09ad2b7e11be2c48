"""A loaded module to a file of each format, with what `prepare` records of it.

Its own file beside `prepare`, which decides what is to be made, from what, and under which key: a format is one
function here and one file in `export`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitprof.counts import Cost
from vitprof.errors import VitprofError
from vitprof.export import coreml_export, litert_export
from vitprof.export.hard_swish import hard_swish_apart
from vitprof.export.weights import folded_weights, reached_weights, text_from_folded
from vitprof.measurements import Doubt
from vitprof.places import places
from vitprof.records import ANY_BATCH, Exporter, ModelSpec, Precision, ProgramFacts

if TYPE_CHECKING:
    from vitprof.models.load import Loaded


@dataclass(frozen=True)
class Written:
    """What a writer left in its folder."""

    path: Path
    exporter: str
    opset: int | None = None
    input_dtype: str = "float32"
    fixups: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()
    # What the second counter reads in the file; None where none can.
    counted: Cost | None = None
    program: ProgramFacts | None = None
    lint: tuple[Doubt, ...] = ()


def _write_onnx(spec: ModelSpec, loaded: Loaded, folder: Path) -> Written:
    import torch

    from vitprof.export.onnx_export import export_onnx

    path = folder / "model.onnx"
    is_for_any_batch = spec.batch == ANY_BATCH
    is_bf16 = spec.precision is Precision.BF16
    # Before its weights are rounded: equal ones are found by their content.
    reached = reached_weights(loaded.module, torch.zeros(loaded.input_shape))
    module = loaded.module.bfloat16() if is_bf16 else loaded.module
    # The other one computes norms in fp32 with bf16 weights, which no runtime takes.
    exporter = spec.exporter or (Exporter.TORCHSCRIPT if is_bf16 else None)
    export = export_onnx(module, loaded.input_shape, path, exporter, any_batch=is_for_any_batch)
    folded = folded_weights(reached, path)
    told = (text_from_folded(folded),) if folded else ()
    if is_bf16 and (apart := hard_swish_apart(path)):
        told = (*told, f"wrote {apart} HardSwish as products: TensorRT does not take the operator in bf16")
    return Written(
        path,
        export.exporter,
        export.opset,
        input_dtype="bfloat16" if is_bf16 else "float32",
        fixups=(*export.fixups, *told),
        folded=tuple(map(str, folded)),
        counted=_counted_onnx(path, loaded.input_shape),
    )


def _write_litert(spec: ModelSpec, loaded: Loaded, folder: Path) -> Written:
    path = folder / "model.tflite"
    export = litert_export.export_litert(loaded.module, loaded.input_shape, path, places().cache_root)
    return Written(path, export.exporter, fixups=export.fixups)


def _write_pt2(spec: ModelSpec, loaded: Loaded, folder: Path) -> Written:
    import torch

    from vitprof.export.pt2_export import EXPORTER, export_pt2

    path = folder / "model.pt2"
    dtype = _FLOATS[spec.precision]
    kind = getattr(torch, dtype)
    # A program in fp32 stays as it is, with whatever it has in other types.
    module = loaded.module if kind is torch.float32 else loaded.module.to(kind)
    export_pt2(module, torch.zeros(loaded.input_shape, dtype=kind), path)
    return Written(path, EXPORTER, input_dtype=dtype)


def _write_module(spec: ModelSpec, loaded: Loaded, folder: Path) -> Written:
    """What eager torch runs: the module itself by its recipe, TorchScript as such, anything else as a program."""
    import torch

    from vitprof.export.module_export import write_module, write_script

    if loaded.recipe is not None:
        dtype = _FLOATS[spec.precision]
        path = write_module(loaded.module, loaded.recipe, folder, dtype=dtype)
        return Written(path, f"{loaded.recipe['library']}: the module itself", input_dtype=dtype)
    if isinstance(loaded.module, torch.jit.ScriptModule) and spec.precision is Precision.FP32:
        return Written(write_script(loaded.module, folder), "torch.jit")
    return _write_pt2(spec, loaded, folder)


def _write_coreml(spec: ModelSpec, loaded: Loaded, folder: Path) -> Written:
    from vitprof.cost.mil_count import count_mil
    from vitprof.export.coreml_image import normalisation_of
    from vitprof.export.coreml_lint import lint
    from vitprof.export.coreml_operators import write_operators
    from vitprof.export.coreml_program import facts_of, read_program

    path = folder / f"model{coreml_export.SUFFIX}"
    is_half = spec.precision is Precision.FP16
    normalisation = normalisation_of(spec, loaded.module, loaded.input_shape[1]) if spec.image_input else None
    export = coreml_export.export_coreml(
        loaded.module, loaded.input_shape, path, is_half=is_half, normalisation=normalisation
    )
    parameters = [name for name, _ in loaded.module.named_parameters()]
    program = read_program(path, export.modules, parameters)
    counted = count_mil(program)
    # Beside the model's folder: what is in it belongs to the model and travels with it.
    write_operators(folder.parent, program, counted.rows)
    return Written(
        path,
        export.exporter,
        input_dtype=export.input_dtype,
        fixups=export.fixups,
        counted=counted,
        program=facts_of(program, counted.params, counted.macs),
        lint=lint(program),
    )


_FLOATS = {Precision.FP32: "float32", Precision.FP16: "float16", Precision.BF16: "bfloat16"}
# A format is one line here and one file in `export`.
WRITERS: dict[str, Callable[[ModelSpec, Loaded, Path], Written]] = {
    "onnx": _write_onnx,
    "pt2": _write_pt2,
    "module": _write_module,
    coreml_export.FORMAT: _write_coreml,
    litert_export.FORMAT: _write_litert,
}


def _counted_onnx(path: Path, input_shape: tuple[int, int, int, int]) -> Cost | None:
    from vitprof.cost.onnx_count import count_onnx

    with contextlib.suppress(VitprofError):
        return count_onnx(path, input_shape)
    return None
