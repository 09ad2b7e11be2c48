"""`vitprof history`: what the store holds of a model, over time."""

from __future__ import annotations

from typing import Annotated

import typer

from vitprof.cli import options


def history(
    model: Annotated[
        str, typer.Argument(help="A model as the store names it, or a glob such as 'lowformer*'.", show_default=False)
    ],
    backend: Annotated[
        str | None, typer.Option("--backend", "--backends", help="Only these, comma-separated.", show_default=False)
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", "--devices", help="Only these, comma-separated.", show_default=False)
    ] = None,
    store: options.Store = None,
    plot: options.Plot = None,
    json: options.JsonFile = None,
    csv: options.CsvFile = None,
) -> None:
    """Show the series over time: one for each cell, with what changed between two measurements."""
    from vitprof import histories
    from vitprof.places import places

    options.check_writable(json, csv, plot)
    if plot is not None:
        from vitprof.report.plot_style import check_plot_file

        check_plot_file(plot)
    series = histories.history(
        model,
        places(store),
        backends=options.names_from_list(backend),
        devices=options.names_from_list(device),
    )
    from vitprof.report import history as report

    if json:
        from vitprof.report.document import json_text

        options.write_text(json, json_text(report.document_from_history(series)))
    if csv:
        options.write_text(csv, report.history_csv(series))
    if plot is not None:
        from vitprof.report.plot_history import history_plot

        history_plot(series, plot)
    if not options.takes_stdout(json, csv):
        from rich.console import Console

        from vitprof.report.sections import show_sections

        show_sections(report.history_sections(series), Console())
