"""`vitprof devices`: the device profiles and whether each can be measured on."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vitprof.cli import device_setup, options, serve
from vitprof.protocols import Effort
from vitprof.records import Precision

app = typer.Typer(help="List, show and check devices.", no_args_is_help=True, rich_markup_mode=None)
app.command("setup")(device_setup.setup_device)
app.command("clean")(device_setup.clean_device)


@app.command("list")
def list_devices(json: options.JsonFile = None) -> None:
    """List the device profiles: yours and the shipped ones."""
    from vitprof.devices import profiles, reach

    options.check_writable(json)
    found = profiles.devices()
    reachable = {device.name: reach.is_reachable(device) for device in found}
    if json:
        from vitprof.report.document import document_from_devices, json_text

        options.write_text(json, json_text(document_from_devices(found, reachable)))
        return
    from rich.console import Console

    from vitprof.report.terminal import show_devices

    show_devices(found, reachable, Console())


@app.command("show")
def show_device(
    name: Annotated[str, typer.Argument(help="A name from: vitprof devices list.")],
    device_file: options.DeviceFile = None,
) -> None:
    """Show one profile, its peaks with their sources, and what is missing to reach it."""
    from rich.console import Console

    from vitprof.devices import profiles, reach
    from vitprof.errors import UnreachableError
    from vitprof.places import places
    from vitprof.report.terminal import show_device as show
    from vitprof.store import peaks

    device = profiles.device(name, device_file)
    missing = None
    try:
        reach.check_reachable(device)
    except UnreachableError as error:
        missing = f"{error.message}; {error.remedy}"
    if missing is None and reach.is_reachable(device) is None:
        missing = f"only asking it tells: vitprof devices check {device.name}"
    show(device, peaks.measured(places().data_root, device), missing, Console())


@app.command("check")
def check_device(
    name: Annotated[str, typer.Argument(help="A name from: vitprof devices list.")],
    device_file: options.DeviceFile = None,
    json: options.JsonFile = None,
) -> None:
    """Ask a device how it stands: processor, runtimes, load, temperature, who uses it, and what to mend."""
    from vitprof.devices import profiles
    from vitprof.devices.check import check
    from vitprof.places import places
    from vitprof.report import devices as report

    options.check_writable(json)
    checked = check(profiles.device(name, device_file), places().cache_root)
    if json:
        from vitprof.report.document import json_text

        options.write_text(json, json_text(report.document_from_check(checked)))
        return
    from rich.console import Console

    report.show_check(checked, Console())


@app.command("calibrate")
def calibrate_device(
    name: Annotated[str, typer.Argument(help="A name from: vitprof devices list.")] = "local",
    backend: options.Backends = None,
    threads: options.Threads = None,
    precision: options.PrecisionOption = Precision.FP32,
    effort: Annotated[
        Effort, typer.Option("--effort", help="How many processes, how narrow an interval.")
    ] = Effort.STANDARD,
    json: options.JsonFile = None,
) -> int:
    """Measure what backends reach at most: peak MAC/s, peak bytes/s, cost of starting an operator.

    Later results of these backends get a roofline and a utilisation from them.
    """
    from vitprof.calibration import calibrate
    from vitprof.errors import worst
    from vitprof.places import places
    from vitprof.protocols import protocol
    from vitprof.report.progress import progress_for

    options.check_writable(json)
    options.check_at_least("--threads", threads, 1)
    progress = progress_for(sys.stderr)
    try:
        calibrated = calibrate(
            name,
            options.names_from_list(backend),
            places(),
            progress,
            protocol=protocol(effort),
            precision=precision,
            threads=threads,
        )
    finally:
        progress.close()
    for trouble in calibrated.troubles:
        options.say(trouble.message, trouble.remedy)
    if json:
        from vitprof.report.document import document_from_calibrations, json_text

        options.write_text(json, json_text(document_from_calibrations(calibrated.calibrations)))
    if str(json) == "-":
        # Standard output is a program's now: a person reads of failures on the other stream.
        for failure in (one.failure for one in calibrated.calibrations if one.failure):
            options.say(failure.error, failure.remedy)
    else:
        from rich.console import Console

        from vitprof.report.terminal import show_calibrations

        show_calibrations(calibrated.calibrations, Console())
    return int(worst(set(calibrated.exit_codes)))


app.command("serve")(serve.serve)
