"""What a device says of itself when it is really asked, and what of it stands in the way of measuring there.

Its own file because `devices check` connects, which nothing else does without measuring.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vitprof.devices import lease, profiles, reach
from vitprof.measurements import Doubt
from vitprof.records import CheckedDevice, Device
from vitprof.runner.backends import BACKENDS

# Facts that have a place of their own in the answer.
_ELSEWHERE = ("runtimes", "held_by")


def check(device: Device, cache_root: Path) -> CheckedDevice:
    """What `device` answers; `UnreachableError` with what to type where it does not."""
    with reach.connected(device, cache_root) as transport:
        told = lease.look(device, transport, with_runtimes=True)
    runtimes = told.get("runtimes")
    held_by = told.get("held_by")
    return CheckedDevice(
        device=device,
        facts={name: value for name, value in told.items() if name not in _ELSEWHERE},
        runtimes=_of_device(device, runtimes) if isinstance(runtimes, Mapping) else {},
        held_by=str(held_by) if held_by else None,
        doubts=tuple(doubts_of(device, told)),
    )


def _of_device(device: Device, runtimes: Mapping[str, Any]) -> dict[str, str | None]:
    """By backend of the device the version there, None where it is not installed."""
    return {name: None if runtimes[name] is None else str(runtimes[name]) for name in _asked(device, runtimes)}


def _asked(device: Device, runtimes: Mapping[str, Any]) -> list[str]:
    """Backends of the device that a runtime was looked for; not those that this machine's system never has."""
    is_here = reach.is_here(device)
    return [name for name in device.backends if name in runtimes and (not is_here or reach.can_run_here(name))]


def doubts_of(device: Device, told: Mapping[str, Any]) -> Iterator[Doubt]:
    """What of a device's answer stands in the way of measuring there, each with what to type."""
    if told.get("held_by"):
        yield Doubt("in use", f"{told['held_by']}", "wait until it is free, or end that process")
    yield from lease.not_ready(device, lease.unready(device.ready, told))
    yield from lease.of_processor(device, told)
    yield from _of_gpus(device, told.get("gpus"))
    if told.get("governor") not in (None, "performance"):
        detail = f"the governor '{told['governor']}' changes the clock while it is measured"
        yield Doubt("governor", detail, "there: sudo cpupower frequency-set -g performance")
    yield from _of_runtimes(device, told.get("runtimes"))


def _of_gpus(device: Device, gpus: object) -> Iterator[Doubt]:
    if device.kind != profiles.Kind.GPU or device.match is None or not isinstance(gpus, (list, tuple)):
        return
    names = [str(name) for name in gpus]
    found = [index for index, name in enumerate(names) if re.search(rf"\b{re.escape(device.match)}\b", name)]
    if not found:
        there = ", ".join(names) or "none"
        yield Doubt("no such GPU", f"no '{device.match}' among its GPUs: {there}", "mend 'host' in its profile")
    elif found[0] and not reach.is_here(device) and not any("device" in one for one in device.options.values()):
        remedy = f'for each backend, write in its profile: [options.{device.backends[0]}] device = "cuda:{found[0]}"'
        yield Doubt("no such GPU", f"its first GPU, which is used, is {names[0]}; number {found[0]} is meant", remedy)


def _of_runtimes(device: Device, runtimes: object) -> Iterator[Doubt]:
    if not isinstance(runtimes, Mapping):
        return
    for name in _asked(device, runtimes):
        if runtimes[name] is not None:
            continue
        yield Doubt(
            "runtime missing", f"backend '{name}' has no {BACKENDS[name].requires} there", _install(device, name)
        )


def _install(device: Device, backend: str) -> str:
    if reach.is_here(device):
        return BACKENDS[backend].install
    if device.transport == "ssh" and device.python is not None:
        return f"install it there for {device.python}, which the profile names"
    if device.transport == "ssh" and device.requirements:
        return f"name it in 'requirements' of the profile, then: vitprof devices setup {shlex.quote(device.name)}"
    return f"vitprof devices setup {shlex.quote(device.name)}"
