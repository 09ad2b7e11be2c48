"""Which files a factory's module is made of, and one hash over them: an artifact of any older one is a wrong number.

Its own file because the host asks it before every measurement, without torch and without running the factory: the
files that the last run of a factory imported and opened are kept in `<cache>/factories/`. While the files of that
list are unchanged, so is the list: a new import needs a change in one of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vitprof.errors import VitprofError

# Where installed packages lie: their versions stand in the artifact's key already.
_INSTALLED = ("site-packages", "dist-packages", "__pycache__")
# Nobody's model is kept here; what is read here differs from run to run.
_SYSTEM = tuple(map(Path, ("/proc", "/sys", "/dev", "/etc")))
_OWN_PACKAGE = Path(__file__).resolve().parent.parent


def source_files(path: Path, factory: str, cache_root: Path) -> tuple[Path, ...]:
    """The factory's file, then every file that it imported or opened when it last ran; alone where it never did."""
    try:
        names = json.loads(_record(path, factory, cache_root).read_text())["files"]
        return (path, *(Path(name) for name in names))
    except (OSError, ValueError, KeyError, TypeError):
        # Never run, or not what this version writes: it is run again then, and remembered anew.
        return (path,)


def remember_source_files(path: Path, factory: str, files: Iterable[Path], cache_root: Path) -> None:
    """Keeps what `source_files` answers from now on; `VitprofError` where the cache cannot be written."""
    record = _record(path, factory, cache_root)
    others = [str(file) for file in files if file != path]
    text = json.dumps({"path": str(path), "factory": factory, "files": others}, indent=1)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=record.parent, prefix=record.name)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(name).replace(record)
    except OSError as error:
        raise VitprofError(
            f"the cache {cache_root} cannot be used: {error}",
            remedy="set VITPROF_CACHE_DIR to a writable folder with free space",
            stage="export",
        ) from error


def content_sha256(files: Sequence[Path]) -> str | None:
    """One hash over the files' contents and their places relative to the first; `None` where one is gone.

    Of a single file it is the file's own, as `sha256sum` prints it.
    """
    try:
        hashes = [_sha256(file) for file in files]
    except OSError:
        return None
    if len(files) == 1:
        return hashes[0]
    places = [os.path.relpath(file, files[0].parent) for file in files]
    return hashlib.sha256(json.dumps(list(zip(places, hashes, strict=True))).encode()).hexdigest()


@contextlib.contextmanager
def watched() -> Iterator[set[Path]]:
    """The files of the user's own that are imported or read inside; complete when the block ends."""
    _watch()
    found: set[Path] = set()
    before = set(sys.modules)
    opened = _opened_now
    opened.clear()
    opened.is_on = True
    try:
        yield found
    finally:
        opened.is_on = False
        # Listed first: looking at a lazy module may import more.
        imported = [sys.modules[name] for name in set(sys.modules) - before if name in sys.modules]
        names = {str(name) for module in imported if (name := _file_of(module))} | opened
        found.update(file for file in map(Path, names) if is_users(file))


def is_users(file: Path) -> bool:
    """Whether a file is a person's own: there, and not part of Python, an installed package or vitprof."""
    if any(part in _INSTALLED for part in file.parts) or not file.is_file():
        return False
    return not any(file.is_relative_to(folder) for folder in (*_python_folders(), *_SYSTEM, _OWN_PACKAGE))


def _record(path: Path, factory: str, cache_root: Path) -> Path:
    return cache_root / "factories" / f"{hashlib.sha256(f'{path}:{factory}'.encode()).hexdigest()}.json"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _python_folders() -> tuple[Path, ...]:
    return tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))


def _file_of(module: Any) -> str | None:
    # From its __dict__: a module may answer anything to a name that it does not have.
    file = getattr(module, "__dict__", {}).get("__file__")
    return os.path.abspath(file) if isinstance(file, str) else None  # noqa: PTH100 (links stay as they were asked for)


class _Opened(set[str]):
    """Paths that Python opened for reading while it is on."""

    is_on = False

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on or event != "open" or not isinstance(arguments[0], str):
            return
        flags = arguments[2] if len(arguments) > 2 and isinstance(arguments[2], int) else 0
        if not flags & (os.O_WRONLY | os.O_RDWR):
            self.add(os.path.abspath(arguments[0]))  # noqa: PTH100 (as above)


_opened_now = _Opened()
_is_watching: list[bool] = []


def _watch() -> None:
    """Once a process: Python has no way to take such a hook back."""
    if not _is_watching:
        sys.addaudithook(_opened_now.hear)
        _is_watching.append(True)
