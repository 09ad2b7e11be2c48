"""Packages of a Debian release, of any processor, fetched and unpacked beside the host's own and never installed.

Its own file because it is all that vitprof knows of apt: an emulated board is made of such packages. apt resolves what
they need and checks the archive's signatures; it works in folders of its own, so the host's lists, sources and
installed packages stay as they are. No package's script is run. No root is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from vitprof.errors import UnreachableError, VitprofError

# Which mirror to use where the host's apt names none, such as on Ubuntu.
MIRROR_VARIABLE = "VITPROF_DEBIAN_MIRROR"
# What a host calls the releases in its sources; any of them lies on a mirror that has the others too.
_RELEASES = frozenset(
    ("bullseye", "bookworm", "trixie", "forky", "sid", "oldoldstable", "oldstable", "stable", "testing", "unstable")
)
_KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{ending}") for ending in ("pgp", "gpg"))
_TAIL_LINES = 3


def check_host() -> None:
    """`UnreachableError` where this machine cannot fetch packages of Debian."""
    for program, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("tar", "tar")):
        if shutil.which(program) is None:
            raise UnreachableError(
                f"an emulated board is made of Debian's packages, and this machine has no {program}",
                remedy=f"run it on Debian or Ubuntu, or in a container of theirs (package {package})",
                stage="setup",
            )
    if keyring() is None:
        raise UnreachableError(
            f"the keys of Debian's archive are missing: no {_KEYRINGS[-1]}",
            remedy="sudo apt install debian-archive-keyring",
            stage="setup",
        )
    mirror()


def keyring() -> Path | None:
    return next((path for path in _KEYRINGS if path.is_file()), None)


def mirror() -> str:
    """The address of a Debian archive: what VITPROF_DEBIAN_MIRROR says, else the one that the host's apt uses.

    `UnreachableError` where neither names one.
    """
    named = os.environ.get(MIRROR_VARIABLE)
    if named:
        return named
    sources = _said(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"])
    for line in sources.splitlines():
        release, _, address = line.partition(" ")
        if release in _RELEASES and "://" in address:
            return address
    raise UnreachableError(
        "the host's apt has no Debian release among its sources, so no mirror of Debian is known",
        remedy=f"name one in the environment: {MIRROR_VARIABLE}=URL",
        stage="setup",
    )


def fetch(packages: Sequence[str], release: str, architecture: str, work: Path) -> tuple[Path, ...]:
    """The .deb files of `packages` and of all that they need, fetched into `work`; `VitprofError` where that fails."""
    for part in ("lists/partial", "archives/partial"):
        (work / part).mkdir(parents=True, exist_ok=True)
    # Nothing is installed there, so everything that a package needs comes with it.
    (work / "status").touch()
    sources = work / "sources.list"
    sources.write_text(f"deb [signed-by={keyring()}] {mirror()} {release} main\n", encoding="utf-8")
    options = {
        "Dir::Etc::sourcelist": str(sources),
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
        "Dir::State": str(work),
        "Dir::State::status": str(work / "status"),
        "Dir::Cache": str(work),
        "Dir::Cache::archives": str(work / "archives"),
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "APT::Keep-Downloaded-Packages": "true",
        # Lists that could not be fetched are an error, not a warning.
        "APT::Update::Error-Mode": "any",
        "Debug::NoLocking": "true",
    }
    command = ["apt-get", "--quiet", *(word for item in options.items() for word in ("-o", f"{item[0]}={item[1]}"))]
    _said([*command, "update"])
    _said([*command, "--yes", "--download-only", "install", *packages])
    return tuple(sorted((work / "archives").glob("*.deb")))


def unpack(files: Sequence[Path], root: Path) -> None:
    """The contents of packages, as they would lie under `/`, put under `root`."""
    for folder in ("bin", "lib", "lib64", "sbin"):
        # As Debian has had it since 2023: packages of either kind meet in /usr.
        (root / "usr" / folder).mkdir(parents=True, exist_ok=True)
        if not (root / folder).is_symlink():
            (root / folder).symlink_to(f"usr/{folder}")
    for file in files:
        # Not `dpkg-deb --extract`, which puts a folder in the place of such a link.
        with tempfile.TemporaryFile() as content:
            _said(["dpkg-deb", "--fsys-tarfile", str(file)], into=content)
            content.seek(0)
            _said(["tar", "--extract", "--keep-directory-symlink", "--directory", str(root)], content)


def versions(files: Sequence[Path]) -> dict[str, str]:
    """By name the version of each package, as its file says it."""
    found = {}
    for file in files:
        name, version = _said(["dpkg-deb", "--show", "--showformat=${Package} ${Version}", str(file)]).split()
        found[name] = version
    return found


def _said(command: list[str], given: IO[bytes] | None = None, *, into: IO[bytes] | None = None) -> str:
    """What a program wrote to its standard output, unless that goes `into` a file; its input is `given`.

    `VitprofError` with its last words where it failed.
    """
    done = subprocess.run(
        command,
        stdin=given or subprocess.DEVNULL,
        stdout=into or subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    if done.returncode:
        words = " / ".join((done.stderr or done.stdout or "").strip().splitlines()[-_TAIL_LINES:])
        verb = command[-1] if command[-1] == "update" else "fetch" if command[0] == "apt-get" else "extract"
        raise VitprofError(
            f"{command[0]} could not {verb}: {words}",
            remedy="check the network, the host's apt sources and the free space, then run again",
            stage="setup",
        )
    return done.stdout or ""
