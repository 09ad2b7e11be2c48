"""The `adb` program: which devices it sees, commands and files to one of them.

Its own file because this is all that knows the program's words. The program itself and not a library: its server, keys
and authorisations are the user's own and are there anyway (docs/decisions/0026). No name reaches the device's shell
but quoted: a command is a fixed script with its arguments, or an argument list.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vitprof.errors import UnreachableError, VitprofError

INSTALL = "install it (Debian and Ubuntu: apt install adb; else Android's 'SDK Platform-Tools') and have it in PATH"
# The first call starts the program's server, which takes a second or two.
_LIST_TIMEOUT_S = 15
_SHORT_TIMEOUT_S = 60
_PUSH_TIMEOUT_S = 1800
# How long the other side may take to notice that its lease has ended.
_GRACE_S = 2.0
_STATES = {
    "unauthorized": "unlock the phone and allow this computer at 'Allow USB debugging?', then run again",
    "authorizing": "unlock the phone and allow this computer at 'Allow USB debugging?', then run again",
    "offline": "plug it in again, or: adb reconnect offline",
    "no permissions": "let this user talk to USB devices (Debian: apt install android-sdk-platform-tools-common)",
    "recovery": "start Android on it: adb reboot",
    "sideload": "start Android on it: adb reboot",
    "bootloader": "start Android on it: fastboot reboot",
}
# Stands last in what a command wrote. The program ends with status 0 as well when the link is cut (seen with version
# 34), and versions without the newer protocol know no status at all: a command is over when it says so itself.
_STATUS = "== vitprof status"
# What the program itself says, and no command of the device.
_OWN_ERROR = re.compile(r"^(?:adb: )?(?:error|failed): *(.*)|^adb: *(.*)", re.MULTILINE)
_LOST = re.compile(
    r"device .*not found|device offline|device unauthorized|no devices|closed|protocol fault|connect", re.I
)


@dataclass(frozen=True)
class Attached:
    """One line of `adb devices`."""

    serial: str
    state: str


@dataclass(frozen=True)
class Done:
    """A command that has ended on the device."""

    status: int
    stdout: str
    stderr: str


def program() -> str:
    """Path of the program; `UnreachableError` that says how to get it."""
    found = shutil.which("adb")
    if found is None:
        raise UnreachableError("the program adb is not installed", remedy=INSTALL, stage="device")
    return found


def attached_from_text(text: str) -> tuple[Attached, ...]:
    """The devices in what `adb devices` prints."""
    lines = [line.split("\t") for line in text.splitlines() if "\t" in line]
    return tuple(Attached(serial.strip(), state.strip()) for serial, state, *_ in lines)


def chosen(attached: tuple[Attached, ...], host: str | None, name: str, profile: Path) -> str:
    """The serial to talk to: `host`, or of a single device its own.

    `UnreachableError` with what to do where there is none, where there are several, and where it is not ready.
    """
    if host is None and not attached:
        raise UnreachableError(
            f"device '{name}': no Android device is attached",
            remedy="plug it in with USB debugging on (Settings, Developer options), and look with: adb devices",
            stage="device",
        )
    if host is None and len(attached) > 1:
        serials = ", ".join(one.serial for one in attached)
        raise UnreachableError(
            f"device '{name}': {len(attached)} Android devices are attached: {serials}",
            remedy=f'write {profile} with these lines: extends = "{name}" and host = "{attached[0].serial}"',
            stage="device",
        )
    one = next((one for one in attached if host in (None, one.serial)), None)
    if one is None:
        serials = ", ".join(one.serial for one in attached) or "none"
        raise UnreachableError(
            f"device '{name}': no Android device '{host}' is attached; attached: {serials}",
            remedy=f"plug it in, or change host in {profile}; adb devices shows what is there",
            stage="device",
        )
    if one.state != "device":
        remedy = next(
            (text for state, text in _STATES.items() if one.state.startswith(state)), "look with: adb devices"
        )
        raise UnreachableError(
            f"device '{name}': Android device {one.serial} is {one.state}", remedy=remedy, stage="device"
        )
    return one.serial


def connected_serial(host: str | None, name: str, profile: Path) -> str:
    """The serial of the device that `host` names, reached over the network first where it is an address and port."""
    attached = _attached()
    if host and ":" in host and host not in {one.serial for one in attached if one.state == "device"}:
        _own("connect", host)
        attached = _attached()
    return chosen(attached, host, name, profile)


class Adb:
    """One attached device."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self._adb = [program(), "-s", serial]

    def shell(self, script: str, *arguments: str, timeout_s: float = _SHORT_TIMEOUT_S) -> Done:
        """Runs `script` with `$1`, `$2`, … on the device; `UnreachableError` where that is gone."""
        done = self._done([*self._adb, "shell", command_text(script, *arguments)], timeout_s)
        text, status = ended(done.stdout)
        if status is None:
            raise self._lost(own_error(done.stderr) or "the link was cut")
        return Done(status, text, done.stderr)

    def push(self, local: Path, remote: str) -> None:
        """Copies a file there; `VitprofError` where it does not arrive."""
        self._copy("push", str(local), remote)

    def pull(self, remote: str, local: Path) -> None:
        self._copy("pull", remote, str(local))

    def start(self, script: str, *arguments: str) -> Running:
        """The script as a process of the device that lives no longer than the answer, nor than this process."""
        return Running([*self._adb, "shell", command_text(script, *arguments)])

    def _copy(self, verb: str, source: str, target: str) -> None:
        done = self._done([*self._adb, verb, source, target], _PUSH_TIMEOUT_S)
        if done.status == 0:
            return
        lost = own_error(done.stderr)
        if lost:
            raise self._lost(lost)
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        is_full = "no space left" in f"{done.stderr}{done.stdout}".lower()
        raise VitprofError(
            f"adb {verb} of {source} failed: {said[-1] if said else f'status {done.status}'}",
            remedy="free some space there" if is_full else "look with: adb devices; then run again",
            stage="device",
        )

    def _done(self, command: list[str], timeout_s: float) -> Done:
        try:
            return _done(command, timeout_s)
        except subprocess.TimeoutExpired as error:
            raise self._lost(f"no answer within {timeout_s:g} s") from error

    def _lost(self, why: str) -> UnreachableError:
        return UnreachableError(
            f"Android device {self.serial}: {why}",
            remedy="plug it in again, and look with: adb devices",
            stage="device",
        )


def own_error(text: str) -> str | None:
    """What the program says of a device that it has lost; None where it says no such thing."""
    for found in _OWN_ERROR.finditer(text):
        said = found.group(1) or found.group(2) or ""
        if _LOST.search(said):
            return said.strip()
    return None


class Running:
    """A script on the device: its standard input is its lease, its output is read as it comes."""

    def __init__(self, command: list[str]) -> None:
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )

    @property
    def text(self) -> str:
        """What the script has written until now, on both streams."""
        return self._ended[0]

    @property
    def status(self) -> int | None:
        """Exit status of the script; None while it runs, and where it was cut off."""
        return self._ended[1]

    @property
    def _ended(self) -> tuple[str, int | None]:
        descriptor = self._output.fileno()
        # Not `read`: the program writes where this descriptor stands.
        return ended(os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace"))

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it: it has ended, or was cut off."""
        return self._process.poll() is not None

    def wait(self, timeout_s: float) -> bool:
        """Whether it is over within `timeout_s`."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def renew(self) -> None:
        """Tells the script that whoever started it is still there."""
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.write(b"go on\n")

    def close(self) -> None:
        """Ends the lease, then the process; safe to call more than once."""
        if self._process.stdin and not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if not self.wait(_GRACE_S):
            self._process.kill()
            self._process.wait()


def command_text(script: str, *arguments: str) -> str:
    """One line for the device's shell: `script` with `$1`, `$2`, …, everything quoted; then its status is written."""
    return f'{shlex.join(["sh", "-c", script, "vitprof", *arguments])}; echo "{_STATUS} $?"'


def ended(text: str) -> tuple[str, int | None]:
    """What a command wrote, and its exit status; None where it was cut off before it could say it."""
    body, found, last = text.replace("\r\n", "\n").rpartition(_STATUS)
    # What the shell says of a program that was killed comes by another way, and may come later.
    number, is_whole, after = last.partition("\n")
    return (body + after, int(number)) if found and is_whole and number.strip().isdigit() else (text, None)


def _attached() -> tuple[Attached, ...]:
    """What the program lists; `UnreachableError` where it cannot, as without its server."""
    done = _own("devices")
    if done.status != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise UnreachableError(
            f"adb devices failed: {said[-1] if said else f'status {done.status}'}",
            remedy="adb kill-server, then: adb devices",
            stage="device",
        )
    return attached_from_text(done.stdout)


def _own(*words: str) -> Done:
    """A command of the program's own; `UnreachableError` where it hangs."""
    try:
        return _done([program(), *words], _LIST_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        what = f"{shlex.join(['adb', *words])} gave no answer within {_LIST_TIMEOUT_S:g} s"
        raise UnreachableError(what, remedy="adb kill-server", stage="device") from error


def _done(command: list[str], timeout_s: float) -> Done:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout_s,
        check=False,
        # Ctrl-C is for vitprof, which ends its commands itself.
        start_new_session=True,
    )
    return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
