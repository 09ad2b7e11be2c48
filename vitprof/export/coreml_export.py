"""A module to an ML program of Core ML (`.mlpackage`, a folder), on any machine: coremltools converts without a Mac.

Its own file because of the ways into the converter: what `torch.jit.trace` records is what it takes best, and programs
of torch.export stand in where it fails. What had to be done is told in the fix-ups.

Minimum system: iOS 16 and macOS 13. They are the oldest that take fp16 inputs and outputs, so that no conversion runs
on the CPU before and after, and that let a caller leave out the GPU (`cpuAndNeuralEngine`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitprof.errors import UnreachableError, VitprofError
from vitprof.export import coreml_image, rank4
from vitprof.export.coreml_image import Normalisation
from vitprof.export.onnx_export import INPUT_NAME, cause_of, flattening, without_fast_attention
from vitprof.export.quiet import silenced

if TYPE_CHECKING:
    import torch

FORMAT = "coreml"
PACKAGE = "coremltools"
SUFFIX = ".mlpackage"
TARGET = "iOS16"
_SYSTEMS = "iOS 16, macOS 13"
# coremltools 9.0 reads one-element arrays as numbers, which numpy ended in 2.4.
_NUMPY_BEFORE = (2, 4)
_SPEC = Path("Data", "com.apple.CoreML", "model.mlmodel")
_DATE = "com.github.apple.coremltools.conversion_date"
_REMEDY = "measure it with --backend ort, which runs an ONNX export"


@dataclass(frozen=True)
class CoremlExport:
    """Facts of a finished conversion. `fixups`: what had to be done so that it came about."""

    exporter: str
    input_dtype: str
    fixups: tuple[str, ...] = ()
    # The module that each operator of the program comes from, by the operator's name.
    modules: Mapping[str, str] = field(default_factory=dict)


def check_installed() -> None:
    """`UnreachableError` where coremltools, or a numpy that it works with, is not installed; imports neither."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise UnreachableError(
            f"Core ML packages need the package {PACKAGE}, which is not installed",
            remedy="pip install 'vitprof[coreml]' (Linux on x86, or macOS)",
            stage="export",
        )
    with contextlib.suppress(PackageNotFoundError):
        numpy = version("numpy")
        if tuple(int(part) for part in numpy.split(".")[:2]) >= _NUMPY_BEFORE:
            raise UnreachableError(
                f"{PACKAGE} {version(PACKAGE)} does not work with numpy {numpy}",
                remedy="pip install 'numpy<2.4'",
                stage="export",
            )


def export_coreml(
    module: torch.nn.Module,
    input_shape: tuple[int, ...],
    package: Path,
    *,
    is_half: bool,
    normalisation: Normalisation | None = None,
) -> CoremlExport:
    """Writes `module` for images of `input_shape` to the folder `package`, in fp16 (`is_half`) or fp32 throughout.

    Inputs and outputs have the same type as the arithmetic; with `normalisation` the input is an image of 8-bit RGB,
    which the program normalises so. `VitprofError` (stage "export") where no way leads there;
    `OSError` where the folder cannot be written.
    """
    import torch

    troubles: list[str] = []
    for way in _ways(module):
        shutil.rmtree(package, ignore_errors=True)
        try:
            with silenced(), without_fast_attention(), torch.no_grad():
                wrapped = coreml_image.normalising(module, normalisation) if normalisation else flattening(module)
                source, told = way.source(wrapped, torch.zeros(input_shape))
                converted = _converted(source, _input(input_shape, normalisation, is_half), package, is_half)
                modules = _modules(converted)
                _make_repeatable(package)
        except OSError:
            # The disk, not the model: whoever owns the folder says so.
            raise
        except Exception as error:  # Both run the model's own code and raise whatever that does.
            troubles.append(f"{way.title} failed: {cause_of(error)}")
            continue
        precision = "fp16" if is_half else "fp32"
        exporter = f"{PACKAGE} {version(PACKAGE)}, {way.title}, {precision}, {_SYSTEMS}"
        dtype = coreml_image.DTYPE if normalisation else "float16" if is_half else "float32"
        normalised = (f"takes 8-bit pixels and normalises them itself: {normalisation}",) if normalisation else ()
        return CoremlExport(exporter, dtype, (*troubles, *told, *normalised), modules)
    raise VitprofError(f"the model does not convert to Core ML: {'; '.join(troubles)}", remedy=_REMEDY, stage="export")


# A wrapped module and an image to what the converter takes, and what was changed in it.
_Source = Callable[[Any, Any], tuple[Any, tuple[str, ...]]]


@dataclass(frozen=True)
class _Way:
    title: str
    source: _Source


def _ways(module: torch.nn.Module) -> tuple[_Way, ...]:
    import torch

    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        # torch.export takes no TorchScript.
        return _WAYS[:1]
    return _WAYS


def _traced(module: Any, image: Any) -> tuple[Any, tuple[str, ...]]:
    import torch

    return torch.jit.trace(module, image, check_trace=False), ()


def _exported(module: Any, image: Any) -> tuple[Any, tuple[str, ...]]:
    import torch

    # The converter takes programs of plain operators only, and `alias` is none to it.
    program = torch.export.export(module, (image,), strict=False).run_decompositions({})
    names = _remove_aliases(program.graph_module)
    for output in program.graph_signature.output_specs:
        output.arg.name = names.get(output.arg.name, output.arg.name)
    return program, ()


def _traced_with_four_axes(module: Any, image: Any) -> tuple[Any, tuple[str, ...]]:
    """Core ML takes five axes at most; chains of views over six are written with four."""
    rewritten, told = rank4.rewritten(module, image)
    if not told:
        raise ValueError("nothing could be rewritten")
    _remove_aliases(rewritten)
    return _traced(rewritten, image)[0], told


_WAYS = (
    _Way("torch.jit.trace", _traced),
    _Way("torch.export", _exported),
    _Way("torch.jit.trace with four axes", _traced_with_four_axes),
)


def _remove_aliases(graph_module: Any) -> dict[str, str]:
    """Takes out `aten.alias`, which names a tensor anew and does nothing; the names of what stands for each."""
    import torch

    names: dict[str, str] = {}
    for node in list(graph_module.graph.nodes):
        if node.target is torch.ops.aten.alias.default:
            names[node.name] = node.args[0].name
            node.replace_all_uses_with(node.args[0])
            graph_module.graph.erase_node(node)
    graph_module.recompile()
    return names


def _input(input_shape: tuple[int, ...], normalisation: Normalisation | None, is_half: bool) -> Any:
    import coremltools
    import numpy as np

    if normalisation:
        # Its scale stays 1 and its bias 0: the program does that, for each channel apart.
        return coremltools.ImageType(name=INPUT_NAME, shape=input_shape, color_layout=coremltools.colorlayout.RGB)
    return coremltools.TensorType(name=INPUT_NAME, shape=input_shape, dtype=np.float16 if is_half else np.float32)


def _converted(source: Any, image: Any, package: Path, is_half: bool) -> Any:
    import coremltools

    return coremltools.convert(
        source,
        inputs=[image],
        convert_to="mlprogram",
        minimum_deployment_target=getattr(coremltools.target, TARGET),
        compute_precision=coremltools.precision.FLOAT16 if is_half else coremltools.precision.FLOAT32,
        # Only a Mac can load it, and would compile it.
        skip_model_load=True,
        # Else it lies in a temporary folder that outlives this process.
        package_dir=str(package),
    )


def _modules(converted: Any) -> dict[str, str]:
    """The module of each operator by its name: the converter knows it, a saved program does not."""
    found = {one.name: _module_of(one) for one in converted._mil_program.functions["main"].operations}
    return {name: path for name, path in found.items() if path}


def _module_of(operation: Any) -> str:
    """The dotted path; of a convolution with a batch norm folded into it, which has the norm's, by its strides."""
    from coremltools.converters.mil.mil.scope import ScopeSource

    strides = operation.inputs.get("strides") if operation.op_type.startswith("conv") else None
    scopes = (operation if strides is None else strides.op).scopes.get(ScopeSource.TORCHSCRIPT_MODULE_NAME) or ()
    # The last one is the operator's own name.
    return ".".join(scopes[:-1]).removeprefix("inner").lstrip(".")


def _make_repeatable(package: Path) -> None:
    """The same bytes for the same program: the converter puts the date and random names into a package."""
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString((package / _SPEC).read_bytes())
    model.description.metadata.userDefined.pop(_DATE, None)
    (package / _SPEC).write_bytes(model.SerializeToString(deterministic=True))
    manifest_file = package / "Manifest.json"
    manifest = json.loads(manifest_file.read_text())
    names = {
        name: str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])).upper()
        for name, entry in manifest["itemInfoEntries"].items()
    }
    manifest["itemInfoEntries"] = {names[name]: entry for name, entry in manifest["itemInfoEntries"].items()}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    manifest_file.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")
