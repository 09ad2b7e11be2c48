"""`vitprof sweep`: a whole plan, that goes on where it was ended."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitprof.cli import options

if TYPE_CHECKING:
    from vitprof.places import Places
    from vitprof.sweeping.cells import Planned
    from vitprof.sweeping.run import Begun, SweepRequest, Swept

_TIMEOUT = "300s"


def sweep(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.toml", help="What to measure on what.", show_default=False)],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the unfinished run of this plan, if there is one.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and how long they take.")] = False,
    measure: options.Measure = None,
    precision_goal: options.PrecisionGoal = None,
    timeout: options.Timeout = _TIMEOUT,
    seed: options.Seed = 0,
    pretrained: options.Pretrained = False,
    no_reparam: options.NoReparam = False,
    trust: options.Trust = False,
    store: options.Store = None,
    json: options.JsonFile = None,
    csv: options.CsvFile = None,
    md: options.MarkdownFile = None,
) -> int:
    """Measure models × backends × devices × batches × sizes × precisions × threads, each group stored as it ends.

    Killed at any moment, it goes on with --resume and repeats only the group that was being measured.
    """
    from vitprof.errors import UsageError, worst
    from vitprof.group import Timeouts
    from vitprof.places import places
    from vitprof.report.sweep_progress import sweep_progress_for
    from vitprof.sweeping.run import SweepRequest, begun_sweep, planned_sweep
    from vitprof.sweeping.run import sweep as swept_by
    from vitprof.units import amount_from_text, share_from_text

    options.check_writable(json, csv, md)
    if dry_run and (csv or md):
        what = "--dry-run lists cells; it has no rows for " + ("--csv" if csv else "--md")
        raise UsageError(what, remedy="leave it out, or take --json")
    timeout_s = options.timeout_s_from_text(timeout)
    request = SweepRequest(
        plan_file=plan,
        like=options.model_like(seed=seed, pretrained=pretrained, no_reparam=no_reparam),
        measure=amount_from_text(measure) if measure else None,
        precision_goal_share=share_from_text(precision_goal) if precision_goal else None,
        trust=trust,
        timeouts=Timeouts(load_s=timeout_s, block_s=timeout_s),
        resume=resume,
    )
    where = places(store)
    planned = planned_sweep(request, where)
    for warning in planned.warnings:
        options.say(warning, "take it away, or mend its keys")
    if dry_run:
        _show_plan(planned, request, where, json)
        return 0
    begun = begun_sweep(planned, request, where)
    given: dict[str, str | int | None] = {
        **{"--measure": measure, "--precision-goal": precision_goal, "--seed": seed, "--pretrained": pretrained},
        **{"--no-reparam": no_reparam, "--trust": trust, "--timeout": None if timeout == _TIMEOUT else timeout},
        "--store": store and where.shown_store,
    }
    again = _words_to_resume(plan, given)
    _say_begun(begun, again)
    progress = sweep_progress_for(sys.stderr)
    try:
        swept = swept_by(planned, begun, request, where, progress)
    finally:
        progress.close()
    _show(swept, begun, (json, csv, md))
    for trouble in swept.troubles:
        options.say(trouble.message, trouble.remedy)
    if swept.left:
        options.say(f"{swept.left} of {len(begun.cells)} cells are left to be measured", f"go on with: {again}")
    if swept.crashes:
        raise swept.crashes[0]
    return int(worst(set(swept.exit_codes)))


def _words_to_resume(plan: Path, given: Mapping[str, str | int | None]) -> str:
    """What to type to go on, with what was given before: without it, it would be another plan or another store."""
    words = ["vitprof", "sweep", str(plan), "--resume"]
    for option, value in given.items():
        if value:
            words += [option] if value is True else [option, str(value)]
    return shlex.join(words)


def _say_begun(begun: Begun, again: str) -> None:
    done = len(begun.cells) - len(begun.left)
    if begun.is_resumed:
        typer.echo(f"vitprof: goes on with run {begun.run.id}: {done} of {len(begun.cells)} cells are done", err=True)
    elif begun.other is not None:
        what = f"a new run begins, though run {begun.other.id} of the same plan is unfinished"
        options.say(what, f"to go on with that one instead: {again}")


def _show_plan(planned: Planned, request: SweepRequest, where: Places, json: Path | None) -> None:
    from vitprof.report.document import json_text
    from vitprof.report.sweeps import plan_document, show_plan
    from vitprof.sweeping.cells import estimate
    from vitprof.sweeping.run import unfinished

    begun = unfinished(planned, where) if request.resume else None
    cells = begun.left if begun else planned.cells
    guess = estimate(cells, planned.protocol, where.cache_root)
    document = plan_document(cells, planned.plan_hash, exports=guess.exports, seconds=guess.seconds)
    if json:
        options.write_text(json, json_text(document))
    if str(json) != "-":
        from rich.console import Console

        show_plan(document, Console())


def _show(swept: Swept, begun: Begun, files: tuple[Path | None, Path | None, Path | None]) -> None:
    from vitprof.report.reading import rows_from_stored
    from vitprof.report.stored import Listed
    from vitprof.report.sweeps import rows_markdown, show_rows

    read = rows_from_stored([one.document for one in swept.rows])
    listed = [Listed(row, one.run, one.origin.value) for row, one in zip(read, swept.rows, strict=True)]
    json, csv, md = files
    if json or csv:
        from vitprof.report.csv_table import csv_text_from_document
        from vitprof.report.document import json_text
        from vitprof.report.schema import ResultDocument

        document = ResultDocument(results=read)
        if json:
            options.write_text(json, json_text(document))
        if csv:
            options.write_text(csv, csv_text_from_document(document))
    if md:
        options.write_text(md, rows_markdown(listed))
    if options.takes_stdout(*files):
        for row in read:
            if row.failure:
                options.say(row.failure.error, row.failure.remedy)
        return
    from rich.console import Console

    show_rows(listed, Console())
