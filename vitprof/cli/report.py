"""`vitprof report`: what a run says and what changed, as markdown for a code forge and as an HTML page."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitprof.cli import options
from vitprof.errors import UsageError

if TYPE_CHECKING:
    from vitprof.reports import Report
    from vitprof.store.tables import Accuracies

_SUFFIX = ".md"


def report(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run's id or its beginning; default: the newest.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="FILE.md; pictures and HTML go beside it.", show_default=False),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Write FILE.html as well, with every row.")] = False,
    is_all: Annotated[bool, typer.Option("--all", help="The latest result of every cell, of whatever run.")] = False,
    accuracy: Annotated[
        Path | None,
        typer.Option(
            "--accuracy", help="A CSV of top-1 accuracies, for the front of accuracy against time.", show_default=False
        ),
    ] = None,
    accuracy_map: Annotated[
        Path | None,
        typer.Option("--accuracy-map", help="Which column of it holds what, as a TOML file.", show_default=False),
    ] = None,
    store: options.Store = None,
) -> None:
    """Report a run: what changed, results, where MACs and time disagree, fronts, failures.

    Each cell is compared with its last result by the same protocol. Without -o the markdown goes to standard output,
    without pictures.
    """
    from vitprof import reporting
    from vitprof.places import places

    _check(run, output, html=html, is_all=is_all, has_map_alone=accuracy_map is not None and accuracy is None)
    question = reporting.Question(run or "latest", is_all, _accuracies(accuracy, accuracy_map))
    with _uncollected():
        made = reporting.report_of(question, places(store))
        if accuracy is not None and not made.fronts:
            typer.echo(
                f"No front: of no device and backend three models have a latency, and an accuracy in {accuracy}.",
                err=True,
            )
        _write(made, output, html=html)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's search for cycles: of 10,000 rows it walks millions of values again and again and frees none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _check(run: str | None, output: Path | None, *, html: bool, is_all: bool, has_map_alone: bool) -> None:
    """`UsageError` for what cannot be meant, `UnreachableError` for what is not installed, before anything is done."""
    if run is not None and is_all:
        raise UsageError(f"--all reports every run, and {run} one of them", remedy="leave out the run, or --all")
    if has_map_alone:
        raise UsageError("--accuracy-map describes the file of --accuracy", remedy="name that file: --accuracy FILE")
    if output is None or str(output) == "-":
        if html:
            raise UsageError("--html writes a file beside the markdown", remedy="name that: -o report.md --html")
        return
    if output.suffix != _SUFFIX:
        raise UsageError(
            f"a report is markdown, and {output} is no .md file",
            remedy=f"-o {output.parent / (output.stem or 'report')}{_SUFFIX}",
        )
    if output.name.lower() == "readme.md":
        # It is a person's, and holds the list of reports.
        raise UsageError(f"{output} is not written over", remedy=f"-o {output.with_name('report.md')}")
    # The folder of reports is made with the first of them, and what leads to it is not.
    is_first = not output.parent.exists()
    options.check_writable(*([output.parent] if is_first else [output, _page(output) if html else None]))
    if html:
        from vitprof.report.html import check_installed

        check_installed()


def _page(output: Path) -> Path:
    return output.with_suffix(".html")


def _accuracies(file: Path | None, column_map: Path | None) -> Accuracies | None:
    if file is None:
        return None
    from vitprof.store.tables import read_accuracies

    return read_accuracies(file, column_map)


def _write(report: Report, output: Path | None, *, html: bool) -> None:
    from vitprof.report.report_index import update_index
    from vitprof.report.report_markdown import report_text
    from vitprof.report.report_pictures import draw

    if output is None or str(output) == "-":
        options.write_text(Path("-"), report_text(report))
        return
    with contextlib.suppress(OSError):
        # Why it cannot be made is told where something is written there.
        output.parent.mkdir(exist_ok=True)
    page = _page(output)
    if html:
        from vitprof.report.html import html_text

        options.write_text(page, html_text(report))
    pictures = draw(report, output)
    options.write_text(output, report_text(report, pictures, page.name if html else None))
    update_index(output.parent)
    if pictures.why_not:
        typer.echo(pictures.why_not, err=True)
