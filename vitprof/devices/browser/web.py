"""What pages reach: the page itself, LiteRT.js, the files of Plans, and five calls; over HTTP, to strangers.

Its own file because everything here meets requests that anybody on the network may send. Before a request is looked
at: its Host must be an address that was printed (a name that someone else's DNS points here is not), its Origin the
server's own, and it must carry the session that a one-time token was exchanged for. Only listed files are served: no
path of a request ever becomes a path of this machine.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import select
import shutil
import socket
import socketserver
import ssl
import tempfile
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from vitprof.devices.browser.hub import Hub, Page

_PAGE = Path(__file__).parent / "page"
# Addresses of our own files.
_OWN_FILES = {"/": "index.html"} | {f"/{name}": name for name in ("page.js", "worker.js", "loop.js", "style.css")}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".wasm": "application/wasm",
}
_FILE = re.compile(r"/files/([0-9a-f]{64})")
# Samples of a block are some kilobytes; outputs are feature maps at most.
_MESSAGE_BYTES = 1_000_000
_OUTPUTS_BYTES = 256_000_000
# A long poll is answered before proxies and phones lose patience; a connection that says nothing is closed.
_POLL_S = 20.0
_SILENT_S = 60.0
_MAX_CONNECTIONS = 64
# Isolation gives the page threads and a clock of 5 µs; the policy lets it load and send from here to here alone.
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "connect-src 'self'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# By these browsers say that nobody has opened the page yet.
_PURPOSES = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
_FOREVER = "private, max-age=31536000, immutable"
_NO_SESSION = (
    "This address lacks its token, or another browser has used it. "
    "Open the one that `vitprof devices serve` shows now.\n"
)
# To the address without the token. Not a redirect: from a link in another page or app, browsers take that for a step
# of the other's, keep the cookie back and say `cross-site`. A page of our own goes on by itself.
_ENTERED = b'<!doctype html><title>vitprof</title><meta http-equiv="refresh" content="0; url=/">'


@dataclass(frozen=True)
class Site:
    """What is served and as what: `hosts` are the `name:port` that requests may ask for."""

    scheme: str
    hosts: frozenset[str]
    cookie: str
    runtime: Mapping[str, Path]
    runtime_version: str
    outputs: Path


class _Refusal(Exception):
    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class WebServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Threads, so that a page which waits keeps no other waiting; at most so many connections."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], hub: Hub, tls: ssl.SSLContext | None) -> None:
        self.hub = hub
        self.site: Site | None = None
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__(address, _Handler)
        if tls:
            # Shaken hands with in the connection's own thread: nobody can keep the others waiting.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def server_bind(self) -> None:
        # HTTPServer's own asks a name server for this machine's name, which may take seconds.
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no news: its page is dropped when it stays away."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SILENT_S
    disable_nagle_algorithm = True
    wbufsize = -1
    server: WebServer

    def do_GET(self) -> None:
        self._answer({"/api/next": self._next})

    def do_POST(self) -> None:
        posts = {"/api/hello": self._hello, "/api/said": self._said, "/api/bye": self._bye, "/api/out": self._out}
        self._answer(posts)

    # Who may ask.

    def _answer(self, calls: Mapping[str, Any]) -> None:
        try:
            url = self._address()
            self._check_address()
            if self.command == "GET" and url.path == "/" and "token" in self._query:
                self._admit(self._query["token"])
                return
            self._check_site()
            self._session = self._checked_session()
            if url.path in calls:
                calls[url.path]()
            elif self.command == "GET":
                self._file(url.path)
            else:
                raise _Refusal(HTTPStatus.NOT_FOUND, "no such address\n")
        except _Refusal as refusal:
            # What is left of the request's body would be read as the next request.
            self.close_connection = True
            self._send(refusal.status, str(refusal).encode(), "text/plain; charset=utf-8")

    def _address(self) -> urllib.parse.SplitResult:
        try:
            url = urllib.parse.urlsplit(self.path)
            self._query = dict(urllib.parse.parse_qsl(url.query, max_num_fields=10))
        except ValueError as error:
            raise _Refusal(HTTPStatus.BAD_REQUEST, "no such address\n") from error
        return url

    @property
    def _site(self) -> Site:
        assert self.server.site is not None  # noqa: S101 - set before the first request is taken
        return self.server.site

    def _check_address(self) -> None:
        """One of the addresses that were printed, and no page of another."""
        if self.headers.get("Host", "").lower() not in self._site.hosts:
            raise _Refusal(HTTPStatus.FORBIDDEN, "this server is not called that\n")
        origin = self.headers.get("Origin")
        own = f"{self._site.scheme}://{self.headers['Host']}".lower()
        if origin is not None and origin.lower() != own:
            raise _Refusal(HTTPStatus.FORBIDDEN, "requests of other pages are refused\n")

    def _check_site(self) -> None:
        # Browsers say where a request comes from; `none` is a person who typed the address.
        if self.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            raise _Refusal(HTTPStatus.FORBIDDEN, "requests of other pages are refused\n")

    def _checked_session(self) -> str:
        cookies = [part.strip().partition("=") for part in self.headers.get("Cookie", "").split(";")]
        session = next((value for name, _, value in cookies if name == self._site.cookie), "")
        if not self.server.hub.is_session(session):
            raise _Refusal(HTTPStatus.FORBIDDEN, _NO_SESSION)
        return session

    def _admit(self, token: str) -> None:
        """Binds the token to whoever brings it first; the address without it is what stays in the history."""
        if any(sign in self.headers.get(name, "") for name in _PURPOSES for sign in ("prefetch", "preview")):
            raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "not before it is asked for\n")
        session = self.server.hub.admit(token)
        if session is None:
            with contextlib.suppress(_Refusal):
                # The page that brought it was loaded again.
                session = self._checked_session()
        if session is None:
            raise _Refusal(HTTPStatus.FORBIDDEN, _NO_SESSION)
        secure = "; Secure" if self._site.scheme == "https" else ""
        cookie = f"{self._site.cookie}={session}; Path=/; HttpOnly; SameSite=Strict{secure}"
        self._send(HTTPStatus.OK, _ENTERED, _TYPES[".html"], {"Set-Cookie": cookie})

    # What is answered.

    def _hello(self) -> None:
        facts = self._json_body()
        page = self.server.hub.hello(self._session, facts)
        self._send_json({"tab": page.tab, "name": page.name, "runtime": self._site.runtime_version})

    def _next(self) -> None:
        commands = self.server.hub.commands(self._page(), _POLL_S, self._has_left)
        if commands is None:
            raise self._no_page()
        self._send_json(commands)

    def _said(self) -> None:
        body = self._json_body()
        line = json.dumps(body.get("message")).encode() + b"\n"
        if not self.server.hub.said(self._page(), str(body.get("link")), line):
            raise _Refusal(HTTPStatus.NOT_FOUND, "that link is over\n")
        self._send_json({})

    def _out(self) -> None:
        """Outputs of a model, as they go into a file that vitprof reads."""
        page, name = self._page(), self._query.get("name", "")
        size = self._body_size(_OUTPUTS_BYTES)
        # Names that were not asked for do not become files.
        if not self.server.hub.may_write(page, name):
            raise _Refusal(HTTPStatus.FORBIDDEN, "nobody has asked for these outputs\n")
        with tempfile.NamedTemporaryFile(dir=self._site.outputs, delete=False) as file:
            left = size
            while left and (data := self.rfile.read(min(left, 1 << 20))):
                file.write(data)
                left -= len(data)
        if left:
            Path(file.name).unlink()
            raise _Refusal(HTTPStatus.BAD_REQUEST, "the body ended early\n")
        Path(file.name).replace(self._site.outputs / name.rpartition("/")[2])
        self._send_json({})

    def _bye(self) -> None:
        self.server.hub.leave(self._page(), "the page was closed")
        self._send_json({})

    def _file(self, path: str) -> None:
        found = _FILE.fullmatch(path)
        name = path.removeprefix("/litert/")
        file: Path | None = None
        if path in _OWN_FILES:
            file = _PAGE / _OWN_FILES[path]
        elif path.startswith("/litert/"):
            file = self._site.runtime.get(name)
        elif found:
            file = self.server.hub.file(found.group(1))
        if file is None or not file.is_file():
            raise _Refusal(HTTPStatus.NOT_FOUND, "no such file\n")
        # Addresses of Plans' files are their hashes: a page that has one need not ask again.
        lasting = {"Cache-Control": _FOREVER} if found else {}
        with file.open("rb") as opened:
            self._head(HTTPStatus.OK, _TYPES.get(file.suffix, "application/octet-stream"), file.stat().st_size, lasting)
            shutil.copyfileobj(opened, self.wfile, 1 << 20)

    def _page(self) -> Page:
        page = self.server.hub.page(self._session, self._query.get("tab", ""))
        if page is None:
            raise self._no_page()
        return page

    def _no_page(self) -> _Refusal:
        """Why the tab that asks is none; one that was only silent, as its device slept, may say hello again."""
        if self.server.hub.is_over:
            return _Refusal(HTTPStatus.GONE, "The server was ended.\n")
        if self.server.hub.has_page(self._session):
            return _Refusal(HTTPStatus.GONE, "Another tab has taken over.\n")
        return _Refusal(HTTPStatus.NOT_FOUND, "this page was silent for too long\n")

    def _has_left(self) -> bool:
        """Whether the page has closed the connection it waits on: nothing else can be read from it meanwhile."""
        return bool(select.select([self.connection], [], [], 0)[0])

    # Bodies.

    def _body_size(self, most: int) -> int:
        text = self.headers.get("Content-Length")
        if text is None or not text.isascii() or not text.isdigit():
            raise _Refusal(HTTPStatus.LENGTH_REQUIRED, "say the length of the body\n")
        if len(text) > len(str(most)) or int(text) > most:
            raise _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {most:,} bytes\n")
        return int(text)

    def _json_body(self) -> dict[str, Any]:
        data = self.rfile.read(self._body_size(_MESSAGE_BYTES))
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise _Refusal(HTTPStatus.BAD_REQUEST, "not JSON\n") from error
        if not isinstance(body, dict):
            raise _Refusal(HTTPStatus.BAD_REQUEST, "not a JSON object\n")
        return body

    def _send_json(self, value: object) -> None:
        self._send(HTTPStatus.OK, json.dumps(value).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, type: str, more: Mapping[str, str] | None = None) -> None:
        self._head(status, type, len(body), more or {})
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, type: str, size: int, more: Mapping[str, str]) -> None:
        self.send_response(status)
        headers = {"Cache-Control": "no-store", **_HEADERS, **more, "Content-Type": type, "Content-Length": str(size)}
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def version_string(self) -> str:
        return "vitprof"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: addresses hold tokens, and requests are not for people to read."""


def reach_of(host: str) -> str:
    """The address that other devices reach this machine by, where it listens on `host`."""
    if host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: the system only says which of its addresses it would take.
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
