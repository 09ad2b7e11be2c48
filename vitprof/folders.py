"""Folders that appear whole or not at all: what takes minutes to make is made beside its place, then renamed.

Its own file because environments, emulated boards and what pages load are kept in the same way.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vitprof.errors import VitprofError


@contextlib.contextmanager
def made_whole(folder: Path, stage: str) -> Iterator[Path]:
    """An empty folder that becomes `folder` where the block ends well, and is gone where it does not.

    One that is there already stays: whoever was faster has made the same. `VitprofError` where it cannot be written.
    """
    making = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    try:
        making.mkdir(parents=True)
        yield making
        if not folder.is_dir():
            making.rename(folder)
    except OSError as error:
        raise VitprofError(
            f"cannot make {folder}: {error.strerror or error}",
            remedy="set VITPROF_CACHE_DIR to a writable folder with free space",
            stage=stage,
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
