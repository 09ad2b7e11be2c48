"""A `.pt2` archive without what torch's loader would run: read as a zip, checked, and written anew.

torch.export.load unpickles members, imports modules and loads shared libraries that an archive names. What is handed to
it here is therefore a copy that holds nothing but checked JSON (`program_text`) and the raw bytes of weights. A copy
rather than a look at the original: two readers of one zip can see two things, and a file can change after the look.
"""

from __future__ import annotations

import errno
import io
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitprof.errors import VitprofError
from vitprof.models.pickles import called_by, foreign
from vitprof.models.program_text import Unsafe, checked
from vitprof.models.trust import listed, shown, unreadable, untrusted

_PROGRAM = "models/model.json"
_SAMPLES = "data/sample_inputs/model.pt"
_CONFIGS = {
    "data/weights/": "model_weights_config.json",
    "data/constants/": "model_constants_config.json",
}
# Small members that say which version of the format this is; torch refuses an archive without them.
_MARKS = {"archive_format": b"pt2", "archive_version": b"0", ".data/version": b"6\n", "byteorder": b"little"}
_MARK = re.compile(rb"\w{1,8}\n?")
# Weights and constants that are tensors; `custom_obj_0` and `opaque_obj_0` beside them are pickles.
_TENSOR_FILE = re.compile(r"(weight|tensor)_\d+", re.ASCII)
_COMPILED = "data/aotinductor/"
# The layouts before torch 2.8: their weights are one pickle.
_PICKLED_LAYOUTS = ("serialized_exported_program.json", "data/weights/model.pt", "data/constants/model.pt")
# How torch.export.save keeps inputs that it was given without their values.
_VALUELESS = "torch._export.serde.serialize."
# RuntimeError: an encrypted member, an unknown compression, JSON without an end.
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError)
# Of the copy, not of the file.
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def check_is_program(path: Path) -> None:
    """`VitprofError` where a `.pt2` file holds no exported program, whoever made it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [_in_archive(name) for name in archive.namelist()]
    except _DAMAGED as error:
        raise unreadable(path, "it is cut off or no .pt2 archive") from error
    programs = [name for name in names if name.startswith("models/") and name.endswith(".json")]
    if _PROGRAM in names or any(name in _PICKLED_LAYOUTS for name in (*names, *archive.namelist())):
        return
    if programs:
        raise VitprofError(
            f"{path} holds the programs {', '.join(map(shown, programs))}, and none called 'model'",
            remedy="save the one to be measured with torch.export.save",
            stage="model",
        )
    if any(name.startswith(_COMPILED) for name in names):
        raise VitprofError(
            f"{path} holds code that AOTInductor compiled for one machine, and no program",
            remedy="save the program itself: torch.export.save(torch.export.export(model, (image,)), 'model.pt2')",
            stage="model",
        )
    raise unreadable(path, "it is a zip archive without an exported program (models/model.json)")


def write_safe_copy(path: Path, target: Path) -> None:
    """Writes the program of `path` to `target` without anything that torch would run while it loads it.

    `UsageError` where something would be needed that can run code; `VitprofError` where the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w") as copy:
            members = _members(archive, path)
            _check_members((*members, *archive.namelist()), path)
            _check_samples(archive, members, path)
            for name, usual in _MARKS.items():
                mark = archive.read(members[name]) if name in members else usual
                copy.writestr(f"model/{name}", mark if _MARK.fullmatch(mark) else usual)
            copy.writestr(f"model/{_PROGRAM}", _checked_json(archive.read(members[_PROGRAM]), path))
            copy.writestr(f"model/{_SAMPLES}", b"")
            for folder in _CONFIGS:
                _copy_tensors(archive, members, copy, folder, path)
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise VitprofError(
                f"no room for a copy of {path} in {target.parent}: {error.strerror}",
                remedy="set TMPDIR to a folder with free space",
                stage="model",
            ) from error
        raise unreadable(path, f"it is cut off or no .pt2 archive ({type(error).__name__})") from error


def _in_archive(name: str) -> str:
    """A member's name without the archive's own folder, which is called as the file was."""
    return name.partition("/")[2]


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    names = [info.filename for info in infos]
    for name in names:
        if name.startswith(("/", "\\")) or ":" in name or ".." in re.split(r"[/\\]", name):
            raise untrusted(path, f"a member is called {shown(name)}, outside the archive")
    # Without regard to case, and to the archive's own folder: torch's reader knows neither.
    if len({(_in_archive(name) or name).lower() for name in names}) < len(names):
        raise untrusted(path, "two of its members have the same name")
    return {_in_archive(info.filename): info for info in infos}


def _check_members(names: Sequence[str], path: Path) -> None:
    compiled = next((name for name in names if name.startswith(_COMPILED)), None)
    if compiled:
        raise untrusted(path, f"it holds compiled code ({shown(compiled)})")
    pickled = next((name for name in _PICKLED_LAYOUTS if name in names), None)
    if pickled:
        raise untrusted(path, f"it was written by torch 2.7 or older, whose weights are a pickle ({pickled})")


def _check_samples(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], path: Path) -> None:
    """The inputs that the program was traced with are not needed, so not copied; but a program has no code there."""
    if _SAMPLES not in members:
        return
    data = archive.read(members[_SAMPLES])
    try:
        called = called_by(io.BytesIO(data)) if data else ()
    except ValueError as error:
        raise untrusted(path, f"{_SAMPLES} is no file of torch.save ({error})") from error
    theirs = [name for name in foreign(called) if not name.startswith(_VALUELESS)]
    if theirs:
        raise untrusted(path, f"{_SAMPLES} is a pickle that calls {listed(theirs)}")


def _checked_json(data: bytes, path: Path) -> bytes:
    try:
        return json.dumps(checked(json.loads(data))).encode()
    except Unsafe as error:
        raise untrusted(path, str(error)) from error


def _copy_tensors(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], copy: zipfile.ZipFile, folder: str, path: Path
) -> None:
    config = folder + _CONFIGS[folder]
    text = _checked_json(archive.read(members[config]), path)
    entries: dict[str, Any] = json.loads(text)["config"]
    for name, entry in entries.items():
        if entry["use_pickle"] is not False or not _TENSOR_FILE.fullmatch(entry["path_name"]):
            raise untrusted(path, f"{shown(name)} is a pickle ({folder}{entry['path_name']})")
    copy.writestr(f"model/{config}", text)
    for file in sorted({entry["path_name"] for entry in entries.values()}):
        info = members[folder + file]
        # Told in advance: a member of more than 2 GiB needs longer fields.
        large = info.file_size >= zipfile.ZIP64_LIMIT
        with archive.open(info) as source, copy.open(f"model/{folder}{file}", "w", force_zip64=large) as target:
            shutil.copyfileobj(source, target, 1 << 20)
