"""`vitprof latency`: measured latency of models, with how far each number can be trusted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from vitprof.cli import options
from vitprof.measurements import Region
from vitprof.protocols import Effort
from vitprof.records import Metric, Precision, Result


def latency(
    models: options.Models,
    device: options.DeviceName = "local",
    device_file: options.DeviceFile = None,
    backend: options.Backends = None,
    batch: options.Batch = 1,
    size: options.Size = None,
    precision: options.PrecisionOption = Precision.FP32,
    region: options.RegionOption = Region.CALL,
    metric: options.MetricOption = Metric.LATENCY,
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
    samples: options.Samples = False,
    json: options.JsonFile = None,
    csv: options.CsvFile = None,
    md: options.MarkdownFile = None,
) -> int:
    """Measure latency: interval, percentiles, ratio to a reference, MACs, achieved MAC/s, grades.

    Results go to standard output, progress and errors to standard error.
    """
    from vitprof import pipeline, protocols
    from vitprof.errors import worst
    from vitprof.group import Timeouts
    from vitprof.instructions import count_instructions
    from vitprof.places import places
    from vitprof.report.progress import progress_for
    from vitprof.units import amount_from_text, share_from_text

    options.check_writable(json, csv, md)
    options.check_at_least("--threads", threads, 1)
    options.check_at_least("--lock-clocks", lock_clocks, 1)
    timeout_s = options.timeout_s_from_text(timeout)
    request = pipeline.Request(
        models=tuple(models),
        protocol=protocols.protocol(
            effort,
            measure=amount_from_text(measure) if measure else None,
            precision_goal_share=share_from_text(precision_goal) if precision_goal else None,
            region=region,
        ),
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
        backends=options.names_from_list(backend),
        threads=threads,
        trust=trust,
        lock_clocks_mhz=lock_clocks,
        timeouts=Timeouts(load_s=timeout_s, block_s=timeout_s),
    )
    progress = progress_for(sys.stderr)
    try:
        run = (pipeline.measure if metric is Metric.LATENCY else count_instructions)(request, places(store), progress)
    finally:
        progress.close()
    _show(run.results, samples, json, csv, md)
    if options.DEBUG.get():
        for failure in (row.failure for row in run.results if row.failure):
            typer.echo(failure.detail, err=True)
    for trouble in run.troubles:
        options.say(trouble.message, trouble.remedy)
    return int(worst(set(run.exit_codes)))


def _show(rows: Sequence[Result], samples: bool, json: Path | None, csv: Path | None, md: Path | None) -> None:
    if json:
        from vitprof.report.document import json_text, rows_from_results

        options.write_text(json, json_text(rows_from_results(rows, with_samples=samples)))
    if csv:
        from vitprof.report.csv_table import csv_text

        options.write_text(csv, csv_text(rows))
    if md:
        from vitprof.report.markdown import markdown_text

        options.write_text(md, markdown_text(rows))
    if options.takes_stdout(json, csv, md):
        for row in rows:
            if row.failure:
                options.say(row.failure.error, row.failure.remedy)
        return
    from rich.console import Console

    from vitprof.report.terminal import show

    show(rows, Console())
