"""A real sshd on 127.0.0.1 with keys and settings of its own: a device for tests, this machine or a root in it.

It runs as whoever runs the tests, root or not. Nothing of the user's own `~/.ssh` is read or written: a program `ssh`
that comes first on the path adds `-F` with a file of the test's.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from vitprof.records import Device

HOST = "board"
_WAIT_S = 60.0
# Without the `ssh` of another of these servers.
_PATH = os.environ["PATH"]


@dataclass(frozen=True)
class Sshd:
    """A running one. `cache`: the device's cache folder, by which its processes are known as well."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def files(self) -> Path:
        return self.cache / "vitprof" / "device" / "files"

    def processes(self) -> list[psutil.Process]:
        """All that a session has started and that still runs, orphans too: their environment tells."""
        return [one for one in psutil.process_iter() if _environment(one).get("XDG_CACHE_HOME") == str(self.cache)]

    def sessions(self) -> list[psutil.Process]:
        """The processes of sshd that serve a connection."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [one for one in children if _name(one) == "sshd"]

    def cut(self) -> None:
        """Kills every connection, as a server does that loses its power."""
        for one in self.sessions():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)

    def is_quiet(self) -> bool:
        """Whether nothing runs there any more, at the latest after some seconds."""
        end_s = time.monotonic() + _WAIT_S
        while time.monotonic() < end_s:
            if not self.processes():
                return True
            time.sleep(0.05)
        return False


def device(**changes: object) -> Device:
    """A profile of this machine behind the sshd, with the interpreter that runs the tests."""
    one = Device("board", "x86-cpu", "x", "ssh", ("ort", "fake"), host=HOST, python=sys.executable)
    return replace(one, **changes)  # type: ignore[arg-type]


@contextlib.contextmanager
def running(folder: Path, *, force_command: str | None = None, settings: Sequence[str] = ()) -> Iterator[Sshd]:
    """A sshd with its files in `folder`, the name `board` for it in ssh's settings, and that `ssh` on the path.

    `force_command` is run for every session, with the asked one in SSH_ORIGINAL_COMMAND; `settings`: more lines of
    sshd_config, which come first.
    """
    program, client = shutil.which("sshd", path=f"{_PATH}:/usr/sbin"), shutil.which("ssh", path=_PATH)
    if program is None or client is None:
        pytest.skip("needs sshd: apt-get install openssh-server")
    if os.getuid() == 0:
        # Where Debian's own start of sshd would make it.
        Path("/run/sshd").mkdir(exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    port = _free_port()
    (folder / "sshd_config").write_text(_server_settings(folder, port, force_command, settings))
    (folder / "config").write_text(_client_settings(folder, port))
    _write_known_hosts(folder, port)
    (folder / "bin").mkdir()
    (folder / "bin" / "ssh").write_text(
        f'#!/bin/sh\nexec {shlex.quote(client)} -F {shlex.quote(str(folder / "config"))} "$@"\n'
    )
    (folder / "bin" / "ssh").chmod(0o755)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder / 'bin'}:{before}"
    try:
        _wait(port, process, folder / "log")
        yield Sshd(folder, port, process)
    finally:
        os.environ["PATH"] = before
        process.terminate()
        process.wait()


def _server_settings(folder: Path, port: int, force_command: str | None, settings: Sequence[str]) -> str:
    # The device's cache, and its lock, are not this machine's own; of several lines SetEnv only the first counts.
    variables = f'SetEnv "XDG_CACHE_HOME={folder / "cache"}" "VITPROF_LOCK_DIR={folder}"'
    lines = [
        *settings,
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f'HostKey "{folder / "host_key"}"',
        f'AuthorizedKeysFile "{folder / "user_key.pub"}"',
        *("StrictModes no", "UsePAM no", "PasswordAuthentication no", "KbdInteractiveAuthentication no"),
        *("PermitRootLogin prohibit-password", "PidFile none", variables),
        *([f"ForceCommand {force_command}"] if force_command else []),
    ]
    return "\n".join(lines) + "\n"


def _client_settings(folder: Path, port: int) -> str:
    return (
        f"Host {HOST}\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
        f'  IdentityFile "{folder / "user_key"}"\n  IdentitiesOnly yes\n'
        f'  UserKnownHostsFile "{folder / "known_hosts"}"\n  GlobalKnownHostsFile none\n'
    )


def _write_known_hosts(folder: Path, port: int) -> None:
    key = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}\n")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + _WAIT_S
    while time.monotonic() < end_s:
        if process.poll() is not None:
            pytest.skip(f"sshd does not start here: {log.read_text().strip()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(log.read_text())


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return {} if process.status() == psutil.STATUS_ZOMBIE else process.environ()
    except psutil.Error:
        return {}


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""
