"""`vitprof count`: parameters, MACs, bytes and operators of models, from shapes alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vitprof.cli import options
from vitprof.records import Counted
from vitprof.report.by import By


def count(
    models: options.Models,
    by: Annotated[
        By | None, typer.Option("--by", help="A table for each model, by operator, module or kind.", show_default=False)
    ] = None,
    cross_check: Annotated[
        bool, typer.Option("--cross-check", help="Show what other counters say, and why; builds and exports the model.")
    ] = False,
    size: options.Size = None,
    no_reparam: options.NoReparam = False,
    trust: options.Trust = False,
    json: options.JsonFile = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write every operator as CSV to FILE.", show_default=False)
    ] = None,
    md: Annotated[
        Path | None, typer.Option("--md", help="Write the tables as markdown to FILE.", show_default=False)
    ] = None,
) -> int:
    """Count parameters, MACs, bytes and operators of one image; nothing is measured, no weights are allocated."""
    from vitprof import counting
    from vitprof.errors import worst
    from vitprof.places import places
    from vitprof.report.progress import progress_for

    options.check_writable(json, csv, md)
    like = options.model_like(size=size, no_reparam=no_reparam)
    progress = progress_for(sys.stderr)
    try:
        counts = tuple(counting.count(models, like, places(), progress=progress, trust=trust, with_others=cross_check))
    finally:
        progress.close()
    _show(counts, by, json, csv, md)
    return int(worst({one.exit_code for one in counts}))


def _show(counts: Sequence[Counted], by: By | None, json: Path | None, csv: Path | None, md: Path | None) -> None:
    from vitprof.report import counts as report

    if json:
        from vitprof.report.document import json_text

        options.write_text(json, json_text(report.document(counts)))
    if csv:
        options.write_text(csv, report.csv_text(counts))
    if md:
        options.write_text(md, report.markdown(counts, by))
    if options.takes_stdout(json, csv, md):
        for failure in (one.failure for one in counts if one.failure):
            options.say(failure.error, failure.remedy)
        return
    from rich.console import Console

    report.show(counts, by, Console())
