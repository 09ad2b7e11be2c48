"""A real adbd for tests: Debian's own, with Android's shell (mksh) and commands (toybox), in a root of its own.

Made once, by apt into a private folder, without touching the machine's packages, and kept in the cache of the tests.
It runs in name spaces of its own: its port is reachable from nowhere else, its processes are all that its `ps` lists,
and they end with it. The client is Debian's of the same version; it talks to its server by a file, not by a port.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.devices.aarch64 import _MAGIC, _MASK, cache_root
from vitprof.devices import debian, emulation
from vitprof.errors import VitprofError

# Older ones have no adbd.
_RELEASE = "trixie"
SERIAL = "127.0.0.1:15555"
# As on a phone: adbd is started anew when it dies, and what runs there does not die with it.
_INSIDE = r"""
ip link set lo up
if [ -n "$4" ]; then
  mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  printf %s "$4" >/proc/sys/fs/binfmt_misc/register
fi
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount --rbind /sys "$1/sys"
"$2" -L "localfilesystem:$3" nodaemon server >"$3.log" 2>&1 &
while :; do
  chroot "$1" /usr/bin/env -i ADBD_PORT=15555 PATH=/usr/bin HOME=/data/local/tmp \
    /usr/lib/android-sdk/platform-tools/adbd || true
  sleep 0.2
done
"""


@dataclass(frozen=True)
class Phone:
    """A running adbd. `root`: its file system, as this side sees it."""

    root: Path
    adb: Path
    pid: int

    @property
    def folder(self) -> Path:
        return self.root / "data/local/tmp/vitprof"

    def shell(self, *words: str) -> str:
        """What a command prints there, asked without vitprof."""
        command = [self.adb, "-s", SERIAL, "shell", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout

    def processes(self) -> str:
        return self.shell("ps", "-A", "-o", "PID,ARGS")

    def cut(self) -> None:
        """Kills adbd; it comes back after a moment, as on a phone."""
        first = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0]
        inside = Path(f"/proc/{first}/ns/pid").readlink()
        # From outside: adbd cannot tell of its own death.
        for status in Path("/proc").glob("[0-9]*/comm"):
            with contextlib.suppress(OSError):
                if status.read_text().strip() == "adbd" and (status.parent / "ns/pid").readlink() == inside:
                    os.kill(int(status.parent.name), signal.SIGKILL)

    def wait(self) -> None:
        """Until it is attached again."""
        for _ in range(100):
            subprocess.run([self.adb, "connect", SERIAL], capture_output=True, timeout=20, check=False)
            if self.shell("echo", "there").strip() == "there":
                return
            time.sleep(0.1)
        raise AssertionError("adbd did not come back")


def android_root(architecture: str) -> Path:
    """A folder with `root` and `client`, for arm64 with `qemu-aarch64`; made if need be, skips where it cannot be."""
    folder = cache_root() / f"android-{architecture}-1"
    if not folder.is_dir():
        making = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        try:
            _make(making, architecture)
            making.rename(folder)
        except (VitprofError, OSError) as error:
            pytest.skip(f"no adbd of Debian can be had here: {error}")
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return folder


def _make(folder: Path, architecture: str) -> None:
    root, emulator = folder / "root", []
    for packages, place, processor in (
        (("adbd", "mksh", "toybox"), root, architecture),
        (("adb",), folder / "client", "amd64"),
    ):
        place.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as work:
            debian.unpack(debian.fetch(packages, _RELEASE, processor, Path(work)), place)
    if architecture == "arm64":
        emulation.make_qemu(folder / "qemu-aarch64")
        emulator = [folder / "qemu-aarch64", "-L", root]
    for name in ("proc", "dev", "sys", "tmp", "data/local/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(root / "usr/bin/mksh", root / "usr/bin/sh")
    listed = subprocess.run([*emulator, root / "usr/bin/toybox"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if not (root / "usr/bin" / name).exists():
            (root / "usr/bin" / name).symlink_to("toybox")


@contextmanager
def running_phone(folder: Path, architecture: str = "amd64") -> Iterator[Phone]:
    """A phone whose files are `folder`'s own; the client of the environment is its own as long as this lasts."""
    made = android_root(architecture)
    root = folder / "root"
    shutil.copytree(made / "root", root, symlinks=True, copy_function=_linked)
    adb = _client(made / "client", folder)
    socket = folder / "adb.socket"
    (folder / "home/.android").mkdir(parents=True)
    before = {name: os.environ.get(name) for name in ("PATH", "ADB_SERVER_SOCKET")}
    rule = b":qemu-aarch64:M::" + _MAGIC + b":" + _MASK + b":" + str(made / "qemu-aarch64").encode() + b":POCF"
    words = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    process = subprocess.Popen(
        [*words, "sh", "-ec", _INSIDE, "sh", root, adb, socket, rule if architecture == "arm64" else ""],
        # Where the client's server keeps its keys.
        env={**os.environ, "HOME": str(folder / "home"), "QEMU_CPU": emulation.CPU},
        stdout=subprocess.DEVNULL,
        stderr=(folder / "adbd.log").open("wb"),
        start_new_session=True,
    )
    os.environ["ADB_SERVER_SOCKET"] = f"localfilesystem:{socket}"
    os.environ["PATH"] = f"{adb.parent}:{before['PATH']}"
    try:
        for _ in range(100):
            if socket.exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        if process.poll() is not None:
            pytest.skip(f"no name spaces for adbd here: {(folder / 'adbd.log').read_text()[-200:]}")
        phone = Phone(root, adb, process.pid)
        phone.wait()
        yield phone
    finally:
        # Of the first process of its name space, which takes all others with it.
        process.kill()
        process.wait()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _client(root: Path, folder: Path) -> Path:
    """The root's own client as a program of this machine."""
    library = next((root / "usr/lib").glob("*-linux-gnu"))
    loader = next((root / "usr/lib64").glob("ld-linux*"), None) or next((root / "usr/lib").glob("ld-linux*"))
    client = folder / "bin/adb"
    client.parent.mkdir(parents=True)
    path = f"{library}:{library}/android"
    client.write_text(
        f'#!/bin/sh\nexec {loader} --library-path {path} {root}/usr/lib/android-sdk/platform-tools/adb "$@"\n'
    )
    client.chmod(0o755)
    return client


def _linked(source: str, target: str) -> None:
    """Nobody writes into the root's own files: one copy serves every phone, where it lies on the same disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
