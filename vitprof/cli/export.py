"""`vitprof export`: artifacts as files, each proved to compute what the model computes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vitprof.cli import options
from vitprof.records import Exported, Precision


def export(
    models: options.Models,
    to: Annotated[
        str, typer.Option("--to", help="Formats, comma-separated: onnx, pt2, coreml, trt, trt-rtx, litert.")
    ] = "onnx",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the files; made where missing.", show_default="."),
    ] = None,
    survey: Annotated[
        bool, typer.Option("--survey", help="A table of what exports and what does not; files only with -o.")
    ] = False,
    batch: options.Batch = 1,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            "--devices",
            help="Where trt engines are built; default: the only reachable GPU.",
            show_default=False,
        ),
    ] = None,
    device_file: options.DeviceFile = None,
    size: options.Size = None,
    precision: options.PrecisionOption = Precision.FP32,
    seed: options.Seed = 0,
    pretrained: options.Pretrained = False,
    no_reparam: options.NoReparam = False,
    exporter: options.ExporterOption = None,
    compute_capability: options.ComputeCapabilities = None,
    image_input: options.ImageInput = False,
    trust: options.Trust = False,
    json: options.JsonFile = None,
    md: Annotated[
        Path | None, typer.Option("--md", help="Write the table as markdown to FILE.", show_default=False)
    ] = None,
) -> int:
    """Export models and check that each artifact still computes the same thing."""
    from vitprof import exporting
    from vitprof.errors import ExitCode, UsageError, worst
    from vitprof.places import places
    from vitprof.report.progress import progress_for
    from vitprof.rows import parity_exit_code

    options.check_writable(json, md)
    like = options.model_like(
        batch=batch,
        size=size,
        precision=precision,
        seed=seed,
        pretrained=pretrained,
        no_reparam=no_reparam,
        exporter=exporter,
    )
    formats = options.names_from_list(to)
    capabilities = options.compute_capabilities_from_list(compute_capability)
    like = replace(like, compute_capabilities=capabilities, image_input=image_input)
    if like.compute_capabilities and "trt-rtx" not in formats:
        raise UsageError("--compute-capability is of engines, and none is asked for", remedy="add --to trt-rtx")
    if image_input and formats != ("coreml",):
        raise UsageError(f"--image-input is of Core ML packages only, not of {to}", remedy="use --to coreml alone")
    if (device or device_file) and "trt" not in formats:
        raise UsageError("only engines of TensorRT are built on a --device", remedy="add --to trt, or leave it out")
    folder = output if survey else output or Path()
    progress = progress_for(sys.stderr)
    exports: list[Exported] = []
    codes: set[ExitCode] = set()
    try:
        for one in exporting.export(
            models,
            formats,
            folder,
            like,
            places(),
            progress=progress,
            trust=trust,
            device=device,
            device_file=device_file,
        ):
            exports.append(one)
            codes |= {one.exit_code, parity_exit_code(one.parity)}
    except KeyboardInterrupt:
        # What was exported is worth its lines: a survey may have run for an hour.
        codes.add(ExitCode.INTERRUPTED)
    finally:
        progress.close()
    _show(exports, survey, json, md)
    return int(worst(codes))


def _show(exports: Sequence[Exported], survey: bool, json: Path | None, md: Path | None) -> None:
    if json:
        from vitprof.report.document import document_from_exports, json_text

        options.write_text(json, json_text(document_from_exports(exports)))
    if md:
        from vitprof.report.survey import survey_text

        options.write_text(md, survey_text(exports))
    if options.takes_stdout(json, md):
        return
    from rich.console import Console

    from vitprof.report.terminal import show_exports, show_survey

    (show_survey if survey else show_exports)(exports, Console())
