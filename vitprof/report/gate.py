"""What `gate` says: a table of the cells with how much slower each is, and what to do next; the same as JSON.

Its own file because the terminal, markdown, JUnit and the annotations of a code forge call a cell and a change alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitprof.gates import Gated, GatedCell, GateVerdict
from vitprof.report.columns import Column
from vitprof.report.outside import encodable
from vitprof.report.schema_gate import CellPart, GateDocument, GatedPart
from vitprof.report.sections import Section
from vitprof.reports import Cell
from vitprof.units import NOT_KNOWN, six_digits, text_from_ns, text_from_share

_GRAVEST = {verdict: place for place, verdict in enumerate(GateVerdict)}
_REST = {
    # Title of the section, by the gravest verdict.
    GateVerdict.FAILED: "cells failed",
    GateVerdict.BROKEN: "outputs are not the model's",
    GateVerdict.REFUSED: "a baseline cannot be compared with",
    GateVerdict.SLOWER: "slower than allowed",
    GateVerdict.UNDECIDED: "undecided",
    GateVerdict.ACCEPTED: "slower, and accepted",
    GateVerdict.NEW: "nothing to compare with yet",
    GateVerdict.FINE: "fine",
}


def gate_sections(gated: Gated) -> tuple[Section, ...]:
    """The verdict, the cells with the gravest first, then what the candidate lacks of its baseline."""
    cells = sorted(gated.cells, key=lambda one: (_GRAVEST[one.verdict], one.cell))
    counts = ", ".join(f"{count} {verdict}" for verdict, count in gated.counts.items())
    title = f"Gate: {_REST[cells[0].verdict]}" if cells else "Gate: nothing to judge"
    limit = text_from_share(gated.limit_share)
    facts = [
        f"{gated.candidate} against {_baseline_text(gated.baseline)}: {counts or 'no cell'}.",
        f"Allowed: {limit} more than the baseline takes. Slower: the whole interval lies above that, and above what "
        "the baseline's own runs differ by. Each border of an interval holds in 95 % of cases.",
    ]
    if gated.judged:
        facts.append(f"The store keeps this run as {gated.judged}.")
    remarks = tuple(remark_of(one) for one in cells)
    sections = [Section(title, tuple(facts), _columns(cells), remarks, "remarks", level=1)]
    if gated.gone:
        gone = tuple(f"{name_of(one)} on {one.backend}, {one.device}." for one in gated.gone)
        sections.append(Section("In the baseline, and not measured now", gone))
    return tuple(sections)


def document_from_gate(gated: Gated) -> GateDocument:
    """The document of `gate`."""
    return GateDocument(
        candidate=encodable(gated.candidate),
        baseline=encodable(gated.baseline),
        limit_share=six_digits(gated.limit_share),
        judged=gated.judged,
        cells=tuple(_part(one) for one in gated.cells),
        gone=tuple(CellPart(**cell_fields(one)) for one in gated.gone),
    )


def cell_fields(cell: Cell) -> dict[str, Any]:
    """A cell as the JSON has it; what is not known is null."""
    return {
        "model": encodable(cell.model),
        "size": cell.size if cell.size != (0, 0) else None,
        "batch": cell.batch,
        "precision": cell.precision,
        "device": encodable(cell.device),
        "backend": cell.backend,
        "threads": cell.threads or None,
        "region": cell.region or None,
    }


def name_of(cell: Cell) -> str:
    """`resnet18 224x224, batch 1, fp32, 2 threads`."""
    size = f" {cell.size[0]}x{cell.size[1]}" if cell.size != (0, 0) else ""
    threads = f", {cell.threads} thread{'' if cell.threads == 1 else 's'}" if cell.threads else ""
    region = f", {cell.region}" if cell.region not in ("", "call") else ""
    return f"{cell.model}{size}, batch {cell.batch}, {cell.precision}{threads}{region}"


def change_text(one: GatedCell) -> str:
    """`+5.1%`; `n/a` where there is no ratio."""
    ratio = one.judgement.ratio
    return NOT_KNOWN if ratio is None else _signed(ratio.value, one.cell.region)


def interval_text(one: GatedCell) -> str:
    """`[+4.0%, +6.2%]`."""
    ratio = one.judgement.ratio
    if ratio is None or ratio.low is None or ratio.high is None:
        return NOT_KNOWN
    return f"[{_signed(ratio.low, one.cell.region)}, {_signed(ratio.high, one.cell.region)}]"


def remark_of(one: GatedCell) -> str:
    """Why, what was done to be sure, what else differs, what to do next; "" where the verdict says it all."""
    if one.verdict is GateVerdict.NEW:
        return ""
    parts = [
        one.judgement.reason,
        _verified_text(one),
        f"also differs: {', '.join(one.confounders)}" if one.confounders else "",
        f"next: {one.remedy}" if one.remedy else "",
    ]
    return "; ".join(part for part in parts if part)


def _verified_text(one: GatedCell) -> str:
    if one.verified_in:
        return f"measured once more: {one.not_verified or 'both count'}"
    is_doubtful = one.verdict in (GateVerdict.SLOWER, GateVerdict.UNDECIDED)
    return f"not measured once more: {one.not_verified}" if one.not_verified and is_doubtful else ""


def _baseline_text(baseline: str) -> str:
    count = baseline.removeprefix("last:")
    return f"the last {count} runs of each cell that were not rejected" if count != baseline else baseline


def _columns(cells: Sequence[GatedCell]) -> tuple[Column, ...]:
    """What the cells are, those keys only in which they differ, then what is said of each."""
    keys = {
        "size": [f"{one.cell.size[0]}x{one.cell.size[1]}" if one.cell.size != (0, 0) else NOT_KNOWN for one in cells],
        "batch": [str(one.cell.batch) for one in cells],
        "precision": [one.cell.precision for one in cells],
        "threads": [str(one.cell.threads or NOT_KNOWN) for one in cells],
        "region": [one.cell.region or NOT_KNOWN for one in cells],
        "device": [one.cell.device for one in cells],
    }
    # What one that failed does not know is no difference.
    differing = {name: texts for name, texts in keys.items() if len({*texts} - {NOT_KNOWN}) > 1}
    told = [Column(name, tuple(texts), is_number=False) for name, texts in differing.items()]
    return (
        Column("model", tuple(one.cell.model for one in cells), is_number=False),
        *told,
        Column("backend", tuple(one.cell.backend for one in cells), is_number=False),
        Column("change", tuple(map(change_text, cells))),
        Column("90% interval", tuple(map(interval_text, cells))),
        Column("noise", tuple(_noise_text(one) for one in cells), spare=2),
        Column("by", tuple(_excess_text(one) for one in cells), spare=3),
        Column(
            "runs", tuple(str(len(one.baseline_runs)) if one.baseline_runs else NOT_KNOWN for one in cells), spare=4
        ),
        Column("verdict", tuple(one.verdict.value for one in cells), is_number=False),
    )


def _noise_text(one: GatedCell) -> str:
    noise = one.judgement.noise_ratio
    return NOT_KNOWN if noise is None else f"±{text_from_share(noise - 1)}"


def _excess_text(one: GatedCell) -> str:
    excess_ns = one.judgement.excess_ns
    if excess_ns is None:
        return NOT_KNOWN
    # What is left of equal times by rounding is no time.
    whole_ns = round(excess_ns)
    return f"{'-' if whole_ns < 0 else '+'}{text_from_ns(abs(whole_ns))}"


def _signed(ratio: float, region: str) -> str:
    """Counts repeat themselves to parts in a hundred thousand, and are shown so."""
    return f"{(ratio - 1) * 100:+.{3 if region == 'instructions' else 1}f}%"


def _part(one: GatedCell) -> GatedPart:
    judgement, ratio = one.judgement, one.judgement.ratio
    has_borders = ratio is not None and ratio.low is not None and ratio.high is not None
    return GatedPart(
        **cell_fields(one.cell),
        protocol_hash=one.cell.protocol_hash or None,
        verdict=one.verdict.value,
        reason=encodable(judgement.reason) or None,
        ratio=None if ratio is None else six_digits(ratio.value),
        ci90=(six_digits(ratio.low), six_digits(ratio.high)) if has_borders else None,  # type: ignore[union-attr,arg-type]
        noise_ratio=None if judgement.noise_ratio is None else six_digits(judgement.noise_ratio),
        excess_ns=None if judgement.excess_ns is None else round(judgement.excess_ns),
        baseline_runs=one.baseline_runs,
        verified_in=one.verified_in,
        not_verified=encodable(one.not_verified) or None,
        confounders=tuple(map(encodable, one.confounders)),
        remedy=encodable(one.remedy) or None,
    )
