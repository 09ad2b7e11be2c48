"""What leaves the cache: the artifacts that were not used for longest, or what the user names.

Its own file because nothing here knows what an artifact is: folders, their sizes, when their record was last touched.
A folder goes in one step, by a rename into a staging folder that is deleted afterwards, so nobody finds half of one;
and never one that a running process needs (`locks`), whose next set of a measurement would load its file anew.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitprof.export import locks
from vitprof.export.staging import staging

RECORD = "record.json"
# Made anew by whoever misses them: the list of models, the reference's image, the runner.
_REMADE = ("catalogue", "reference", "runner")


@dataclass(frozen=True)
class Entry:
    """A folder among the artifacts, whole or damaged."""

    key: str
    folder: Path
    # (inode, bytes): artifacts of several batches share their file, which takes its bytes once.
    files: tuple[tuple[int, int], ...]
    # Seconds since 1970; of a folder without a record, when it was made.
    last_used_s: float

    @property
    def bytes(self) -> int:
        return taken_bytes([self])


@dataclass(frozen=True)
class Cleared:
    """What `clear` did; `freed_bytes` includes what is no artifact. `is_rest_kept`: others run, and need it."""

    removed: tuple[Entry, ...]
    kept: tuple[Entry, ...]
    freed_bytes: int
    is_rest_kept: bool = False


def folder_of(cache_root: Path, key: str) -> Path:
    """Where the artifact of `key` is, or would be."""
    return cache_root / "artifacts" / key[:2] / key


def entries(cache_root: Path) -> tuple[Entry, ...]:
    """Everything among the artifacts, the one that was not used for longest first."""
    found = (_entry(folder) for folder in (cache_root / "artifacts").glob("*/*"))
    return tuple(sorted((one for one in found if one is not None), key=lambda one: (one.last_used_s, one.key)))


def taken_bytes(some: Iterable[Entry]) -> int:
    """What the entries take together; a file that several of them share counts once."""
    return sum({inode: size for one in some for inode, size in one.files}.values())


def mark_used(folder: Path) -> None:
    """The artifact in `folder` is used now; a cache that cannot be written does not learn of it, and need not."""
    with contextlib.suppress(OSError):
        os.utime(folder / RECORD)


def evict(cache_root: Path, cap_bytes: int, keep: Collection[str] = ()) -> tuple[Entry, ...]:
    """Removes what was not used for longest until the rest takes at most `cap_bytes`; what was removed.

    The artifacts `keep` and those that running processes need stay, even where they alone are above the cap.
    """
    if taken_bytes(entries(cache_root)) <= cap_bytes:
        return ()
    with staging(cache_root) as aside, locks.evicting(cache_root):
        needed = locks.busy(cache_root).keys | set(keep)
        return _moved(_surplus(entries(cache_root), cap_bytes, needed), aside)


def clear(cache_root: Path, keys: Collection[str] | None = None) -> Cleared:
    """Removes the artifacts of `keys`, except those that a running process needs; without `keys` the whole cache.

    The rest of the cache goes only where no other vitprof is running: each of its measurements starts the runner anew.
    """
    with staging(cache_root) as aside, locks.evicting(cache_root):
        busy = locks.busy(cache_root)
        before = entries(cache_root)
        meant = [one for one in before if keys is None or one.key in keys]
        removed = _moved([one for one in meant if one.key not in busy.keys], aside)
        freed = taken_bytes(before) - taken_bytes(one for one in before if one not in set(removed))
        if keys is None and not busy.is_anyone_running:
            freed += _move_rest(cache_root, aside)
        return Cleared(
            removed=removed,
            kept=tuple(one for one in meant if one.key in busy.keys),
            freed_bytes=freed,
            is_rest_kept=keys is None and busy.is_anyone_running,
        )


def _surplus(oldest_first: Sequence[Entry], cap_bytes: int, needed: Collection[str]) -> list[Entry]:
    """The fewest of the oldest without which the rest fits under the cap."""
    total = taken_bytes(oldest_first)
    links = Counter(inode for one in oldest_first for inode, _ in one.files)
    surplus = []
    for one in oldest_first:
        if total <= cap_bytes:
            break
        if one.key not in needed:
            surplus.append(one)
            links.subtract(inode for inode, _ in one.files)
            total -= sum(size for inode, size in one.files if links[inode] == 0)
    return surplus


def _moved(some: Iterable[Entry], aside: Path) -> tuple[Entry, ...]:
    """Those that were still there, now in `aside`."""
    return tuple(one for one in some if _is_moved(one.folder, aside / one.key))


def _is_moved(folder: Path, target: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        folder.rename(target)
        return True
    return False


def _move_rest(cache_root: Path, aside: Path) -> int:
    moved = [aside / name for name in _REMADE if _is_moved(cache_root / name, aside / name)]
    return sum(size for folder in moved for _, size in _files(folder))


def _entry(folder: Path) -> Entry | None:
    record = folder / RECORD
    # Gone while we looked, or not ours to read.
    with contextlib.suppress(OSError):
        shown = record if record.exists() else folder
        return Entry(folder.name, folder, _files(folder), shown.stat().st_mtime)
    return None


def _files(folder: Path) -> tuple[tuple[int, int], ...]:
    stats = (path.lstat() for path in folder.rglob("*") if path.is_file())
    return tuple((stat.st_ino, stat.st_size) for stat in stats)
