"""A layer profile on a terminal, as JSON, CSV and markdown.

Its own file because its figures are shares: of time, of MACs and of bytes, always beside each other. All forms share
the sections here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitprof.comparisons import LayerOp, LayerProfile, LayerSum, ProfiledModel, TimedWork
from vitprof.report.by import By
from vitprof.report.columns import Column, counts_column, times_column
from vitprof.report.outside import csv_cell, encodable, plain
from vitprof.report.plot_layers import ShareBar
from vitprof.report.sections import Section
from vitprof.units import NOT_KNOWN, six_digits, text_from_ns, text_from_share

if TYPE_CHECKING:
    from vitprof.report.schema_analysis import LayersDocument, TimedWorkPart

# A table shows this many rows, those that take longest; --all and the files have all.
MOST_ROWS = 20
_MOST_MEMBERS = 3
_UNTOLD = "(not told)"
_MODEL = "(model)"


def sections_of(model: ProfiledModel, by: By, *, is_whole: bool = False) -> tuple[Section, ...]:
    """What `layers` shows: how the time is shared `by`, then where that disagrees with the MACs most."""
    profile = model.profile
    most = None if is_whole else MOST_ROWS
    time = "time, est." if profile.is_estimate else "time"
    if by is By.OP:
        ops = sorted(profile.ops, key=lambda op: -op.work.ns)[:most]
        works = _work_columns([op.work for op in ops], time)
        columns, left_out = (*_op_columns(ops), *works), len(profile.ops) - len(ops)
        columns = (*columns, *_placed_columns(ops), _members_column(ops))
    else:
        whole = profile.by_kind if by is By.KIND else profile.by_module
        sums = whole[:most]
        columns, left_out = _sum_columns(sums, by, time), len(whole) - len(sums)
    rest = (f"{left_out} more with less time: --all shows them.",) if left_out else ()
    sections = [Section(title_of(model), _facts(profile), columns, closing=(*rest, _legend(profile)), level=1)]
    if profile.disagreements:
        time = "estimated time" if profile.is_estimate else "time"
        head = f"takes more of the {time} than it has of the MACs"
        told = Column(head, profile.disagreements, is_number=False)
        sections.append(Section("Disagreements", columns=(told,)))
    return tuple(sections)


_LEGEND = (
    "Time: of all operators together. MACs and bytes: counted in the model as it is, in fp32; a fused operator moves "
    "fewer bytes."
)
_PROFILER = (
    "A profiler costs time in every operator: this says how the time is shared, `vitprof latency` how long it is."
)


def _legend(profile: LayerProfile) -> str:
    return _LEGEND if profile.is_estimate else f"{_LEGEND} {_PROFILER}"


def title_of(model: ProfiledModel) -> str:
    """The model and where it ran, on one line."""
    size = "x".join(map(str, model.input_shape[2:]))
    where = f"{model.backend} {model.backend_version}, {model.threads} thread{'' if model.threads == 1 else 's'}"
    asked = f"{model.spec.name}, {size}, batch {model.spec.batch}, {model.spec.precision.value}"
    return plain(f"{asked}, {where}, on {model.device}")


def share_bars(profile: LayerProfile, by: By) -> tuple[ShareBar, ...]:
    """What a picture of the profile shows."""
    if by is By.OP:
        named = [(f"{op.module or _MODEL} ({op.op})", op.work) for op in profile.ops]
    else:
        named = [(_label(one.name), one.work) for one in (profile.by_kind if by is By.KIND else profile.by_module)]
    return tuple(ShareBar(plain(name), work.time_share, work.macs_share, work.bytes_share) for name, work in named)


def csv_text(profile: LayerProfile) -> str:
    """One line for every operator in the order in which they ran: whole numbers, no units."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    heads = ("name", "op", "kind", "module", "calls", "ns", "time_share", "macs", "macs_share", "bytes", "bytes_share")
    writer.writerow((*heads, "macs_per_s", "members", "placed", "estimated"))
    for op in profile.ops:
        names = (op.name, op.op, op.kind and op.kind.value, op.module)
        numbers = _part(op.work).model_dump().values()
        facts = ("; ".join(op.members), op.placed, "yes" if profile.is_estimate else "no")
        writer.writerow(map(csv_cell, (*names, op.calls, *numbers, *facts)))
    return file.getvalue()


def document(model: ProfiledModel) -> LayersDocument:
    """The JSON of `layers`."""
    from vitprof.report.schema_analysis import LayerKindPart, LayerModulePart, LayerOpPart, LayersDocument

    profile = model.profile
    return LayersDocument(
        model=encodable(model.spec.name),
        source=model.spec.source.value,
        size=(model.input_shape[2], model.input_shape[3]),
        batch=model.spec.batch,
        precision=model.spec.precision.value,
        device=encodable(model.device),
        backend=model.backend,
        backend_version=model.backend_version,
        threads=model.threads,
        runs=profile.runs,
        total_ns=round(profile.total_ns),
        overhead_ns=round(profile.overhead_ns),
        unattributed_share=_rounded(profile.unattributed_share),
        unseen_macs_share=_rounded(profile.unseen_macs_share),
        estimated=profile.is_estimate,
        by_kind=tuple(LayerKindPart(kind=one.name, ops=one.ops, work=_part(one.work)) for one in profile.by_kind),
        by_module=tuple(
            LayerModulePart(module=None if one.name is None else encodable(one.name), ops=one.ops, work=_part(one.work))
            for one in profile.by_module
        ),
        ops=tuple(
            LayerOpPart(
                name=encodable(op.name),
                op=encodable(op.op),
                kind=None if op.kind is None else op.kind.value,
                module=encodable(op.module),
                calls=op.calls,
                work=_part(op.work),
                members=tuple(map(encodable, op.members)),
                placed=None if op.placed is None else encodable(op.placed),
            )
            for op in profile.ops
        ),
        disagreements=tuple(map(encodable, profile.disagreements)),
    )


def _facts(profile: LayerProfile) -> tuple[str, ...]:
    overhead = profile.overhead_ns / profile.total_ns if profile.total_ns else None
    measured = f"the mean of {profile.runs} runs; {text_from_share(overhead)} of it"
    facts = [
        f"{text_from_ns(profile.total_ns)} an inference under the profiler, {measured} between operators (the runtime, "
        "the profiler)."
    ]
    if profile.is_estimate:
        facts = [
            f"{text_from_ns(profile.total_ns)} an inference, {measured} in no operator by the estimate. ESTIMATED: the "
            "whole was measured, how it is shared is what the runtime takes each operator's cost for."
        ]
    if profile.unattributed_share:
        facts.append(f"{text_from_share(profile.unattributed_share)} of the operators' time: not told what it is.")
    if profile.unseen_macs_share:
        facts.append(f"{text_from_share(profile.unseen_macs_share)} of the counted MACs: in no profiled operator.")
    return tuple(facts)


def _op_columns(ops: Sequence[LayerOp]) -> tuple[Column, ...]:
    return (
        Column("module", tuple(op.module or _MODEL for op in ops), is_number=False),
        Column("kind", tuple(NOT_KNOWN if op.kind is None else op.kind.value for op in ops), is_number=False),
        Column("operator", tuple(op.op for op in ops), spare=1, is_number=False),
    )


def _members_column(ops: Sequence[LayerOp]) -> Column:
    """Which counted operators each fused one does the work of; the last part of their names tells them apart."""
    cells = []
    for op in ops:
        names = [name.rpartition("/")[2] for name in op.members]
        more = f", {len(names) - _MOST_MEMBERS} more" if len(names) > _MOST_MEMBERS else ""
        cells.append(f"{', '.join(names[:_MOST_MEMBERS])}{more}")
    return Column("does the work of", tuple(cells), spare=3, is_number=False)


def _placed_columns(ops: Sequence[LayerOp]) -> tuple[Column, ...]:
    """Which unit runs each, where the runtime has several."""
    if not any(op.placed for op in ops):
        return ()
    return (Column("runs on", tuple(op.placed or NOT_KNOWN for op in ops), is_number=False),)


def _sum_columns(sums: Sequence[LayerSum], by: By, time: str) -> tuple[Column, ...]:
    return (
        Column(by.value, tuple(_label(one.name) for one in sums), is_number=False),
        Column("operators", tuple(str(one.ops) for one in sums), spare=2),
        *_work_columns([one.work for one in sums], time),
    )


def _label(name: str | None) -> str:
    return _UNTOLD if name is None else name or _MODEL


def _work_columns(works: Sequence[TimedWork], time: str) -> tuple[Column, ...]:
    return (
        times_column(time, [work.ns for work in works]),
        Column("of time", tuple(text_from_share(work.time_share) for work in works)),
        Column("of MACs", tuple(text_from_share(work.macs_share) if work.macs else "-" for work in works)),
        Column("of bytes", tuple(text_from_share(work.bytes_share) if work.bytes_moved else "-" for work in works)),
        counts_column("MAC/s", [work.macs_per_s for work in works], spare=2),
    )


def _part(work: TimedWork) -> TimedWorkPart:
    from vitprof.report.schema_analysis import TimedWorkPart

    return TimedWorkPart(
        ns=round(work.ns),
        time_share=_rounded(work.time_share),
        macs=work.macs,
        macs_share=_rounded(work.macs_share),
        bytes=work.bytes_moved,
        bytes_share=_rounded(work.bytes_share),
        macs_per_s=_rounded(work.macs_per_s),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else six_digits(value)
