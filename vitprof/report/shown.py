"""`results show` and `results diff` as text for a person.

Its own file beside `stored`, whose table lists many rows: here is one in full, or a few lines a change. Everything that
came from outside loses its terminal escapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vitprof.records import typed_name
from vitprof.report.outside import plain
from vitprof.report.schema_store import ChangePart, DifferenceDocument, RunPart, SamplesPart, ShownDocument, ShownPart
from vitprof.units import NOT_KNOWN, text_from_ns

_INDENT = "  "
# Shown in words of their own.
_TOLD_APART = ("warnings", "environment", "failure")


def text_from_shown(document: ShownDocument) -> str:
    """Runs first, then every row with all of its fields, one a line."""
    blocks = ["\n".join(_run_lines(run)) for run in document.runs]
    blocks += ["\n".join(_row_lines(row)) for row in document.rows]
    return "\n\n".join(blocks) + "\n"


def text_from_difference(document: DifferenceDocument) -> str:
    """How many cells of each kind, then one line for each that is not the same."""
    counts: dict[str, int] = {}
    for change in document.changes:
        counts[change.kind] = counts.get(change.kind, 0) + 1
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing to compare"
    lines = [plain(f"{document.now} against {document.before}: {told}")]
    lines += [_change_line(change) for change in document.changes if change.kind != "same"]
    return "\n".join(lines) + "\n"


def _run_lines(run: RunPart) -> Iterator[str]:
    yield plain(f"run {run.id}: {run.command}, vitprof {run.vitprof_version}")
    yield f"{_INDENT}begun {plain(run.started_at)}"
    if run.finished_at:
        yield f"{_INDENT}finished {plain(run.finished_at)}"
    if run.gate:
        yield f"{_INDENT}gate {plain(run.gate)}"
    if run.plan:
        yield f"{_INDENT}plan"
        yield from (f"{_INDENT * 2}{plain(line)}" for line in run.plan.splitlines())


def _row_lines(row: ShownPart) -> Iterator[str]:
    result = row.result
    model = typed_name(result["model"], result["source"], as_built=bool(result.get("as_built")))
    yield plain(f"row {row.id}: {model} on {result['device']}, {result['backend']} ({row.origin})")
    yield from _lines({"run": row.run, **{name: part for name, part in result.items() if name not in _TOLD_APART}})
    if result.get("failure"):
        failure = result["failure"]
        yield f"{_INDENT}failed at {plain(failure['stage'])}: {plain(failure['error'])}"
        yield f"{_INDENT * 2}→ {plain(failure['remedy'])}"
    for warning in result["warnings"]:
        yield f"{_INDENT}warning {plain(warning['code'])}: {plain(warning['detail'])}; {plain(warning['remedy'])}"
    for name, part in (("environment", result["environment"]), ("protocol", row.protocol)):
        if part:
            yield f"{_INDENT}{name}"
            yield from _lines(part, depth=2)
    yield from _sample_lines(row.samples_ns)


def _sample_lines(samples: SamplesPart | None) -> Iterator[str]:
    if samples is None:
        yield f"{_INDENT}raw samples: none were kept"
        return
    yield f"{_INDENT}raw samples, stopped by {samples.stop_reason}"
    for number, one in enumerate(samples.sets, 1):
        told = (("p50", one.p50), ("min", one.min))
        times = ", ".join(f"{name} {text_from_ns(value)}" for name, value in told if value)
        yield (
            f"{_INDENT * 2}set {number}: {one.rounds} rounds after {one.warm_up_rounds} of warm-up"
            f"{'' if one.is_warm else ' (not reached)'}, {one.calls} calls{', ' if times else ''}{times}"
        )


def _lines(part: Mapping[str, Any], depth: int = 1) -> Iterator[str]:
    """One a field that is known; parts of a part are named behind a dot."""
    for name, value in _flat(part):
        yield f"{_INDENT * depth}{plain(name)}: {plain(_text(value))}"


def _flat(part: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in part.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif value is not None and value not in ([], ()):
            yield f"{before}{name}", value


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _change_line(change: ChangePart) -> str:
    size = "x".join(map(str, change.size)) if change.size else NOT_KNOWN
    cell = f"{change.model} {size}, batch {change.batch}, {change.precision} on {change.device}, {change.backend}"
    ratio = "" if change.ratio is None else f": {change.ratio:.3g} ×"
    interval = "" if change.ci95 is None else f" [{change.ci95[0]:.4g}, {change.ci95[1]:.4g}]"
    told = "; ".join(filter(None, (change.detail, *change.confounders)))
    return plain(f"{change.kind}: {cell}{ratio}{interval}") + (f" ({plain(told)})" if told else "")
