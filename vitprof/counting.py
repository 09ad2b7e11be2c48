"""A ModelSpec to its counted work, by whichever counter its source allows; no weight is held unless it must be.

One level above models, cost and export, which do not know each other. It runs in the preparing process, like an
export: a model's own code is foreign.
"""

from __future__ import annotations

from pathlib import Path

from vitprof.counts import Cost, OtherCount
from vitprof.errors import VitprofError
from vitprof.records import Counted, ModelSpec, Source


def counted(spec: ModelSpec, trust: bool = False, onnx_path: Path | None = None, with_others: bool = False) -> Counted:
    """The counted work of one image. `VitprofError` where the model cannot be read or built, or nothing counts it.

    `with_others`: also what other counters say, for which the model is built with its weights, and what this one
    says of its exported file at `onnx_path`.
    """
    from vitprof.cost.count import count
    from vitprof.cost.cross_check import cross_check
    from vitprof.cost.onnx_count import count_onnx
    from vitprof.export.onnx_file import read_onnx
    from vitprof.models.load import load, load_shapes

    if spec.source is Source.ONNX:
        path = Path(spec.path or "")
        facts = read_onnx(path, spec.batch, spec.size)
        return Counted(spec, facts.input_shape, count_onnx(path, facts.input_shape))
    loaded = load(spec, trust) if with_others else load_shapes(spec, trust)
    cost = count(loaded.module, loaded.input_shape)
    if cost.macs is None and not with_others:
        # A forward that reads values cannot run on shapes alone.
        loaded = load(spec, trust)
        cost = count(loaded.module, loaded.input_shape)
    if cost.macs is None:
        raise VitprofError(
            f"{spec.name} cannot be counted: its forward fails on an image of {'x'.join(map(str, loaded.input_shape))}",
            remedy="give another --size, or see why with: vitprof export MODEL --debug",
            stage="count",
        )
    others = cross_check(loaded.module, loaded.input_shape, cost) if with_others else ()
    if onnx_path is not None:
        others = (_of_export(cost, onnx_path, loaded.input_shape), *others)
    return Counted(spec, loaded.input_shape, cost, loaded.fixups, others)


def _of_export(cost: Cost, path: Path, input_shape: tuple[int, int, int, int]) -> OtherCount:
    from vitprof.cost.agreement import agreement, text_from_agreement
    from vitprof.cost.onnx_count import count_onnx

    name = "vitprof, ONNX export"
    try:
        exported = count_onnx(path, input_shape)
    except VitprofError as error:
        return OtherCount(name, "", error=error.message)
    macs = exported.macs
    printed = None if macs is None else f"{macs:,} MACs"
    return OtherCount(name, "", printed, macs, text_from_agreement(agreement(cost, exported)))
