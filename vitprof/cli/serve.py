"""`vitprof devices serve`: a page that makes any browser a device, a phone's with nothing installed among them."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vitprof.devices.browser.litert_js import LitertJs
    from vitprof.devices.browser.serving import Serving


def serve(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0: all of this machine's (needs --https).")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0: a free one.", min=0, max=65535)] = 0,
    https: Annotated[
        bool, typer.Option("--https", help="With a certificate of its own, which the browser asks you to accept.")
    ] = False,
    litert: Annotated[
        Path | None,
        typer.Option("--litert", help="Where npm install @litertjs/core was run; default: fetched by npm."),
    ] = None,
) -> None:
    """Serve a page that measures in the browser which opens it: a phone's, with nothing installed there.

    Shows an address with a token that one browser can use, and its QR code; then runs until Ctrl-C.
    Measure with: vitprof latency MODEL --device browser --backends litert,litert-gpu
    """
    from vitprof.devices.browser import serving
    from vitprof.places import places

    serving.check_host(host, https)
    here = places()
    runtime = fetched_runtime(litert)
    invitations: list[str] = []
    more = threading.Event()

    def invited(token: str) -> None:
        invitations.append(token)
        more.set()

    # Ended by a script as by a person: pages are told, and nothing is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with serving.serving(here.data_root, runtime, host=host, port=port, https=https, invited=invited) as server:
            _show_first(server, is_near=serving.is_loopback(host))
            while True:
                more.wait()
                more.clear()
                while invitations:
                    _show_next(server.address(invitations.pop(0)), is_near=serving.is_loopback(host))
    except KeyboardInterrupt:
        typer.echo("ended", err=True)


def fetched_runtime(given: Path | None) -> LitertJs:
    """LiteRT.js for pages, fetched now where the cache has none and no folder is given."""
    from vitprof.devices.browser import litert_js
    from vitprof.places import places

    root = places().cache_root
    if given is None and not litert_js.is_ready(root):
        # Before anything is fetched, so that it can be stopped.
        folder = litert_js.folder_of(root)
        typer.echo(f"npm fetches LiteRT.js {litert_js.VERSION} (12 MB) into {folder}", err=True)
    found = litert_js.litert_js(root, given)
    typer.echo(f"LiteRT.js {found.version}: {found.folder}", err=True)
    return found


def _show_first(server: Serving, *, is_near: bool) -> None:
    """How to get there, from this machine or from a phone."""
    address = server.address(server.hub.token)
    typer.echo(f"Open this in the browser that is to be measured; it is good for one:\n\n  {address}\n")
    _show_code(address)
    if is_near:
        forward = f"adb reverse tcp:{server.port} tcp:{server.port}"
        typer.echo("This address is for browsers of this machine, and for a phone on a USB cable, after:")
        typer.echo(f"  {forward}")
        typer.echo("For a phone in your network, end this and run: vitprof devices serve --host 0.0.0.0 --https")
    if server.fingerprint:
        typer.echo("The browser warns of the certificate, which is vitprof's own; its SHA-256 fingerprint is")
        typer.echo(f"  {server.fingerprint}")
    typer.echo("Measure with: vitprof latency MODEL --device browser --backends litert,litert-gpu")
    typer.echo("End with Ctrl-C.")


def _show_next(address: str, *, is_near: bool) -> None:
    """The address for one more browser; a phone in the network takes it by its code."""
    typer.echo(f"\na browser has come; for another one:\n\n  {address}\n")
    if not is_near:
        _show_code(address)


def _show_code(address: str) -> None:
    """The QR code, where the package for it is installed."""
    try:
        import segno
    except ImportError:
        typer.echo("(a QR code of it needs: pip install 'vitprof[browser]')\n")
        return
    segno.make(address, error="l", micro=False).terminal(compact=True)
    typer.echo()
