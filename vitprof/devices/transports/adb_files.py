"""Files of an Android device, in one folder: sent once, found again by the hash of their content.

Its own file because it knows nothing of measuring. A file appears under its name only when it is whole and its hash
was taken there, so that a cut leaves nothing that could be mistaken for it. What was not used for longest goes first
when all of them are larger than the cap.
"""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vitprof.devices.adb_client import Adb
from vitprof.errors import UsageError, VitprofError

FOLDER = "/data/local/tmp/vitprof"
# As on other devices (`devices clean`).
CAP_BYTES = 5_000_000_000
# A hash takes a phone a second for a few hundred megabytes.
_HASH_TIMEOUT_S = 300.0
_HASH_CHUNK_BYTES = 1 << 20
# $1 the file's place, $2 its hash: whether it is there and whole; `touch` for the order of use.
_HAS = r"""
[ -f "$1" ] || exit 1
sum=$(sha256sum "$1") || exit 2
[ "${sum%% *}" = "$2" ] || { rm -f "$1"; exit 1; }
touch "$1"
"""
# $1 what has arrived, $2 its hash, $3 its place, $4 its mode.
_TAKE = r"""
sum=$(sha256sum "$1") || exit 2
if [ "${sum%% *}" != "$2" ]; then rm -f "$1"; echo "${sum%% *}"; exit 1; fi
chmod "$4" "$1" && touch "$1" && mv -f "$1" "$3"
"""
_NAMES_A_COMMAND = 50
_LIST = 'cd "$1" 2>/dev/null && stat -c "%Y %s %n" -- * 2>/dev/null; exit 0'


class AdbFiles:
    """vitprof's folder on one device."""

    def __init__(self, adb: Adb) -> None:
        self._adb = adb
        self._cache = f"{FOLDER}/cache"
        self._scratch = f"{FOLDER}/scratch/{uuid.uuid4().hex}"
        self._placed: dict[tuple[str, bool], str] = {}
        self._has_scratch = False

    @property
    def lock(self) -> str:
        """The file whose lock is the right to use the device."""
        return f"{FOLDER}/device.lock"

    def place(self, path: Path, *, is_program: bool) -> str:
        """The device's own path of a file, sent there first where it is missing; `VitprofError` where it cannot be."""
        if path.is_dir():
            what = f"{path} is a folder; an Android device runs single files (.tflite)"
            raise UsageError(what, remedy="use --backend litert or litert-gpu", stage="device")
        key = (str(path), is_program)
        if key not in self._placed:
            digest = _sha256(str(path), path.stat().st_mtime_ns, path.stat().st_size)
            place = f"{self._cache}/{digest}"
            if self._adb.shell(_HAS, place, digest, timeout_s=_HASH_TIMEOUT_S).status != 0:
                self._send(path, digest, place, "755" if is_program else "644")
            self._placed[key] = place
        return self._placed[key]

    def place_part(self, placed: str, start: int, size: int) -> str:
        """The device's own path of a file with `size` bytes of one that was placed, from `start` on."""
        local = next(Path(path) for (path, _), place in self._placed.items() if place == placed)
        with local.open("rb") as file, tempfile.TemporaryDirectory(prefix="vitprof-") as folder:
            file.seek(start)
            part = Path(folder) / "part"
            part.write_bytes(file.read(size))
            return self.place(part, is_program=False)

    def scratch(self, name: str) -> str:
        """A path for a file that is written there; `close` deletes it."""
        if not self._has_scratch:
            # What a run left behind that was cut off a day ago goes as well.
            old = 'find "${1%/*}" -mindepth 1 -maxdepth 1 -mtime +1 -exec rm -rf {} + 2>/dev/null'
            self._adb.shell(f'mkdir -p "$1"; {old}; exit 0', self._scratch)
            self._has_scratch = True
        return f"{self._scratch}/{name}"

    def fetch(self, path: str, folder: Path) -> Path:
        local = folder / path.rpartition("/")[2]
        self._adb.pull(path, local)
        return local

    def close(self) -> None:
        if self._has_scratch:
            try:
                self._adb.shell('rm -rf "$1"', self._scratch)
            except VitprofError:
                # The device is gone: the next `devices clean` finds it.
                return
            self._has_scratch = False

    def _send(self, path: Path, digest: str, place: str, mode: str) -> None:
        self._make_room(path.stat().st_size)
        arriving = f"{self._cache}/arriving-{uuid.uuid4().hex}"
        self._adb.push(path, arriving)
        done = self._adb.shell(_TAKE, arriving, digest, place, mode, timeout_s=_HASH_TIMEOUT_S)
        if done.status != 0:
            said = (done.stdout.strip() or done.stderr.strip())[:200]
            raise VitprofError(
                f"{path} did not arrive whole on Android device {self._adb.serial}: {said}",
                remedy="run again; if it stays, free some space there",
                stage="device",
            )

    def _make_room(self, coming_bytes: int) -> None:
        """Deletes what was used longest ago while all is above the cap, but nothing that this run has placed."""
        old = 'find "$1" -name "arriving-*" -mmin +60 -exec rm -f {} + 2>/dev/null'
        self._adb.shell(f'mkdir -p "$1"; {old}; exit 0', self._cache)
        _freed(self._adb, CAP_BYTES - coming_bytes, {place.rpartition("/")[2] for place in self._placed.values()})


@dataclass(frozen=True)
class KeptFile:
    """One file of the device's cache."""

    # By the device's clock, in seconds.
    used_s: int
    bytes: int
    name: str


def kept(adb: Adb) -> tuple[KeptFile, ...]:
    """What the device's cache holds, the one used last first."""
    found = []
    for line in adb.shell(_LIST, f"{FOLDER}/cache").stdout.splitlines():
        words = line.split(" ", 2)
        if len(words) == 3 and words[0].isdigit() and words[1].isdigit():
            found.append(KeptFile(int(words[0]), int(words[1]), words[2]))
    return tuple(sorted(found, key=lambda one: (-one.used_s, one.name)))


def cleaned(adb: Adb, *, everything: bool) -> tuple[tuple[str, ...], int]:
    """(names, bytes) of what was removed there: files beyond the cap, longest unused first; or all but the lock's."""
    removed = _freed(adb, 0 if everything else CAP_BYTES, set())
    if everything:
        adb.shell('rm -rf -- "$1/cache" "$1/scratch"', FOLDER)
    return tuple(one.name for one in removed), sum(one.bytes for one in removed)


def _freed(adb: Adb, cap_bytes: int, needed: set[str]) -> list[KeptFile]:
    """What was deleted, longest unused first, until the cache was no larger than this; never one of `needed`."""
    files = kept(adb)
    total = sum(one.bytes for one in files)
    gone: list[KeptFile] = []
    for one in reversed(files):
        if total <= cap_bytes:
            break
        if one.name not in needed:
            gone.append(one)
            total -= one.bytes
    # Names are hashes: a few hundred fit into one command.
    for start in range(0, len(gone), _NAMES_A_COMMAND):
        names = (f"{FOLDER}/cache/{one.name}" for one in gone[start : start + _NAMES_A_COMMAND])
        adb.shell('rm -f -- "$@"', *names)
    return gone


@lru_cache(maxsize=256)
def _sha256(path: str, changed_ns: int, size: int) -> str:
    """Of a file's content; time and size so that a changed file is read anew."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
