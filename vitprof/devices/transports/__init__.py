"""How a runner is started on a device and how its messages come back: the seam between host and device.

`group.py` calls `Transport.start` once for each process of a set and then talks to the `Link`. Nothing that these
do is inside a timed region. `local` starts a subprocess; `fake` runs the runner's own loop in virtual time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from vitprof.runner.wire import Failure, Message, Task


class RunnerFailed(Exception):
    """The process is over, with a Failure to store: it said so, died, hung, or sent what is no message."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error)
        self.failure = failure


class Link(Protocol):
    """One running process of the runner."""

    def send(self, message: Message) -> None:
        """Hands over a request; `RunnerFailed` where the process is gone."""

    def receive(self, timeout_s: float) -> Message:
        """The next message; `RunnerFailed` where there is none within `timeout_s`, and the process is over then."""

    def close(self) -> None:
        """Ends the lease and the process; safe to call at any time, more than once."""


class Transport(Protocol):
    """A way to a device, open until `close`."""

    def place(self, path: str) -> str:
        """The device's own path of a file or folder of the host, sent there first where it is missing."""

    def scratch(self, name: str, folder: Path) -> str:
        """The device's own path for a file that the runner will write; `folder` is the host's place for such files."""

    def fetch(self, path: str, folder: Path) -> Path:
        """A file that the runner wrote at `path` of the device, brought into `folder` where it is not there yet."""

    def start(self, task: Task) -> Link:
        """A fresh process that has been given `task`; its `Ready` or `Facts` is still to be received."""

    def close(self) -> None:
        """Ends what was kept open for speed; links that still run end with it."""
