"""What a device behind SSH needs to run: an environment with the runtimes of its profile, and room for what is sent.

Its own file because which packages a backend takes there stands here and nowhere else. `devices setup` makes the
environment, in the device's cache and under a hash of what is in it; a transport only looks for it.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vitprof.devices.shipping import DEFAULT_CAP_BYTES, Kept, Parcels
from vitprof.devices.site import Site, sent
from vitprof.errors import UnreachableError, UsageError
from vitprof.records import Device

_KEY_DIGITS = 16
# pip fetches and unpacks gigabytes for torch, on a slow card.
_MAKING_S = 3600.0
_REFERENCE_PACKAGES = ("onnxruntime",)
_NVIDIA = ("cuda-python", "nvidia-ml-py")
_TORCH = ("torch", "torchvision", "timm")
# What pip is asked for; each brings what it needs itself.
_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "ort": ("onnxruntime",),
    "torch": _TORCH,
    "compile": _TORCH,
    "openvino": ("openvino",),
    "litert": ("ai-edge-litert",),
    "litert-gpu": ("ai-edge-litert",),
    # Its 9.0 fails on what numpy 2.4 made an error.
    "coreml": ("coremltools", "numpy<2.4"),
    "trt": ("tensorrt", *_NVIDIA),
    "trt-rtx": ("tensorrt-rtx", *_NVIDIA),
}


@dataclass(frozen=True)
class Environment:
    """The environment that a device's profile asks for; `python`: its interpreter where it is there already."""

    device: Device
    requirements: tuple[str, ...]
    root: str
    python: str | None


def requirements_of(device: Device) -> tuple[str, ...]:
    """What pip is asked for: what the profile says, else its backends' packages, in the versions that are used here."""
    if device.requirements:
        return device.requirements
    is_gpu = device.kind == "gpu"
    packages = [name for backend in device.backends for name in _PACKAGES.get(backend, ())]
    if is_gpu:
        # The same module under another name: the one with CUDA. Clocks and heat of the GPU come from its driver.
        packages = [{"onnxruntime": "onnxruntime-gpu"}.get(name, name) for name in packages] + ["nvidia-ml-py"]
    else:
        # The reference cell, which runs beside every cell of a processor.
        packages = [*_REFERENCE_PACKAGES, *packages]
    return tuple(_pinned(name) for name in dict.fromkeys(packages))


def interpreter(site: Site) -> str:
    """The device's path of the interpreter for runners; `UnreachableError` with what to type where there is none."""
    device = site.device
    key = _key(requirements_of(device))
    path = site.ask(lambda keeper: keeper.asked("interpreter", named=device.python, key=key))["path"]
    if path is None and device.python is not None:
        raise UnreachableError(
            f"device '{device.name}' at {device.host}: there is no program {device.python!r}, its profile's `python`",
            remedy="mend the profile, or leave `python` out and type: " + _command(device),
            stage="device",
        )
    if path is None:
        raise UnreachableError(
            f"device '{device.name}' at {device.host} has no environment with {', '.join(requirements_of(device))} yet",
            remedy=_command(device),
            stage="device",
        )
    return str(path)


def wanted(site: Site) -> Environment:
    """What `made` would make; `UsageError` where the profile names an interpreter of its own."""
    device = site.device
    if device.python is not None:
        raise UsageError(
            f"the profile of '{device.name}' names an interpreter of its own, {device.python}: none is made there",
            remedy=f"install there: {', '.join(requirements_of(device))}; or leave `python` out of the profile",
            stage="setup",
        )
    requirements = requirements_of(device)
    path = site.ask(lambda keeper: keeper.asked("interpreter", named=None, key=_key(requirements)))["path"]
    return Environment(device, requirements, str(site.facts["root"]), None if path is None else str(path))


def made(site: Site, one: Environment, wheels: Path | None) -> str:
    """The device's path of the environment's interpreter; what pip says there goes to standard error.

    `wheels`: a folder of the host with all that is needed, for a device without internet.
    """
    folder = None
    if wheels is not None:
        parcels = Parcels()
        try:
            folder = sent(site, parcels, str(wheels))
        finally:
            parcels.close()
    key, requirements = _key(one.requirements), one.requirements
    answer = site.ask(lambda keeper: keeper.asked("make", _MAKING_S, key=key, requirements=requirements, wheels=folder))
    return str(answer["path"])


def check_wheels(folder: Path) -> None:
    """`UsageError` for a folder without wheels."""
    if not any(folder.glob("*.whl")):
        raise UsageError(
            f"there is no wheel in {folder}",
            remedy=f"pip download -d {folder} --only-binary=:all: --platform … --python-version … PACKAGES",
            stage="setup",
        )


def kept(site: Site) -> tuple[Kept, ...]:
    """What the device's cache holds, the one used last first."""
    return site.ask(lambda keeper: keeper.kept())


def cleaned(site: Site, *, everything: bool, cap_bytes: int = DEFAULT_CAP_BYTES) -> tuple[tuple[str, ...], int]:
    """(names, bytes) of what was removed there: files beyond the cap, longest unused first; or all of it."""
    answer = site.ask(lambda keeper: keeper.asked("clean", cap_bytes=cap_bytes, everything=everything))
    return tuple(map(str, answer["removed"])), int(answer["bytes"])


def remedy(device: Device, error: str) -> str | None:
    """What to type here for a runner's failure there, where its own advice is meant for that machine."""
    if "cannot be imported" in error:
        if device.python is not None:
            return f"install it for {device.python} there"
        return (
            f"name it in `requirements` of the profile, then: {_command(device)}"
            if device.requirements
            else _command(device)
        )
    if "no space" in error.lower():
        return f"free some there: vitprof devices clean {shlex.quote(device.name)} --all"
    return None


def _key(requirements: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(requirements)).encode()).hexdigest()[:_KEY_DIGITS]


def _pinned(name: str) -> str:
    """`onnxruntime==1.31.1`, without the `+cpu` of a build; as it is where it has a bound, or is not installed here."""
    if "<" in name:
        return name
    try:
        return f"{name}=={version(name).partition('+')[0]}"
    except PackageNotFoundError:
        return name


def _command(device: Device) -> str:
    return f"vitprof devices setup {shlex.quote(device.name)}"
