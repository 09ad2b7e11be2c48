"""An emulated aarch64 machine for tests: a Debian root that a sshd can put its sessions into.

Made once, by apt and pip as `devices setup emulated-a72` makes its own, and kept in the cache of the tests. Whatever
runs there is emulated, children too: a private binfmt_misc, in a name space of its own, hands every program of aarch64
to QEMU. Nothing of the machine changes, and no root is needed where unprivileged name spaces are allowed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from vitprof.devices import emulation
from vitprof.errors import VitprofError
from vitprof.records import Device

DEVICE = Device("emulated-a72", "emulated", "Cortex-A72, emulated by QEMU", "emulated", ("ort",), threads=1)
_PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "zlib1g", "libgomp1", "dash", "coreutils")
# An ELF file of 64 bits, little-endian, executable or shared, for aarch64.
_MAGIC = rb"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# Below the shared folder: a line for each session of the sshd, when it began and ended.
SESSIONS = "sessions"
# Flag F keeps QEMU's file open, so that it need not be in the root.
_ENTER = r"""
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
printf %s "$BINFMT" > /proc/sys/fs/binfmt_misc/register
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount --rbind /sys "$ROOT/sys"
mkdir -p "$ROOT$SHARED"
mount --bind "$SHARED" "$ROOT$SHARED"
cd "$ROOT"
exec chroot "$ROOT" /usr/bin/env -u ROOT -u SHARED -u BINFMT /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""


def cache_root() -> Path:
    """Where set-ups of the tests are kept from run to run."""
    named = os.environ.get("VITPROF_TEST_CACHE")
    return Path(named) if named else user_cache_path("vitprof-tests")


def board_cache() -> Path:
    """A cache in which `emulated-a72` is set up, to count as well; skips where apt or pip reach nothing."""
    root = cache_root() / "emulated"
    try:
        emulation.set_up(DEVICE, root)
    except VitprofError as error:
        pytest.skip(f"the emulated board cannot be made here: {error.message}")
    if lacking := emulation.lacking(DEVICE, root):
        pytest.skip(lacking)
    return root


def machine() -> Path:
    """A folder with `root`, whose `/site` has ONNX Runtime, and `qemu-aarch64`; skips where it cannot be."""
    # Made of the same pins as the board.
    folder = cache_root() / f"aarch64-1-{emulation.folder_of(cache_root()).name[-12:]}"
    if not folder.is_dir():
        making = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        try:
            (making / "root").mkdir(parents=True)
            emulation.make_root(making / "root", _PACKAGES)
            emulation.make_site(making / "root/site")
            emulation.make_qemu(making / "qemu-aarch64")
            for name in ("proc", "dev", "sys", "tmp"):
                (making / "root" / name).mkdir(exist_ok=True)
            making.rename(folder)
        except VitprofError as error:
            pytest.skip(f"the aarch64 root cannot be made here: {error.message}")
        finally:
            shutil.rmtree(making, ignore_errors=True)
    done = subprocess.run(
        _command(folder, folder),
        env={**_variables(), "SSH_ORIGINAL_COMMAND": "uname -m"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stdout.strip() != "aarch64":
        pytest.skip(f"no private binfmt_misc here (Linux 6.7 or newer): {done.stderr.strip()}")
    return folder


def force_command(folder: Path, shared: Path) -> str:
    """What a sshd runs for each session: the asked command in the root, where `shared` lies at the same path."""
    script = shared / "enter"
    variables = [f"{name}={value}" for name, value in _variables().items()]
    # A setting of sshd's is one line.
    # Without `exec`, and with the signals that end the script handed on by the kernel (--kill-child): when each session
    # began and ended stands in a file.
    log = shlex.quote(str(shared / SESSIONS))
    lines = [
        "#!/bin/sh",
        "began=$(date +%s.%N)",
        shlex.join(["env", *variables, *_command(folder, shared)]),
        "status=$?",
        f"echo $began $(date +%s.%N) >> {log}",
        "exit $status",
    ]
    script.write_text("\n".join(lines) + "\n")
    script.chmod(0o755)
    return str(script)


def _variables() -> dict[str, str]:
    return {
        "QEMU_CPU": emulation.CPU,
        "PYTHONPATH": "/site",
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
    }


def _command(folder: Path, shared: Path) -> list[str]:
    rule = b":qemu-aarch64:M::" + _MAGIC + b":" + _MASK + b":" + str(folder / "qemu-aarch64").encode() + b":POCF"
    given = {"ROOT": str(folder / "root"), "SHARED": str(shared), "BINFMT": rule.decode()}
    unshare = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-ec",
        _ENTER,
    ]
    return ["env", *(f"{name}={value}" for name, value in given.items()), *unshare]
