"""The lock of a device: one process at a time uses it, whoever started it and from wherever.

Its own file because both sides take it: the runner on a device for a host that holds it, and vitprof itself for the
machine that it runs on. The kernel's lock on an open file, not the presence of the file, is what holds: it ends with
the process, however that ends. The file is the same for all users of a machine, so it lies where all may write and is
opened with the distrust that such a place needs. Where there can be no lock (Windows, a file system without) everything
goes on without one.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import stat
import subprocess
import time
from typing import Any, Callable, Dict, List, Optional

from vitprof.runner import sensors
from vitprof.runner.backends import BACKENDS
from vitprof.runner.wire import EndRequest, Facts, FactsRequest, Failure, Hold, Message, WireError

# Where another folder is wanted: in tests, or where /tmp is not shared.
FOLDER_VARIABLE = "VITPROF_LOCK_DIR"
# Not TMPDIR: it differs between the users of one machine.
_FOLDER = "/tmp"  # noqa: S108 - opened with care, see `_opened`
_NAME = "vitprof-device.lock"
# Of the Failure that answers a Hold where another has the device: whoever asked may wait for it.
IN_USE_STAGE = "in use"
_SMI_TIMEOUT_S = 10
_EVERYBODY = 0o666
_LONGEST_NOTE_BYTES = 1_000
# The file may be replaced between opening and locking it, not this often in a row.
_MAX_REOPENED = 20


class InUse(Exception):
    """Another process has the device; `str` of it says who, and since when."""


class Lock:
    """The device's lock, until `release` or the end of this process. `InUse` where another process has it."""

    def __init__(self, who: str) -> None:
        self._handle = _locked(is_shared=False)
        if self._handle is not None:
            _write_note(self._handle, who)

    @property
    def is_held(self) -> bool:
        """False where this machine has no such locks, and after `release`."""
        return self._handle is not None

    def release(self) -> None:
        if self._handle is not None:
            _write_note(self._handle, None)
            os.close(self._handle)
        self._handle = None


def lock_path() -> str:
    return os.path.join(os.environ.get(FOLDER_VARIABLE) or _FOLDER, _NAME)


def holder() -> Optional[str]:
    """Who has the device now, and since when; None where nobody has."""
    try:
        handle = _locked(is_shared=True)
    except InUse as error:
        return str(error)
    if handle is not None:
        os.close(handle)
    return None


def who_am_i() -> str:
    """This process as others are told of it that wait: `me@laptop, pid 123`."""
    try:
        user = getpass.getuser()
    except (KeyError, ImportError, OSError):
        # A container's user may have a number and no name.
        user = "user %d" % os.getuid() if hasattr(os, "getuid") else "somebody"
    return f"{user}@{platform.node() or 'localhost'}, pid {os.getpid()}"


def in_use(error: InUse) -> Failure:
    """What is said to a host that wants a device which another process has."""
    return Failure(IN_USE_STAGE, f"in use {error}", "wait until it is free, or end that process")


def seen(request: FactsRequest, only_look: bool) -> Facts:
    """How the machine stands: with its runtimes where that is asked, to who only looks also who has it."""
    environment = sensors.environment()
    if request.with_runtimes:
        environment["runtimes"] = runtimes()
        environment.update(gpus())
    held_by = holder() if only_look else None
    if held_by:
        environment["held_by"] = held_by
    return Facts(environment)


def runtimes() -> Dict[str, Optional[str]]:
    """By the name of each backend the version of its runtime; None where it is not installed."""
    found: Dict[str, Optional[str]] = {}
    for name, entry in BACKENDS.items():
        if entry.requires:
            found[name] = _version(entry.requires)
    return found


def gpus() -> Dict[str, List[str]]:
    """`gpus`: the names of NVIDIA's, as their driver gives them; nothing where there is no such driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=_SMI_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"gpus": [line.strip() for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]}


def _version(package: str) -> Optional[str]:
    """Of what is imported as `package`; None where that is not installed."""
    # Not before it is asked for: they take longer to import than the lock to take.
    from importlib import metadata
    from importlib.util import find_spec

    if find_spec(package) is None:
        return None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        # Some are distributed under another name (onnxruntime-gpu); looking that up reads all that is installed.
        by_import = metadata.packages_distributions() if hasattr(metadata, "packages_distributions") else {}
        names = by_import.get(package)
        return metadata.version(names[0]) if names else "of unknown version"


def serve(
    hold: Hold, next_message: Callable[[], Message], say: Callable[[Message], None], prolong: Callable[[float], None]
) -> None:
    """Takes the lock, says how the device stands, and again at every request, until an `EndRequest`.

    Every request gives the process its whole deadline anew. `hold.only_look`: says it without taking the lock.
    """
    try:
        lock = None if hold.only_look else Lock(hold.who)
    except InUse as error:
        say(in_use(error))
        return
    try:
        say(seen(FactsRequest(), hold.only_look))
        while not isinstance(request := next_message(), EndRequest):
            if not isinstance(request, FactsRequest):
                raise WireError(f"a {type(request).__name__} is no request to who holds a device")
            prolong(hold.deadline_s)
            say(seen(request, hold.only_look))
    finally:
        if lock is not None:
            lock.release()


def _locked(is_shared: bool) -> Optional[int]:
    """An open file with the lock on it; None where there can be none. `InUse` where another process has it.

    A shared one only looks whether somebody has it.
    """
    try:
        import fcntl
    except ImportError:
        return None
    path = lock_path()
    for _ in range(_MAX_REOPENED):
        handle = _opened(path)
        if handle is None:
            return None
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            note = _note(handle)
            os.close(handle)
            raise InUse(note) from None
        except OSError:
            os.close(handle)
            return None
        if _leads_to(path, handle):
            return handle
        # Somebody who tidies up took the file away meanwhile: the lock would be on nothing that others open.
        os.close(handle)
    return None


def _opened(path: str) -> Optional[int]:
    """A plain file that all users may open; None where there is none and none can be made.

    Never through a link, nor a pipe that would block, nor a file that has another name as well. An existing one is
    opened without O_CREAT: in a folder that all may write to, Linux refuses that for a file of somebody else.
    """
    careful = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    for flags in (careful, careful | os.O_CREAT | os.O_EXCL, careful):
        try:
            handle = os.open(path, flags, _EVERYBODY)
        except OSError:
            continue
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            os.close(handle)
            return None
        if flags & os.O_CREAT:
            # The mask of the one who comes first must not keep the others out.
            os.fchmod(handle, _EVERYBODY)
        return handle
    return None


def _leads_to(path: str, handle: int) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(there, os.fstat(handle))


def _write_note(handle: int, who: Optional[str]) -> None:
    text = "" if who is None else json.dumps({"who": who[:200], "since": time.time()})
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)
    except OSError:
        # A full disk: the lock holds all the same, only who has it is not told.
        return


def _note(handle: int) -> str:
    """`me@laptop, pid 7, since 3 min`, from what the holder has written."""
    try:
        said: Any = json.loads(os.pread(handle, _LONGEST_NOTE_BYTES, 0))
        who, since_s = str(said["who"])[:200], time.time() - float(said["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return "by a process that does not say who it is"
    return f"by {who or 'somebody'}, since {_duration_text(since_s)}"


def _duration_text(seconds: float) -> str:
    minutes = max(0.0, seconds) / 60
    return "less than a minute" if minutes < 1 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
