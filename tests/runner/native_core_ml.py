"""Apple's part of coremltools where there is no Mac: what `libcoremlpython` offers, as coremltools 9.0 documents it.

Everything of coremltools that is Python runs for real on top of it. A prediction is that of the reference evaluator;
the compute plan puts products on the Neural Engine and the rest on the CPU, or all of it where only that is allowed.
"""

from __future__ import annotations

import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import pytest

PREDICT_NS = 1_234_567
_PRODUCTS = ("conv", "linear", "matmul")


class Proxy:
    """A device's or a plan's native half."""


class Native:
    """A loaded model. `seen`: what each prediction was given."""

    def __init__(self, path: str, units: str, function: str, hints: dict[str, str], asset: object) -> None:
        from vitprof.export.mil_eval import main_function

        if (function, hints, asset) != ("", {}, None):
            raise RuntimeError("not what a plain load gives")
        self.units = units
        self.seen: list[dict[str, Any]] = []
        self._main = main_function(_package(path))

    @staticmethod
    def compileModel(path: str) -> str:
        folder = Path(tempfile.mkdtemp()) / "apple.mlmodelc"
        folder.mkdir()
        (folder / "package").write_text(path)
        return str(folder)

    def predict(self, data: dict[str, Any], state: object) -> dict[str, Any]:
        import numpy as np

        from vitprof.export.mil_eval import evaluate_function

        self.seen.append(dict(data))
        found = evaluate_function(self._main, {name: _values(one) for name, one in data.items()})
        # In any order, and never in fp16.
        return {name: found[name].astype(np.float32) for name in sorted(found, reverse=True)}

    def get_last_predict_duration_in_nano_seconds(self) -> int | None:
        return PREDICT_NS if self.seen else None

    @staticmethod
    def get_all_compute_devices() -> list[Any]:
        from coremltools.models import compute_device as devices

        return [devices.MLNeuralEngineComputeDevice(Proxy()), devices.MLCPUComputeDevice(Proxy())]

    @staticmethod
    def get_compute_plan(path: str, units: str) -> Any:
        from coremltools.models.compute_plan import MLComputePlan

        return MLComputePlan(PlanProxy(_package(path), units))


class PlanProxy(Proxy):
    def __init__(self, package: Path, units: str) -> None:
        from coremltools.models import compute_plan as plans

        from vitprof.export.coreml_program import read_program

        self._ops = read_program(package).ops
        constant = plans.MLModelStructureProgramOperation({}, "const", [_value("a_constant")], [], Proxy())
        operations = [
            plans.MLModelStructureProgramOperation({}, f"ios16.{op.type}", [_value(op.outputs[0].name)], [], Proxy())
            for op in self._ops
        ]
        block = plans.MLModelStructureProgramBlock([], [constant, *operations], [])
        program = plans.MLModelStructureProgram({"main": plans.MLModelStructureProgramFunction([], block)})
        self.model_structure = plans.MLModelStructure(None, program, None)
        self._units = units

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        from coremltools.models import compute_device as devices
        from coremltools.models.compute_plan import MLComputePlanDeviceUsage

        if operation.operator_name == "const":
            return None
        is_product = operation.operator_name.rpartition(".")[2] in _PRODUCTS
        on_ane = is_product and self._units != "CPU_ONLY"
        kind = devices.MLNeuralEngineComputeDevice if on_ane else devices.MLCPUComputeDevice
        return MLComputePlanDeviceUsage(kind(Proxy()), [])

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any:
        from coremltools.models.compute_plan import MLComputePlanCost

        return None if operation.operator_name == "const" else MLComputePlanCost(1 / (2 * len(self._ops)))


def _values(given: Any) -> Any:
    """An image as the program reads it: (1, 3, H, W)."""
    import numpy as np
    from PIL import Image

    return np.asarray(given).transpose(2, 0, 1)[None] if isinstance(given, Image.Image) else given


def _value(name: str) -> Any:
    from coremltools.models import compute_plan as plans

    return plans.MLModelStructureProgramNamedValueType(name, plans.MLModelStructureProgramValueType())


def _package(compiled: str) -> Path:
    return Path((Path(compiled) / "package").read_text())


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts it where coremltools looks for its native half."""
    from coremltools.models import _compiled_model, compute_device, compute_plan, utils

    library: Any = types.ModuleType("coremltools.libcoremlpython")
    library._MLModelProxy = Native
    monkeypatch.setitem(sys.modules, "coremltools.libcoremlpython", library)
    for module in (_compiled_model, utils):
        monkeypatch.setattr(module, "_macos_version", lambda: (15, 0))
    for module in (_compiled_model, compute_plan, compute_device):
        monkeypatch.setattr(module, "_MLModelProxy", Native)
    monkeypatch.setattr(compute_plan, "_MLComputePlanProxy", PlanProxy)
    for name in ("_MLCPUComputeDeviceProxy", "_MLGPUComputeDeviceProxy", "_MLNeuralEngineComputeDeviceProxy"):
        monkeypatch.setattr(compute_device, name, Proxy)
