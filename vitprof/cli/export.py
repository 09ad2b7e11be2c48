"""`vitprof export`: artifacts as files, each proved to compute what the model computes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vitprof.cli import options
from vitprof.records import Precision


def export(
    models: options.Models,
    to: Annotated[str, typer.Option("--to", help="Formats, comma-separated: onnx.")] = "onnx",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files; made where missing.")] = Path(),
    batch: options.Batch = 1,
    size: options.Size = None,
    precision: options.PrecisionOption = Precision.FP32,
    seed: options.Seed = 0,
    pretrained: options.Pretrained = False,
    no_reparam: options.NoReparam = False,
    json: options.JsonFile = None,
) -> int:
    """Export models and check that each artifact still computes the same thing."""
    from vitprof import pipeline
    from vitprof.errors import worst
    from vitprof.places import places
    from vitprof.report.progress import progress_for
    from vitprof.rows import parity_exit_code

    options.check_writable(json)
    like = options.model_like(
        batch=batch, size=size, precision=precision, seed=seed, pretrained=pretrained, no_reparam=no_reparam
    )
    progress = progress_for(sys.stderr)
    try:
        exports = pipeline.export(tuple(models), options.names_from_list(to), output, like, places(), progress=progress)
    finally:
        progress.close()
    if json:
        from vitprof.report.document import document_from_exports, json_text

        options.write_text(json, json_text(document_from_exports(exports)))
    if not json or str(json) != "-":
        from rich.console import Console

        from vitprof.report.terminal import show_exports

        show_exports(exports, Console())
    return int(worst({code for one in exports for code in (one.exit_code, parity_exit_code(one.parity))}))
