"""`vitprof layers`: where the time of one model goes, beside its MACs and bytes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitprof.cli import options
from vitprof.records import Precision
from vitprof.report.by import By

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vitprof.comparisons import ProfiledModel
    from vitprof.records import ModelSpec
    from vitprof.static_layers import StaticRequest


def layers(
    model: Annotated[str, typer.Argument(help="One model, named as in: vitprof latency.", show_default=False)],
    device: options.DeviceName = "local",
    device_file: options.DeviceFile = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            "--backends",
            help="One runtime: ort, torch, openvino, …; default: the device's first.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[By, typer.Option("--by", help="A row for each operator, module or kind.")] = By.KIND,
    depth: Annotated[int, typer.Option("--depth", help="Parts of a module's path that tell modules apart.")] = 2,
    whole: Annotated[bool, typer.Option("--all", help="Show every row, not only those that take longest.")] = False,
    batch: options.Batch = 1,
    size: options.Size = None,
    precision: options.PrecisionOption = Precision.FP32,
    static: Annotated[
        bool, typer.Option("--static", help="The kernels that trt-rtx makes of the model: built here, not run.")
    ] = False,
    compute_capability: Annotated[
        str | None,
        typer.Option(
            "--compute-capability", help="Of the GPU to compile for, with --static; default: 8.6.", show_default=False
        ),
    ] = None,
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
    from vitprof.errors import UsageError, VitprofError
    from vitprof.group import Timeouts
    from vitprof.layers import LayersRequest, keep, profile_layers
    from vitprof.places import places
    from vitprof.report.progress import progress_for
    from vitprof.static_layers import StaticRequest
    from vitprof.units import duration_s_from_text

    options.check_writable(json, csv, md, plot)
    options.check_at_least("--threads", threads, 1)
    options.check_at_least("--depth", depth, 1)
    timeout_s = duration_s_from_text(timeout)
    like = options.model_like(
        batch=batch,
        size=size,
        precision=precision,
        seed=seed,
        pretrained=pretrained,
        no_reparam=no_reparam,
        exporter=exporter,
    )
    if static:
        measured: dict[str, object] = {"--device": None if device == "local" else device, "--device-file": device_file}
        measured |= {"--threads": threads, "--store": store, "--csv": csv, "--plot": plot}
        _check_static(backend, measured)
        _show_static(StaticRequest(model, _for_gpu(like, compute_capability), depth, trust), by, whole, json, md)
        return
    if compute_capability is not None:
        raise UsageError("--compute-capability says what to compile for without running", remedy="add --static")
    request = LayersRequest(
        model=model,
        like=like,
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

        estimated = ", time estimated" if profiled.profile.is_estimate else ""
        layer_share_plot(
            share_bars(profiled.profile, by),
            plot,
            title=f"{profiled.spec.name}, {profiled.backend} {profiled.backend_version}{estimated}",
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
    if options.takes_stdout(json, csv, md):
        return
    from rich.console import Console

    show_sections(sections, Console())


def _check_static(backend: str | None, measured: Mapping[str, object]) -> None:
    """`UsageError` for options that make sense of a run only."""
    from vitprof.errors import UsageError
    from vitprof.static_layers import BACKEND

    if backend not in (None, BACKEND):
        raise UsageError(
            f"backend '{backend}' does not tell its kernels without running", remedy=f"use --backend {BACKEND}"
        )
    given = [option for option, value in measured.items() if value is not None]
    if given:
        raise UsageError(f"--static runs nothing, so {', '.join(given)} has no meaning", remedy=f"leave out {given[0]}")


def _for_gpu(like: ModelSpec, text: str | None) -> ModelSpec:
    from vitprof.errors import UsageError
    from vitprof.static_layers import DEFAULT_COMPUTE_CAPABILITY

    chosen = options.compute_capabilities_from_list(text) or (DEFAULT_COMPUTE_CAPABILITY,)
    if len(chosen) > 1:
        raise UsageError(
            f"--static shows the kernels for one compute capability, not {len(chosen)}",
            remedy=f"use --compute-capability {chosen[0]}",
        )
    return replace(like, compute_capabilities=chosen)


def _show_static(request: StaticRequest, by: By, whole: bool, json: Path | None, md: Path | None) -> None:
    from vitprof.places import places
    from vitprof.report import static_layers as report
    from vitprof.report.progress import progress_for
    from vitprof.report.sections import sections_text, show_sections
    from vitprof.static_layers import compile_layers

    progress = progress_for(sys.stderr)
    try:
        model = compile_layers(request, places(), progress)
    finally:
        progress.close()
    if json:
        from vitprof.report.document import json_text

        options.write_text(json, json_text(report.document(model)))
    sections = report.sections_of(model, by, is_whole=whole)
    if md:
        options.write_text(md, sections_text(sections))
    if options.takes_stdout(json, md):
        return
    from rich.console import Console

    show_sections(sections, Console())
