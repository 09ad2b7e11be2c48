"""From a device's name to a transport that measures there, or the one line that says what is missing.

This is the seam that a new transport joins: one function and one line in `_TRANSPORTS`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from vitprof.devices import profiles
from vitprof.devices.transports import Transport
from vitprof.errors import UnreachableError, UsageError
from vitprof.measurements import Region
from vitprof.records import Device, Precision
from vitprof.runner.backends import BACKENDS, litert_gpu
from vitprof.runner.wire import Option


def _local(device: Device, cache_root: Path) -> Transport:
    from vitprof.devices.transports.local import LocalTransport

    return LocalTransport(cache_root)


def _emulated(device: Device, cache_root: Path) -> Transport:
    from vitprof.devices import emulation
    from vitprof.devices.transports.emulated import EmulatedTransport

    return EmulatedTransport(emulation.board(device, cache_root), cache_root)


def _browser(device: Device, cache_root: Path) -> Transport:
    from vitprof.devices.transports.browser import BrowserTransport

    return BrowserTransport(device)


def _ssh(device: Device, cache_root: Path) -> Transport:
    from vitprof.devices.transports.ssh import SshTransport

    return SshTransport(device, cache_root)


def _adb(device: Device, cache_root: Path) -> Transport:
    from vitprof.devices.transports.adb import AdbTransport

    return AdbTransport(device)


_TRANSPORTS: Mapping[str, Callable[[Device, Path], Transport]] = {
    "local": _local,
    "adb": _adb,
    "ssh": _ssh,
    "browser": _browser,
    "emulated": _emulated,
}
_NVIDIA_SMI_TIMEOUT_S = 10
# What the firmware calls the board, on ARM.
_BOARD = Path("/proc/device-tree/model")
# What runs there is timed by a tool of its own, in the region that is that tool's.
_OWN_REGION = ("adb", "browser")
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
    lacking = [name for name in backends if name in BACKENDS and not offers(device, name)]
    every = profiles.devices() if lacking else ()
    offering = [one for one in every if all(offers(one, name) for name in backends)]
    if device.name != "local" or not offering:
        return device
    reachable = [one for one in offering if is_reachable(one) is not False]
    if len(reachable) == 1:
        return reachable[0]
    names = ", ".join(one.name for one in reachable or offering)
    # A phone takes more than a name: what needs none is proposed first.
    first = min(reachable or offering, key=lambda one: one.kind == profiles.Kind.MOBILE_GPU)
    which = "several reachable devices offer it" if reachable else "no reachable device offers it; known ones that do"
    raise UnreachableError(
        f"this machine's processor has no backend '{lacking[0]}', and {which}: {names}",
        remedy=f"choose one: --device {first.name} (vitprof devices show {first.name} says what it needs)",
        stage="device",
    )


def offers(device: Device, backend: str) -> bool:
    """Whether `device` has `backend`; `local` has none that its system has no runtime for."""
    return backend in device.backends and (device.transport != "local" or can_run_here(backend))


def can_run_here(backend: str) -> bool:
    """Whether this system is one that the runtime of `backend` is made for."""
    return sys.platform == "darwin" or not BACKENDS[backend].needs_macos


def options_of(device: Device, backend: str) -> dict[str, Option]:
    """How a runner of `backend` is told where to run and how: what the profile says, and which GPU it is."""
    options = dict(device.options.get(backend, {}))
    if device.kind == "gpu" and (backend in _ANYWHERE or BACKENDS[backend].needs_nvidia):
        options.setdefault("device", f"cuda:{gpu_index(device) or 0}")
    if device.cores:
        options.setdefault("cores", device.cores)
    return options


def gpu_index(device: Device) -> int | None:
    """Which of this machine's NVIDIA GPUs `device` is; None where it is none of them, or in a host that it names."""
    if device.match is None or device.host is not None:
        return None
    # Whole words: an RTX A1000 is no A100.
    wanted = re.compile(rf"\b{re.escape(device.match)}\b")
    found = [index for index, name in enumerate(accelerators()) if wanted.search(name)]
    visible = [one.strip() for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
    if not found or not visible:
        return next(iter(found), None)
    # What CUDA_VISIBLE_DEVICES leaves is numbered anew; it may give other names than numbers, which only CUDA knows.
    if not all(one.isdigit() for one in visible):
        return 0
    return next((place for place, one in enumerate(visible) if int(one) in found), None)


def check_reachable(device: Device) -> None:
    """`UnreachableError` with what to write where, unless `device` can be measured on, or connecting alone can tell.

    Quick: nothing is asked over a network.
    """
    if is_here(device):
        return
    _CHECKS[device.transport](device)


def is_reachable(device: Device) -> bool | None:
    """Whether `device` can be measured on; None where nothing is missing here and only connecting can tell."""
    try:
        check_reachable(device)
    except UnreachableError:
        return False
    return True if is_here(device) or device.transport in _NO_NETWORK else None


def _check_host(device: Device) -> None:
    """A device of transport ssh: no host, no device."""
    if device.host is not None:
        return
    looked = f"no {device.chip} in this machine and " if device.match else ""
    own, host = own_profile(device), 'host = "user@server" (or a name from ~/.ssh/config)'
    if own.is_file():
        remedy = f"add to {own}: {host}"
    elif not (profiles.shipped_folder() / own.name).is_file():
        remedy = f"add to its profile: {host}"
    else:
        remedy = f'write {own} with these lines: extends = "{device.name}" and {host}'
    raise UnreachableError(f"device '{device.name}': {looked}no host named for it", remedy=remedy, stage="device")


def _check_page(device: Device) -> None:
    """A device of transport browser: a page must be open, which the server on this machine knows."""
    from vitprof.devices.transports.browser import page_of

    page_of(device)


def _check_set_up(device: Device) -> None:
    """An emulated device: it must have been made."""
    from vitprof.devices import emulation
    from vitprof.places import places

    emulation.board(device, places().cache_root)


def own_profile(device: Device) -> Path:
    """Where the user's own profile of that name lies, or is to be written."""
    return profiles.user_folder() / f"{device.name}.toml"


def _check_adb(device: Device) -> None:
    from vitprof.devices.transports import adb

    adb.check(device)


# What is missing here, before anything is asked over a network: a name, a program, a set-up.
_CHECKS: Mapping[str, Callable[[Device], None]] = {
    "adb": _check_adb,
    "ssh": _check_host,
    "browser": _check_page,
    "emulated": _check_set_up,
}
# Of these a check says all.
_NO_NETWORK = ("local", "browser", "emulated")


def check_times_count(device: Device) -> None:
    """`UsageError` for an emulated device: its times say nothing of a board, so nothing is concluded from them."""
    if device.kind == profiles.Kind.EMULATED:
        raise UsageError(
            f"device '{device.name}' is emulated: its times are compared with none and shared out among no layers",
            remedy=f"count instructions: vitprof latency MODEL --device {device.name} --metric instructions",
            stage="device",
        )


def check_backend(name: str, device: Device) -> None:
    """`UsageError` unless `name` is a backend that `device` offers."""
    offered = [one for one in device.backends if one in BACKENDS]
    if name not in offered:
        what = f"device '{device.name}' has no" if name in BACKENDS else "unknown"
        raise UsageError(
            f"{what} backend '{name}'; {device.name} offers: {', '.join(offered)}",
            remedy=f"use --backend {offered[0]}" if offered else "choose another --device",
            stage="backend",
        )


def check_precision(name: str, precision: Precision) -> None:
    """`UsageError` with what backend `name` computes in, unless `precision` is among it."""
    offered = BACKENDS[name].precisions
    if precision not in offered:
        raise UsageError(
            f"backend '{name}' does not compute in {precision}; it has {', '.join(offered)}",
            remedy=f"use --precision {offered[0]}, or another --backend",
            stage="backend",
        )


def check_region(name: str, device: Device, region: str) -> None:
    """`UsageError` unless backend `name` can be timed in `region` on `device`."""
    is_timed_by_us = device.transport not in _OWN_REGION and not device.is_on_cable
    if region == Region.CALL or (BACKENDS[name].has_e2e and is_timed_by_us):
        return
    raise UsageError(
        f"backend '{name}' on device '{device.name}' cannot be timed from host memory to host memory",
        remedy="leave out --region",
        stage="backend",
    )


def check_installed(name: str, device: Device) -> None:
    """`UnreachableError` where `device` is this machine and the runtime of backend `name` is not installed in it."""
    entry = BACKENDS[name]
    if is_here(device) and not can_run_here(name):
        raise UnreachableError(
            f"backend '{name}' runs on macOS only, and this machine runs {platform.system()}",
            remedy='name a Mac: --device macbook-m2 with host = "user@mac" in its profile; without one, '
            "vitprof export MODEL --to coreml and Xcode measure an iPhone (docs/iphone.md)",
            stage="backend",
        )
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


def _jetson(board: Path) -> tuple[str, ...]:
    """The GPU of a Jetson by the name of its board: most of their systems have no nvidia-smi."""
    try:
        name = board.read_text(errors="replace").strip("\0 \n")
    except OSError:
        return ()
    return (name,) if "NVIDIA" in name else ()


@cache
def accelerators() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs in this machine, as their driver gives them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return _jetson(_BOARD)
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip()) if done.returncode == 0 else ()
