"""A device behind an SSH server: a board, a GPU server, a Mac. The runner is started there anew for each process.

Closing an SSH channel does not end what runs on the other side of it (tried), so each runner ends itself when its
standard input does, or at its deadline; the keeper of the cache does so too. Nothing here ever has to kill anything
there.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

from vitprof.devices import memory_kills, setup
from vitprof.devices.runner_zip import runner_zip
from vitprof.devices.shipping import Parcels
from vitprof.devices.site import Site, fetched, sent
from vitprof.devices.ssh_client import death, environment
from vitprof.devices.transports import RunnerFailed
from vitprof.devices.transports.local import Death, LocalLink, death_from_status
from vitprof.errors import UnreachableError, VitprofError
from vitprof.records import Device
from vitprof.runner.wire import LINK_LOST, Failure, Task

_KILLED = 128
_CANNOT_RUN = (126, 127)
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


class SshTransport:
    """Connected from the beginning; `UnreachableError` that says what is missing where it cannot be."""

    def __init__(self, device: Device, cache_root: Path) -> None:
        self._device = device
        self._zip = runner_zip(cache_root)
        self._parcels = Parcels()
        # By connection as well: while one is cut, nothing keeps others from removing what was sent.
        self._paths: dict[tuple[int, str, str], str] = {}
        # Paths on the device of what runners were told to write.
        self._written: set[str] = set()
        self._site = Site(device)
        try:
            self._python = setup.interpreter(self._site)
        except BaseException:
            self.close()
            raise

    def place(self, path: str) -> str:
        parcel = self._parcels.parcel(path)
        key = (self._site.connections, path, parcel.sha256)
        if key not in self._paths:
            self._paths[key] = sent(self._site, self._parcels, path)
        return self._paths[key]

    def scratch(self, name: str, folder: Path) -> str:
        path = f"{self._site.facts['run']}/{len(self._written)}-{_UNSAFE.sub('_', name)}"
        self._written.add(path)
        return path

    def fetch(self, path: str, folder: Path) -> Path:
        # What a runtime writes has the asked path as its beginning; any other path is nothing that was asked for.
        asked = next((one for one in self._written if path.startswith(one)), None)
        if asked is None or "/" in path.removeprefix(asked):
            raise VitprofError(
                f"device '{self._device.name}': {path!r} is no file that the runner was asked for",
                remedy="report this with the output of: vitprof doctor",
                stage="ship",
            )
        target = folder / _UNSAFE.sub("_", Path(path).name)
        return target if target.exists() else fetched(self._site, path, target)

    def start(self, task: Task) -> LocalLink:
        try:
            if not self._site.is_up():
                self._site.begin_anew()
            words = ["exec", "sh", "-c", memory_kills.SCRIPT, "vitprof", self._python, self.place(str(self._zip))]
            command = self._site.ssh.command(words)
        except VitprofError as error:
            kind = LINK_LOST if isinstance(error, UnreachableError) else None
            raise RunnerFailed(Failure("device", error.message, error.remedy, kind=kind)) from error
        return LocalLink(command, task, death=self._death, retold=self._retold, environment=environment())

    def close(self) -> None:
        self._site.close()
        self._parcels.close()

    def _death(self, status: int, said: str) -> Death:
        """Why a session ended without a word of the runner: the link, the shell there, or the runner itself."""
        told = death(self._device, status, said)
        if told is not None:
            return Death(*told, LINK_LOST)
        if status in _CANNOT_RUN:
            return Death(
                f"device '{self._device.name}' cannot run its interpreter {self._python}",
                f"make its environment anew: vitprof devices setup {shlex.quote(self._device.name)}",
            )
        status = _KILLED - status if status > _KILLED else status
        return death_from_status(status, said, for_memory=memory_kills.SIGN in said)

    def _retold(self, failure: Failure) -> Failure:
        """A runner's failure as the host's user can mend it."""
        remedy = setup.remedy(self._device, failure.error)
        return dataclasses.replace(failure, remedy=remedy or failure.remedy)


__all__ = ["SshTransport", "UnreachableError"]
