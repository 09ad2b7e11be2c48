"""Locks that end with the process that holds them, however it ends: who makes an artifact, who needs which.

    <cache>/locks/<key>.lock        held while that artifact is made; a second process waits, then finds it
    <cache>/locks/<process>.uses    held by a process while it measures; in it the keys that it needs, one a line
    <cache>/locks/<folder>.staging  held while that staging folder is written
    <cache>/locks/evicting          held for the moments of choosing what to remove, and of adding to a `.uses`

Its own file because the rules of locking stand here and nowhere else. The kernel's flock, not the presence of a file,
is the lock: a crash leaves files behind and no lock. Needed artifacts are lines in one locked file, not a lock each: a
sweep needs thousands, and a process may often have no more than 256 files open. Where there can be no lock (a
read-only cache, Windows, which has no flock) everything goes on without: nobody can evict from a read-only cache.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

# Somebody else exports, which takes seconds at least, and may be measuring meanwhile: do not disturb it.
_POLL_S = 0.25
# The other locks are held for milliseconds.
_SHORT_POLL_S = 0.005
# A lock file may be deleted between opening and locking it, not this often in a row: such a file system has no locks.
_MAX_REOPENED = 100
_PREPARING, _USES, _STAGING = ".lock", ".uses", ".staging"
_EVICTING = "evicting"


@dataclass(frozen=True)
class Lock:
    """An open, locked file. The lock ends with `release`, or with this process."""

    path: Path
    handle: int

    def release(self) -> None:
        """Deletes the file, then frees the lock; whoever waits for this file sees that it is gone and makes one."""
        with contextlib.suppress(OSError):
            if _leads_to(self.path, self.handle):
                self.path.unlink()
        os.close(self.handle)


@dataclass(frozen=True)
class Busy:
    """What running processes hold: the `keys` of the artifacts that they need, and whether there are any at all."""

    keys: frozenset[str]
    is_anyone_running: bool


class InUse:
    """The artifacts that this process needs until the end of the `with`: no eviction takes them.

    Entered before anything in the cache is looked at. A key is added before its artifact is looked for: then either
    an eviction sees the key, or the artifact is found missing. Adding a key twice does no harm.
    """

    def __init__(self, cache_root: Path) -> None:
        self._cache_root = cache_root
        self._lock: Lock | None = None

    def __enter__(self) -> InUse:
        with evicting(self._cache_root):
            self._lock = _awaited(_locks(self._cache_root) / f"{unique_name()}{_USES}", None, _SHORT_POLL_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def add(self, key: str) -> None:
        """From now on this process needs the artifact of `key`, whether it is there already or not."""
        if self._lock is None:
            return
        # A disk without room for a line: to measure without protection is better than not to measure.
        with evicting(self._cache_root), contextlib.suppress(OSError):
            os.write(self._lock.handle, f"{key}\n".encode())


@contextlib.contextmanager
def preparing(cache_root: Path, key: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Inside the block no other process makes the artifact of `key`; look for it in the cache first, once inside.

    `waiting` is called four times a second while another process has the lock.
    """
    with _held(_locks(cache_root) / f"{key}{_PREPARING}", waiting, _POLL_S):
        yield


@contextlib.contextmanager
def evicting(cache_root: Path) -> Iterator[None]:
    """Inside the block what `busy` says stays true: nobody comes to need another artifact."""
    with _held(_locks(cache_root) / _EVICTING, None, _SHORT_POLL_S):
        yield


@contextlib.contextmanager
def staged(cache_root: Path, name: str) -> Iterator[None]:
    """Inside the block the staging folder `name` is not abandoned."""
    with _held(_staging(cache_root, name), None, _SHORT_POLL_S):
        yield


def abandoned(cache_root: Path, name: str) -> Lock | None:
    """The lock of a staging folder that nobody writes any more, to be released once it is removed; else None.

    `OSError` where there can be no locks, and so nothing is known.
    """
    return _attempt(_staging(cache_root, name))


def busy(cache_root: Path) -> Busy:
    """What other processes, and this one, hold now. Files of dead ones are removed on the way."""
    keys: set[str] = set()
    is_anyone_running = False
    for path in sorted(_locks(cache_root).glob("*")):
        if path.suffix not in (_PREPARING, _USES) or _is_free(path):
            continue
        is_anyone_running = True
        if path.suffix == _PREPARING:
            keys.add(path.stem)
        else:
            with contextlib.suppress(OSError):
                keys.update(path.read_text(errors="replace").split())
    return Busy(frozenset(keys), is_anyone_running)


def unique_name() -> str:
    """A name that no other process takes; it begins with the process's number, for people who look into the folder."""
    return f"{os.getpid()}-{secrets.token_hex(6)}"


def _is_free(path: Path) -> bool:
    try:
        lock = _attempt(path)
    except PermissionError:
        # Another user's, whose processes may well be running.
        return False
    except OSError:
        return True
    if lock is not None:
        lock.release()
    return lock is not None


@contextlib.contextmanager
def _held(path: Path, waiting: Callable[[], None] | None, poll_s: float) -> Iterator[None]:
    lock = _awaited(path, waiting, poll_s)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _awaited(path: Path, waiting: Callable[[], None] | None, poll_s: float) -> Lock | None:
    """The lock of `path`, as soon as it is free; None where there can be no locks."""
    while True:
        try:
            lock = _attempt(path)
        except OSError:
            return None
        if lock is not None:
            return lock
        # Asking again and again, because a call that blocks could not say meanwhile what it waits for.
        if waiting is not None:
            waiting()
        time.sleep(poll_s)


def _attempt(path: Path) -> Lock | None:
    """The lock of `path`, or None while somebody has it. `OSError` where there can be no locks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_MAX_REOPENED):
        with contextlib.ExitStack() as unless_locked:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            unless_locked.callback(os.close, handle)
            try:
                _flock(handle)
            except BlockingIOError:
                return None
            # Between the two calls above its holder may have deleted it: then another process may lock a new one.
            if _leads_to(path, handle):
                unless_locked.pop_all()
                return Lock(path, handle)
    raise OSError(errno.ENOLCK, "an open file and its name disagree", str(path))


def _flock(handle: int) -> None:
    if sys.platform == "win32":
        # Nothing there locks a whole file and lets others read it.
        raise OSError(errno.ENOTSUP, "no flock on Windows")
    import fcntl

    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _leads_to(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _locks(cache_root: Path) -> Path:
    return cache_root / "locks"


def _staging(cache_root: Path, name: str) -> Path:
    return _locks(cache_root) / f"{name}{_STAGING}"
