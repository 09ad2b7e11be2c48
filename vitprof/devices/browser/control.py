"""How a measuring `vitprof` reaches the running `devices serve`: a socket of this machine, and the file that names it.

    <data>/browser-server.json    port and secret, readable by its owner alone

One connection is one question, or one link: JSON lines as between host and runner. A process that dies closes its
connections, and with them ends what pages do for it. Its own file because both ends must agree on each line here.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import socketserver
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from vitprof.devices.browser.hub import Hub, Refused
from vitprof.errors import UnreachableError, VitprofError
from vitprof.runner.wire import line_from_message

_STATE_FILE = "browser-server.json"
_LOOPBACK = "127.0.0.1"
_CONNECT_S = 3.0
_FIRST_LINE_BYTES = 10_000
NOT_SERVED = "start `vitprof devices serve`, open the address that it shows in the browser, and run again"


@dataclass(frozen=True)
class State:
    """Where a server listens to processes of this machine, and what they must know."""

    port: int
    secret: str
    pid: int


class ControlServer(socketserver.ThreadingTCPServer):
    """Loopback only, whatever the pages' server listens on."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: Hub, outputs: Path) -> None:
        self.hub, self.outputs = hub, outputs
        self.secret = secrets.token_urlsafe(24)
        super().__init__((_LOOPBACK, 0), _Handler)

    @property
    def state(self) -> State:
        return State(self.server_address[1], self.secret, os.getpid())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A process that went away is no news: its links are closed with its connection."""


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    timeout = None
    server: ControlServer

    def handle(self) -> None:
        try:
            asked = json.loads(self.rfile.readline(_FIRST_LINE_BYTES))
            secret = str(asked["secret"]).encode()
        except (ValueError, KeyError, TypeError, RecursionError):
            # A browser that was sent here, or anybody else: no word.
            return
        if not secrets.compare_digest(secret, self.server.secret.encode()):
            return
        {"pages": self._pages, "offer": self._offer, "link": self._link, "output": self._output}[asked["ask"]](asked)

    def _pages(self, asked: dict[str, Any]) -> None:
        self._say([{"name": page.name, "facts": dict(page.facts)} for page in self.server.hub.pages()])

    def _offer(self, asked: dict[str, Any]) -> None:
        self.server.hub.offer(Path(asked["path"]), asked["sha256"])
        self._say({})

    def _output(self, asked: dict[str, Any]) -> None:
        path = self.server.outputs / str(asked["name"]).rpartition("/")[2]
        self._say({"bytes": path.stat().st_size if path.is_file() else None})
        if path.is_file():
            with path.open("rb") as file:
                self.wfile.write(file.read())
            path.unlink()

    def _link(self, asked: dict[str, Any]) -> None:
        """Lines of the process go to the page, those of the page come back, until either is over."""
        hub, one_at_a_time = self.server.hub, threading.Lock()

        def deliver(line: bytes) -> None:
            with contextlib.suppress(OSError), one_at_a_time:
                self.wfile.write(line)

        try:
            link = hub.open(asked["owner"], asked["who"], asked["page"], self.rfile.readline(), deliver)
        except Refused as refused:
            deliver(line_from_message(refused.failure))
            return
        try:
            for line in self.rfile:
                hub.tell(link, line)
        finally:
            hub.close(link)

    def _say(self, value: object) -> None:
        self.wfile.write(json.dumps(value).encode() + b"\n")


def write_state(data_root: Path, state: State) -> Path:
    """The file by which processes of this user find the server."""
    path = data_root / _STATE_FILE
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        making = path.with_name(f"{_STATE_FILE}.{os.getpid()}")
        making.unlink(missing_ok=True)
        # For its owner alone from the first byte on.
        with os.fdopen(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(state), file)
        making.replace(path)
    except OSError as error:
        raise VitprofError(
            f"cannot write {path}: {error.strerror}",
            remedy="set VITPROF_DATA_DIR to a writable folder",
            stage="serve",
        ) from error
    return path


def running(data_root: Path) -> State | None:
    """The server that is running; None where the file is missing, or left over from one that was killed."""
    try:
        read = json.loads((data_root / _STATE_FILE).read_text(encoding="utf-8"))
        state = State(int(read["port"]), str(read["secret"]), int(read["pid"]))
        pages(state)
    except (OSError, ValueError, KeyError, TypeError, UnreachableError):
        return None
    return state


def connect(state: State, **asked: object) -> tuple[socket.socket, IO[bytes]]:
    """A connection that has asked; `UnreachableError` where nobody listens."""
    try:
        connection = socket.create_connection((_LOOPBACK, state.port), timeout=_CONNECT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(json.dumps({"secret": state.secret, **asked}).encode() + b"\n")
    except OSError as error:
        raise lost() from error
    return connection, connection.makefile("rb")


def ask(state: State, **asked: object) -> Any:
    """The answer to one question."""
    connection, file = connect(state, **asked)
    with connection, file:
        return _answer(file)


def pages(state: State) -> dict[str, dict[str, Any]]:
    """The facts of every connected page by its name."""
    return {str(one["name"]): dict(one["facts"]) for one in ask(state, ask="pages")}


def output(state: State, name: str) -> bytes | None:
    """The outputs that a page has sent under `name`, once."""
    connection, file = connect(state, ask="output", name=name)
    with connection, file:
        size = _answer(file)["bytes"]
        return None if size is None else file.read(size)


def lost() -> UnreachableError:
    return UnreachableError("`vitprof devices serve` is not running", remedy=NOT_SERVED, stage="device")


def _answer(file: IO[bytes]) -> Any:
    try:
        return json.loads(file.readline())
    except (OSError, ValueError) as error:
        # A port that somebody else has by now answers something else, or nothing.
        raise lost() from error
