"""The runner as one zip file with a stable hash, so that a device which has it already is not sent it again.

Its own file because two transports and the tests need exactly these bytes: entries are sorted, time stamps and
permissions are fixed, nothing is compressed (the deflate of two zlib versions may differ).
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from vitprof.errors import VitprofError

# The oldest time that a zip can hold.
_EPOCH = (1980, 1, 1, 0, 0, 0)
# Old Pythons must be able to read this far, to say that they are too old: as a message to the host that waits for one,
# and in a line for a person.
_ENTRY = b"""\
import sys

if sys.version_info < (3, 9):
    text = "Python 3.9 or newer is needed on the device, and this is %d.%d (%s)" % (
        sys.version_info[0], sys.version_info[1], sys.executable)
    remedy = "name another one in the profile of the device: python = \\"/usr/bin/python3.9\\""
    import json
    sys.stdout.write(json.dumps({"type": "failure", "stage": "load", "error": text, "remedy": remedy}) + "\\n")
    sys.stdout.flush()
    sys.stderr.write(text + "\\n")
    sys.exit(1)

from vitprof.runner.__main__ import main
import os

main()
os._exit(0)
"""


@cache
def runner_zip_bytes() -> bytes:
    """The zip: run it with `python FILE`."""
    files = {"__main__.py": _ENTRY, "vitprof/__init__.py": b""}
    files.update(_python_files(resources.files("vitprof.runner"), "vitprof/runner"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), files[name])
    return buffer.getvalue()


def runner_zip(cache_root: Path) -> Path:
    """The zip's path in the cache, named after its hash; written there first where it is missing."""
    data = runner_zip_bytes()
    path = cache_root / "runner" / f"runner-{hashlib.sha256(data).hexdigest()[:16]}.zip"
    try:
        if not path.exists() or path.stat().st_size != len(data):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(data)
            Path(file.name).replace(path)
    except OSError as error:
        raise VitprofError(
            f"cannot write the runner to {path}: {error.strerror}",
            remedy="set VITPROF_CACHE_DIR to a writable folder with free space",
            stage="ship",
        ) from error
    return path


def _python_files(folder: Traversable, prefix: str) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            files.update(_python_files(entry, f"{prefix}/{entry.name}"))
        elif entry.name.endswith(".py"):
            files[f"{prefix}/{entry.name}"] = entry.read_bytes()
    return files
