"""One page in real Chromium, driven over the pipe of its DevTools: clicked, hovered, typed into, looked at.

Its own file beside `tests.devices.chromium`, whose pages talk to a server of ours: this one is a file, and whatever it
asked the network for, wrote to the console or broke of its own rules is kept for the test to see.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"),
    # No name is found and no address is reached: whatever the page asked for would fail, and be seen.
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9"),
)
_WAIT_S = 60


class Page:
    """An open page and all that went wrong on it."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._number, self._rest = 0, b""
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def begin(self) -> None:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def open(self, file: Path, width: int = 1280, height: int = 900, *, is_dark: bool = False) -> None:
        """Shows `file` and waits until its plot is drawn."""
        self.resize(width, height)
        # Without smooth scrolling: what is clicked must not move.
        asked = {"prefers-color-scheme": "dark" if is_dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in asked.items()]
        self.ask("Emulation.setEmulatedMedia", media="", features=features)
        self.ask("Page.navigate", url=file.as_uri())
        self.wait_for("document.documentElement?.hasAttribute('data-ready')")

    def resize(self, width: int, height: int) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def value(self, expression: str) -> Any:
        """What the JavaScript `expression` is; promises are waited for."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        end_s = time.monotonic() + _WAIT_S
        while not self.value(expression):
            assert time.monotonic() < end_s, f"never true: {expression}; {self.complaints}"
            time.sleep(0.02)

    def texts(self, selector: str) -> list[str]:
        """What stands in each of the elements, as it is seen."""
        return self.value(f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.innerText.trim())")

    def text(self, selector: str) -> str:
        found = self.texts(selector)
        assert found, f"nothing matches {selector}"
        return found[0]

    def click(self, selector: str, *, text: str | None = None, at: int = 0, shift: bool = False) -> None:
        """A real click in the middle of the element: whatever lies above it gets it."""
        x, y = self.middle(selector, text=text, at=at)
        self.click_at(x, y, shift=shift)

    def click_at(self, x: float, y: float, *, shift: bool = False) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            asked = {"type": kind, "x": x, "y": y, "modifiers": 8 if shift else 0}
            self.ask(
                "Input.dispatchMouseEvent", **asked, button="none" if kind == "mouseMoved" else "left", clickCount=1
            )
        self.settle()

    def hover(self, x: float, y: float) -> None:
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.settle()

    def middle(self, selector: str, *, text: str | None = None, at: int = 0) -> tuple[float, float]:
        """Of the element, brought into sight, in pixels of the window."""
        # What scrolls tells the page so, in the next frame.
        place = self.value(
            f"""(async () => {{
              const all = [...document.querySelectorAll({json.dumps(selector)})];
              const node = all.filter((one) => one.textContent.includes({json.dumps(text or "")}))[{at}];
              if (!node) return null;
              node.scrollIntoView({{ block: "center", behavior: "instant" }});
              await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
              const box = node.getBoundingClientRect();
              return [box.left + box.width / 2, box.top + box.height / 2];
            }})()"""
        )
        assert place, f"nothing matches {selector} with {text}"
        return place[0], place[1]

    def type(self, text: str) -> None:
        self.ask("Input.insertText", text=text)
        self.settle()

    def key(self, name: str) -> None:
        for kind in ("keyDown", "keyUp"):
            codes = {"Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "Escape": 27, "Tab": 9}
            typed = {"text": "\r"} if name == "Enter" and kind == "keyDown" else {}
            self.ask(
                "Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=codes[name], **typed
            )
        self.settle()

    def choose(self, selector: str, value: str) -> None:
        """A value of a `select`, as a person's choice of it."""
        node = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{node}.value = {json.dumps(value)}; {node}.dispatchEvent(new Event('change'))")
        self.settle()

    def settle(self) -> None:
        """Until typing has been waited for and the plot is drawn."""
        self.value("new Promise((done) => setTimeout(done, 150)).then(() => new Promise(requestAnimationFrame))")

    def picture(self, file: Path, *, whole: bool = False) -> None:
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def ask(self, method: str, **params: Any) -> Any:
        self._number += 1
        number = self._number
        asked = {"id": number, "method": method, "params": params}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == number:
                assert "error" not in told, (method, told["error"])
                return told["result"]
            self._note(told)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], _WAIT_S)
            assert ready, "Chromium does not answer"
            piece = os.read(self._from, 1 << 20)
            assert piece, "Chromium has ended"
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)  # type: ignore[no-any-return]

    def _note(self, told: dict[str, Any]) -> None:
        method, params = told.get("method"), told.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(one.get("value") or one.get("description")) for one in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {params['message']}")


@contextlib.contextmanager
def page() -> Iterator[Page]:
    """A fresh browser with one empty page and no way to any network; the test is skipped where there is none."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed: apt install chromium")
    to_browser, from_browser = os.pipe(), os.pipe()
    ours = (to_browser[1], from_browser[0])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, Path(os.devnull).open("wb") as nowhere:
        # Chromium reads its orders from descriptor 3 and answers on 4.
        moves = [(os.POSIX_SPAWN_DUP2, fd, at) for fd, at in ((to_browser[0], 103), (from_browser[1], 104))]
        moves += [(os.POSIX_SPAWN_DUP2, 103, 3), (os.POSIX_SPAWN_DUP2, 104, 4)]
        moves += [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), at) for at in (1, 2)]
        words = [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = os.posix_spawn(program, words, os.environ, file_actions=moves, setsid=True)
        for fd in (to_browser[0], from_browser[1]):
            os.close(fd)
        try:
            opened = Page(*ours)
            opened.begin()
            yield opened
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            for fd in ours:
                os.close(fd)
