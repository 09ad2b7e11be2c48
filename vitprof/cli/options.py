"""Options that several commands share, each written once: name, help, and how its text becomes a value."""

from __future__ import annotations

import re
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import typer

from vitprof.errors import UsageError, VitprofError
from vitprof.measurements import Region
from vitprof.protocols import Effort
from vitprof.records import Exporter, Metric, ModelSpec, Precision, Source
from vitprof.units import MOST, duration_s_from_text, size_from_text

Models = Annotated[
    list[str],
    typer.Argument(
        help="timm or torchvision:NAME, a glob of such names, FILE.onnx, FILE.pt2, FILE.pt, FILE.py:FACTORY (runs it)",
        show_default=False,
    ),
]
DeviceName = Annotated[str, typer.Option("--device", "--devices", help="A device profile: vitprof devices list.")]
DeviceFile = Annotated[
    Path | None, typer.Option("--device-file", help="A device profile of your own, as a TOML file.", show_default=False)
]
Backends = Annotated[
    str | None,
    typer.Option(
        "--backend", "--backends", help="Runtimes, comma-separated; default: the device's first.", show_default=False
    ),
]
Batch = Annotated[int, typer.Option("--batch", help="Images per inference.")]
Size = Annotated[
    str | None,
    typer.Option("--size", help="Input size H or HxW in pixels; default: the model's own.", show_default=False),
]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="Of weights and activations.")]
RegionOption = Annotated[
    Region, typer.Option("--region", help="What is timed; e2e: from the host's memory and back, copies included.")
]
ExporterOption = Annotated[
    Exporter | None,
    typer.Option("--exporter", help="Way to ONNX; default: the proven one, the other as fallback.", show_default=False),
]
Threads = Annotated[
    int | None, typer.Option("--threads", help="Of one session; default: the device's.", show_default=False)
]
EffortOption = Annotated[Effort, typer.Option("--effort", help="How many processes, how narrow an interval.")]
Measure = Annotated[
    str | None,
    typer.Option("--measure", help="Measure each for this long (3s) or this often (200x).", show_default=False),
]
PrecisionGoal = Annotated[
    str | None,
    typer.Option("--precision-goal", help="Stop at this half-width of the ratio's interval (1%).", show_default=False),
]
Plot = Annotated[
    Path | None, typer.Option("--plot", help="Draw a picture to FILE.svg or FILE.png.", show_default=False)
]
MetricOption = Annotated[
    Metric, typer.Option("--metric", help="Time, or executed instructions (on an emulated device).")
]
LockClocks = Annotated[
    int | None,
    typer.Option(
        "--lock-clocks", help="Hold an NVIDIA GPU's clock at so many MHz meanwhile (root).", show_default=False
    ),
]
Samples = Annotated[bool, typer.Option("--samples", help="Put the raw samples into the JSON.")]
Timeout = Annotated[str, typer.Option("--timeout", help="Longest wait for one answer of a runner.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Read a file that can run its maker's code: a pickle, a program of any kind.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of weights, images and the order of cells.")]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Load the published weights instead of seeded random ones.")
]
NoReparam = Annotated[
    bool, typer.Option("--no-reparam", help="Take re-parameterisable nets as built, not fused for inference.")
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="The results store: a file or postgresql://…; default: results.sqlite in the data folder.",
        show_default=False,
    ),
]
ColumnMap = Annotated[
    Path | None,
    typer.Option("--map", help="Which column of a CSV holds what, as a TOML file.", show_default=False),
]
ComputeCapabilities = Annotated[
    str | None,
    typer.Option(
        "--compute-capability",
        help="Of the GPUs that trt-rtx builds for; default: 8.0,8.6,8.9,12.0.",
        show_default=False,
    ),
]
ImageInput = Annotated[
    bool, typer.Option("--image-input", help="Core ML packages that take 8-bit RGB and normalise it themselves.")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write JSON to FILE; - for standard output.", show_default=False)
]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="Write a CSV table to FILE.", show_default=False)]
MarkdownFile = Annotated[Path | None, typer.Option("--md", help="Write a markdown table to FILE.", show_default=False)]


_LEAST_TIMEOUT_S = 0.1
# As NVIDIA writes them: 8.6, 12.0.
_COMPUTE_CAPABILITY = re.compile(r"\d{1,2}\.\d")

# Set by `main` for the one command that a process runs: --debug may stand anywhere on the command line.
DEBUG: ContextVar[bool] = ContextVar("debug", default=False)


def model_like(
    *,
    batch: int = 1,
    size: str | None = None,
    precision: Precision = Precision.FP32,
    seed: int = 0,
    pretrained: bool = False,
    no_reparam: bool = False,
    exporter: Exporter | None = None,
) -> ModelSpec:
    """What was asked for beside the model's name, as a spec whose name is still empty."""
    check_at_least("--batch", batch, 1)
    check_at_least("--seed", seed, 0, most=None)
    return ModelSpec(
        name="",
        source=Source.TIMM,
        size=size_from_text(size) if size else None,
        batch=batch,
        precision=precision,
        seed=seed,
        pretrained=pretrained,
        reparam=not no_reparam,
        exporter=exporter,
    )


def check_at_least(option: str, value: int | None, least: int, most: int | None = MOST) -> None:
    """`UsageError` for a number that cannot be meant, or kept."""
    if value is not None and value < least:
        raise UsageError(f"{option} {value} is below {least}", remedy=f"give {option} {least} or more")
    if value is not None and most is not None and value > most:
        raise UsageError(f"{option} {value} is above {most}", remedy=f"give a smaller {option}")


def timeout_s_from_text(text: str) -> float:
    """Seconds from what `--timeout` was given; `UsageError` for one that no runner could meet."""
    timeout_s = duration_s_from_text(text)
    if timeout_s < _LEAST_TIMEOUT_S:
        raise UsageError(f"--timeout {text} is below {_LEAST_TIMEOUT_S} s", remedy="allow at least a second")
    return timeout_s


def check_positive(option: str, value: float) -> None:
    """`UsageError` for a ratio that cannot be meant."""
    if not 0 < value < float("inf"):
        raise UsageError(f"{option} {value:g} is no positive number", remedy=f"give {option} 0.7 or another ratio")


def names_from_list(text: str | None) -> tuple[str, ...]:
    """`ort,openvino` as two names, each once."""
    return tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))


def compute_capabilities_from_list(text: str | None) -> tuple[str, ...]:
    """`8.9,8.6` as ("8.6", "8.9"); none for None."""
    if text is None:
        return ()
    names = names_from_list(text)
    wrong = [name for name in names or (text,) if not _COMPUTE_CAPABILITY.fullmatch(name)]
    if wrong:
        remedy = "write it as 8.6, several as 8.6,8.9"
        raise UsageError(f"'{wrong[0]}' is no compute capability of a GPU", remedy=remedy)
    return tuple(sorted(names, key=float))


def check_writable(*files: Path | None) -> None:
    """`UsageError` for an output file that cannot be written: better now than after a minute of measuring."""
    if sum(str(file) == "-" for file in files) > 1:
        raise UsageError("standard output takes one of the outputs", remedy="give - once, and files for the others")
    for file in files:
        if file is None or str(file) == "-":
            continue
        if file.is_dir() or not file.parent.is_dir():
            what = "is a folder" if file.is_dir() else f"its folder {file.parent} does not exist"
            raise UsageError(f"cannot write {file}: {what}", remedy="name a file in an existing folder")


def takes_stdout(*files: Path | None) -> bool:
    """Whether standard output is a program's: a person then reads of failures on the other stream."""
    return any(str(file) == "-" for file in files)


def say(message: str, remedy: str) -> None:
    """An error as every error looks: what happened, then what to type next.

    Either may hold names that somebody else chose: nothing in them reaches the terminal as a command.
    """
    from vitprof.report.outside import plain_lines

    typer.echo(plain_lines(f"vitprof: {message}\n  → {remedy}"), err=True)


def write_text(file: Path, text: str) -> None:
    """Writes an output file, or standard output for `-`."""
    if str(file) == "-":
        typer.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise VitprofError(
            f"cannot write {file}: {error.strerror}", remedy="name a file on a disk with free space", stage="report"
        ) from error
