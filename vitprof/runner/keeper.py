"""The device's cache: files under their hash, environments, and a folder for what a run writes.

A program of its own: the host sends its text over a link and it answers requests, one JSON object a line, until the
link ends. Files that it is given or asked for follow their line as plain bytes. Nothing of it stays on the device but

    <cache>/vitprof/device/files/<sha256>.<suffix>     what was sent; .part: as far as it came
    <cache>/vitprof/device/environments/<key>/         virtual environments, which appear whole, by one rename
    <cache>/vitprof/device/runs/<name>/                what runners write, removed when the link ends
    <cache>/vitprof/device/in-use                      locked (shared) by everyone who uses any of it
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Mapping, NoReturn, Optional, Tuple

_CHUNK_BYTES = 1 << 20
# A link that died without a word must not leave this process for ever.
_IDLE_S = 86_400
# What was begun and never finished.
_ABANDONED_S = 86_400
_PART = ".part"
# In the folder of a run: which keeper removes it.
_OWNER = "keeper"


class Refused(Exception):
    """What cannot be done: `kind` for the host, which knows what to type."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Keeper:
    """Answers requests about one cache, whose files nobody removes while it lives."""

    def __init__(self, root: str, requests: BinaryIO, answers: BinaryIO, mark: bytes) -> None:
        self._root = root
        # Begins every line to the host.
        self._mark = mark
        self._requests = requests
        self._answers = answers
        self._run: Optional[str] = None
        # The file that is being taken, locked, from `offer` to the end of `fill`.
        self._part: Optional[Any] = None
        self._is_in_pieces = False
        os.makedirs(root, mode=0o700, exist_ok=True)
        for name in ("files", "environments", "runs"):
            os.makedirs(os.path.join(root, name), exist_ok=True)
        self._in_use = os.open(os.path.join(root, "in-use"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._in_use, fcntl.LOCK_SH)

    def serve(self) -> None:
        """Until the host has ended the link."""
        while True:
            signal.alarm(_IDLE_S)
            line = self._requests.readline()
            if not line:
                return
            request = json.loads(line)
            try:
                answer = self._doing(request.pop("do"))(**request)
            except (Refused, OSError) as error:
                answer = _answer_from_error(error)
            if answer is not None:
                self._say(answer)
            if self._is_in_pieces:
                # The rest of a file is still on its way: there is no telling it from the next request.
                return

    def close(self, cap_bytes: int) -> None:
        """Removes what this session wrote, and brings the files down to `cap_bytes` if nobody else needs them."""
        if self._run and self._is_owner():
            shutil.rmtree(self._run, ignore_errors=True)
        if self._is_alone():
            self._trimmed(cap_bytes)

    def _doing(self, name: str) -> Callable[..., Optional[Dict[str, Any]]]:
        table: Dict[str, Callable[..., Optional[Dict[str, Any]]]] = {
            "greet": self._greet, "find": self._find, "offer": self._offer, "fill": self._fill, "get": self._get,
            "interpreter": self._interpreter, "make": self._make, "list": self._list, "clean": self._clean,
        }  # fmt: skip
        return table[name]

    def _greet(self, run: str) -> Dict[str, Any]:
        """Where the cache is; `run` names the folder for what runners of this session write."""
        self._run = os.path.join(self._root, "runs", run)
        # A full disk must not keep out who comes to free it.
        with contextlib.suppress(OSError):
            os.makedirs(self._run, exist_ok=True)
            with open(os.path.join(self._run, _OWNER), "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
        return {"root": self._root, "run": self._run}

    def _find(self, name: str, size: Optional[int]) -> Dict[str, Any]:
        """The path of what was sent as `name`, if it is whole; `size` of a file in bytes, None for a folder."""
        path = self._file(name)
        try:
            is_there = os.path.isdir(path) if size is None else os.path.getsize(path) == size
            if is_there:
                os.utime(path)
        except FileNotFoundError:
            is_there = False
        return {"path": path if is_there else None}

    def _offer(self, name: str, needed: int) -> Dict[str, Any]:
        """How much of `name` has come so far, and its hash, to go on from; `needed`: bytes that it takes meanwhile."""
        if self._part is not None:
            self._part.close()  # Offered and never sent: its lock would keep this very session out.
        self._part = part = _locked(self._file(name) + _PART)
        digest = hashlib.sha256()
        held = _added(part, digest)
        free = shutil.disk_usage(self._root).free
        if free < needed - held:
            raise Refused("full", f"{needed - held:,} bytes are needed there and {free:,} are free")
        return {"held": held, "sha256": digest.hexdigest()}

    def _fill(self, name: str, sha256: str, size: int, held: int, unpack: bool) -> Dict[str, Any]:
        """Takes the bytes of what was offered, from `held` on; it has its name when its hash is right.

        `unpack`: they are a tar of the folder that is meant.
        """
        path, part, digest = self._file(name), self._part, hashlib.sha256()
        if part is None:
            raise Refused("device", f"{name} was not offered")
        self._is_in_pieces = True
        part.truncate(held)
        part.seek(0)
        _added(part, digest)
        for chunk in self._coming(size - held):
            part.write(chunk)
            digest.update(chunk)
        part.flush()
        self._is_in_pieces = False
        self._part = None
        with part:
            if digest.hexdigest() != sha256:
                os.unlink(part.name)
                raise Refused("torn", f"{name} arrived with the sha256 {digest.hexdigest()[:12]}…")
            if unpack:
                _unpack(part, path)
                os.unlink(part.name)
            else:
                os.replace(part.name, path)
        return {"path": path}

    def _get(self, path: str) -> None:
        """The bytes of a file of this session, which is removed then."""
        folder = os.path.realpath(self._run or "")
        if not os.path.realpath(path).startswith(folder + os.sep):
            raise Refused("device", f"{path} is not in the folder of this run")
        with open(path, "rb") as file:
            left = os.path.getsize(path)
            self._say({"bytes": left})
            while left:
                chunk = file.read(min(left, _CHUNK_BYTES))
                if not chunk:
                    sys.exit(f"{path} became shorter while it was read")
                self._answers.write(chunk)
                left -= len(chunk)
        self._answers.flush()
        os.unlink(path)

    def _interpreter(self, named: Optional[str], key: str) -> Dict[str, Any]:
        """The path of the interpreter that the profile names, else of environment `key`; None where there is none."""
        if named is not None:
            return {"path": shutil.which(os.path.expanduser(named))}
        path = os.path.join(self._environment(key), "bin", "python")
        if not os.access(path, os.X_OK):
            return {"path": None}
        os.utime(self._environment(key))
        return {"path": path}

    def _make(self, key: str, requirements: List[str], wheels: Optional[str]) -> Dict[str, Any]:
        """A virtual environment with `requirements`."""
        folder = self._environment(key)
        # A virtual environment may be moved once: its interpreter finds its packages from where it lies.
        making = f"{folder}.{os.getpid()}{_PART}"
        try:
            self._run_or_end([sys.executable, "-m", "venv", making])
            pip = [os.path.join(making, "bin", "python"), "-m", "pip", "install", "--disable-pip-version-check"]
            offline = ["--no-index", "--find-links", wheels] if wheels else []
            if requirements:
                self._run_or_end([*pip, *offline, "--", *requirements])
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(making, folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return {"path": os.path.join(folder, "bin", "python")}

    def _list(self) -> Dict[str, Any]:
        return {"entries": [{"name": name, "bytes": size, "used": used} for used, size, name in self._entries()]}

    def _clean(self, cap_bytes: int, everything: bool) -> Dict[str, Any]:
        """Removes files down to `cap_bytes`, those not used for longest first; `everything`: environments as well."""
        if not self._is_alone():
            raise Refused("busy", "another vitprof is using it")
        removed = self._trimmed(0 if everything else cap_bytes)
        if everything:
            removed += [entry for entry in self._entries() if not entry[2].startswith("runs")]
            self._remove([name for _, _, name in removed])
        # The folder of this very session is one of them.
        fcntl.flock(self._in_use, fcntl.LOCK_SH)
        return {"removed": [name for _, _, name in removed], "bytes": sum(size for _, size, _ in removed)}

    def _coming(self, count: int) -> Iterator[bytes]:
        while count:
            chunk = self._requests.read(min(count, _CHUNK_BYTES))
            if not chunk:
                # The link was cut; what has come so far is kept, to go on from.
                sys.exit("the link ended in the middle of a file")
            count -= len(chunk)
            yield chunk

    def _run_or_end(self, command: List[str]) -> None:
        """Runs a program to its end, or to that of the link; what it says goes to the host as it comes."""
        signal.alarm(0)
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        assert child.stdout is not None  # noqa: S101 - opened with PIPE
        try:
            while True:
                ready = select.select([self._requests, child.stdout], [], [])[0]
                # The host says nothing while this runs: what can be read is the end.
                if self._requests in ready:
                    raise Refused("device", "the link ended")
                said = os.read(child.stdout.fileno(), _CHUNK_BYTES)
                if not said:
                    break
                self._say({"said": said.decode(errors="replace")})
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        finally:
            child.wait()
        if child.returncode:
            raise Refused("command", f"`{' '.join(command[1:4])} …` ended with status {child.returncode}")

    def _is_owner(self) -> bool:
        """False where the host has begun anew with another keeper, and the cut of this one's link came out later."""
        with contextlib.suppress(OSError), open(os.path.join(self._run or "", _OWNER), encoding="ascii") as file:
            return file.read() in ("", str(os.getpid()))
        return True

    def _is_alone(self) -> bool:
        """Whether no other session uses the cache; nobody can begin to until this one ends or locks it anew."""
        fcntl.flock(self._in_use, fcntl.LOCK_UN)
        try:
            fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._in_use, fcntl.LOCK_SH)
            return False
        return True

    def _trimmed(self, cap_bytes: int) -> List[Tuple[float, int, str]]:
        """What was removed: what was abandoned, then files from the one not used for longest."""
        entries, now = self._entries(with_environments=False), time.time()
        removed = [one for one in entries if _PART in one[2] and one[0] < now - _ABANDONED_S]
        removed += [one for one in entries if one[2].startswith("runs")]
        files = [one for one in entries if one[2].startswith("files") and one not in removed]
        over = sum(size for _, size, _ in files) - cap_bytes
        for one in files:
            if over > 0:
                removed.append(one)
                over -= one[1]
        self._remove([name for _, _, name in removed])
        return removed

    def _remove(self, names: List[str]) -> None:
        for name in names:
            path = os.path.join(self._root, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            elif os.path.lexists(path):
                os.unlink(path)

    def _entries(self, with_environments: bool = True) -> List[Tuple[float, int, str]]:
        """(last used, bytes, name) of all that is here, but the folder of this session; longest unused first."""
        found = []
        for part in ("files", "environments", "runs"):
            for name in os.listdir(os.path.join(self._root, part)):
                path = os.path.join(self._root, part, name)
                # Adding up the many files of an environment takes seconds on a slow card.
                if path == self._run or (part == "environments" and not with_environments and _PART not in name):
                    continue
                # Another session may finish or remove it meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    found.append((os.lstat(path).st_mtime, _bytes_of(path), os.path.join(part, name)))
        return sorted(found)

    def _file(self, name: str) -> str:
        return os.path.join(self._root, "files", _plain(name))

    def _environment(self, key: str) -> str:
        """Of another Python or processor it is another one: a home folder may be shared."""
        version = "%d.%d" % sys.version_info[:2]
        return os.path.join(self._root, "environments", f"{_plain(key)}-python{version}-{platform.machine()}")

    def _say(self, answer: Mapping[str, Any]) -> None:
        self._answers.write(self._mark + json.dumps(answer).encode() + b"\n")
        self._answers.flush()


def cache_root() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "vitprof", "device")


def _answer_from_error(error: Exception) -> Dict[str, Any]:
    if not isinstance(error, OSError):
        return {"error": str(error), "kind": getattr(error, "kind", "device")}
    text = f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
    return {"error": text, "kind": "full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "device"}


def _plain(name: str) -> str:
    if not name or name.startswith(".") or not all(letter.isalnum() or letter in "._-" for letter in name):
        raise Refused("device", f"{name!r} is no name of this cache")
    return name


def _locked(path: str) -> Any:
    """The open file at `path`, for this process alone; `Refused` where somebody else is writing it."""
    while True:
        file = open(path, "ab+")  # noqa: SIM115 - it stays open
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise Refused("sending", "another vitprof is sending the same file") from None
        file.seek(0)
        # Whoever wrote it last may have given it its name meanwhile: then it is no part any more.
        if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(file.fileno())):
            return file
        file.close()


def _added(file: Any, digest: Any) -> int:
    """The size of the file, which is read from here to its end and given to `digest`."""
    for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
        digest.update(chunk)
    return int(file.tell())


def _unpack(part: Any, path: str) -> None:
    """The folder in a tar made by the host: plain files and folders, beneath `path` and nowhere else."""
    part.seek(0)
    making = tempfile.mkdtemp(prefix="unpacking-", suffix=_PART, dir=os.path.dirname(path))
    try:
        with tarfile.open(fileobj=part, mode="r:") as archive:
            for member in archive:
                steps = member.name.split("/")
                if not (member.isfile() or member.isdir()) or ".." in steps or member.name.startswith("/"):
                    raise Refused("device", f"{member.name!r} does not belong into a folder of files")
                archive.extract(member, making, set_attrs=False)
        shutil.rmtree(path, ignore_errors=True)
        os.rename(making, path)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _bytes_of(path: str) -> int:
    if not os.path.isdir(path) or os.path.islink(path):
        return os.lstat(path).st_size
    files = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    return sum(os.lstat(file).st_size for file in files)


def main(cap_bytes: int, mark: bytes) -> NoReturn:
    """Serves the host on standard input and output. Its end is the end of the input."""
    keeper = None
    with contextlib.suppress(BrokenPipeError):
        try:
            keeper = Keeper(cache_root(), sys.stdin.buffer, sys.stdout.buffer, mark)
            keeper.serve()
        except OSError as error:
            # A link that is gone raises here again: nothing is left to be said to anybody.
            sys.stdout.buffer.write(mark + json.dumps(_answer_from_error(error)).encode() + b"\n")
        finally:
            if keeper is not None:
                keeper.close(cap_bytes)
        sys.stdout.buffer.flush()
    os._exit(0)
