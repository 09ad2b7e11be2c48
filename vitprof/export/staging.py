"""Folders in which artifacts are made, or in which they wait to be deleted: never seen by a reader of the cache.

Its own file because publishing and evicting both need one. On the file system of the artifacts, so that moving in or
out is one rename. A folder whose process died is recognised by its lock, and removed by the next that stages.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from vitprof.errors import VitprofError
from vitprof.export import locks

# Where there are no locks, a folder this old is taken for one whose process was killed.
_ABANDONED_S = 24 * 3600


@contextlib.contextmanager
def staging(cache_root: Path) -> Iterator[Path]:
    """A new empty folder; gone afterwards with what is still in it.

    An `OSError` inside, such as a full disk, becomes a `VitprofError` that names the cache.
    """
    folder = cache_root / "staging" / locks.unique_name()
    with locks.staged(cache_root, folder.name):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _sweep(cache_root)
            folder.mkdir()
            yield folder
        except OSError as error:
            raise unwritable(cache_root, error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def unwritable(cache_root: Path, error: OSError) -> VitprofError:
    """What every trouble with the cache's folder is told as."""
    return VitprofError(
        f"the cache {cache_root} cannot be used: {error}",
        remedy="set VITPROF_CACHE_DIR to a writable folder with free space",
        stage="export",
    )


def _sweep(cache_root: Path) -> None:
    for left in (cache_root / "staging").iterdir():
        try:
            lock = locks.abandoned(cache_root, left.name)
        except OSError:
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _ABANDONED_S:
                    shutil.rmtree(left, ignore_errors=True)
            continue
        if lock is not None:
            shutil.rmtree(left, ignore_errors=True)
            lock.release()
