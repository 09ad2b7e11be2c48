"""Environments of their own, in the cache, for packages that collide with vitprof's: `vitprof setup NAME` makes one.

    <cache>/environments/<name>-<hash of what is in it>/    a virtual environment; it appears whole, by one rename

Its own file because the pins of such packages stand here and nowhere else. Who needs one asks `python_of` for its
interpreter and starts a program with it; nothing of an environment is ever imported into this process.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vitprof.errors import UnreachableError, UsageError, VitprofError
from vitprof.folders import made_whole


@dataclass(frozen=True)
class Environment:
    """What is installed, beside a torch like vitprof's own, and what for."""

    name: str
    purpose: str
    packages: tuple[str, ...]
    disk: str
    # The artifact format that is made in it.
    format: str

    @property
    def pins(self) -> tuple[str, ...]:
        """All that pip is asked for. Programs of torch.export cross over, and those want the same torch."""
        return (*self.packages, f"torch=={_own_torch()}")

    @property
    def title(self) -> str:
        """`litert-torch 0.10.0`: the package that it is all about."""
        return self.packages[0].replace("==", " ")


ENVIRONMENTS: Mapping[str, Environment] = {
    one.name: one
    for one in (
        Environment(
            name="litert",
            purpose="export to LiteRT (.tflite)",
            # It pins typing_extensions and pydantic to versions that others here do not take. Pinned are those that the
            # file depends on, as they were tried together.
            packages=(
                *("litert-torch==0.10.0", "litert-converter==0.5.0", "ai-edge-litert==2.3.0"),
                *("ai-edge-quantizer==0.10.0", "jax==0.10.2", "jaxlib==0.10.2", "torchao==0.18.0"),
                *("transformers==5.23.0", "numpy==2.4.6"),
            ),
            disk="2 GB",
            format="litert",
        ),
    )
}


def environment(name: str) -> Environment:
    """The environment called `name`; `UsageError` where there is none."""
    if name not in ENVIRONMENTS:
        raise UsageError(f"unknown environment '{name}'", remedy=f"vitprof setup {' or '.join(ENVIRONMENTS)}")
    return ENVIRONMENTS[name]


def for_format(format: str) -> Environment | None:
    """The environment in which artifacts of `format` are made; None for those that vitprof's own makes."""
    return next((one for one in ENVIRONMENTS.values() if one.format == format), None)


def folder_of(one: Environment, cache_root: Path) -> Path:
    """Where it is, or would be: other pins or another Python are another folder."""
    content = "\n".join((platform.python_version(), *one.pins))
    return _root(cache_root) / f"{one.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def is_ready(one: Environment, cache_root: Path) -> bool:
    return _python_in(folder_of(one, cache_root)).exists()


def python_of(one: Environment, cache_root: Path) -> Path:
    """Its interpreter; `UnreachableError` where it is not set up."""
    if not is_ready(one, cache_root):
        raise UnreachableError(
            f"to {one.purpose}, {one.title} is needed, in an environment of its own that is not set up yet",
            remedy=f"vitprof setup {one.name}",
            stage="export",
        )
    return _python_in(folder_of(one, cache_root))


def set_up(one: Environment, cache_root: Path) -> Path:
    """Its folder, made now; what pip says goes to standard error. `VitprofError` where that fails."""
    folder = folder_of(one, cache_root)
    # A virtual environment may be moved once.
    with made_whole(folder, "setup") as making:
        run_shown([sys.executable, "-m", "venv", str(making)], "sudo apt install python3-venv (Debian, Ubuntu)")
        pip = [str(_python_in(making)), "-m", "pip", "install", "--disable-pip-version-check", *one.pins]
        run_shown(pip, "check the network and the free space, then run again")
        # Asked for anew, it takes the place of what was there.
        shutil.rmtree(folder, ignore_errors=True)
    return folder


def remove(one: Environment, cache_root: Path) -> tuple[Path, ...]:
    """The folders that were removed: those of older pins too."""
    found = tuple(sorted(_root(cache_root).glob(f"{one.name}-*")))
    for folder in found:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def clean_variables() -> dict[str, str]:
    """The process's environment variables without those by which another Python would find this one's packages."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def run_shown(command: list[str], remedy: str) -> None:
    """Runs a program of a set-up, what it says on standard error; `VitprofError` with `remedy` where it fails."""
    done = subprocess.run(command, stdout=sys.stderr, env=clean_variables(), check=False)
    if done.returncode:
        words = " ".join(command[:4])
        raise VitprofError(f"`{words} …` ended with status {done.returncode}", remedy=remedy, stage="setup")


def _root(cache_root: Path) -> Path:
    return cache_root / "environments"


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _own_torch() -> str:
    """Without the `+cpu` of a build: pip takes whichever build its index has."""
    try:
        return version("torch").partition("+")[0]
    except PackageNotFoundError:
        return "2.13.0"
