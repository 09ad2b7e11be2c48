"""Both servers of `devices serve` as one thing that is open for a while.

Its own file, apart from the command, because tests open it too: nothing here prints.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import socketserver
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vitprof.devices.browser import control
from vitprof.devices.browser.certificate import certificate
from vitprof.devices.browser.hub import Hub
from vitprof.devices.browser.litert_js import LitertJs
from vitprof.devices.browser.web import Site, WebServer, reach_of
from vitprof.errors import UsageError

_LOOPBACK_NAMES = ("127.0.0.1", "localhost")
_USUAL_PORTS = {"http": 80, "https": 443}
_SWEEP_S = 1.0
# How often the servers wake up to see whether they are to end: they are woken for that, and must not disturb.
_NEVER_S = 3600.0


@dataclass(frozen=True)
class Serving:
    """`base`: the address without a token; `fingerprint`: of the certificate, where there is one."""

    base: str
    port: int
    fingerprint: str | None
    hub: Hub

    def address(self, token: str) -> str:
        return f"{self.base}/?token={token}"


@contextlib.contextmanager
def serving(
    data_root: Path,
    runtime: LitertJs,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    https: bool = False,
    invited: Callable[[str], None] = lambda _: None,
) -> Iterator[Serving]:
    """The servers, running. `invited` is told the token of every page after the first.

    `UsageError` where one is running already, where `host` is no address of this machine, and for an address that
    others reach without `https`: browsers give WebGPU and threads to secure pages only.
    """
    check_host(host, https)
    already = control.running(data_root)
    if already:
        raise UsageError(
            f"`vitprof devices serve` is running already (pid {already.pid})",
            remedy="use that one, or end it first",
            stage="serve",
        )
    hub = Hub(invited)
    names = tuple(dict.fromkeys((reach_of(host), *(_LOOPBACK_NAMES if is_loopback(reach_of(host)) else ()))))
    fingerprint, tls = None, None
    if https:
        path, key, fingerprint = certificate(data_root / "browser", names)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(path, key)
    with tempfile.TemporaryDirectory(prefix="vitprof-") as outputs, _web(host, port, hub, tls) as web:
        own_port, scheme = web.server_address[1], "https" if https else "http"
        # Browsers leave out the port that a scheme has anyway.
        bare = names if own_port == _USUAL_PORTS[scheme] else ()
        hosts = frozenset((*(f"{name}:{own_port}" for name in names), *bare))
        cookie = f"vitprof_{own_port}"
        web.site = Site(scheme, hosts, cookie, runtime.files(), runtime.version, Path(outputs))
        with control.ControlServer(hub, Path(outputs)) as controls:
            ended = threading.Event()
            # First, as it may fail; who connects meanwhile waits.
            state = control.write_state(data_root, controls.state)
            _in_background(web.serve_forever, _NEVER_S)
            _in_background(controls.serve_forever, _NEVER_S)
            _in_background(_sweep, hub, ended)
            try:
                yield Serving(f"{scheme}://{names[0]}:{own_port}", own_port, fingerprint, hub)
            finally:
                state.unlink(missing_ok=True)
                hub.end()
                ended.set()
                _stop(controls)
                _stop(web)


def check_host(host: str, https: bool) -> None:
    """`UsageError` for what is no address, and for one that others reach over plain HTTP."""
    try:
        address = ipaddress.IPv4Address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise UsageError(
            f"--host '{host}' is no IPv4 address of this machine",
            remedy="give 127.0.0.1, 0.0.0.0, or the address of one network",
            stage="serve",
        ) from error
    if not address.is_loopback and not https:
        raise UsageError(
            f"--host {host} needs --https: browsers give WebGPU and threads to secure pages only",
            remedy=f"add --https: vitprof devices serve --host {host} --https",
            stage="serve",
        )


def is_loopback(host: str) -> bool:
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def _web(host: str, port: int, hub: Hub, tls: ssl.SSLContext | None) -> WebServer:
    try:
        return WebServer((host, port), hub, tls)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            remedy="give an address of this machine, and --port 0 for a free port",
            stage="serve",
        ) from error


def _in_background(work: Callable[..., None], *words: object) -> None:
    threading.Thread(target=work, args=words, daemon=True).start()


def _stop(server: socketserver.TCPServer) -> None:
    """Ends `serve_forever`, woken from its wait by a connection."""
    ending = threading.Thread(target=server.shutdown, daemon=True)
    ending.start()
    while ending.is_alive():
        host, port = server.socket.getsockname()[:2]
        with contextlib.suppress(OSError):
            socket.create_connection((reach_of(str(host)), port), timeout=1).close()
        ending.join(0.1)


def _sweep(hub: Hub, ended: threading.Event) -> None:
    while not ended.wait(_SWEEP_S):
        hub.sweep()
