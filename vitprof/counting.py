"""`vitprof count`: models to their counted work, by whichever counter their source allows.

Its own file beside the pipeline, because nothing is measured. `counted` runs in the preparing process, like an export:
a model's own code is foreign. No weight is held unless it must be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vitprof.counts import Cost, OtherCount
from vitprof.errors import VitprofError
from vitprof.export.locks import InUse
from vitprof.places import Places
from vitprof.records import Counted, ModelSpec, Source
from vitprof.report.progress import Progress
from vitprof.rows import failure_from_error
from vitprof.workshop import Workshop


def count(
    models: Sequence[str],
    like: ModelSpec,
    places: Places,
    *,
    progress: Progress,
    trust: bool = False,
    with_others: bool = False,
) -> Iterator[Counted]:
    """Every model's counted work as it is done; `with_others`: beside what other counters say of it."""
    with InUse(places.cache_root) as in_use, Workshop(places.cache_root, progress, trust=trust) as workshop:
        for spec in workshop.specs(models, like):
            try:
                path = None
                if with_others and spec.source is not Source.ONNX:
                    path = workshop.artifact(spec, "onnx", in_use).path
                yield workshop.elsewhere("count", spec.name, counted, spec, trust, path, with_others)
            except VitprofError as error:
                yield Counted(spec, failure=failure_from_error(error), exit_code=error.exit_code)


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
