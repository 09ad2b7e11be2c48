"""Static layers on a terminal, as JSON and as markdown: the kernels of an engine that was built and never run.

Its own file beside `layers` because there is no time in it: MACs and bytes only, and what was fused.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vitprof.kernels import FusedKernel, KernelSum, KernelWork, StaticLayers, StaticModel
from vitprof.report.by import By
from vitprof.report.columns import Column, counts_column
from vitprof.report.outside import encodable, plain
from vitprof.report.sections import Section
from vitprof.units import NOT_KNOWN, six_digits, text_from_bytes, text_from_count, text_from_share

if TYPE_CHECKING:
    from vitprof.report.schema_static import KernelWorkPart, StaticLayersDocument

# A table shows this many rows, those with most MACs; --all and the JSON have every kernel.
MOST_ROWS = 20
_MOST_NODES = 3
# What the compiler puts behind a kernel's name: `__myl_Tran_myl0_16`.
_COUNTER = re.compile(r"_myl\d+_\d+$")
_UNTOLD = "(not told)"
_MODEL = "(model)"
Number = TypeVar("Number", int, float)
_LEGEND = (
    "MACs: counted in the ONNX file, of one image. Bytes: what a kernel reads and writes in the engine's own types, of "
    "the whole batch. Nothing was run: which machine code a kernel becomes is chosen on the GPU."
)


def sections_of(model: StaticModel, by: By, *, is_whole: bool = False) -> tuple[Section, ...]:
    """What `layers --static` shows: what was fused, the work by kind or module where that is asked, the kernels."""
    layers = model.layers
    most = None if is_whole else MOST_ROWS
    title, facts = title_of(model), _facts(layers)
    groups = [_Group((one,)) for one in layers.kernels] if is_whole else _alike(layers.kernels)
    closing = (*_rest(len(groups[most:]) if most else 0), _LEGEND)
    columns = _kernel_columns(groups[:most])
    if by is By.OP:
        return (Section(title, facts, columns, closing=closing, level=1),)
    whole = layers.by_kind if by is By.KIND else layers.by_module
    sums = whole[:most]
    return (
        Section(title, facts, _sum_columns(sums, by), closing=_rest(len(whole) - len(sums)), level=1),
        Section("Kernels", columns=columns, closing=closing),
    )


@dataclass(frozen=True)
class _Group:
    """Kernels that do the same work in modules whose paths differ in numbers only."""

    kernels: tuple[FusedKernel, ...]

    @property
    def module(self) -> str:
        if len(self.kernels) == 1:
            return self.kernels[0].module or _MODEL
        return f"{len(self.kernels)} x {_unnumbered(self.kernels[0].module) or _MODEL}"

    @property
    def work(self) -> KernelWork:
        works = [one.work for one in self.kernels]
        return KernelWork(
            _sum([work.macs for work in works]),
            _sum([work.macs_share for work in works]),
            _sum([work.bytes_moved for work in works]),
            _sum([work.bytes_share for work in works]),
            # Alike, so the same for each.
            works[0].macs_per_byte,
        )


def _alike(kernels: Sequence[FusedKernel]) -> list[_Group]:
    """Those with most MACs first."""
    groups: dict[Hashable, list[FusedKernel]] = {}
    for one in kernels:
        same = (_unnumbered(one.module), one.kind, one.kernel.type, one.work.macs, one.work.bytes_moved, _nodes(one))
        groups.setdefault(same, []).append(one)
    found = [_Group(tuple(group)) for group in groups.values()]
    return sorted(found, key=lambda group: (-(group.work.macs or 0), -(group.work.bytes_moved or 0)))


def _unnumbered(module: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in module.split("."))


def _sum(values: Sequence[Number | None]) -> Number | None:
    known = [value for value in values if value is not None]
    return sum(known[1:], start=known[0]) if len(known) == len(values) else None


def title_of(model: StaticModel) -> str:
    """The model and what it was built for, on one line."""
    size = "x".join(map(str, model.input_shape[2:]))
    asked = f"{model.spec.name}, {size}, batch {model.spec.batch}, {model.spec.precision.value}"
    target = f"compute capability {model.compute_capability}"
    return plain(f"{asked}, {model.backend} {model.backend_version} for {target}, built and not run")


def document(model: StaticModel) -> StaticLayersDocument:
    """The JSON of `layers --static`."""
    from vitprof.report.schema_static import (
        EngineMemoryPart,
        FusedAttentionPart,
        KernelKindPart,
        KernelModulePart,
        KernelPart,
        StaticLayersDocument,
    )

    layers = model.layers
    listed = layers.listed
    return StaticLayersDocument(
        model=encodable(model.spec.name),
        source=model.spec.source.value,
        size=(model.input_shape[2], model.input_shape[3]),
        batch=model.spec.batch,
        precision=model.spec.precision.value,
        backend=model.backend,
        backend_version=model.backend_version,
        compute_capability=model.compute_capability,
        synchronisations=layers.synchronisations,
        onnx_nodes=layers.nodes,
        macs=layers.macs,
        image_free_macs=layers.image_free_macs,
        attributed_macs_share=_rounded(layers.attributed_macs_share),
        attention=FusedAttentionPart(found=layers.attentions, fused=layers.fused_attentions),
        memory_bytes=EngineMemoryPart(
            weights=listed.weight_bytes, activations=listed.activation_bytes, scratch=listed.scratch_bytes
        ),
        by_kind=tuple(
            KernelKindPart(kind=one.name, kernels=one.kernels, work=_part(one.work)) for one in layers.by_kind
        ),
        by_module=tuple(
            KernelModulePart(
                module=None if one.name is None else encodable(one.name), kernels=one.kernels, work=_part(one.work)
            )
            for one in layers.by_module
        ),
        kernels=tuple(
            KernelPart(
                name=encodable(one.kernel.name),
                type=encodable(one.kernel.type),
                tactic=encodable(one.kernel.tactic),
                kind=None if one.kind is None else one.kind.value,
                module=encodable(one.module),
                work=_part(one.work),
                fused_attentions=one.attentions,
                nodes=tuple(map(encodable, one.kernel.nodes)),
            )
            for one in layers.kernels
        ),
    )


def _facts(layers: StaticLayers) -> tuple[str, ...]:
    listed = layers.listed
    if layers.attentions:
        attention = f"Attention: {layers.fused_attentions} of {layers.attentions} in one kernel each."
    else:
        attention = "No softmax attention."
    beside = f" (beside {layers.synchronisations} signals and waits between streams)" * bool(layers.synchronisations)
    facts = [
        f"{len(layers.kernels)} kernels{beside} of {layers.nodes} ONNX nodes. {attention} "
        f"{text_from_share(layers.attributed_macs_share, 2)} of {text_from_count(layers.macs, 'MACs')} told.",
        f"Memory: weights {text_from_bytes(listed.weight_bytes)}, activations "
        f"{text_from_bytes(listed.activation_bytes)}, scratch {text_from_bytes(listed.scratch_bytes)}.",
    ]
    if layers.image_free_macs:
        again = text_from_count(layers.image_free_macs, "MACs")
        facts.append(f"{again} of it need no image and are done again for each: the compiler left them in kernels.")
    return tuple(facts)


def _rest(left_out: int) -> tuple[str, ...]:
    return (f"{left_out} more with fewer MACs: --all shows every kernel.",) if left_out else ()


def _kernel_columns(groups: Sequence[_Group]) -> tuple[Column, ...]:
    first = [group.kernels[0] for group in groups]
    return (
        Column("module", tuple(group.module for group in groups), is_number=False),
        Column("kind", tuple(map(_kind, first)), is_number=False),
        Column("type", tuple(one.kernel.type for one in first), spare=1, is_number=False),
        *_work_columns([group.work for group in groups]),
        Column("is made of", tuple(map(_nodes, first)), spare=3, is_number=False),
    )


def _kind(one: FusedKernel) -> str:
    fused = " (whole)" if one.attentions else ""
    return NOT_KNOWN if one.kind is None else f"{one.kind.value}{fused}"


def _nodes(one: FusedKernel) -> str:
    """The last part of their names tells nodes apart; a kernel without any has the words of its own name."""
    names = [name.rpartition("/")[2] for name in one.kernel.nodes]
    more = f", {len(names) - _MOST_NODES} more" if len(names) > _MOST_NODES else ""
    return f"{', '.join(names[:_MOST_NODES])}{more}" or _COUNTER.sub("", one.kernel.name)


def _sum_columns(sums: Sequence[KernelSum], by: By) -> tuple[Column, ...]:
    return (
        Column(by.value, tuple(_UNTOLD if one.name is None else one.name or _MODEL for one in sums), is_number=False),
        Column("kernels", tuple(str(one.kernels) for one in sums)),
        *_work_columns([one.work for one in sums]),
    )


def _work_columns(works: Sequence[KernelWork]) -> tuple[Column, ...]:
    return (
        counts_column("MAC", [work.macs for work in works]),
        Column("of MACs", tuple(text_from_share(work.macs_share) if work.macs else "-" for work in works)),
        counts_column("B", [work.bytes_moved for work in works]),
        Column("of bytes", tuple(text_from_share(work.bytes_share) for work in works), spare=2),
        Column("MAC/B", tuple(f"{work.macs_per_byte:,.1f}" if work.macs_per_byte else "-" for work in works), spare=1),
    )


def _part(work: KernelWork) -> KernelWorkPart:
    from vitprof.report.schema_static import KernelWorkPart

    return KernelWorkPart(
        macs=work.macs,
        macs_share=_rounded(work.macs_share),
        bytes=work.bytes_moved,
        bytes_share=_rounded(work.bytes_share),
        macs_per_byte=_rounded(work.macs_per_byte),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else six_digits(value)
