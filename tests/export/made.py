"""Artifacts without a model: a few bytes under the record of an export."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vitprof.counts import Cost, Kind, OpRow
from vitprof.export import cache
from vitprof.records import Artifact, ModelSpec, Source

SPEC = ModelSpec(name="resnet18", source=Source.TIMM, size=(224, 224))


def key_of(name: str) -> str:
    """The key of what `publish` makes for `name`."""
    return cache.artifact_key(dataclasses.replace(SPEC, name=name), "onnx")


def artifact(folder: Path, spec: ModelSpec = SPEC) -> Artifact:
    row = OpRow("conv", Kind.CONV, "stem", 1, 10, 4, 8, (1, 2))
    return Artifact(
        folder=folder,
        file="model.onnx",
        format="onnx",
        sha256="ab",
        bytes=5,
        spec=spec,
        input_name="image",
        input_shape=(1, 3, 224, 224),
        input_dtype="float32",
        input_count=4,
        inputs="inputs.bin",
        expected="expected.bin",
        expected_outputs=(("float32", (1, 1000)),),
        expected_missing=None,
        opset=17,
        exporter="test",
        versions={"torch": "2"},
        fixups=("one",),
        cost=Cost(1, 2, 3, 4, 5, {"fft": 1}, None, (row,)),
        seconds=0.5,
    )


def publish(root: Path, content: str = "model", name: str = SPEC.name, **changes: Any) -> Artifact:
    """An artifact of `content` in the cache; `changes` are to its spec."""
    spec = dataclasses.replace(SPEC, name=name, **changes)
    with cache.staging(root) as folder:
        (folder / "source").mkdir()
        (folder / "source" / "weights.bin").write_text("w")
        (folder / "model.onnx").write_text(content)
        return cache.publish(root, cache.artifact_key(spec, "onnx"), folder, artifact(folder, spec))
