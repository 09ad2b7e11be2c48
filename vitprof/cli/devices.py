"""`vitprof devices`: the device profiles and whether each can be measured on."""

from __future__ import annotations

from typing import Annotated

import typer

from vitprof.cli import options

app = typer.Typer(help="List and show device profiles.", no_args_is_help=True, rich_markup_mode=None)


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
    from vitprof.report.terminal import show_device as show

    device = profiles.device(name, device_file)
    missing = None
    try:
        reach.check_reachable(device)
    except UnreachableError as error:
        missing = f"{error.message}; {error.remedy}"
    show(device, missing, Console())
