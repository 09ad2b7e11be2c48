"""The OpenSSH client as a program: how it is called, and what its words mean.

Its own file because a transport, `devices setup` and `devices clean` call it alike. Keys, agent, jump hosts, known
hosts and everything else of `~/.ssh/config` are the user's own. What is said here and not there: nobody is asked
anything, no host key is taken on trust, nothing is written into known_hosts, nothing is forwarded, and one connection
of our own carries all sessions.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from vitprof.errors import UnreachableError, UsageError
from vitprof.records import Device

# `user@server`, a name of ~/.ssh/config, an address; never what ssh could take for an option, or a shell for more.
_HOST = re.compile(r"(?:ssh://)?(?:[A-Za-z0-9_][A-Za-z0-9_.+-]*@)?[A-Za-z0-9_\[][A-Za-z0-9_.:%\[\]-]*")
_OPTIONS = (
    *("BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", "ConnectTimeout=10"),
    # A cut link is noticed after 15 to 20 s.
    *("ServerAliveInterval=5", "ServerAliveCountMax=3", "TCPKeepAlive=yes"),
    # As scp has them: another session of the user's own may use the same ports, and has its own command.
    *("ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no", "PermitLocalCommand=no", "RemoteCommand=none"),
    *("RequestTTY=no", "ControlPersist=no", "LogLevel=ERROR"),
)
# A socket's path may have 104 bytes on macOS, and ssh adds 17 while it makes it.
_LONGEST_FOLDER = 70
# ssh's own status for whatever went wrong with the connection.
LINK_LOST = 255
NO_PYTHON = 98
_TAIL_BYTES = 4_000


class Ssh:
    """Sessions on the host of `device`, over one connection that the first of them (`as_master`) holds open."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.host = checked_host(device)
        self._folder = tempfile.mkdtemp(prefix="vp-")
        if len(self._folder.encode()) > _LONGEST_FOLDER:
            Path(self._folder).rmdir()
            self._folder = tempfile.mkdtemp(prefix="vp-", dir="/tmp")

    def command(self, words: Sequence[str], *, as_master: bool = False) -> list[str]:
        """The local command that runs `words` there; a session of its own connection where no master is up."""
        program = shutil.which("ssh")
        if program is None:
            raise UnreachableError(
                f"device '{self.device.name}' is reached with the program ssh, which is not installed here",
                remedy="install OpenSSH's client: sudo apt install openssh-client (Debian, Ubuntu)",
                stage="device",
            )
        settings = [*_OPTIONS, f"ControlMaster={'yes' if as_master else 'no'}"]
        options = [word for setting in settings for word in ("-o", setting)]
        socket = f"{self._folder}/s".replace("%", "%%")
        # One line, each word quoted: what reads it there is the user's login shell, whichever that is.
        return [program, "-T", "-S", socket, *options, "--", self.host, shlex.join(words)]

    def started(self, words: Sequence[str], stderr: IO[bytes] | None, *, as_master: bool = False) -> Popen:
        """A session that runs `words`, with pipes for its input and output."""
        if as_master:
            # Of a master that was killed.
            Path(self._folder, "s").unlink(missing_ok=True)
        return subprocess.Popen(
            self.command(words, as_master=as_master),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
            env=environment(),
            start_new_session=True,
        )

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


Popen = subprocess.Popen[bytes]


def environment() -> dict[str, str]:
    """This process's environment, without a window in which a jump host could ask for a password."""
    return {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}


def checked_host(device: Device) -> str:
    """The profile's host; `UsageError` where it is none that ssh may be given."""
    host = device.host or ""
    if not _HOST.fullmatch(host):
        raise UsageError(
            f"device '{device.name}': key 'host': {host!r} is neither user@server nor a name of ~/.ssh/config",
            remedy="mend the profile; what it takes more (port, jump host, key) belongs into ~/.ssh/config",
            stage="device",
        )
    return host


def tail(file: IO[bytes]) -> str:
    """The end of what a program has written there."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _TAIL_BYTES))
    return file.read().decode(errors="replace").strip()


def refusal(device: Device, status: int | None, said: str) -> UnreachableError:
    """Why no session came about, from ssh's exit status and its words; status None: it has not ended."""
    what, remedy = _told(device, status, said)
    return UnreachableError(f"device '{device.name}' at {device.host}: {what}", remedy=remedy, stage="device")


def _told(device: Device, status: int | None, said: str) -> tuple[str, str]:
    by_hand = f"ssh {shlex.quote(device.host or '')}"
    if status == NO_PYTHON:
        old = ", ".join(re.findall(r"vitprof-python (\d[\w.+]*)", said))
        found = f"only Python {old}, and 3.9 or newer is needed" if old else "no Python 3.9 or newer there"
        return found, 'install one there, or name it in the profile: python = "/path/to/python3"'
    if status is None:
        return said or "it does not answer", f"see what it does: {by_hand}"
    for sign, what, remedy in (
        (
            "IDENTIFICATION HAS CHANGED",
            f"its host key has changed: another machine answers there, or it was set up anew{_offending(said)}",
            f"find out which; if it is the right machine, remove the old key (ssh-keygen -R SERVER), then: {by_hand}",
        ),
        (
            "Host key verification failed",
            "its host key is not known here",
            f"connect once by hand, compare the fingerprint and accept it: {by_hand}",
        ),
        (
            "Permission denied",
            f"it does not let us in: {_last(said)}",
            f"this must work without a password: {by_hand}; put your key there with ssh-copy-id, or load it: ssh-add",
        ),
        ("Could not resolve", _last(said), "mend `host` in the profile, or name the server in ~/.ssh/config"),
        ("onnection refused", _last(said), f"start the SSH server there, or mend the port; then: {by_hand}"),
        ("onfiguration option", _last(said), f"mend ~/.ssh/config, until this works: {by_hand}"),
        ("timed out", _last(said), f"switch it on and see whether the network leads there: {by_hand}"),
    ):
        if sign in said:
            return what, remedy
    return _last(said) or f"the session ended with status {status}", f"see what it says: {by_hand}"


def death(device: Device, status: int, said: str) -> tuple[str, str] | None:
    """(what happened, what to type) where a runner's session ended with the link; None where the runner itself did."""
    if status == LINK_LOST:
        detail = f": {_last(said)}" if said else ""
        return (
            f"the connection to device '{device.name}' was lost{detail}",
            "see that it is on and the network leads there, then run again: what was measured is kept",
        )
    if status < 0:
        return f"the program ssh was ended here by signal {-status}", "run again"
    return None


def _offending(said: str) -> str:
    """Which line of known_hosts holds the old key, as ssh tells."""
    found = re.search(r"^Offending .* key in (.+)$", said, re.MULTILINE)
    return f" (the old one: {found[1].strip()})" if found else ""


def _last(said: str) -> str:
    """ssh's own reason stands in its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("ssh: ") if lines else ""


def ended(process: Popen, grace_s: float) -> None:
    """Ends a session: its input first, which ends what runs there; then the client, if it has not gone by itself."""
    with contextlib.suppress(OSError):
        if process.stdin:
            process.stdin.close()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
