"""From a device's name to a transport that measures there, or the one line that says what is missing.

This is the seam that a new transport joins: one function and one line in `_TRANSPORTS`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from vitprof.devices import profiles
from vitprof.devices.transports import Transport
from vitprof.errors import UnreachableError, UsageError
from vitprof.records import Device
from vitprof.runner.backends import BACKENDS, litert_gpu
from vitprof.runner.wire import Option


def _local(device: Device, cache_root: Path) -> Transport:
    from vitprof.devices.transports.local import LocalTransport

    return LocalTransport(cache_root)


_TRANSPORTS: Mapping[str, Callable[[Device, Path], Transport]] = {"local": _local}
_NVIDIA_SMI_TIMEOUT_S = 10
# Backends that run on the processor unless they are told another device.
_ANYWHERE = ("torch", "compile", "ort")


@contextlib.contextmanager
def connected(device: Device, cache_root: Path) -> Iterator[Transport]:
    """A transport to `device` for as long as this lasts.

    `UnreachableError` where it is not here and nothing says where it is.
    """
    check_reachable(device)
    transport = _TRANSPORTS["local" if is_here(device) else device.transport](device, cache_root)
    try:
        yield transport
    finally:
        transport.close()


def is_here(device: Device) -> bool:
    """Whether `device` is this machine or a GPU in it."""
    return device.transport == "local" or gpu_index(device) is not None


def device_for(device: Device, backends: Sequence[str]) -> Device:
    """`device`; instead of `local` the only reachable device with all of `backends`, where `local` has not all.

    `UnreachableError` that names the devices where none or several are reachable.
    """
    lacking = [name for name in backends if name in BACKENDS and name not in device.backends]
    offering = [one for one in profiles.devices() if set(backends) <= set(one.backends)] if lacking else []
    if device.name != "local" or not offering:
        return device
    reachable = [one for one in offering if is_reachable(one)]
    if len(reachable) == 1:
        return reachable[0]
    names = ", ".join(one.name for one in reachable or offering)
    which = "several reachable devices offer it" if reachable else "no reachable device offers it; known ones that do"
    raise UnreachableError(
        f"this machine's processor has no backend '{lacking[0]}', and {which}: {names}",
        remedy=f"choose one: --device {(reachable or offering)[0].name} (its profile says what it needs)",
        stage="device",
    )


def options_of(device: Device, backend: str) -> dict[str, Option]:
    """How a runner of `backend` is told where to run and how: what the profile says, and which GPU it is."""
    options = dict(device.options.get(backend, {}))
    if device.kind == "gpu" and (backend in _ANYWHERE or BACKENDS[backend].needs_nvidia):
        options.setdefault("device", f"cuda:{gpu_index(device) or 0}")
    return options


def gpu_index(device: Device) -> int | None:
    """Which of this machine's NVIDIA GPUs `device` is; None where it is none of them."""
    # Whole words: an RTX A1000 is no A100.
    wanted = re.compile(rf"\b{re.escape(device.match or '')}\b")
    found = [index for index, name in enumerate(accelerators()) if device.match and wanted.search(name)]
    # What CUDA_VISIBLE_DEVICES leaves is numbered anew.
    return None if not found else 0 if os.environ.get("CUDA_VISIBLE_DEVICES") else found[0]


def check_reachable(device: Device) -> None:
    """`UnreachableError` with what to write where, unless `device` can be measured on."""
    if is_here(device):
        return
    profile = profiles.user_folder() / f"{device.name}.toml"
    if device.host is None:
        raise UnreachableError(
            f"device '{device.name}': no {device.chip} in this machine and no host named for it",
            remedy=f'copy its profile to {profile} and add the line: host = "user@server"',
            stage="device",
        )
    raise UnreachableError(
        f"device '{device.name}' at {device.host}: this version has no transport '{device.transport}'",
        remedy=f"install vitprof on that machine and run it there with --device {device.name}",
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
    if is_here(device) and entry.requires and importlib.util.find_spec(entry.requires) is None:
        raise UnreachableError(
            f"backend '{name}' needs the package {entry.requires}, which is not installed",
            remedy=entry.install,
            stage="backend",
        )
    if name == "litert-gpu" and device.transport == "local" and not litert_gpu.may_have_gpu():
        raise UnreachableError(
            "backend 'litert-gpu' needs a GPU, and this machine has none",
            remedy=litert_gpu.NO_GPU_REMEDY,
            stage="backend",
        )


@cache
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
