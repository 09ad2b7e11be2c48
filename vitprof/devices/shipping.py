"""What is sent to a device, under its hash and only where it is missing there: the host's side of `runner/keeper.py`.

Its own file because it knows nothing of how a device is reached: whoever can run a program there, with a pipe to its
standard input and from its standard output, can ship to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import selectors
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from subprocess import Popen
from typing import IO, Any

from vitprof.errors import VitprofError

# Of files on a device, environments not counted: a hundred models of ten million weights, an eighth of a 32 GB card.
DEFAULT_CAP_BYTES = 5_000_000_000
# Begins every line of the keeper: what a login shell prints is not taken for an answer.
_MARK = b"vitprof-keeper "
_CHUNK_BYTES = 1 << 20
# A slow card reads back at 20 MB/s what it holds of a large file.
_ANSWER_S = 600.0
# How long another vitprof may take to send the same file.
_SENDING_S = 900.0
_POLL_S = 1.0
_LONGEST_LINE_BYTES = 1 << 24
# What a login shell may print.
_MOST_NOISE_LETTERS = 1 << 16
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}")
# Run as `python -c BOOT SIZE`: the program itself comes over standard input. Readable by any Python.
BOOT = (
    "import sys; sys.version_info < (3, 9) and "
    '(sys.stderr.write("vitprof-python " + sys.version.split()[0] + "\\n"), sys.exit(97)); '
    "exec(sys.stdin.buffer.read(int(sys.argv[1])))"
)


class Lost(Exception):
    """The keeper is gone, or does not answer: the link is cut, or the device is."""


class Refused(Exception):
    """The device says no; `kind` as in `runner/keeper.py`."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True)
class Parcel:
    """A file on its way, or a folder as a tar of it; `name`: its hash and its suffix, nothing of the user's own."""

    file: Path
    name: str
    sha256: str
    bytes: int
    is_folder: bool


@dataclass(frozen=True)
class Kept:
    """One thing in a device's cache; `used_s`: when it was used last, by the device's clock."""

    name: str
    bytes: int
    used_s: float


def program(cap_bytes: int = DEFAULT_CAP_BYTES) -> bytes:
    """The keeper as a text for any Python from 3.9 on."""
    text = resources.files("vitprof.runner").joinpath("keeper.py").read_bytes()
    return text + f"\n\nmain({cap_bytes}, {_MARK!r})\n".encode()


class Keeper:
    """Talks to the keeper behind `process`, which has been started with `BOOT` and the size of `text`."""

    def __init__(
        self, process: Popen[bytes], text: bytes, run: str, timeout_s: float, heard: Callable[[str], None]
    ) -> None:
        self._process = process
        # Told what programs say there.
        self._heard = heard
        self._buffer = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)
        # What a login shell prints before: it would spoil what runners say.
        self.noise = ""
        self._write(text)
        self._write(_line({"do": "greet", "run": run}))
        self.facts = self._answer(timeout_s)

    def asked(self, do: str, timeout_s: float = _ANSWER_S, **arguments: object) -> dict[str, Any]:
        """The answer to a request; `Lost`, `Refused`."""
        self._write(_line({"do": do, **arguments}))
        return self._answer(timeout_s)

    def placed(self, parcel: Parcel) -> str:
        """The device's path of `parcel`, sent there where it is missing, from where an earlier try was cut."""
        end_s, was_torn = time.monotonic() + _SENDING_S, False
        while True:
            found = self.asked("find", name=parcel.name, size=None if parcel.is_folder else parcel.bytes)
            if found["path"] is not None:
                return str(found["path"])
            try:
                return self._sent(parcel)
            except Refused as error:
                # Torn: once more from the beginning. Being sent: by another vitprof, for whom this one waits.
                is_torn = error.kind == "torn"
                may_pass = not was_torn if is_torn else error.kind == "sending" and time.monotonic() < end_s
                if not may_pass:
                    raise
                was_torn = was_torn or is_torn
                time.sleep(_POLL_S)

    def got(self, path: str, target: Path) -> Path:
        """The device's file at `path`, written to `target` and removed there."""
        left = int(self.asked("get", path=path)["bytes"])
        with target.open("wb") as file:
            file.write(self._buffer[:left])
            left, self._buffer = left - len(self._buffer[:left]), self._buffer[left:]
            end_s = time.monotonic() + _ANSWER_S
            while left:
                data = self._read(end_s, min(left, _CHUNK_BYTES))
                file.write(data)
                left -= len(data)
        return target

    def kept(self) -> tuple[Kept, ...]:
        """What the cache holds, the one used last first."""
        found = [Kept(str(one["name"]), int(one["bytes"]), float(one["used"])) for one in self.asked("list")["entries"]]
        return tuple(sorted(found, key=lambda one: -one.used_s))

    def close(self) -> None:
        self._selector.close()

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None  # noqa: S101 - opened with PIPE
        return self._process.stdout

    def _sent(self, parcel: Parcel) -> str:
        # A folder is there twice while it is unpacked.
        needed = parcel.bytes * (2 if parcel.is_folder else 1)
        offered = self.asked("offer", name=parcel.name, needed=needed)
        with parcel.file.open("rb") as file:
            held = int(offered["held"])
            if held > parcel.bytes or _sha256(file, held) != offered["sha256"]:
                held = 0
            file.seek(held)
            size = parcel.bytes
            request = {"name": parcel.name, "sha256": parcel.sha256, "size": size, "held": held}
            self._write(_line({"do": "fill", **request, "unpack": parcel.is_folder}))
            for chunk in _chunks(file, size - held):
                self._write(chunk)
            if file.tell() < size:
                # The rest will never come, and whatever is said next would be taken for it.
                raise Lost(f"{parcel.file} became shorter while it was sent")
        return str(self._answer(_ANSWER_S)["path"])

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 - opened with PIPE
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._process.stdin.fileno(), view) :]
        except BrokenPipeError:
            # It may have said why before it went.
            self._answer(_ANSWER_S)
            raise Lost("it went away without a word") from None

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        end_s = time.monotonic() + timeout_s
        while True:
            while b"\n" not in self._buffer:
                self._buffer += self._read(end_s, _CHUNK_BYTES)
                if len(self._buffer) > _LONGEST_LINE_BYTES:
                    raise Lost(f"it sends what is no answer: {bytes(self._buffer[:60])!r}")
            line, _, self._buffer = self._buffer.partition(b"\n")
            if not line.startswith(_MARK):
                self.noise += line.decode(errors="replace") + "\n"
                if len(self.noise) > _MOST_NOISE_LETTERS:
                    raise Lost(f"it sends what is no answer, without an end: {self.noise[:60]!r}")
                continue
            try:
                answer = dict(json.loads(line[len(_MARK) :]))
            except ValueError:
                raise Lost(f"it sends what is no answer: {bytes(line[:100])!r}") from None
            if "said" in answer:
                self._heard(str(answer["said"]))
            elif "error" in answer:
                raise Refused(str(answer.get("kind")), str(answer["error"]))
            else:
                return answer

    def _read(self, end_s: float, most: int) -> bytes:
        if not self._selector.select(max(0.0, end_s - time.monotonic())):
            raise Lost("it does not answer")
        data = os.read(self._stdout.fileno(), most)
        if not data:
            raise Lost("the link ended")
        return data


def run_name() -> str:
    """A name for what one run writes on a device."""
    return secrets.token_hex(8)


class Parcels:
    """Parcels of files and folders, each hashed once as long as it does not change; tars of folders until `close`."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._made: dict[str, tuple[object, Parcel]] = {}

    def parcel(self, path: str) -> Parcel:
        """`path` as it is sent; `VitprofError` where it cannot be read."""
        try:
            stamp = _stamp(Path(path))
            known = self._made.get(path)
            if known is None or known[0] != stamp:
                made = self._folder_parcel(Path(path)) if Path(path).is_dir() else _file_parcel(Path(path))
                known = self._made[path] = (stamp, made)
        except OSError as error:
            raise VitprofError(
                f"cannot read {path}: {error.strerror or error}", remedy="run again to make it anew", stage="ship"
            ) from error
        return known[1]

    def close(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _folder_parcel(self, path: Path) -> Parcel:
        """A tar that is the same for the same files, whoever has them and whenever they were made."""
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="vitprof-ship-"))
        file = self._folder / f"{secrets.token_hex(8)}.tar"
        # A link is sent as what it leads to.
        with tarfile.open(file, "w", format=tarfile.PAX_FORMAT, dereference=True) as archive:
            for one in sorted(path.rglob("*")):
                archive.add(one, one.relative_to(path).as_posix(), recursive=False, filter=_anonymous)
        parcel = _file_parcel(file)
        return Parcel(file, parcel.sha256 + _suffix(path), parcel.sha256, parcel.bytes, is_folder=True)


def _file_parcel(path: Path) -> Parcel:
    with path.open("rb") as file:
        sha256 = _sha256(file, None)
        return Parcel(path, sha256 + _suffix(path), sha256, os.fstat(file.fileno()).st_size, is_folder=False)


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mtime = info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o755 if info.isdir() else 0o644
    return info


def _suffix(path: Path) -> str:
    """`.onnx`, by which some runtimes know a format; nothing where it is not that plain."""
    return path.suffix if _SUFFIX.fullmatch(path.suffix) else ""


def _stamp(path: Path) -> object:
    """What differs when a file or folder was changed."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return tuple((str(one), stat.st_size, stat.st_mtime_ns, stat.st_ino) for one in files for stat in [one.stat()])


def _sha256(file: IO[bytes], count: int | None) -> str:
    """Of the first `count` bytes, or of all."""
    digest = hashlib.sha256()
    for chunk in _chunks(file, count):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(file: IO[bytes], count: int | None) -> Iterator[bytes]:
    left = count
    while data := file.read(_CHUNK_BYTES if left is None else min(left, _CHUNK_BYTES)):
        yield data
        left = None if left is None else left - len(data)


def _line(request: dict[str, object]) -> bytes:
    return json.dumps(request).encode() + b"\n"
