"""Curves made by hand, and what measuring them needs: models for any batch and size, and a device of known speed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.report import samples
from vitprof.curves import Curve, CurvePoint, PointOutcome, StoppedBy
from vitprof.measurements import Interval
from vitprof.records import ModelSpec, Result, Source
from vitprof.runner.wire import OUT_OF_MEMORY, Failure

MS = 1_000_000


def point(batch: int, speed: float, share: float | None = 0.001, **changes: object) -> CurvePoint:
    """A batch of `speed` images in the time of a reference's call, known to ± `share`; the call of that takes 10 ms."""
    relative = around(speed, share)
    made = CurvePoint(
        batch,
        PointOutcome.OK,
        images_per_s=around(100 * speed, share),
        images_per_reference=relative,
        latency_ns=around(batch / speed * 10 * MS, share),
        grade="A",
        relative_grade="A",
        peak_rss_bytes=(100 + 10 * batch) * 1_000_000,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def around(value: float, share: float | None) -> Interval:
    return Interval(value, None, None) if share is None else Interval(value, value * (1 - share), value * (1 + share))


def out_of_memory(batch: int) -> CurvePoint:
    return CurvePoint(batch, PointOutcome.OUT_OF_MEMORY)


def failed(batch: int) -> CurvePoint:
    return CurvePoint(batch, PointOutcome.FAILED)


def curve(
    name: str,
    points: Sequence[CurvePoint],
    *,
    size: tuple[int, int] = (224, 224),
    stopped_by: StoppedBy = StoppedBy.SATURATION,
    **changes: object,
) -> Curve:
    """With a row for each point, whose other figures are made up."""
    rows = tuple(row(name, one, size) for one in points)
    made = Curve(name, size, tuple(points), rows, stopped_by)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def row(name: str, of: CurvePoint, size: tuple[int, int]) -> Result:
    spec = ModelSpec(name, Source.TIMM, size, of.batch)
    if of.latency_ns is None:
        failure = Failure("load", "out of memory: 4 images", "use a smaller --batch", kind=OUT_OF_MEMORY)
        is_end = of.outcome is PointOutcome.OUT_OF_MEMORY
        return samples.result(name, spec=spec, failure=failure if is_end else samples.failed().failure)
    return dataclasses.replace(samples.measured(name, of.latency_ns.value / MS, 10**9, 10**6), spec=spec)


def write_model(path: Path, width: int = 8, batch: str | int = "N") -> Path:
    """An ONNX file of one convolution for images of any size, and of any batch unless `batch` is a number."""
    generator = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(generator.standard_normal(shape).astype("float32"), name)
        for name, shape in (("kernel", (width, 3, 3, 3)), ("last", (width, 10)))
    ]
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "last"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, "height", "width"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 10])
    graph = helper.make_graph(nodes, "net", [image], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def write_device(path: Path, **options: int | str) -> Path:
    """A profile of this machine with the fake backend, told `options`."""
    told = "\n".join(
        f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}" for name, value in options.items()
    )
    path.write_text(f'transport = "local"\nbackends = ["fake"]\n[options.fake]\n{told}\n')
    return path
