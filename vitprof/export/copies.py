"""Artifacts out of the cache into a folder of the user's: whole or not at all, and never outside that folder."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from vitprof.errors import VitprofError
from vitprof.records import Artifact, Source

# What a file name may hold: a model's name comes from outside.
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def make_folder(folder: Path) -> None:
    """Makes `folder` where it is missing; `VitprofError` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def copy_artifact(artifact: Artifact, folder: Path) -> Path:
    """The path of the copy in `folder`: `<model>.onnx`, and for a given file its own name, external data beside it."""
    if artifact.spec.source is Source.ONNX:
        files = sorted(path for path in artifact.path.parent.rglob("*") if path.is_file())
        names = [str(path.relative_to(artifact.path.parent)) for path in files]
    else:
        files, names = [artifact.path], [file_name(artifact)]
    try:
        for source, name in zip(files, names, strict=True):
            _copy(source, folder / name)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder / (artifact.path.name if artifact.spec.source is Source.ONNX else names[0])


def file_name(artifact: Artifact) -> str:
    """`resnet50.onnx`, `torchvision-resnet50.onnx`: nothing of a name leads out of the folder."""
    prefix = "" if artifact.spec.source is Source.TIMM else f"{artifact.spec.source.value}-"
    stem = _UNSAFE.sub("-", artifact.spec.name).strip(".-") or "model"
    return f"{prefix}{stem}.{artifact.format}"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".vitprof-")
    os.close(handle)
    try:
        shutil.copyfile(source, name)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


def _unwritable(folder: Path, error: OSError) -> VitprofError:
    return VitprofError(
        f"cannot write to {folder}: {error.strerror}",
        remedy="name a writable folder with free space: -o FOLDER",
        stage="export",
    )
