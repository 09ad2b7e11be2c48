"""Who is connected: pages on one side, measuring processes of this machine on the other, and what passes between.

Its own file because two servers meet here, and neither knows the other: `web` speaks HTTP with pages that are not
trusted, `control` speaks with vitprof's own processes. A page has links, one for each Plan that it runs; a link is of
one owner (a `vitprof` process), and a page works for one owner at a time.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitprof.runner.hold import IN_USE_STAGE
from vitprof.runner.wire import (
    LINK_LOST,
    FactsRequest,
    Failure,
    Hold,
    OutputsRequest,
    Plan,
    WireError,
    line_from_message,
    message_from_line,
)

# A page asks again at once: one that has not for so long was closed, or its device sleeps.
GONE_AFTER_S = 10.0
# One whose connection was cut asks again at once, or is no more.
COMES_BACK_S = 2.0
_SYSTEMS = (
    *(("iphone", "iPhone"), ("ipad", "iPad"), ("android", "Android"), ("mac", "Macintosh")),
    *(("windows", "Windows"), ("linux", "Linux")),
)
# Every browser claims to be some of the others: the first word that is found is its own.
_BROWSERS = (
    *(("edge", r"\bEdgA?/|\bEdgiOS/"), ("samsung", r"\bSamsungBrowser/"), ("firefox", r"\bFirefox/|\bFxiOS/")),
    *(("chrome", r"Chrome/|\bCriOS/"), ("safari", r"\bSafari/")),
)
_STAY = "keep the page open and in front, the screen on; then run again"
Deliver = Callable[[bytes], None]


class Refused(Exception):
    """The link cannot be, with the Failure to answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error)
        self.failure = failure


@dataclass
class Page:
    """A tab that has said hello. `tab` tells it from an earlier one of the same browser."""

    name: str
    session: str
    tab: str
    facts: Mapping[str, Any]
    commands: deque[dict[str, Any]] = field(default_factory=deque)
    links: dict[str, Link] = field(default_factory=dict)
    last_seen_s: float = field(default_factory=time.monotonic)
    is_asking: bool = False


@dataclass
class Link:
    """One task on a page. `deliver` takes each line to the process that asked."""

    key: str
    page: Page
    owner: str
    who: str
    task: Plan | Hold
    deliver: Deliver
    asked_s: float = field(default_factory=time.monotonic)
    # Of the page's outputs: those that this link has been asked for.
    outputs: set[str] = field(default_factory=set)

    @property
    def is_use(self) -> bool:
        """Whether others must wait for it: who only looks keeps nobody out, nor does a Hold that is out of time."""
        if isinstance(self.task, Plan):
            return True
        return not self.task.only_look and time.monotonic() < self.asked_s + self.task.deadline_s


class Hub:
    """The state of one server; safe to use from any thread."""

    def __init__(self, invited: Callable[[str], None] = lambda _: None) -> None:
        self._changed = threading.Condition()
        self._invited = invited
        self._token = secrets.token_urlsafe(24)
        self._sessions: set[str] = set()
        self._pages: dict[str, Page] = {}
        self._names: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        self.is_over = False

    # The pages' side.

    @property
    def token(self) -> str:
        """Of the next page: good for one."""
        return self._token

    def admit(self, token: str) -> str | None:
        """The session of the page that came with `token`; None where that is not the token of now."""
        with self._changed:
            if not secrets.compare_digest(token.encode(), self._token.encode()):
                return None
            self._token, session = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
            self._sessions.add(session)
        self._invited(self._token)
        return session

    def is_session(self, session: str) -> bool:
        given = session.encode()
        with self._changed:
            # All are compared, so that the time tells nothing of which was near.
            return any([secrets.compare_digest(given, one.encode()) for one in self._sessions])  # noqa: C419

    def hello(self, session: str, facts: Mapping[str, Any]) -> Page:
        """The page of `session`: an earlier tab of it is over, what it measured fails."""
        with self._changed:
            earlier = self._pages.pop(session, None)
            if earlier:
                self._drop(earlier, "the page was loaded anew")
            name = self._names.setdefault(session, self._free_name(str(facts.get("user_agent", ""))))
            page = Page(name, session, secrets.token_hex(8), facts)
            self._pages[session] = page
            self._changed.notify_all()
            return page

    def page(self, session: str, tab: str) -> Page | None:
        """The page, where it is still the one of its session."""
        with self._changed:
            page = self._pages.get(session)
            return page if page and page.tab == tab else None

    def has_page(self, session: str) -> bool:
        """Whether some tab of `session` is a page now."""
        with self._changed:
            return session in self._pages

    def commands(self, page: Page, wait_s: float, has_left: Callable[[], bool]) -> list[dict[str, Any]] | None:
        """What `page` is to do, waited for; None where it is no longer the page of its session, or the end is near."""
        deadline_s = time.monotonic() + wait_s
        left_s = 0.0
        with self._changed:
            page.is_asking = True
            try:
                while not page.commands and time.monotonic() < deadline_s:
                    if self.is_over or self._pages.get(page.session) is not page:
                        return None
                    if has_left():
                        left_s = GONE_AFTER_S - COMES_BACK_S
                        return []
                    self._changed.wait(min(1.0, wait_s))
                found = list(page.commands)
                page.commands.clear()
                return found
            finally:
                page.is_asking = False
                page.last_seen_s = time.monotonic() - left_s

    def said(self, page: Page, key: str, line: bytes) -> bool:
        """Passes a line of `page` on; False where that link is over."""
        with self._changed:
            page.last_seen_s = time.monotonic()
            link = page.links.get(key)
        if link is None:
            return False
        link.deliver(line)
        return True

    def may_write(self, page: Page, name: str) -> bool:
        """Whether `page` has been asked for these outputs."""
        with self._changed:
            return any(name in link.outputs for link in page.links.values())

    def file(self, sha256: str) -> Path | None:
        """A file that some Plan names."""
        with self._changed:
            return self._files.get(sha256)

    def leave(self, page: Page, why: str) -> None:
        with self._changed:
            if self._pages.get(page.session) is page:
                del self._pages[page.session]
            self._drop(page, why)
            self._changed.notify_all()

    def sweep(self) -> None:
        """Drops the pages that have not been heard of for long."""
        with self._changed:
            now_s = time.monotonic()
            pages = list(self._pages.values())
        for page in pages:
            if not page.is_asking and now_s - page.last_seen_s > GONE_AFTER_S:
                self.leave(page, "the page answers no more: it was closed, or its device sleeps")

    def end(self) -> None:
        with self._changed:
            self.is_over = True
            for page in self._pages.values():
                self._drop(page, "`vitprof devices serve` was ended", "start it again and open its new address")
            self._changed.notify_all()

    # The processes' side.

    def pages(self) -> tuple[Page, ...]:
        with self._changed:
            return tuple(sorted(self._pages.values(), key=lambda page: page.name))

    def offer(self, path: Path, sha256: str) -> None:
        """Lets pages read the file at `path`, whose content has that hash."""
        with self._changed:
            self._files[sha256] = path

    def open(self, owner: str, who: str, name: str, line: bytes, deliver: Deliver) -> Link:
        """A link to the page called `name` that begins with the task in `line`; `Refused` where it cannot be."""
        try:
            task = message_from_line(line)
        except WireError as error:
            raise Refused(Failure("plan", str(error), "upgrade vitprof")) from error
        if not isinstance(task, Plan | Hold):
            kind = type(task).__name__
            raise Refused(Failure("plan", f"a {kind} is no task for a page", "upgrade vitprof"))
        with self._changed:
            page = next((one for one in self._pages.values() if one.name == name), None)
            if page is None:
                what, remedy = f"the page '{name}' is not connected", "open it again, then run again"
                raise Refused(Failure("link", what, remedy, kind=LINK_LOST))
            other = next((link for link in page.links.values() if link.owner != owner and link.is_use), None)
            link = Link(secrets.token_hex(8), page, owner, who, task, deliver)
            if other and link.is_use:
                text = f"the page '{name}' is in use by {other.who}"
                raise Refused(Failure(IN_USE_STAGE, text, "wait for that to end, or open another page"))
            page.links[link.key] = link
            self._command(link, line, size=self._bytes_of(task), held_by=other.who if other else None)
            return link

    def tell(self, link: Link, line: bytes) -> None:
        """Passes a request on to the page of `link`."""
        with self._changed:
            try:
                request = message_from_line(line)
            except WireError:
                return
            if isinstance(request, OutputsRequest):
                link.outputs.add(request.path)
            if isinstance(request, FactsRequest):
                link.asked_s = time.monotonic()
            self._command(link, line)

    def close(self, link: Link) -> None:
        """Ends what the page does for `link`."""
        with self._changed:
            if link.page.links.pop(link.key, None):
                link.page.commands.append({"link": link.key, "close": True})
                self._changed.notify_all()

    def _command(self, link: Link, line: bytes, **more: object) -> None:
        link.page.commands.append({"link": link.key, "line": line.decode(), **more})
        self._changed.notify_all()

    def _bytes_of(self, task: Plan | Hold) -> int:
        path = self._files.get(task.artifact.rpartition("/")[2]) if isinstance(task, Plan) else None
        return path.stat().st_size if path and path.is_file() else 0

    def _drop(self, page: Page, why: str, remedy: str = _STAY) -> None:
        """Fails what runs on a page that is gone."""
        failure = Failure("link", why, remedy, kind=LINK_LOST)
        for link in list(page.links.values()):
            link.deliver(line_from_message(failure))
        page.links.clear()

    def _free_name(self, user_agent: str) -> str:
        base = name_from(user_agent)
        taken = set(self._names.values())
        numbered = (base if number == 1 else f"{base}-{number}" for number in range(1, len(taken) + 2))
        return next(name for name in numbered if name not in taken)


def name_from(user_agent: str) -> str:
    """`android-chrome`, `iphone-safari`, …: what a page is called, out of a closed set of words."""
    system = next((name for name, sign in _SYSTEMS if sign in user_agent), "device")
    browser = next((name for name, sign in _BROWSERS if re.search(sign, user_agent)), "browser")
    return f"{system}-{browser}"
