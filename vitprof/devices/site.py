"""A connected SSH device: one connection, and the keeper of its cache behind it, begun anew where the link was cut.

Its own file because a transport, `devices setup` and `devices clean` all begin with it.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from vitprof.devices import shipping
from vitprof.devices.shipping import Keeper, Lost, Refused
from vitprof.devices.ssh_client import Popen, Ssh, ended, refusal, tail
from vitprof.errors import UnreachableError, UsageError, VitprofError
from vitprof.records import Device

T = TypeVar("T")

# Connecting, and the start of a Python: 2 s on an emulated board.
_GREETING_S = 60.0
# What ends by itself when its input ends may take so long over the link.
_GRACE_S = 5.0
# Finds a Python that can run the keeper: $1 its beginning, $2 the size of the rest, then candidates. 97: too old.
_FIND_PYTHON = (
    'b=$1; n=$2; shift 2; for p in "$@"; do case $p in "~/"*) p=$HOME/${p#??};; esac; '
    'command -v "$p" >/dev/null 2>&1 || continue; "$p" -c "$b" "$n"; s=$?; [ $s -eq 97 ] || exit $s; done; exit 98'
)
_PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(15, 8, -1)))


class Site:
    """`device` with a keeper; `UnreachableError` that says why where there is none. `close` ends all sessions."""

    def __init__(self, device: Device, heard: Callable[[str], None] = lambda _: None) -> None:
        if any(ord(letter) < 32 for letter in device.python or ""):
            raise UsageError(
                f"device '{device.name}': key 'python': {device.python!r} is no path",
                remedy="mend the profile",
                stage="device",
            )
        self.device = device
        self.ssh = Ssh(device)
        # The same for every connection: what is written over one may be fetched over the next.
        self._run = shipping.run_name()
        # How often it was connected to.
        self.connections = 0
        self._heard = heard
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - read when the session has ended
        try:
            self._process, self._keeper = self._begun()
        except BaseException:
            self._stderr.close()
            self.ssh.close()
            raise

    @property
    def facts(self) -> dict[str, object]:
        """What the keeper said of the device: `root` of its cache, and `run`, this run's folder in it."""
        return self._keeper.facts

    def is_up(self) -> bool:
        return self._process.poll() is None

    def begin_anew(self) -> None:
        """Connects again; sessions of the old connection end. `UnreachableError` where that fails."""
        self._end()
        self._process, self._keeper = self._begun()

    def ask(self, doing: Callable[[Keeper], T]) -> T:
        """What `doing` gives; once more over a new connection where the link was cut meanwhile.

        `UnreachableError` where it stays cut, `VitprofError` (stage "ship") for what the device cannot do.
        """
        try:
            if not self.is_up():
                self.begin_anew()
            try:
                return doing(self._keeper)
            except Lost:
                self.begin_anew()
                return doing(self._keeper)
        except Lost as error:
            raise self._refusal(str(error)) from error
        except Refused as error:
            raise self.error(error) from error

    def error(self, refused: Refused) -> VitprofError:
        """What the keeper said, with what to type."""
        name = shlex.quote(self.device.name)
        remedies = {
            "full": f"free some space there: vitprof devices clean {name} --all",
            "busy": "wait until it has ended, then run again",
            "sending": "wait until it has ended, then run again",
            "command": "its words stand above. No module venv: sudo apt install python3-venv there; no network there: "
            "--wheels FOLDER; no such version there: name others in `requirements` of the profile",
            "torn": "the link or the disk there damages what is sent: check both",
        }
        what = {"full": "its disk is full: ", "busy": "its cache: "}.get(refused.kind, "")
        return VitprofError(
            f"device '{self.device.name}': {what}{refused}",
            remedy=remedies.get(refused.kind, "see whether its cache folder can be written: ~/.cache/vitprof there"),
            stage="setup" if refused.kind == "command" else "ship",
        )

    def close(self) -> None:
        """Ends the keeper, which removes what this run left there, and the connection."""
        self._end()
        self._stderr.close()
        self.ssh.close()

    def _begun(self) -> tuple[Popen, Keeper]:
        text = shipping.program()
        named = [self.device.python] if self.device.python else []
        words = ["sh", "-c", _FIND_PYTHON, "vitprof", shipping.BOOT, str(len(text)), *named, *_PYTHONS]
        self._stderr.seek(0)
        self._stderr.truncate()
        process = self.ssh.started(["exec", *words], self._stderr, as_master=True)
        try:
            keeper = Keeper(process, text, self._run, _GREETING_S, self._heard)
        except Lost as error:
            status = self._status(process)
            ended(process, 0.0)
            raise refusal(self.device, status, str(error) if status is None else tail(self._stderr)) from error
        except Refused as error:
            ended(process, _GRACE_S)
            raise self.error(error) from error
        except BaseException:
            ended(process, 0.0)
            raise
        if keeper.noise.strip():
            ended(process, _GRACE_S)
            raise UnreachableError(
                f"device '{self.device.name}': its login shell prints {keeper.noise.strip()[:60]!r} before any program",
                remedy="let ~/.bashrc (or what else prints it) be silent where the shell is not interactive",
                stage="device",
            )
        self.connections += 1
        return process, keeper

    def _end(self) -> None:
        self._keeper.close()
        ended(self._process, _GRACE_S)

    def _refusal(self, what: str) -> UnreachableError:
        status = self._status(self._process)
        return refusal(self.device, status, (tail(self._stderr) if status is not None else "") or what)

    @staticmethod
    def _status(process: Popen) -> int | None:
        """The exit status of a session that has ended; None where it has not."""
        try:
            return process.wait(1.0)
        except subprocess.TimeoutExpired:
            return None


@contextlib.contextmanager
def connected(device: Device, heard: Callable[[str], None] = lambda _: None) -> Iterator[Site]:
    """A site for as long as this lasts; `heard` is told what programs there say, as it comes."""
    site = Site(device, heard)
    try:
        yield site
    finally:
        site.close()


def sent(site: Site, parcels: shipping.Parcels, path: str) -> str:
    """The device's own path of the host's `path`, sent there where it is missing."""
    parcel = parcels.parcel(path)
    return site.ask(lambda keeper: keeper.placed(parcel))


def fetched(site: Site, path: str, target: Path) -> Path:
    return site.ask(lambda keeper: keeper.got(path, target))
