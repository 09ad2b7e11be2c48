"""`vitprof pareto`: accuracy against a measured or counted cost, and which models nothing beats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitprof.cli import options
from vitprof.counts import CostName


def pareto(
    accuracy: Annotated[
        Path, typer.Option("--accuracy", help="A CSV of accuracies: timm's results file, or columns model and top1.")
    ],
    models: Annotated[
        list[str] | None, typer.Argument(help="Stored models, globs too; none: all of them.", show_default=False)
    ] = None,
    cost: Annotated[CostName, typer.Option("--cost", help="What accuracy is paid with.")] = CostName.LATENCY,
    accuracy_map: Annotated[
        Path | None,
        typer.Option("--accuracy-map", help="Which column of it holds what, as a TOML file.", show_default=False),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--from", help="Costs of a published table instead of the store's.", show_default=False),
    ] = None,
    column_map: options.ColumnMap = None,
    backend: options.Backends = None,
    device: Annotated[
        str | None, typer.Option("--device", "--devices", help="Only results of this device.", show_default=False)
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Only results of this batch.", show_default=False)
    ] = None,
    match: Annotated[
        str | None,
        typer.Option("--match", help="Only models whose name has this regular expression.", show_default=False),
    ] = None,
    all_points: Annotated[bool, typer.Option("--all", help="Show the dominated models too.")] = False,
    store: options.Store = None,
    plot: options.Plot = None,
    json: options.JsonFile = None,
    md: Annotated[
        Path | None, typer.Option("--md", help="Write the front as markdown to FILE.", show_default=False)
    ] = None,
) -> None:
    """Show the Pareto front of accuracy against a cost, and who cannot be told from it."""
    from vitprof import fronts
    from vitprof.comparing import Sides
    from vitprof.fronts import Source
    from vitprof.places import places
    from vitprof.report.comparison import left_out_section
    from vitprof.report.pareto import front_sections
    from vitprof.report.sections import sections_text, show_sections
    from vitprof.store.tables import read_accuracies

    options.check_writable(json, md, plot)
    options.check_at_least("--batch", batch, 1)
    if plot is not None:
        from vitprof.report.plot_style import check_plot_file

        check_plot_file(plot)
    sides = Sides(options.names_from_list(backend), options.names_from_list(device))
    source = Source(table, column_map, sides, tuple(models or ()), batch, match)
    fronted = fronts.pareto(source, read_accuracies(accuracy, accuracy_map), cost, places(store))
    sections = front_sections(fronted.points, cost.value, where=fronted.where, with_dominated=all_points)
    if fronted.left_out:
        sections = (*sections, left_out_section(fronted.left_out))
    if json:
        from vitprof.report.comparison_document import document_from_front
        from vitprof.report.document import json_text

        options.write_text(json, json_text(document_from_front(fronted.points, cost.value)))
    if md:
        options.write_text(md, sections_text(sections))
    if plot is not None:
        from vitprof.report.plot_front import pareto_plot

        pareto_plot(fronted.points, cost.value, plot, where=fronted.where)
    if not options.takes_stdout(json, md):
        from rich.console import Console

        show_sections(sections, Console())
