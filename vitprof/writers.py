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
from vitprof.export.weights import Weight, folded_weights, reached_weights, text_from_folded
from vitprof.places import places
from vitprof.records import ANY_BATCH, Doubt, ModelSpec, Precision, ProgramFacts

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
    from vitprof.export.onnx_export import export_onnx

    path = folder / "model.onnx"
    is_for_any_batch = spec.batch == ANY_BATCH
    export = export_onnx(loaded.module, loaded.input_shape, path, spec.exporter, any_batch=is_for_any_batch)
    folded = _folded(loaded, path)
    told = (text_from_folded(folded),) if folded else ()
    return Written(
        path,
        export.exporter,
        export.opset,
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
    if spec.precision is Precision.FP16:
        export_pt2(loaded.module.half(), torch.zeros(loaded.input_shape).half(), path)
        return Written(path, EXPORTER, input_dtype="float16")
    export_pt2(loaded.module, torch.zeros(loaded.input_shape), path)
    return Written(path, EXPORTER)


def _write_module(spec: ModelSpec, loaded: Loaded, folder: Path) -> Written:
    """What eager torch runs: the module itself by its recipe, TorchScript as such, anything else as a program."""
    import torch

    from vitprof.export.module_export import write_module, write_script

    if loaded.recipe is not None:
        is_half = spec.precision is Precision.FP16
        path = write_module(loaded.module, loaded.recipe, folder, is_half=is_half)
        return Written(path, f"{loaded.recipe['library']}: the module itself", input_dtype=_FLOATS[is_half])
    if isinstance(loaded.module, torch.jit.ScriptModule) and spec.precision is Precision.FP32:
        return Written(write_script(loaded.module, folder), "torch.jit")
    return _write_pt2(spec, loaded, folder)


def _write_coreml(spec: ModelSpec, loaded: Loaded, folder: Path) -> Written:
    from vitprof.cost.mil_count import count_mil
    from vitprof.export.coreml_lint import lint
    from vitprof.export.coreml_program import facts_of, read_program

    path = folder / f"model{coreml_export.SUFFIX}"
    is_half = spec.precision is Precision.FP16
    export = coreml_export.export_coreml(loaded.module, loaded.input_shape, path, is_half=is_half)
    parameters = [name for name, _ in loaded.module.named_parameters()]
    program = read_program(path, export.modules, parameters)
    counted = count_mil(program)
    return Written(
        path,
        export.exporter,
        input_dtype=export.input_dtype,
        fixups=export.fixups,
        counted=counted,
        program=facts_of(program, counted.params, counted.macs),
        lint=lint(program),
    )


_FLOATS = ("float32", "float16")
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


def _folded(loaded: Loaded, path: Path) -> tuple[Weight, ...]:
    import torch

    reached = reached_weights(loaded.module, torch.zeros(loaded.input_shape))
    return folded_weights(reached, path)
