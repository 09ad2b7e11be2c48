"""`vitprof compare`: where MACs and measured time disagree, and A against B."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitprof.cli import options
from vitprof.measurements import Region
from vitprof.protocols import Effort
from vitprof.records import Precision

if TYPE_CHECKING:
    from vitprof.comparing import Choice, Compared, Sides
    from vitprof.pipeline import Request


class Plot(StrEnum):
    SCATTER = "scatter"
    RANKS = "ranks"


def compare(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="As for latency; none: every model that the store holds for all sides.", show_default=False
        ),
    ] = None,
    backend: options.Backends = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", "--devices", help="Device profiles, comma-separated; default: local.", show_default=False
        ),
    ] = None,
    device_file: options.DeviceFile = None,
    runs: Annotated[
        str | None,
        typer.Option("--runs", help="Stored runs, comma-separated, the first is the baseline.", show_default=False),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--from", help="A published table: timm's CSV, or any CSV with --map.", show_default=False),
    ] = None,
    column_map: options.ColumnMap = None,
    stored: Annotated[bool, typer.Option("--stored", help="Only what the store holds; measure nothing.")] = False,
    match: Annotated[
        str | None,
        typer.Option("--match", help="Only models whose name has this regular expression.", show_default=False),
    ] = None,
    all_pairs: Annotated[
        bool, typer.Option("--all", help="Every inversion, not the worst one of each pair of families.")
    ] = False,
    max_macs_ratio: Annotated[
        float, typer.Option("--max-macs-ratio", help="An inversion has at most this share of the other's MACs.")
    ] = 0.7,
    min_time_ratio: Annotated[
        float, typer.Option("--min-time-ratio", help="An inversion takes at least this multiple of the other's time.")
    ] = 1.5,
    layers: Annotated[
        bool, typer.Option("--layers", help="Profile the layers of models in inversions, so that reasons are measured.")
    ] = False,
    batch: options.Batch = 1,
    size: options.Size = None,
    precision: options.PrecisionOption = Precision.FP32,
    region: options.RegionOption = Region.CALL,
    threads: options.Threads = None,
    effort: Annotated[
        Effort, typer.Option("--effort", help="How many processes, how narrow an interval.")
    ] = Effort.STANDARD,
    seed: options.Seed = 0,
    pretrained: options.Pretrained = False,
    no_reparam: options.NoReparam = False,
    exporter: options.ExporterOption = None,
    trust: options.Trust = False,
    store: options.Store = None,
    plot: options.Plot = None,
    plot_kind: Annotated[
        Plot, typer.Option("--plot-kind", help="Time against MACs, or ranks by MACs beside ranks by time.")
    ] = Plot.SCATTER,
    json: options.JsonFile = None,
    md: Annotated[
        Path | None, typer.Option("--md", help="Write the comparison as markdown to FILE.", show_default=False)
    ] = None,
) -> int:
    """Compare: how well counts predict time, inversions with reasons, A against B.

    With MODEL, measures what the store has no result of; without, compares what the store holds.
    """
    from vitprof.comparing import Choice, Sides
    from vitprof.comparisons import Limits
    from vitprof.errors import worst
    from vitprof.pipeline import Request
    from vitprof.protocols import protocol

    options.check_writable(json, md, plot)
    options.check_positive("--max-macs-ratio", max_macs_ratio)
    options.check_positive("--min-time-ratio", min_time_ratio)
    options.check_at_least("--threads", threads, 1)
    if plot is not None:
        from vitprof.report.plot_style import check_plot_file

        check_plot_file(plot)
    choice = Choice(Limits(max_macs_ratio, min_time_ratio), all_pairs, match, layers)
    sides = Sides(*(options.names_from_list(names) for names in (backend, device, runs)))
    request = Request(
        models=tuple(models or ()),
        protocol=protocol(effort, region=region),
        like=options.model_like(
            batch=batch,
            size=size,
            precision=precision,
            seed=seed,
            pretrained=pretrained,
            no_reparam=no_reparam,
            exporter=exporter,
        ),
        device=sides.devices[0] if sides.devices else "local",
        device_file=device_file,
        backends=sides.backends,
        threads=threads,
        trust=trust,
    )
    compared = _compared(request, sides, choice, table, column_map, store, is_stored=stored)
    _show(compared, choice, plot, plot_kind, json, md)
    for trouble in compared.troubles:
        options.say(trouble.message, trouble.remedy)
    return int(worst(set(compared.exit_codes)))


def _compared(
    request: Request,
    sides: Sides,
    choice: Choice,
    table: Path | None,
    column_map: Path | None,
    store: str | None,
    *,
    is_stored: bool,
) -> Compared:
    from vitprof import comparing
    from vitprof.places import places
    from vitprof.report.progress import progress_for

    if table is not None:
        comparing.check_table_alone(request.models, sides)
        return comparing.compare_table(table, column_map, choice)
    if is_stored or sides.runs or not request.models:
        return comparing.compare_stored(sides, choice, places(store), request.models, request.protocol.region)
    progress = progress_for(sys.stderr)
    try:
        return comparing.compare_measured(request, sides, choice, places(store), progress)
    finally:
        progress.close()


def _show(
    compared: Compared, choice: Choice, plot: Path | None, plot_kind: Plot, json: Path | None, md: Path | None
) -> None:
    from vitprof.report.comparison import comparison_sections, left_out_section
    from vitprof.report.sections import sections_text, show_sections

    shown = {"most_inversions": None} if choice.all_pairs else {}
    sections = comparison_sections(compared.groups, compared.pairs, limits=choice.limits, **shown)
    if compared.left_out_texts:
        sections = (*sections, left_out_section(compared.left_out_texts))
    if json:
        from vitprof.report.comparison_document import document_from_comparison
        from vitprof.report.document import json_text

        options.write_text(json, json_text(document_from_comparison(compared.groups, compared.pairs)))
    if md:
        options.write_text(md, sections_text(sections))
    if plot is not None:
        from vitprof.report import plots

        (plots.scatter_plot if plot_kind is Plot.SCATTER else plots.rank_shift_plot)(compared.groups, plot)
    if not options.takes_stdout(json, md):
        from rich.console import Console

        show_sections(sections, Console())
