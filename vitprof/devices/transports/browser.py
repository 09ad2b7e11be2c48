"""A page that is open in some browser, through the `vitprof devices serve` that it is connected to.

Files are not sent from here: the server is told where they lie and under which hash a page may ask for them. A link is
a connection to the server, which ends what the page does for it when the connection ends, however that comes about.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import uuid
from pathlib import Path

from vitprof.devices.browser import control
from vitprof.devices.transports import RunnerFailed
from vitprof.errors import UnreachableError, VitprofError
from vitprof.places import places
from vitprof.records import Device
from vitprof.runner.hold import who_am_i
from vitprof.runner.wire import LINK_LOST, Failure, Message, Task, WireError, line_from_message, message_from_line

_HASH_CHUNK_BYTES = 1 << 20
_AWAKE = "keep the page open and in front, and the screen on; or allow more time with --timeout"


class BrowserTransport:
    """Runs Plans on one page."""

    def __init__(self, device: Device) -> None:
        self._state, self._page = page_of(device)
        # Of all links of this process: a page works for one owner at a time.
        self._owner = uuid.uuid4().hex
        self._hashes: dict[str, str] = {}

    def place(self, path: str) -> str:
        if Path(path).is_dir():
            raise VitprofError(
                f"a page takes one file, and {path} is a folder", remedy="use --backend litert", stage="ship"
            )
        sha256 = self._hashes.get(path) or _sha256(Path(path))
        self._hashes[path] = sha256
        control.ask(self._state, ask="offer", path=str(Path(path).resolve()), sha256=sha256)
        return f"files/{sha256}"

    def scratch(self, name: str, folder: Path) -> str:
        return f"outputs/{uuid.uuid4().hex}"

    def fetch(self, path: str, folder: Path) -> Path:
        data = control.output(self._state, path)
        if data is None:
            raise VitprofError(f"the page sent no outputs as {path}", remedy="run again", stage="run")
        target = folder / path.rpartition("/")[2]
        target.write_bytes(data)
        return target

    def start(self, task: Task) -> BrowserLink:
        return BrowserLink(self._state, self._page, self._owner, task)

    def close(self) -> None:
        """Nothing is kept open between links."""


class BrowserLink:
    """One Plan on the page, or the right to use it."""

    def __init__(self, state: control.State, page: str, owner: str, task: Task) -> None:
        self._stage = "load"
        self._buffer = b""
        try:
            connection, file = control.connect(state, ask="link", page=page, owner=owner, who=who_am_i())
        except UnreachableError as error:
            raise RunnerFailed(Failure("link", error.message, error.remedy, kind=LINK_LOST)) from error
        file.close()
        self._connection = connection
        self.send(task)

    def send(self, message: Message) -> None:
        try:
            self._connection.sendall(line_from_message(message))
        except OSError:
            # What was said last is the reason, if anything was.
            raise RunnerFailed(self._last_words()) from None

    def receive(self, timeout_s: float) -> Message:
        line = self._line(time.monotonic() + timeout_s, timeout_s)
        try:
            message = message_from_line(line)
        except WireError as error:
            self.close()
            remedy = "load the page again; if it says so again, report this with the output of: vitprof doctor"
            raise RunnerFailed(Failure(self._stage, str(error), remedy)) from error
        if isinstance(message, Failure):
            self.close()
            raise RunnerFailed(message)
        self._stage = "run"
        return message

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.close()

    def _line(self, deadline_s: float, timeout_s: float) -> bytes:
        while b"\n" not in self._buffer:
            try:
                self._connection.settimeout(max(0.001, deadline_s - time.monotonic()))
                data = self._connection.recv(1 << 16)
            except TimeoutError:
                self.close()
                raise RunnerFailed(Failure(self._stage, f"no answer within {timeout_s:g} s", _AWAKE)) from None
            except OSError:
                data = b""
            if not data:
                self.close()
                error = control.lost()
                raise RunnerFailed(Failure("link", error.message, error.remedy, kind=LINK_LOST))
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _last_words(self) -> Failure:
        try:
            self.receive(1.0)
        except RunnerFailed as failed:
            return failed.failure
        return Failure(self._stage, "the page stopped listening", _AWAKE)


def page_of(device: Device) -> tuple[control.State, str]:
    """(the running server, the name of the page that `device` is); `UnreachableError` where there is none.

    A profile's `host` names one of several pages.
    """
    state = control.running(places().data_root)
    if state is None:
        what = "no browser is connected: `vitprof devices serve` is not running"
        raise _unreachable(device, what, control.NOT_SERVED)
    names = sorted(control.pages(state))
    if not names:
        remedy = "open the address that `vitprof devices serve` shows in the browser, and run again"
        raise _unreachable(device, "no browser is connected to `vitprof devices serve`", remedy)
    if device.host is not None and device.host not in names:
        remedy = "open it in that browser, or name another one with host ="
        raise _unreachable(device, f"the page '{device.host}' is not connected; connected: {', '.join(names)}", remedy)
    if device.host is None and len(names) > 1:
        remedy = f'write a profile with these lines: extends = "{device.name}" and host = "{names[0]}"; or close others'
        raise _unreachable(device, f"several browsers are connected: {', '.join(names)}", remedy)
    return state, device.host or names[0]


def _unreachable(device: Device, what: str, remedy: str) -> UnreachableError:
    return UnreachableError(f"device '{device.name}': {what}", remedy=remedy, stage="device")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(_HASH_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()
