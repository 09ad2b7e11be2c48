"""Core ML on a Mac, from an `.mlpackage` folder or a compiled `.mlmodelc`, by coremltools.

A timed call is `CompiledMLModel.predict` on an input prepared beforehand. Inside it are the prediction and what
coremltools does around it: the array wrapped for Core ML without a copy, the outputs copied into new numpy arrays. How
long Core ML's own part was (its clock around `predictionFromFeatures`) is read after each block, as
`coreml_predict_ns`: the difference is coremltools'. Its arrays are fp32 at all times: Core ML converts those of an fp16
package itself, inside its own part.

`build_ns` is the compilation of the package (`MLModel.compileModel`); what the Neural Engine's own compiler takes is in
the load time, and far shorter once macOS has kept its result.

Options: `compute_units` = all, cpu, cpu+gpu or cpu+ane. With `iphone` the model runs on a phone on this Mac's cable
(`coreml_phone`), whose app is signed with `development_team` or `provisioning_profile_uuid`, and `bundle_identifier`.
Written against coremltools 9.0 as it is documented; nobody who wrote it had a Mac.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from vitprof.runner.backends import Accelerator, BackendError, is_out_of_memory, out_of_memory
from vitprof.runner.images import array_of
from vitprof.runner.profiles import coreml as plans
from vitprof.runner.wire import Plan, Profile, ProfileRequest

COMPILED_SUFFIX = ".mlmodelc"
NEEDS_MACOS = "Core ML runs on macOS only"
NAMES = {"all": "ALL", "cpu": "CPU_ONLY", "cpu+gpu": "CPU_AND_GPU", "cpu+ane": "CPU_AND_NE"}
# coremltools puts these into commands of a shell: only what such identifiers consist of may pass.
_IDENTIFIER = re.compile(r"[A-Za-z0-9.-]+")
_CREDENTIALS = ("development_team", "provisioning_profile_uuid", "bundle_identifier")
# Of a program whose input is an image.
_PIXELS = "uint8"
_COMPILED_PREFIX = "vitprof-coreml-"
# A compiled model whose process has died is of no use to anybody; no process lives this long.
_STALE_S = 24 * 3600.0


@dataclass(frozen=True)
class CoremlOptions:
    """`iphone`: the name or UDID of a connected phone; None: this Mac."""

    compute_units: str = "all"
    iphone: Optional[str] = None
    development_team: Optional[str] = None
    provisioning_profile_uuid: Optional[str] = None
    bundle_identifier: Optional[str] = None


def version() -> str:
    return metadata.version("coremltools")


def load(plan: Plan) -> Any:
    options = options_of(plan)
    if platform.system() != "Darwin":
        message = f"{NEEDS_MACOS}, and this machine runs {platform.system()}"
        raise BackendError("load", message, "choose a Mac: --device macbook-m2")
    if options.iphone is not None:
        from vitprof.runner.backends import coreml_phone

        return coreml_phone.load(plan, options)
    return _CoremlSession(plan, options)


def options_of(plan: Plan) -> CoremlOptions:
    """The options of `plan`; `BackendError` for a name or a value that cannot be meant."""
    for name, value in plan.options.items():
        if name not in CoremlOptions.__dataclass_fields__:
            allowed = ", ".join(CoremlOptions.__dataclass_fields__)
            raise _bad(f"unknown option '{name}'", allowed)
        if not isinstance(value, str):
            raise _bad(f"option {name} = {value!r}", "a text")
        if name == "compute_units" and value not in plans.COMPUTE_UNITS:
            raise _bad(f"option {name} = {value!r}", ", ".join(plans.COMPUTE_UNITS))
        if name in _CREDENTIALS and not _IDENTIFIER.fullmatch(value):
            raise _bad(f"option {name} = {value!r}", "letters, digits, dots and hyphens")
    return CoremlOptions(**plan.options)  # type: ignore[arg-type]


def _bad(what: str, allowed: str) -> BackendError:
    return BackendError("load", f"{what}; allowed: {allowed}", "mend [options.coreml] in the device's profile")


class _CoremlSession:
    """A loaded model and the dictionary that every timed call hands to it."""

    def __init__(self, plan: Plan, options: CoremlOptions) -> None:
        from coremltools import ComputeUnit
        from coremltools.models import CompiledMLModel

        self._plan, self._options = plan, options
        self._compute_unit = getattr(ComputeUnit, NAMES[options.compute_units])
        self._path, self.build_ns = compiled(plan.artifact)
        try:
            self._model = CompiledMLModel(self._path, compute_units=self._compute_unit)
        except Exception as error:  # pybind11's RuntimeError around Apple's, and bare Exceptions of coremltools.
            raise load_error(error) from error
        self._names = output_names(plan.artifact)
        self._image = {plan.input_name: prepared(plan, 0)}
        self._predict = self._model.predict
        self.accelerator: Optional[Accelerator] = Units(self)

    def call(self) -> None:
        self._predict(self._image)

    # It takes its input from the host's memory and leaves its outputs there, whichever unit computes.
    host_call = call

    def outputs(self, index: int) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
        found = self._predict({self._plan.input_name: prepared(self._plan, index)})
        return tensors(found, self._names)

    def profile(self, request: ProfileRequest, clock: Callable[[], int]) -> Profile:
        return estimated(self.planned, self.call, request, clock)

    # Read after the first call: neither what the plan takes to be made nor its memory is in the load time.
    @cached_property
    def planned(self) -> Tuple[plans.PlannedOp, ...]:
        """What Core ML means to run where; empty where this macOS does not tell (before 14.4)."""
        from coremltools.models.compute_plan import MLComputePlan

        # A missing figure is no reason to fail, whatever class it comes in.
        with contextlib.suppress(Exception):
            return plans.planned_ops(MLComputePlan.load_from_path(self._path, compute_units=self._compute_unit))
        return ()

    @property
    def placement_ops_share(self) -> Optional[float]:
        return plans.placement_ops_share(self.planned, self._options.compute_units)

    @property
    def misplaced_ops(self) -> Tuple[str, ...]:
        return plans.misplaced(self.planned, self._options.compute_units)

    def facts(self) -> Dict[str, Any]:
        return {
            "compute_units": self._options.compute_units,
            "compute_devices": _compute_devices(),
            "macos": platform.mac_ver()[0] or None,
            **plans.placement_facts(self.planned),
        }

    def predict_ns(self) -> Optional[int]:
        """Of the last call what Core ML itself took; None where this coremltools does not tell."""
        proxy = getattr(self._model, "_proxy", None)
        ask = getattr(proxy, "get_last_predict_duration_in_nano_seconds", None)
        return None if ask is None else ask()


class Units:
    """What is known of the units that a session runs on: Core ML tells of their clocks, power and memory nothing."""

    def __init__(self, session: Any) -> None:
        """`session`: has `facts` and `predict_ns`."""
        self._session = session

    def environment(self) -> Dict[str, Any]:
        facts: Dict[str, Any] = self._session.facts()
        return facts

    def sensors(self) -> Dict[str, Any]:
        return {"coreml_predict_ns": self._session.predict_ns()}

    def peak_bytes(self) -> Optional[int]:
        return None

    def call_ns(self) -> Optional[int]:
        return None

    def driver_peak_bytes(self) -> Optional[int]:
        return None


def compiled(artifact: str) -> Tuple[str, Optional[int]]:
    """(folder of the compiled model, what compiling it took); None where it came compiled."""
    if artifact.rstrip("/").endswith(COMPILED_SUFFIX):
        return artifact, None
    from coremltools.models.utils import compile_model

    # The loaded model reads its weights from there as long as it lives, and its process ends without a last word: what
    # earlier ones left is removed by later ones.
    remove_stale(tempfile.gettempdir(), time.time())
    target = os.path.join(tempfile.mkdtemp(prefix=_COMPILED_PREFIX), f"model{COMPILED_SUFFIX}")
    start_ns = time.perf_counter_ns()
    try:
        compile_model(artifact, target)
    except Exception as error:  # As above.
        raise load_error(error) from error
    return target, time.perf_counter_ns() - start_ns


def remove_stale(folder: str, now_s: float) -> None:
    """Removes the compiled models in `folder` that were made a day ago or earlier."""
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):
            if entry.name.startswith(_COMPILED_PREFIX) and now_s - entry.stat().st_mtime > _STALE_S:
                shutil.rmtree(entry.path, ignore_errors=True)


def output_names(artifact: str) -> Tuple[str, ...]:
    """The outputs in the program's order: a prediction is a dictionary in an order of its own."""
    if artifact.rstrip("/").endswith(COMPILED_SUFFIX):
        # Written by Apple's compiler beside the program.
        try:
            with open(os.path.join(artifact, "metadata.json"), encoding="utf-8") as file:
                return tuple(str(one["name"]) for one in json.load(file)[0]["outputSchema"])
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return ()
    from coremltools.models.utils import load_spec

    return tuple(str(one.name) for one in load_spec(artifact).description.output)


def prepared(plan: Plan, index: int) -> Any:
    """Input `index` as coremltools takes it: it would make fp32 of fp16 in every call; an image is Pillow's."""
    import numpy

    if plan.input_dtype == _PIXELS:
        from PIL import Image

        return Image.fromarray(numpy.ascontiguousarray(array_of(plan, index)[0].transpose(1, 2, 0)))
    return numpy.ascontiguousarray(array_of(plan, index), dtype=numpy.float32)


def tensors(found: Dict[str, Any], names: Sequence[str]) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
    """A prediction as the runner writes it, in the order of `names`, whatever else there is after them."""
    import numpy

    ordered = [*(name for name in names if name in found), *(name for name in sorted(found) if name not in names)]
    arrays = [(name, numpy.ascontiguousarray(found[name])) for name in ordered]
    return [(name, str(array.dtype), tuple(array.shape), array.tobytes()) for name, array in arrays]


def estimated(
    ops: Sequence[plans.PlannedOp], call: Callable[[], None], request: ProfileRequest, clock: Callable[[], int]
) -> Profile:
    """The estimated profile; `BackendError` where Core ML gives no estimates."""
    if not any(op.cost_share for op in ops):
        message = "Core ML tells no estimated cost of operators here: it does from macOS 14.4 and iOS 17.4 on"
        raise BackendError("profile", message, "upgrade it, or profile the model with --backend ort")
    return plans.estimated_profile(ops, call, request, clock)


def load_error(error: Exception) -> BackendError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    if is_out_of_memory(error):
        return out_of_memory("load", said)
    return BackendError("load", f"Core ML cannot load the model: {said}", "export it again, or use --backend ort")


def _compute_devices() -> Optional[List[str]]:
    from coremltools.models.compute_device import MLComputeDevice

    with contextlib.suppress(Exception):
        return [plans.unit_of(device) for device in MLComputeDevice.get_all_compute_devices()]
    return None
