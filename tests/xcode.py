"""A performance report in the form of those that were published (store/xcode_reports.py): short, with own values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Three loads with four predictions each, in seconds; the first of each is the slowest.
PREDICTIONS = (0.005, 0.0021, 0.002, 0.0019, 0.003, 0.0022, 0.0021, 0.002, 0.003, 0.0021, 0.002, 0.0022)


def operation(name: str, op: str, unit: str, weight: float) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = [{"deviceType": {kind: {}}} for kind in ("cpu", "gpu", "neuralEngine")]
    return {
        "outputs": [{"name": name, "type": {}}],
        "operatorName": op,
        "blocks": [],
        "inputs": {"x": {"bindings": [{"name": {"_0": "image"}}]}},
        "deviceUsage": {"preferred": {"deviceType": {unit: {}}}, "supported": kinds, "allSupportStates": []},
        "cost": {"weight": weight},
    }


def constant(name: str) -> dict[str, Any]:
    return {"outputs": [{"name": name, "type": {}}], "operatorName": "const", "blocks": [], "inputs": {}}


OPERATIONS = (
    constant("stem_pad_0"),
    operation("input_cast_fp16", "ios17.conv", "neuralEngine", 0.75),
    operation("relu_cast_fp16", "ios17.relu", "neuralEngine", 0.125),
    operation("head_cast_fp16", "ios17.linear", "cpu", 0.125),
)


def report(
    operations: Sequence[dict[str, Any]] = OPERATIONS,
    *,
    file_name: str = "net-fp16",
    size: int = 4_000,
    shape: Sequence[int] = (1, 3, 16, 16),
    computed_in: str = "Mixed (Float16, Int32)",
    takes_image: bool = False,
) -> dict[str, Any]:
    schema = [{"name": "image", "type": "MultiArray", "dataType": "Float16", "shape": str(list(shape))}]
    if takes_image:
        # As Apple's compiler describes an image: its sides are texts, and it has no shape.
        sides = {"height": str(shape[2]), "width": str(shape[3])}
        schema = [{"name": "image", "type": "Image", "colorspace": "RGB", "isColor": "1", **sides}]
    structure = {
        "program": {
            "_0": {"functions": {"main": {"inputs": [], "block": {"inputs": [], "operations": list(operations)}}}}
        }
    }
    return {
        "deviceResultVersion": 4,
        "jsonVersion": 1,
        "computeUnit": 2,
        "deviceInfo": {
            "modelName": "iPhone 13",
            "deviceID": "SECRET-DEVICE",
            "serialNumber": "SECRET-SERIAL",
            "displayName": "SECRET-NAME",
            "deviceType": {"iPhone": {}},
            "osNameAndVersionWithoutBuildNumber": "iOS 18.7.8",
            "isCloudDevice": False,
        },
        "deviceResults": {
            "modelStructure": structure,
            "load": {
                "startTime": 810099232.2,
                "samples": [0.4, 0.02, 0.02, 0.15, 0.02, 0.02, 0.16, 0.02, 0.02],
                "numOperations": 3,
            },
            "compile": {"startTime": 810099231.9, "samples": [0.09, 0.07, 0.07], "numOperations": 3},
            "predict": {"startTime": 810099232.25, "samples": list(PREDICTIONS), "numOperations": 4},
            "perfRunConfig": {"loadCount": 3, "experimentIterations": 3, "predictionCount": 4},
            "availableComputeDevices": [{"deviceType": {"neuralEngine": {}}}],
        },
        "modelMetadata": {
            "modelUrl": "file:///Users/SECRET/net-fp16.mlpackage",
            "fileName": file_name,
            "size": size,
            "modelType": "ML Program",
            "functionNames": [],
            "rawMetadata": json.dumps([{"computePrecision": computed_in, "inputSchema": schema}]),
        },
    }


def write(folder: Path, body: dict[str, Any], name: str = "net.mlperf") -> Path:
    """The report as Xcode leaves it: a folder with one file."""
    (folder / name).mkdir()
    (folder / name / "report.json").write_text(json.dumps(body, indent=2))
    return folder / name
