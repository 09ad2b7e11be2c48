"""Artifacts out of the cache into a folder of the user's: whole or not at all, and never outside that folder."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vitprof.errors import VitprofError
from vitprof.export.cache import files_in
from vitprof.records import Artifact, Precision, Source

# What a file name may hold: a model's name comes from outside.
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def make_folder(folder: Path) -> None:
    """Makes `folder` where it is missing; `VitprofError` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def copy_artifact(artifact: Artifact, folder: Path) -> Path:
    """The path of the copy in `folder`: `<model>.onnx`, weights beside it as `<model>.onnx.data`.

    What is a folder itself (`<model>.mlpackage`) takes the place of one that is there. A given .onnx file, unless
    converted, keeps its own name and those of the files beside it.
    """
    keeps_names = artifact.spec.source is Source.ONNX and artifact.format == "onnx" and not artifact.fixups
    own, name = artifact.path.name, artifact.path.name if keeps_names else file_name(artifact)
    beside = [path for path in files_in(artifact.path.parent) if path != artifact.path]
    try:
        if artifact.path.is_dir():
            _copy_folder(artifact.path, folder / name)
            return folder / name
        for path in beside:
            relative = str(path.relative_to(artifact.path.parent))
            _copy(path, folder / (relative if keeps_names else relative.replace(own, name)))
        if beside and not keeps_names and artifact.format == "onnx":
            _copy_renamed(artifact.path, folder / name, own, name)
        else:
            _copy(artifact.path, folder / name)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder / name


def file_name(artifact: Artifact) -> str:
    """`resnet50.onnx`, `torchvision-resnet50-fp16.onnx`: nothing of a name leads out of the folder."""
    spec = artifact.spec
    prefix = f"{spec.source.value}-" if spec.source is Source.TORCHVISION else ""
    # Of a file its own name, of a factory both.
    name = spec.name if spec.path is None else "-".join(filter(None, (Path(spec.path).stem, spec.factory)))
    stem = _UNSAFE.sub("-", name).strip(".-") or "model"
    # Before the precision, which a report of Xcode has at the end of a model's name.
    kind = "-image" if spec.image_input else ""
    suffix = "" if spec.precision is Precision.FP32 else f"-{spec.precision.value}"
    return f"{prefix}{stem}{kind}{suffix}{artifact.path.suffix}"


def _copy_renamed(source: Path, target: Path, own: str, name: str) -> None:
    """An ONNX file whose weights lie beside it names them: the copy names the copied ones."""
    import onnx

    model = onnx.load(str(source), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = entry.value.replace(own, name)
    with _replacing(target) as path:
        path.write_bytes(model.SerializeToString())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(target) as path:
        shutil.copyfile(source, path)


def _copy_folder(source: Path, target: Path) -> None:
    """Whole or not at all: the copy takes the place of an older one by renaming."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".vitprof-") as scratch:
        copy = Path(shutil.copytree(source, Path(scratch) / "new"))
        if target.is_dir():
            target.rename(Path(scratch) / "old")
        copy.rename(target)


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A file beside `target` that takes its place once it is written."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".vitprof-")
    os.close(handle)
    try:
        yield Path(name)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


def _unwritable(folder: Path, error: OSError) -> VitprofError:
    return VitprofError(
        f"cannot write to {folder}: {error.strerror}",
        remedy="name a writable folder with free space: -o FOLDER",
        stage="export",
    )
