"""An emulated board: the runner as a subprocess of this machine whose instructions QEMU translates.

The host's files are the device's own. Everything takes ten to fifty times as long as on a board, so all limits of time
that somebody set for a real device are wider here by a factor.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vitprof.devices.emulation import Board
from vitprof.devices.runner_zip import runner_zip
from vitprof.devices.transports import Link
from vitprof.devices.transports.hold_here import HoldHere
from vitprof.devices.transports.local import LocalLink
from vitprof.runner.wire import Hold, Message, Task

_PATIENCE = 10.0


class EmulatedTransport:
    """Starts runners on `board`; the lock of the device is this machine's own, and held without an emulator."""

    def __init__(self, board: Board, cache_root: Path) -> None:
        self._command = [*board.command, str(runner_zip(cache_root))]

    def place(self, path: str) -> str:
        return path

    def scratch(self, name: str, folder: Path) -> str:
        return str(folder / name)

    def fetch(self, path: str, folder: Path) -> Path:
        return Path(path)

    def start(self, task: Task) -> Link:
        if isinstance(task, Hold) and not task.only_look:
            return HoldHere(task)
        return _PatientLink(LocalLink(self._command, _prolonged(task)))

    def close(self) -> None:
        pass


class _PatientLink:
    """A link whose answers may take longer than is asked."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def send(self, message: Message) -> None:
        self._link.send(message)

    def receive(self, timeout_s: float) -> Message:
        return self._link.receive(timeout_s * _PATIENCE)

    def close(self) -> None:
        self._link.close()


def _prolonged(task: Task) -> Task:
    return dataclasses.replace(task, deadline_s=task.deadline_s * _PATIENCE)
