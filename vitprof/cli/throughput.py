"""`vitprof throughput`: images a second against batch, the best batch, the knee, what memory leaves."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitprof.cli import options
from vitprof.curves import MAX_BATCH
from vitprof.errors import UsageError, VitprofError
from vitprof.measurements import Region
from vitprof.protocols import Effort
from vitprof.records import Precision
from vitprof.units import MOST, size_from_text

if TYPE_CHECKING:
    from vitprof.throughputs import Throughput

_SEARCH = "auto"


def throughput(
    models: options.Models,
    device: options.DeviceName = "local",
    device_file: options.DeviceFile = None,
    backend: options.Backends = None,
    batch: Annotated[
        str, typer.Option("--batch", help="auto: doubled until it brings no more; or a list: 1,8,64.")
    ] = _SEARCH,
    max_batch: Annotated[
        int | None,
        typer.Option("--max-batch", help=f"The largest that auto tries; default: {MAX_BATCH}.", show_default=False),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Input sizes H or HxW in pixels, comma-separated; default: the model's own.",
            show_default=False,
        ),
    ] = None,
    precision: options.PrecisionOption = Precision.FP32,
    region: options.RegionOption = Region.CALL,
    threads: options.Threads = None,
    effort: options.EffortOption = Effort.STANDARD,
    measure: options.Measure = None,
    precision_goal: options.PrecisionGoal = None,
    lock_clocks: options.LockClocks = None,
    timeout: options.Timeout = "300s",
    seed: options.Seed = 0,
    pretrained: options.Pretrained = False,
    no_reparam: options.NoReparam = False,
    exporter: options.ExporterOption = None,
    trust: options.Trust = False,
    store: options.Store = None,
    plot: options.Plot = None,
    samples: options.Samples = False,
    json: options.JsonFile = None,
    csv: options.CsvFile = None,
    md: options.MarkdownFile = None,
) -> int:
    """Measure throughput: images/s against batch, best batch, knee, memory; with several sizes, against size too.

    Models are measured beside each other, and where one overtakes another is told.
    """
    from vitprof import protocols
    from vitprof.errors import worst
    from vitprof.group import Timeouts
    from vitprof.pipeline import Request
    from vitprof.places import places
    from vitprof.report.progress import progress_for
    from vitprof.throughputs import Asked, measure_throughput
    from vitprof.units import amount_from_text, share_from_text

    options.check_writable(json, csv, md, plot)
    options.check_at_least("--threads", threads, 1)
    options.check_at_least("--max-batch", max_batch, 1)
    options.check_at_least("--lock-clocks", lock_clocks, 1)
    if plot is not None:
        from vitprof.report.plot_style import check_plot_file

        check_plot_file(plot)
    timeout_s = options.timeout_s_from_text(timeout)
    request = Request(
        models=tuple(models),
        protocol=protocols.protocol(
            effort,
            measure=amount_from_text(measure) if measure else None,
            precision_goal_share=share_from_text(precision_goal) if precision_goal else None,
            region=region,
        ),
        like=options.model_like(
            precision=precision, seed=seed, pretrained=pretrained, no_reparam=no_reparam, exporter=exporter
        ),
        device=device,
        device_file=device_file,
        backends=options.names_from_list(backend),
        threads=threads,
        trust=trust,
        lock_clocks_mhz=lock_clocks,
        timeouts=Timeouts(load_s=timeout_s, block_s=timeout_s),
    )
    batches = batches_from_text(batch)
    if batches and max_batch is not None:
        raise UsageError(
            f"--max-batch {max_batch} ends a search, and --batch {batch} asks for none",
            remedy="leave out one of the two",
        )
    asked = Asked(request, batches, sizes_from_text(size), max_batch or MAX_BATCH)
    if plot is not None and len(asked.sizes) < 2 and len(asked.limits.asked or range(asked.max_batch)) < 2:
        raise UsageError("--plot has nothing to draw of one batch", remedy="give several to --batch or --size")
    progress = progress_for(sys.stderr)
    try:
        found = measure_throughput(asked, places(store), progress)
    finally:
        progress.close()
    _show(found, json, csv, md, samples=samples)
    codes, troubles = set(found.exit_codes), list(found.troubles)
    if plot is not None:
        from vitprof.report.plot_curves import curve_plot

        try:
            curve_plot(found.curves, found.crossovers, plot)
        except VitprofError as error:
            # Such as that too little was measured: the code stays that of what befell the measuring, where it is worse.
            troubles.append(error)
            codes.add(error.exit_code)
    if options.DEBUG.get():
        for failure in found.failures:
            typer.echo(failure.detail, err=True)
    for trouble in troubles:
        options.say(trouble.message, trouble.remedy)
    return int(worst(codes))


def _show(found: Throughput, json: Path | None, csv: Path | None, md: Path | None, *, samples: bool) -> None:
    from vitprof.report.curves import curve_sections
    from vitprof.report.sections import sections_text, show_sections

    if json:
        from vitprof.report.curve_document import document_from_curves
        from vitprof.report.document import json_text

        document = document_from_curves(found.curves, found.crossovers, with_samples=samples)
        options.write_text(json, json_text(document))
    if csv:
        from vitprof.report.curve_document import curves_csv

        options.write_text(csv, curves_csv(found.curves))
    sections = curve_sections(found.curves, found.crossovers)
    if md:
        options.write_text(md, sections_text(sections))
    if options.takes_stdout(json, csv, md):
        for failure in found.failures:
            options.say(failure.error, failure.remedy)
        return
    from rich.console import Console

    show_sections(sections, Console())


def batches_from_text(text: str) -> tuple[int, ...]:
    """`1,8,64` as numbers; none for `auto`."""
    if text.strip() == _SEARCH:
        return ()
    names = options.names_from_list(text)
    # Python makes no int of thousands of digits.
    wrong = [name for name in names or (text,) if not re.fullmatch(r"\d{1,10}", name) or not 1 <= int(name) <= MOST]
    if wrong:
        raise UsageError(f"--batch '{wrong[0]}' is no batch", remedy="write --batch auto, or a list: --batch 1,8,64")
    return tuple(map(int, names))


def sizes_from_text(text: str | None) -> tuple[tuple[int, int], ...]:
    """`224,256x192` as (height, width) each once; none for None."""
    if text is None:
        return ()
    return tuple(dict.fromkeys(size_from_text(one) for one in options.names_from_list(text) or (text,)))
