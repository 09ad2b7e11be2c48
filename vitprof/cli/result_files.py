"""`vitprof results export` and `prune`: rows out of the store, into files or for good.

Beside `results`, whose commands look at rows and bring them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from vitprof.cli import options
from vitprof.cli.stores import (
    OnlyBackends,
    OnlyDevices,
    OnlyRun,
    Pattern,
    check_files,
    opened_store,
    wanted_from_options,
)
from vitprof.errors import UsageError, VitprofError

if TYPE_CHECKING:
    from vitprof.store.pruning import Pruned

_DAYS_PER_UNIT = {"d": 1, "w": 7, "y": 365}


def export_results(
    pattern: Pattern = "*",
    backend: OnlyBackends = None,
    device: OnlyDevices = None,
    run: OnlyRun = None,
    jsonl: Annotated[
        Path | None,
        typer.Option("--jsonl", help="Write JSON lines to FILE; - for standard output.", show_default=False),
    ] = None,
    csv: options.CsvFile = None,
    no_samples: Annotated[bool, typer.Option("--no-samples", help="Leave the raw samples out.")] = False,
    store: options.Store = None,
) -> None:
    """Write results to a file that 'results import' takes in again: the same rows, runs and raw samples."""
    from vitprof.places import places
    from vitprof.stored import why_none
    from vitprof.transfers import csv_lines, json_lines

    where = places(store)
    check_files(where, jsonl, csv)
    if not jsonl and not csv:
        raise UsageError("results export needs a file to write", remedy="add --jsonl FILE or --csv FILE; - is stdout")
    with opened_store(where) as opened:
        wanted = opened.meant(wanted_from_options(pattern, backend, device, run))
        why = why_none(opened, wanted)
        if why:
            # An empty file would pass for a copy of what was asked for, and take the place of an older one.
            raise UsageError(why, remedy="see what there is with: vitprof results list")
        for file, lines_of in ((jsonl, json_lines), (csv, csv_lines)):
            if file:
                count = _write_lines(file, lines_of(opened, wanted, with_samples=not no_samples))
                # The first line is the head; each run is one more in JSON lines.
                typer.echo(f"{file}: {count} lines", err=True)


def prune_results(
    pattern: Pattern = "*",
    backend: OnlyBackends = None,
    device: OnlyDevices = None,
    run: OnlyRun = None,
    keep: Annotated[
        int | None, typer.Option("--keep", help="All but so many of the newest rows of each cell.", show_default=False)
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", help="Only rows older than this: 90d, 12w, 1y.", show_default=False),
    ] = None,
    samples: Annotated[bool, typer.Option("--samples", help="Remove only their raw samples.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed; remove nothing.")] = False,
    store: options.Store = None,
) -> None:
    """Remove results by a rule, for good; rows of an unfinished sweep stay."""
    from vitprof.places import places
    from vitprof.report.outside import plain

    options.check_at_least("--keep", keep, 0)
    if keep is None and older_than is None:
        raise UsageError(
            "results prune needs a rule for what to remove",
            remedy="add --keep N (of each cell) or --older-than 90d; see what that is with --dry-run",
        )
    before = None if older_than is None else (datetime.now(UTC) - _age(older_than)).isoformat(timespec="seconds")
    with opened_store(places(store)) as opened:
        from vitprof.store.pruning import Rule, prune
        from vitprof.stored import why_none

        wanted = opened.meant(wanted_from_options(pattern, backend, device, run))
        size_before = opened.size_bytes
        found = prune(opened, Rule(wanted, keep, before, only_samples=samples), is_dry=dry_run)
        size = opened.size_bytes
        why = None if found.rows else why_none(opened, wanted)
    if why:
        typer.echo(plain(f"nothing to remove: {why}"))
        return
    typer.echo(_text_from_pruned(found, only_samples=samples, is_dry=dry_run))
    if found.unfinished:
        these = "1 result stays" if found.unfinished == 1 else f"{found.unfinished} results stay"
        typer.echo(f"{these} for a sweep that is not finished: end it first with vitprof sweep PLAN.toml --resume")
    if found.rows and not dry_run and size is not None and size_before is not None:
        from vitprof.units import text_from_bytes

        typer.echo(f"the store takes {text_from_bytes(size)}, before it took {text_from_bytes(size_before)}")


def _text_from_pruned(found: Pruned, *, only_samples: bool, is_dry: bool) -> str:
    if not found.rows:
        return "nothing to remove"
    what = f"{found.rows} result{'' if found.rows == 1 else 's'} of {found.cells} cell{'' if found.cells == 1 else 's'}"
    what = f"the raw samples of {what}" if only_samples else f"{what}, {found.samples} of them with raw samples"
    moments = (found.first_started_at, found.last_started_at)
    days = " to ".join(dict.fromkeys(moment[:10] for moment in moments if moment))
    left = f"{found.left} result{'' if found.left == 1 else 's'} {'would stay' if is_dry else 'stay'}"
    return f"{'would remove' if is_dry else 'removed'} {what}, measured {days}; {left}"


def _age(text: str) -> timedelta:
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _DAYS_PER_UNIT or int(number) * _DAYS_PER_UNIT[unit] > 365_000:
        raise UsageError(f"--older-than '{text}' is no age", remedy="write it in days, weeks or years: 90d, 12w, 1y")
    return timedelta(days=int(number) * _DAYS_PER_UNIT[unit])


def _write_lines(file: Path, lines: Iterator[str]) -> int:
    """How many were written; a file appears when all of them are, so that none is cut short."""
    count = 0
    with _output(file) as opened:
        for line in lines:
            opened.write(line)
            count += 1
    return count


@contextmanager
def _output(file: Path) -> Iterator[IO[str]]:
    if str(file) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    # Where a link leads. A device or a pipe is written to: a file must not take its place.
    target = file.resolve() if file.is_file() else file
    is_plain = file.is_file() or not file.exists()
    partial = target.with_name(f".{target.name}.{os.getpid()}") if is_plain else file
    try:
        with partial.open("w", encoding="utf-8", newline="") as opened:
            yield opened
        if is_plain:
            partial.replace(target)
    except OSError as error:
        raise VitprofError(
            f"cannot write {file}: {error.strerror}", remedy="name a file on a disk with free space", stage="report"
        ) from error
    finally:
        if is_plain:
            partial.unlink(missing_ok=True)
