"""`vitprof results`: what was measured so far, and results from elsewhere beside it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from vitprof.cli import options, result_files
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
    from vitprof.places import Places
    from vitprof.report.schema import ResultDocument
    from vitprof.report.stored import Listed
    from vitprof.store.results import Incoming
    from vitprof.store.wanted import Wanted

# A person who asks for no number gets so many of the newest on the screen: a store may hold thousands of cells.
_ON_SCREEN = 100
# Of the rows of a table that say too little, so many are told each; the rest are counted.
_SHOWN_UNUSABLE = 10
_FILE_REMEDY = "name a JSON or a CSV file, or a .mlperf folder"

app = typer.Typer(help="List, compare, move and remove stored results.", no_args_is_help=True, rich_markup_mode=None)
app.command("export")(result_files.export_results)
app.command("prune")(result_files.prune_results)


@app.command("list")
def list_results(
    pattern: Pattern = "*",
    backend: OnlyBackends = None,
    device: OnlyDevices = None,
    run: OnlyRun = None,
    is_all: Annotated[bool, typer.Option("--all", help="Earlier rows of a cell too.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", help="At most so many; default: all, of which a terminal shows 100.", show_default=False
        ),
    ] = None,
    store: options.Store = None,
    json: options.JsonFile = None,
    csv: options.CsvFile = None,
) -> None:
    """List the results in the store, newest first; of one cell the latest."""
    import gc

    from vitprof.places import places

    # Much is loaded and little thrown away: looking for that would take a tenth of the time.
    gc.disable()
    where = places(store)
    check_files(where, json, csv)
    options.check_at_least("--limit", limit, 1)
    wanted = wanted_from_options(pattern, backend, device, run)
    # What goes to a program or into a file is whole.
    is_bounded = limit is None and sys.stdout.isatty()
    enough = _ON_SCREEN + 1 if is_bounded and not (json or csv) else limit
    listed = _listed(where, dataclasses.replace(wanted, is_all=is_all, limit=enough))
    if json or csv:
        from vitprof.report.schema import ResultDocument

        _write(ResultDocument(results=tuple(one.row for one in listed)), json, csv)
    if options.takes_stdout(json, csv):
        return
    from rich.console import Console

    from vitprof.report.terminal import show_stored

    show_stored(listed[:_ON_SCREEN] if is_bounded else listed, Console())
    if is_bounded and len(listed) > _ON_SCREEN:
        typer.echo(f"these are the {_ON_SCREEN} newest; for more add --limit N, or | less -S for all", err=True)


@app.command("show")
def show_result(
    name: Annotated[
        str,
        typer.Argument(metavar="ID|RUN", help="A row's number, a run's id or its beginning, or 'latest'."),
    ],
    store: options.Store = None,
    json: options.JsonFile = None,
) -> None:
    """Show everything that the store has of a row, or of all rows of a run."""
    from vitprof.places import places
    from vitprof.stored import shown

    where = places(store)
    check_files(where, json)
    with opened_store(where) as opened:
        document = shown(opened, name)
    if json:
        from vitprof.report.document import json_text

        options.write_text(json, json_text(document))
    if str(json) != "-":
        from vitprof.report.shown import text_from_shown

        typer.echo(text_from_shown(document), nl=False)


@app.command("diff")
def diff_results(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="A run or a row, as for show.", show_default=False)],
    now: Annotated[str, typer.Argument(metavar="NOW", help="What is compared with it.", show_default=False)],
    store: options.Store = None,
    json: options.JsonFile = None,
) -> int:
    """Tell what got faster, slower, broke or is undecided from one run to another; exit 1 where something is worse."""
    from vitprof.places import places
    from vitprof.stored import difference

    where = places(store)
    check_files(where, json)
    with opened_store(where) as opened:
        document, code = difference(opened, before, now)
    if json:
        from vitprof.report.document import json_text

        options.write_text(json, json_text(document))
    if str(json) != "-":
        from vitprof.report.shown import text_from_difference

        typer.echo(text_from_difference(document), nl=False)
    return int(code)


@app.command("import")
def import_results(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="JSON of vitprof latency, a CSV such as timm publishes, a performance report of Xcode (.mlperf).",
            show_default=False,
        ),
    ],
    map: Annotated[
        Path | None,
        typer.Option("--map", help="Which column of a CSV holds what, as a TOML file.", show_default=False),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="Of all rows of a CSV; default: the file's name. Of a report; default: its own.",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[str | None, typer.Option("--backend", help="Of all rows of a CSV.", show_default=False)] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="Of all rows of a CSV.", show_default=False)
    ] = None,
    store: options.Store = None,
) -> None:
    """Import results: all files or none; a row that the store holds already is not added again."""
    from vitprof.places import places
    from vitprof.report.outside import plain

    where = places(store)
    address = where.ready_store()
    told = {"device": device, "backend": backend, "precision": precision}
    facts = {name: text for name, text in told.items() if text is not None}
    parts = [_Counted(_incoming(file, map, facts, where.cache_root)) for file in files]

    from vitprof.store.results import open_store

    with open_store(address) as opened:
        added = opened.add_missing(parts)
    for file, part, count in zip(files, parts, added, strict=True):
        typer.echo(f"{plain(str(file))}: {_text_from_added(part.runs, count, part.rows)}")


class _Counted:
    """What is brought, counted as it goes by."""

    def __init__(self, parts: Iterable[Incoming]) -> None:
        self._parts = parts
        self.rows = 0
        self.runs: dict[str, None] = {}

    def __iter__(self) -> Iterator[Incoming]:
        for part in self._parts:
            self.rows += len(part.rows)
            self.runs[part.run.id] = None
            yield part


def _incoming(file: Path, map: Path | None, facts: Mapping[str, Any], cache_root: Path) -> Iterable[Incoming]:
    """The rows of a file: read when they are asked for where it is an export, which may be large, else at once."""
    from vitprof.report.outside import encodable
    from vitprof.store.results import Incoming
    from vitprof.store.runs import IMPORT, new_run
    from vitprof.transfers import incoming, is_export

    try:
        file.stat()
    except FileNotFoundError:
        # Told below, with what may be named.
        pass
    except OSError as error:
        raise UsageError(f"cannot import {file}: {error.strerror}", remedy=_FILE_REMEDY) from error
    if is_export(file):
        if map or facts:
            _refuse_facts(file, map, facts)
        return incoming(file)
    rows = _document(file, map, facts, cache_root).model_dump(mode="json")["results"]
    return [Incoming(new_run(f"{IMPORT} {encodable(str(file))}"), rows)]


def _refuse_facts(file: Path, map: Path | None, facts: Mapping[str, Any]) -> NoReturn:
    options_given = ", ".join(f"--{name}" for name in (*(["map"] if map else []), *facts))
    raise UsageError(
        f"{file} says itself what {options_given} would say",
        remedy="import it and the tables of others with one command each",
    )


def _text_from_added(runs: Iterable[str], added: int, total: int) -> str:
    from vitprof.report.outside import plain

    held = total - added
    names = [plain(run) for run in runs]
    run = f"run {names[0]}" if len(names) == 1 else f"{len(names)} runs"
    phrases = [f"{added} result{'' if added == 1 else 's'} imported as {run}"] if added else []
    phrases += [f"{held} of {total} {'was' if held == 1 else 'were'} in the store already"] if held else []
    return ", ".join(phrases) or "holds no results"


def _listed(where: Places, wanted: Wanted) -> list[Listed]:
    from vitprof.report.outside import plain
    from vitprof.report.reading import rows_from_stored
    from vitprof.report.stored import Listed

    # In the data folder there is none before the first measurement.
    if not where.has_store and where.named_store is None and wanted.run is None:
        return []
    with opened_store(where) as opened:
        meant = opened.meant(wanted)
        rows = opened.find(meant)
        if not rows:
            # It takes its time to load.
            from vitprof.stored import why_none

            why = why_none(opened, meant)
            if why:
                typer.echo(plain(why), err=True)
    read = rows_from_stored([one.document for one in rows])
    return [Listed(row, one.run, one.origin.value, one.id) for row, one in zip(read, rows, strict=True)]


def _write(document: ResultDocument, json: Path | None, csv: Path | None) -> None:
    if json:
        from vitprof.report.document import json_text

        options.write_text(json, json_text(document))
    if csv:
        from vitprof.report.csv_table import csv_text_from_document

        options.write_text(csv, csv_text_from_document(document))


def _document(file: Path, map: Path | None, facts: Mapping[str, Any], cache_root: Path) -> ResultDocument:
    """The rows of one file; `facts` are those that a table does not say: device, backend, precision."""
    from vitprof.report.outside import encodable
    from vitprof.report.reading import document_from_text
    from vitprof.store.xcode_reports import is_report

    if is_report(file):
        return _document_from_report(file, map, facts, cache_root)
    text = _text(file)
    if file.suffix == ".json" or text.lstrip()[:1] in ("{", "["):
        if map or facts:
            _refuse_facts(file, map, facts)
        return document_from_text(text, encodable(str(file)))
    return _document_from_table(file, map, facts)


def _document_from_report(file: Path, map: Path | None, facts: Mapping[str, Any], cache_root: Path) -> ResultDocument:
    """The one row of a performance report of Xcode."""
    from vitprof.report.document import rows_from_results
    from vitprof.report.outside import plain
    from vitprof.report.schema import ResultDocument
    from vitprof.store.xcode_reports import read_report
    from vitprof.xcode_results import BACKEND, SOURCE, artifact_of, result_of

    if map or facts.get("backend", BACKEND) != BACKEND:
        given = "--map" if map else f"--backend {facts['backend']}"
        raise UsageError(
            f"{file} is a performance report of Core ML, which {given} is not of", remedy=f"leave out {given}"
        )
    report = read_report(file)
    artifact = artifact_of(report, cache_root)
    result = result_of(report, artifact, device=facts.get("device"), precision=facts.get("precision"))
    for doubt in result.summary.warnings if result.summary else ():
        typer.echo(plain(f"{file}: {doubt.code}: {doubt.detail}; {doubt.remedy}"), err=True)
    [row] = rows_from_results([result], with_samples=True).results
    unlike = {"started_at": report.started_at} | ({} if artifact else {"source": SOURCE})
    return ResultDocument(results=(row.model_copy(update=unlike),))


def _document_from_table(file: Path, map: Path | None, facts: Mapping[str, Any]) -> ResultDocument:
    import dataclasses

    from vitprof.report.outside import plain
    from vitprof.report.reading import document_from_points
    from vitprof.store.tables import read_table
    from vitprof.units import NOT_KNOWN

    table = read_table(file, map)
    points = [dataclasses.replace(point, **facts) for point in table.points]
    for name in ("backend", "precision"):
        if any(getattr(point, name) == NOT_KNOWN for point in points):
            raise UsageError(
                f"{file} does not say the {name} of its rows",
                remedy=f"add --{name} NAME, or name its column with --map",
            )
    for row in table.unusable[:_SHOWN_UNUSABLE]:
        typer.echo(plain(f"{file}, line {row.line}, left out: {row.model}: {row.reason}"), err=True)
    if len(table.unusable) > _SHOWN_UNUSABLE:
        typer.echo(plain(f"{file}: {len(table.unusable)} rows left out in all"), err=True)
    return document_from_points(points, str(file))


def _text(file: Path) -> str:
    """The file's text; `UsageError` where there is none, `VitprofError` where it cannot be read."""
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "is no plain file" if file.exists() else "there is no such file"
        raise UsageError(f"cannot import {file}: {what}", remedy=_FILE_REMEDY)
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise VitprofError(
            f"cannot import {file}: {why}", remedy="name a JSON or a CSV file, in UTF-8", stage="import"
        ) from error
