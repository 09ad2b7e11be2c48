"""Real Chromium for tests, without a window, with WebGPU drawn by its own SwiftShader."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.devices.aarch64 import cache_root
from vitprof.devices.browser import litert_js
from vitprof.devices.browser.litert_js import LitertJs
from vitprof.devices.browser.serving import Serving
from vitprof.errors import UnreachableError

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"),
    *("--enable-features=Vulkan", "--window-size=390,844", "--remote-debugging-port=0"),
)
_WAIT_S = 60


def runtime() -> LitertJs:
    """LiteRT.js, fetched once and kept between runs; the test is skipped where that is impossible."""
    try:
        return litert_js.litert_js(cache_root())
    except UnreachableError as error:
        pytest.skip(error.message)


@dataclass(frozen=True)
class Chromium:
    """A running browser and its folder."""

    process: subprocess.Popen[bytes]
    profile: Path

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @contextlib.contextmanager
    def page_behind_another(self) -> Iterator[None]:
        """Another tab in front of the first one, as long as this lasts."""
        first = next(one["id"] for one in json.loads(self._asked("GET", "list")) if one["type"] == "page")
        other = json.loads(self._asked("PUT", "new?about:blank"))["id"]
        self._asked("GET", f"activate/{other}")
        yield
        self._asked("GET", f"activate/{first}")

    def _asked(self, method: str, what: str) -> bytes:
        port = (self.profile / "DevToolsActivePort").read_text().split()[0]
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/json/{what}", method=method)
        # Whatever proxies are named outside: this machine is reached without one.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(asked, timeout=_WAIT_S) as answer:
            return answer.read()  # type: ignore[no-any-return]


@contextlib.contextmanager
def started(address: str) -> Iterator[Chromium]:
    """A browser that opens `address`; ended with all of its processes."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed: apt install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [program, *_FLAGS, f"--user-data-dir={profile}", address]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            yield Chromium(process, Path(profile))
        finally:
            Chromium(process, Path(profile)).end()


@contextlib.contextmanager
def chromium(server: Serving) -> Iterator[Chromium]:
    """A browser whose page is connected to `server`."""
    with started(server.address(server.hub.token)) as opened:
        end_s = time.monotonic() + _WAIT_S
        while not server.hub.pages():
            assert time.monotonic() < end_s and opened.process.poll() is None, "the page did not connect"
            time.sleep(0.05)
        yield opened
