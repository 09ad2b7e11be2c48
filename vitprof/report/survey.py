"""What exports and what does not: one row for every model and format, as a table and as markdown.

Several formats get an overview as well: one row for every model, one column for every format. Its own file because
both forms share the cells and the counts, which differ from those of measured results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vitprof.records import Exported, ParityVerdict, typed_name
from vitprof.report.markdown import escaped
from vitprof.units import NOT_KNOWN, text_from_bytes

HEADS = ("model", "format", "parity", "max rel. error", "seconds", "size", "exporter", "fix-ups, or why it failed")
FAILED = "failed"


def cells_of(one: Exported) -> tuple[str, ...]:
    """The cells under `HEADS`."""
    artifact = one.artifact
    if artifact is None or one.failure is not None:
        cause = f"{one.failure.stage}: {one.failure.error}" if one.failure else NOT_KNOWN
        return (one.spec.name, one.format, FAILED, *[NOT_KNOWN] * 4, cause)
    error = one.parity.max_rel_error if one.parity else None
    told = [*artifact.fixups, *([one.parity.reason] if one.parity and one.parity.reason else [])]
    return (
        one.spec.name,
        one.format,
        one.parity.verdict.value if one.parity else NOT_KNOWN,
        NOT_KNOWN if error is None else f"{error:.1e}",
        f"{artifact.seconds:.1f}",
        text_from_bytes(artifact.bytes),
        artifact.exporter,
        "; ".join(told) or "none",
    )


def counts_of(exports: Sequence[Exported]) -> tuple[str, ...]:
    """A line for every format: how many of how many export with parity, and what came of the others."""
    lines = []
    for format in dict.fromkeys(one.format for one in exports):
        verdicts = Counter(cells_of(one)[2] for one in exports if one.format == format)
        match, total = verdicts.pop(ParityVerdict.MATCH.value, 0), sum(1 for one in exports if one.format == format)
        made, how = match, "export with parity"
        if not match and (unchecked := verdicts.pop(ParityVerdict.NOT_CHECKED.value, 0)):
            # Engines, or given files: there is nothing to check them by.
            made, how = unchecked, "export, parity not checked"
        others = "".join(f", {count} {verdict}" for verdict, count in sorted(verdicts.items()))
        lines.append(f"{format}: {made} of {total} ({made / total:.0%}) {how}{others}")
    return tuple(lines)


def overview_of(exports: Sequence[Exported]) -> list[tuple[str, ...]]:
    """The head, then for every model its verdict and largest relative error in each format; none of one format."""
    formats = tuple(dict.fromkeys(one.format for one in exports))
    if len(formats) < 2:
        return []
    # timm and torchvision have models of the same names.
    verdicts = {(typed_name(one.spec.name, one.spec.source), one.format): cells_of(one)[2:4] for one in exports}
    told = {key: verdict if error == NOT_KNOWN else f"{verdict} {error}" for key, (verdict, error) in verdicts.items()}
    models = dict.fromkeys(name for name, _ in verdicts)
    return [("model", *formats), *((name, *(told.get((name, format), "-") for format in formats)) for name in models)]


def survey_text(exports: Sequence[Exported]) -> str:
    """Markdown: the counts, the overview, then the table; everything from outside escaped."""
    if not exports:
        return "Nothing was exported.\n"
    versions = next((one.artifact.versions for one in exports if one.artifact and one.artifact.versions), {})
    made_with = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    counts = "\n".join(f"- {escaped(line)}" for line in counts_of(exports))
    tables = (_table(overview_of(exports)), _table([HEADS, *map(cells_of, exports)]))
    return "\n\n".join(part for part in (counts, *tables, escaped(made_with)) if part) + "\n"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    head, *others = [[escaped(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *others))
