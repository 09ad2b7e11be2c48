"""From a device's name to a transport that measures there, or the one line that says what is missing.

This is the seam that a new transport joins: one line in `_TRANSPORTS`.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from vitprof.devices.profiles import user_folder
from vitprof.devices.transports import Transport
from vitprof.devices.transports.local import LocalTransport
from vitprof.errors import UnreachableError, UsageError
from vitprof.records import Device
from vitprof.runner.backends import BACKENDS

_TRANSPORTS: Mapping[str, Callable[[Path], Transport]] = {"local": LocalTransport}
_ACCELERATORS = ("gpu", "mobile-gpu")
_NVIDIA_SMI_TIMEOUT_S = 10


def transport_to(device: Device, cache_root: Path) -> Transport:
    """A transport to `device`; `UnreachableError` where it is not here and nothing says where it is."""
    check_reachable(device)
    return _TRANSPORTS[device.transport](cache_root)


def check_reachable(device: Device) -> None:
    """`UnreachableError` with what to write where, unless `device` can be measured on."""
    if device.transport == "local":
        return
    profile = user_folder() / f"{device.name}.toml"
    if device.match and any(device.match in name for name in accelerators()):
        raise UnreachableError(
            f"device '{device.name}' is in this machine, but this version has no backend that runs on a {device.kind}",
            remedy="measure the processor instead: --device local",
            stage="device",
        )
    if device.host is None:
        raise UnreachableError(
            f"device '{device.name}': no {device.chip} in this machine and no host named for it",
            remedy=f'copy its profile to {profile} and add the line: host = "user@server"',
            stage="device",
        )
    raise UnreachableError(
        f"device '{device.name}' at {device.host}: this version has no transport '{device.transport}'",
        remedy="install vitprof on that machine and run it there with --device local",
        stage="device",
    )


def is_reachable(device: Device) -> bool:
    try:
        check_reachable(device)
    except UnreachableError:
        return False
    return True


def check_backend(name: str, device: Device) -> None:
    """`UsageError` unless `name` is a backend that `device` offers."""
    offered = [one for one in device.backends if one in BACKENDS]
    if name not in offered:
        what = "has no" if name in BACKENDS else "unknown"
        raise UsageError(
            f"{what} backend '{name}' for device '{device.name}'; it offers: {', '.join(offered)}",
            remedy=f"use --backend {offered[0]}" if offered else "choose another --device",
            stage="backend",
        )


def check_installed(name: str, device: Device) -> None:
    """`UnreachableError` where `device` is this machine and the runtime of backend `name` is not installed in it."""
    entry = BACKENDS[name]
    if device.transport == "local" and entry.requires and importlib.util.find_spec(entry.requires) is None:
        raise UnreachableError(
            f"backend '{name}' needs the package {entry.requires}, which is not installed",
            remedy=entry.install,
            stage="backend",
        )


def accelerators() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs in this machine, as their driver gives them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip()) if done.returncode == 0 else ()
