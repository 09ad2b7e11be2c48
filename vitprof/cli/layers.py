"""`vitprof layers`: where the time of one model goes, beside its MACs and bytes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitprof.cli import options
from vitprof.records import Precision
from vitprof.report.by import By

if TYPE_CHECKING:
    from vitprof.comparisons import ProfiledModel


def layers(
    model: Annotated[str, typer.Argument(help="One model, named as in: vitprof latency.", show_default=False)],
    device: options.DeviceName = "local",
    device_file: options.DeviceFile = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            "--backends",
            help="One runtime: ort, torch, openvino; default: the device's first.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[By, typer.Option("--by", help="A row for each operator, module or kind.")] = By.KIND,
    depth: Annotated[int, typer.Option("--depth", help="Parts of a module's path that tell modules apart.")] = 2,
    whole: Annotated[bool, typer.Option("--all", help="Show every row, not only those that take longest.")] = False,
    batch: options.Batch = 1,
    size: options.Size = None,
    precision: options.PrecisionOption = Precision.FP32,
    threads: options.Threads = None,
    timeout: Annotated[str, typer.Option("--timeout", help="Longest wait for one answer of a runner.")] = "300s",
    seed: options.Seed = 0,
    pretrained: options.Pretrained = False,
    no_reparam: options.NoReparam = False,
    exporter: options.ExporterOption = None,
    trust: options.Trust = False,
    store: options.Store = None,
    json: options.JsonFile = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write every operator as CSV to FILE.", show_default=False)
    ] = None,
    md: Annotated[
        Path | None, typer.Option("--md", help="Write the tables as markdown to FILE.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the shares to FILE (.svg or .png).", show_default=False)
    ] = None,
) -> None:
    """Show how a model's time is shared, beside its shares of MACs and bytes, by the runtime's own profile."""
    from vitprof.errors import VitprofError
    from vitprof.group import Timeouts
    from vitprof.layers import LayersRequest, keep, profile_layers
    from vitprof.places import places
    from vitprof.report.progress import progress_for
    from vitprof.units import duration_s_from_text

    options.check_writable(json, csv, md, plot)
    options.check_at_least("--threads", threads, 1)
    options.check_at_least("--depth", depth, 1)
    timeout_s = duration_s_from_text(timeout)
    request = LayersRequest(
        model=model,
        like=options.model_like(
            batch=batch,
            size=size,
            precision=precision,
            seed=seed,
            pretrained=pretrained,
            no_reparam=no_reparam,
            exporter=exporter,
        ),
        device=device,
        device_file=device_file,
        backend=backend,
        threads=threads,
        depth=depth,
        trust=trust,
        timeouts=Timeouts(load_s=timeout_s, block_s=timeout_s),
    )
    progress = progress_for(sys.stderr)
    try:
        profiled = profile_layers(request, places(store), progress)
    finally:
        progress.close()
    try:
        keep(profiled, places(store))
    except VitprofError as error:
        # What was profiled is shown all the same.
        options.say(error.message, error.remedy)
    _show(profiled, by, whole, json, csv, md)
    if plot:
        from vitprof.report.layers import share_bars
        from vitprof.report.plot_layers import layer_share_plot

        layer_share_plot(
            share_bars(profiled.profile, by),
            plot,
            title=f"{profiled.spec.name}, {profiled.backend} {profiled.backend_version}",
        )


def _show(profiled: ProfiledModel, by: By, whole: bool, json: Path | None, csv: Path | None, md: Path | None) -> None:
    from vitprof.report import layers as report
    from vitprof.report.sections import sections_text, show_sections

    if json:
        from vitprof.report.document import json_text

        options.write_text(json, json_text(report.document(profiled)))
    if csv:
        options.write_text(csv, report.csv_text(profiled.profile))
    sections = report.sections_of(profiled, by, is_whole=whole)
    if md:
        options.write_text(md, sections_text(sections))
    if any(str(file) == "-" for file in (json, csv, md) if file):
        return
    from rich.console import Console

    show_sections(sections, Console())
