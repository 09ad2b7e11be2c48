"""`vitprof devices setup` and `devices clean`: what a device needs, made there, and what it keeps, freed there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitprof.cli import options, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vitprof.devices.shipping import Kept
    from vitprof.devices.transports.adb_files import KeptFile
    from vitprof.records import Device

Name = Annotated[str, typer.Argument(help="A name from: vitprof devices list.", show_default=False)]


def setup_device(
    name: Name,
    device_file: options.DeviceFile = None,
    wheels: Annotated[
        Path | None,
        typer.Option(
            "--wheels", help="A folder with all wheels, for a device without internet (ssh).", show_default=False
        ),
    ] = None,
) -> None:
    """Install what a device needs to be measured on: says first what and where, then does it."""
    from vitprof.devices import profiles
    from vitprof.errors import UsageError

    device = profiles.device(name, device_file)
    if wheels is not None and device.transport != "ssh":
        raise UsageError(
            f"--wheels is for devices reached by ssh; '{name}' is reached by {device.transport}", remedy="leave it out"
        )
    _check_elsewhere(device)
    if device.transport == "ssh":
        _set_up_there(device, wheels)
    elif device.transport == "emulated":
        _set_up_emulated(device)
    elif device.transport == "browser":
        serve.fetched_runtime(None)
    else:
        raise UsageError(
            f"there is nothing to set up for '{name}': it is reached by {device.transport}",
            remedy=f"vitprof devices show {name} says what is missing",
        )


def clean_device(
    name: Name,
    device_file: options.DeviceFile = None,
    everything: Annotated[bool, typer.Option("--all", help="All of it, environments too.")] = False,
) -> None:
    """Show what a device keeps of vitprof's, and free what is beyond 5 GB, the files not used for longest first."""
    from vitprof.devices import profiles, reach, setup
    from vitprof.devices.site import connected
    from vitprof.errors import UsageError

    device = profiles.device(name, device_file)
    if device.transport == "emulated":
        _clean_emulated(device, everything=everything)
        return
    if device.transport == "adb":
        _clean_phone(device, everything=everything)
        return
    if device.transport != "ssh":
        where = "is this machine" if device.transport == "local" else f"is reached by {device.transport}"
        raise UsageError(
            f"nothing is kept on '{device.name}', which {where}", remedy="free the cache here: vitprof cache clear"
        )
    _check_elsewhere(device)
    reach.check_reachable(device)
    with connected(device) as site:
        kept = setup.kept(site)
        typer.echo(_text_from_kept(site.device, str(site.facts["root"]), kept))
        removed, freed = setup.cleaned(site, everything=everything)
    typer.echo(_text_from_removed(removed, freed, everything=everything))


def _check_elsewhere(device: Device) -> None:
    """`UsageError` for a device that is in this machine."""
    from vitprof.devices import reach
    from vitprof.errors import UsageError

    if reach.is_here(device):
        raise UsageError(
            f"'{device.name}' is in this machine, which uses vitprof's own environment", remedy="vitprof doctor"
        )


def _set_up_there(device: Device, wheels: Path | None) -> None:
    from vitprof.devices import reach, setup
    from vitprof.devices.site import connected

    if wheels is not None:
        setup.check_wheels(wheels)
    reach.check_reachable(device)
    with connected(device, _show) as site:
        one = setup.wanted(site)
        if one.python is None:
            # Before anything is fetched, so that it can be stopped.
            typer.echo(f"{device.name} ({device.host}): installs {', '.join(one.requirements)} and what they need")
            typer.echo(f"  into     {one.root}/environments")
            python = setup.made(site, one, wheels)
        else:
            python = one.python
    typer.echo(f"{device.name} is set up: {python}")


def _show(said: str) -> None:
    """What pip says there: for whoever waits here, and none of our own data."""
    from vitprof.report.outside import plain

    for line in filter(None, map(plain, said.splitlines())):
        typer.echo(line, err=True)


def _set_up_emulated(device: Device) -> None:
    from vitprof.devices import emulation
    from vitprof.places import places

    cache_root = places().cache_root
    announcement = emulation.announcement(device, cache_root)
    if announcement:
        typer.echo(announcement)
    folders = emulation.set_up(device, cache_root)
    typer.echo(f"{device.name} is set up: {', '.join(map(str, folders))}")
    if lacking := emulation.lacking(device, cache_root):
        typer.echo(lacking)


def _clean_emulated(device: Device, *, everything: bool) -> None:
    from vitprof.devices import emulation
    from vitprof.places import places

    removed = emulation.remove(places().cache_root, everything=everything)
    typer.echo("\n".join(f"removed {folder}" for folder in removed) or f"nothing removed of {device.name}")


def _clean_phone(device: Device, *, everything: bool) -> None:
    from vitprof.devices import lease
    from vitprof.devices.transports import adb_files
    from vitprof.devices.transports.adb import AdbTransport
    from vitprof.errors import UnreachableError

    transport = AdbTransport(device)
    try:
        held_by = lease.look(device, transport).get("held_by")
        if held_by:
            raise UnreachableError(
                f"device '{device.name}' is in use {held_by}", remedy="wait until it is free", stage="device"
            )
        typer.echo(_text_from_kept(device, adb_files.FOLDER, adb_files.kept(transport.adb)))
        removed, freed = adb_files.cleaned(transport.adb, everything=everything)
    finally:
        transport.close()
    typer.echo(_text_from_removed(removed, freed, everything=everything))


def _text_from_kept(device: Device, root: str, kept: Sequence[Kept | KeptFile]) -> str:
    from vitprof.report.outside import plain
    from vitprof.units import text_from_bytes

    total = sum(one.bytes for one in kept)
    lines = [f"{device.name} keeps {text_from_bytes(total)} in {plain(root)}"]
    lines += [f"  {text_from_bytes(one.bytes):>9}  {plain(one.name)}" for one in kept]
    return "\n".join(lines)


def _text_from_removed(removed: Sequence[str], freed: int, *, everything: bool) -> str:
    from vitprof.units import text_from_bytes

    if not removed:
        return "nothing removed" + ("" if everything else ": files take less than 5 GB; with --all everything goes")
    count = len(removed)
    return f"removed {count} entr{'y' if count == 1 else 'ies'}, {text_from_bytes(freed)} freed"
