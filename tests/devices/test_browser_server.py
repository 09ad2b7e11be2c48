"""What strangers on a network may send to the server of pages, and what vitprof's own processes say to it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vitprof.devices import profiles
from vitprof.devices.browser import control, hub, serving, web
from vitprof.devices.browser.litert_js import LitertJs
from vitprof.devices.browser.serving import Serving
from vitprof.devices.transports import RunnerFailed
from vitprof.devices.transports.browser import BrowserTransport
from vitprof.errors import UnreachableError, UsageError
from vitprof.runner.hold import IN_USE_STAGE
from vitprof.runner.wire import BlockRequest, Facts, Hold, OutputsRequest, Plan, Ready

_WAIT_S = 60
_ALL = "0.0.0.0"  # noqa: S104 - where it may not listen
_READY = {
    **{"type": "ready", "load_ns": 1, "build_ns": None, "first_call_ns": 1, "clock": "browser", "clock_step_ns": 5000},
    **{"clock_cost_ns": 1, "loop_overhead_ns": 0, "calls_per_sample": 1, "backend_version": "x"},
}
_PIXEL = (
    "Mozilla/5.0 (Linux; Android 15; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Mobile Safari/537.36"
)
_IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 "
    "Mobile/15E148 Safari/604.1"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "litert").mkdir()
    (tmp_path / "litert" / "core.js").write_text("export const x = 1;\n")
    (tmp_path / "litert" / "secret.txt").write_text("not for pages")
    (tmp_path / "model.tflite").write_bytes(b"a model")
    return tmp_path


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    monkeypatch.setenv("VITPROF_DATA_DIR", str(folder / "data"))
    with serving.serving(folder / "data", LitertJs(folder / "litert", "0")) as opened:
        yield opened


class Visitor:
    """A browser without a screen: it keeps its cookie and says where it comes from."""

    def __init__(self, server: Serving, cookie: str | None = None) -> None:
        self.server, self.cookie = server, cookie

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=_WAIT_S)
        sent = {"Cookie": self.cookie or "", **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        connection.request(method, path, data, sent)
        answer = connection.getresponse()
        read = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return read

    def enter(self, token: str | None = None) -> int:
        status, headers, _ = self.ask("GET", f"/?token={token or self.server.hub.token}")
        self.cookie = headers.get("Set-Cookie", "").partition(";")[0] or self.cookie
        return status


class Tab(Visitor):
    """A page played by hand: one that has entered and said hello."""

    def __init__(self, server: Serving, user_agent: str = _PIXEL) -> None:
        super().__init__(server)
        assert self.enter() == 200
        self.hello(user_agent)

    def hello(self, user_agent: str = _PIXEL) -> None:
        _, _, answer = self.ask("POST", "/api/hello", {"user_agent": user_agent, "cores": 4})
        self.tab, self.name = json.loads(answer)["tab"], json.loads(answer)["name"]

    def next(self) -> list[dict[str, Any]]:
        status, _, answer = self.ask("GET", f"/api/next?tab={self.tab}")
        assert status == 200
        return json.loads(answer)  # type: ignore[no-any-return]

    def say(self, link: str, message: dict[str, Any]) -> int:
        return self.ask("POST", f"/api/said?tab={self.tab}", {"link": link, "message": message})[0]


def _status_of(path: str, tab: Tab) -> int:
    """Of an address that is sent as it stands."""
    with socket.create_connection(("127.0.0.1", tab.server.port), timeout=_WAIT_S) as raw:
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{tab.server.port}\r\nCookie: {tab.cookie}\r\n\r\n"
        raw.sendall(head.encode())
        return int(raw.makefile("rb").readline().split()[1])


# Who may ask.


@pytest.mark.parametrize("path", ["/", "/page.js", "/worker.js", "/litert/core.js", "/api/next", f"/files/{'0' * 64}"])
@pytest.mark.parametrize("cookie", ["", "vitprof_{port}=x", "vitprof_{port}=", "other=1; vitprof_{port}=%00"])
def test_nothing_is_served_without_the_token(server: Serving, path: str, cookie: str) -> None:
    status, headers, body = Visitor(server, cookie.format(port=server.port)).ask("GET", path)
    assert status == 403 and b"vitprof devices serve" in body
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize("path", ["/api/hello", "/api/said", "/api/out?name=x", "/api/bye"])
def test_nothing_is_taken_without_the_token(server: Serving, path: str) -> None:
    assert Visitor(server).ask("POST", path, {})[0] == 403


def test_a_token_is_good_for_the_first_who_brings_it(server: Serving) -> None:
    token, first, second = server.hub.token, Visitor(server), Visitor(server)
    assert first.enter(token) == 200
    assert second.enter(token) == 403 and second.cookie is None
    # Loading the page again is no theft, and the next one has a token of its own.
    assert first.enter(token) == 200
    assert server.hub.token != token and second.enter() == 200
    assert first.cookie != second.cookie


def test_a_link_in_another_page_or_app_enters_as_well(server: Serving) -> None:
    """A redirect would be that page's own step: without the cookie, and refused."""
    visitor = Visitor(server)
    status, headers, body = visitor.ask("GET", f"/?token={server.hub.token}", Sec_Fetch_Site="cross-site")
    assert status == 200 and "Location" not in headers and b'http-equiv="refresh" content="0; url=/"' in body
    visitor.cookie = headers["Set-Cookie"].partition(";")[0]
    assert visitor.ask("GET", "/", Sec_Fetch_Site="same-origin")[0] == 200
    assert visitor.ask("GET", "/", Sec_Fetch_Site="cross-site")[0] == 403


def test_a_wrong_token_of_any_length_is_refused_and_uses_nothing_up(server: Serving) -> None:
    token = server.hub.token
    for wrong in ("", "x", token[:-1], token + "x", token.swapcase(), "%F0%9F%98%80"):
        assert Visitor(server).ask("GET", f"/?token={wrong}")[0] == 403
    assert Visitor(server).enter(token) == 200


def test_a_browser_that_only_loads_ahead_does_not_use_the_token_up(server: Serving) -> None:
    for purpose in ({"Sec_Purpose": "prefetch;prerender"}, {"X_Purpose": "preview"}):
        assert Visitor(server).ask("GET", f"/?token={server.hub.token}", **purpose)[0] == 503
    assert Visitor(server).enter() == 200


def test_the_session_is_out_of_reach_of_scripts_and_of_other_sites(server: Serving) -> None:
    _, headers, _ = Visitor(server).ask("GET", f"/?token={server.hub.token}")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in headers["Set-Cookie"].split(";")}


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1:1", "127.0.0.1", "", "127.0.0.2:{port}"]
)
def test_a_name_that_was_not_printed_is_refused_even_with_the_session(server: Serving, host: str) -> None:
    tab = Tab(server)
    assert tab.ask("GET", "/", Host=host.format(port=server.port))[0] == 403
    assert tab.ask("GET", "/")[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}"])
def test_requests_of_other_pages_are_refused_even_with_the_session(server: Serving, origin: str) -> None:
    tab = Tab(server)
    foreign = origin.format(port=server.port)
    assert tab.ask("POST", "/api/hello", {}, Origin=foreign)[0] == 403
    assert tab.ask("POST", "/api/hello", {}, Sec_Fetch_Site="cross-site")[0] == 403
    assert tab.ask("GET", "/page.js", Sec_Fetch_Site="same-site")[0] == 403
    assert tab.ask("POST", "/api/hello", {}, Origin=f"http://127.0.0.1:{server.port}")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/../../../../etc/passwd", "/litert/../secret.txt", "/litert/secret.txt", "/litert/%2e%2e/model.tflite"),
        *("//etc/passwd", "/page/page.js", "/web.py", "/files/../model.tflite", f"/files/{'a' * 64}", "/litert/"),
        *("/litert//etc/passwd", "/%00", "/litert/core.js/", "/worker.js%2f..%2f..%2fhub.py", "/\\..\\hub.py"),
    ],
)
def test_only_listed_files_are_served(server: Serving, path: str) -> None:
    tab = Tab(server)
    assert _status_of(path, tab) == 404
    assert tab.ask("GET", "/litert/core.js")[0] == 200


@pytest.mark.parametrize("path", ["http://[", "/?" + "a=1&" * 20])
def test_an_address_that_is_none_is_refused(server: Serving, path: str) -> None:
    assert _status_of(path, Tab(server)) == 400


def test_a_file_is_served_once_a_plan_names_it_and_by_its_hash(server: Serving, folder: Path) -> None:
    tab = Tab(server)
    placed = BrowserTransport(profiles.device("browser")).place(str(folder / "model.tflite"))
    status, headers, body = tab.ask("GET", f"/{placed}")
    assert (status, body) == (200, b"a model") and "immutable" in headers["Cache-Control"]


def test_every_answer_isolates_the_page_and_forbids_what_it_does_not_need(server: Serving) -> None:
    for visitor, path in (
        (Visitor(server), "/"),
        (Tab(server), "/"),
        (Tab(server), "/worker.js"),
        (Tab(server), "/no"),
    ):
        _, headers, _ = visitor.ask("GET", path)
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe-inline" not in policy and "'unsafe-eval'" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Content-Length: 1000001", 413),
        ("Content-Length: 99999999999999999999999", 413),
        ("Content-Length: -1", 411),
        ("Content-Length: 1_0", 411),
        ("Transfer-Encoding: chunked", 411),
        ("X-Nothing: 1", 411),
    ],
)
def test_a_body_over_the_cap_or_of_unknown_length_is_not_read(server: Serving, headers: str, status: int) -> None:
    tab = Tab(server)
    with socket.create_connection(("127.0.0.1", server.port), timeout=_WAIT_S) as raw:
        head = f"POST /api/hello HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: {tab.cookie}\r\n{headers}\r\n\r\n"
        raw.sendall(head.encode())
        answer = raw.makefile("rb").read()
    # And the connection is over: what follows would be taken for another request.
    assert answer.split()[1] == str(status).encode() and b"Connection: close" in answer


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"{" * 1000, b'"x"', b"[" * 900_000])
def test_a_body_that_is_no_object_is_refused(server: Serving, body: bytes) -> None:
    assert Tab(server).ask("POST", "/api/hello", body)[0] == 400


def test_a_page_writes_no_outputs_that_nobody_asked_for(server: Serving, folder: Path) -> None:
    tab, transport = Tab(server), BrowserTransport(profiles.device("browser"))
    link = transport.start(Plan(backend="litert"))
    key = tab.next()[0]["link"]
    for name in ("outputs/x", "../../x", "/etc/x", ""):
        assert tab.ask("POST", f"/api/out?tab={tab.tab}&name={name}", b"12345678")[0] == 403
    path = transport.scratch("outputs-0", folder)
    link.send(OutputsRequest(path))
    assert tab.next()[0]["link"] == key
    assert tab.ask("POST", f"/api/out?tab={tab.tab}&name={path}", b"12345678")[0] == 200
    assert transport.fetch(path, folder).read_bytes() == b"12345678"


def test_too_many_connections_are_turned_away_and_the_page_goes_on(server: Serving) -> None:
    tab = Tab(server)
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(web._MAX_CONNECTIONS + 8)]
    for one in idle:
        one.close()
    end_s = time.monotonic() + _WAIT_S
    while time.monotonic() < end_s:
        try:
            assert tab.ask("GET", "/")[0] == 200
            return
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
    raise AssertionError("the server did not come back")


# Where it listens.


def test_it_listens_on_loopback_unless_told_otherwise(server: Serving) -> None:
    assert server.base.startswith("http://127.0.0.1:")
    own = web.reach_of(_ALL)
    if own != "127.0.0.1":
        with pytest.raises(OSError):
            socket.create_connection((own, server.port), timeout=1)


@pytest.mark.parametrize("host", [_ALL, "192.168.1.5"])
def test_other_machines_are_let_in_by_https_only(folder: Path, host: str) -> None:
    with pytest.raises(UsageError, match="needs --https") as caught:
        serving.check_host(host, https=False)
    assert f"--host {host} --https" in caught.value.remedy
    with pytest.raises(UsageError, match="no IPv4 address"):
        serving.check_host("evil; rm", https=True)


def other_key() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_https_has_a_certificate_of_its_own_that_only_this_address_fits(folder: Path) -> None:
    pytest.importorskip("cryptography")
    with serving.serving(folder / "data", LitertJs(folder / "litert", "0"), https=True) as server:
        trusting = ssl.create_default_context(cafile=str(folder / "data" / "browser" / "certificate.pem"))
        # One who never shakes hands keeps nobody waiting.
        with socket.create_connection(("127.0.0.1", server.port)):
            connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=_WAIT_S, context=trusting)
            connection.request("GET", f"/?token={server.hub.token}")
            answer = connection.getresponse()
        assert answer.status == 200 and "Secure" in answer.headers["Set-Cookie"]
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(
                socket.create_connection(("127.0.0.1", server.port)), server_hostname="127.0.0.1"
            )
    key = folder / "data" / "browser" / "key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    with serving.serving(folder / "data", LitertJs(folder / "litert", "0"), https=True) as again:
        # A browser that was told to trust it need not be told again.
        assert key.read_bytes() == before and again.fingerprint == server.fingerprint
    # Ended between writing the key and the certificate, or while writing the key.
    for torn in (other_key(), before[:40]):
        key.write_bytes(torn)
        with serving.serving(folder / "data", LitertJs(folder / "litert", "0"), https=True) as anew:
            assert anew.fingerprint != server.fingerprint


# The processes of this machine.


def test_the_way_in_for_processes_is_readable_to_their_owner_alone(server: Serving, folder: Path) -> None:
    path = folder / "data" / "browser-server.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    state = control.running(folder / "data")
    assert state is not None and state.pid == os.getpid()
    for line in (b"GET / HTTP/1.1\r\n\r\n", b'{"secret": "x", "ask": "pages"}\n', b"[]\n", b"\xff\n"):
        with socket.create_connection(("127.0.0.1", state.port), timeout=_WAIT_S) as raw:
            raw.sendall(line)
            assert raw.recv(100) == b""


def test_a_second_server_is_refused(server: Serving, folder: Path) -> None:
    with pytest.raises(UsageError, match=f"running already .pid {os.getpid()}"):
        serving.serving(folder / "data", LitertJs(folder / "litert", "0")).__enter__()


def test_a_state_file_that_was_left_over_is_no_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPROF_DATA_DIR", str(folder))
    # Somebody else has the port by now, and answers in his own way.
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=lambda: other.accept()[0].sendall(b"220 mail\r\n"), daemon=True).start()
        control.write_state(folder, control.State(other.getsockname()[1], "x", 1))
        assert control.running(folder) is None
    for text in ("{", "{}", '{"port": 1, "secret": "x", "pid": 1}'):
        (folder / "browser-server.json").write_text(text)
        assert control.running(folder) is None
        with pytest.raises(UnreachableError, match="no browser is connected") as caught:
            BrowserTransport(profiles.device("browser"))
        assert "vitprof devices serve" in caught.value.remedy
    with serving.serving(folder, LitertJs(folder / "litert", "0")):
        assert control.running(folder) is not None


def test_without_a_page_it_says_what_to_open_and_of_several_it_wants_a_name(server: Serving) -> None:
    from dataclasses import replace

    device = profiles.device("browser")
    with pytest.raises(UnreachableError, match="no browser is connected") as caught:
        BrowserTransport(device)
    assert "open the address" in caught.value.remedy
    names = [Tab(server, agent).name for agent in (_PIXEL, _IPHONE, _PIXEL)]
    assert names == ["android-chrome", "iphone-safari", "android-chrome-2"]
    with pytest.raises(UnreachableError, match="android-chrome, android-chrome-2, iphone-safari") as caught:
        BrowserTransport(device)
    assert "host =" in caught.value.remedy
    with pytest.raises(UnreachableError, match="'x' is not connected"):
        BrowserTransport(replace(device, host="x"))
    BrowserTransport(replace(device, host="iphone-safari"))


def test_a_name_is_made_of_known_words_whatever_a_page_says_of_itself(server: Serving) -> None:
    assert Tab(server, "$(reboot)\n\x1b[31m<script>").name == "device-browser"
    assert hub.name_from("Mozilla/5.0 (Windows NT 10.0) Chrome/1 Safari/1 Edg/1") == "windows-edge"


# A page that is played by hand.


@pytest.fixture
def started(server: Serving) -> Callable[..., tuple[Tab, Any, str]]:
    def start() -> tuple[Tab, Any, str]:
        tab = Tab(server)
        link = BrowserTransport(profiles.device("browser")).start(Plan(backend="litert"))
        [command] = tab.next()
        assert json.loads(command["line"])["type"] == "plan"
        return tab, link, command["link"]

    return start


def test_a_plan_goes_to_the_page_and_its_answers_come_back(started: Callable[..., tuple[Tab, Any, str]]) -> None:
    tab, link, key = started()
    assert tab.say(key, _READY) == 200
    assert isinstance(link.receive(_WAIT_S), Ready)
    link.send(BlockRequest(7))
    [command] = tab.next()
    assert json.loads(command["line"]) == {"type": "block", "index": 7}
    link.close()
    # And once nobody listens the page is told to stop.
    assert tab.next() == [{"link": key, "close": True}]
    assert tab.say(key, _READY) == 404


@pytest.mark.parametrize("way", ["closed", "loaded again", "silent"])
def test_a_page_that_goes_is_a_failure_and_the_next_run_begins(
    server: Serving, started: Callable[..., tuple[Tab, Any, str]], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tab, link, _ = started()
    if way == "closed":
        tab.ask("POST", f"/api/bye?tab={tab.tab}", b"")
    elif way == "silent":
        monkeypatch.setattr(hub, "GONE_AFTER_S", 0.2)
    earlier = tab.tab
    if way == "loaded again":
        tab.hello()
    with pytest.raises(RunnerFailed) as caught:
        link.receive(_WAIT_S)
    assert caught.value.failure.stage == "link" and "in front" in caught.value.failure.remedy
    # Whose place another tab has taken is told so for good; who only slept may come back by itself.
    assert tab.ask("GET", f"/api/next?tab={earlier}")[0] == (410 if way == "loaded again" else 404)
    monkeypatch.setattr(hub, "GONE_AFTER_S", 10.0)
    if way != "loaded again":
        tab.hello()
    BrowserTransport(profiles.device("browser")).start(Plan(backend="litert"))
    assert json.loads(tab.next()[0]["line"])["type"] == "plan"


def test_what_is_no_message_is_a_failure(started: Callable[..., tuple[Tab, Any, str]]) -> None:
    tab, link, key = started()
    tab.say(key, {"type": "\x1b[31m"})
    with pytest.raises(RunnerFailed, match="not a message"):
        link.receive(_WAIT_S)


def test_a_page_works_for_one_process_at_a_time(server: Serving) -> None:
    tab, device = Tab(server), profiles.device("browser")
    first, second = BrowserTransport(device), BrowserTransport(device)
    held = first.start(Hold("a@here, pid 1"))
    command = tab.next()[0]
    tab.say(command["link"], {"type": "facts", "environment": {"cores": 4}})
    assert held.receive(_WAIT_S) == Facts({"cores": 4})
    for task in (Hold("b@here, pid 2"), Plan(backend="litert")):
        with pytest.raises(RunnerFailed, match="in use by") as caught:
            second.start(task).receive(_WAIT_S)
        assert caught.value.failure.stage == IN_USE_STAGE
    # Looking keeps nobody out, and is told who has it.
    looking = second.start(Hold("b@here, pid 2", only_look=True))
    [command] = tab.next()
    assert "pid" in command["held_by"]
    measuring = first.start(Plan(backend="litert"))
    assert json.loads(tab.next()[0]["line"])["type"] == "plan"
    for link in (looking, measuring, held):
        link.close()
    closed: list[dict[str, Any]] = []
    while len(closed) < 3:
        closed += tab.next()
    assert all(one["close"] for one in closed)
    later = second.start(Plan(backend="litert"))
    assert json.loads(tab.next()[0]["line"])["type"] == "plan"
    later.close()


def test_a_server_that_ends_is_a_failure_with_what_to_type(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPROF_DATA_DIR", str(folder / "data"))
    with serving.serving(folder / "data", LitertJs(folder / "litert", "0")) as server:
        tab = Tab(server)
        transport = BrowserTransport(profiles.device("browser"))
        link = transport.start(Plan(backend="litert"))
        tab.next()
    with pytest.raises(RunnerFailed) as caught:
        link.receive(_WAIT_S)
    assert "vitprof devices serve" in caught.value.failure.error
    with pytest.raises(RunnerFailed):
        transport.start(Plan(backend="litert"))
    assert not (folder / "data" / "browser-server.json").exists()
