"""Artifacts under the hash of everything that they were made from: `<cache>/artifacts/<2 digits>/<key>/`.

A folder appears whole, by one rename, or not at all, so readers need no lock and two writers cannot mix: the first
wins, and the other takes what is there. What a crash of the machine may still leave (right names, missing bytes) is
found by the recorded sizes, and replaced. That two processes do not do the same work is the matter of `locks`, what
goes when the cache is full that of `eviction`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vitprof import environments
from vitprof.counts import Cost, Kind, Ledgers, OpRow
from vitprof.errors import VitprofError
from vitprof.export import eviction
from vitprof.export.eviction import RECORD, folder_of
from vitprof.export.staging import staging, unwritable
from vitprof.measurements import Doubt
from vitprof.places import places
from vitprof.records import Artifact, Exporter, ModelSpec, Precision, ProgramFacts, Source

__all__ = [
    "EXPORT_VERSION",
    "RECORD",
    "artifact_key",
    "files_in",
    "files_sha256",
    "package_versions",
    "publish",
    "read",
    "read_folder",
    "staging",
]

# Raised when an export of the same model by the same packages comes out different; older artifacts are then not found.
EXPORT_VERSION = 2
# What shapes an exported file. A .onnx source is copied as it is, so for it only its bytes count.
_PACKAGES = ("timm", "torch", "torchvision", "onnx", "onnxscript", "onnxruntime")
# What shapes files of one format only.
_FORMAT_PACKAGES = {"coreml": ("coremltools",), "trt-rtx": ("tensorrt_rtx",)}


def artifact_key(spec: ModelSpec, format: str, content_sha256: str | None = None) -> str:
    """Sixty-four hex digits, equal where the artifact would be; `content_sha256` is that of a file source."""
    asked = dataclasses.asdict(spec)
    if not spec.compute_capabilities:
        # Of an engine only: nothing else is another for them.
        del asked["compute_capabilities"]
    if not spec.image_input:
        # It came later: what does not use it keeps its key.
        del asked["image_input"]
    if content_sha256 is not None:
        # The same bytes in another place are the same model.
        asked = {key: value for key, value in asked.items() if key not in ("name", "path")}
    versions = package_versions()
    if spec.precision is Precision.FP32:
        # It converts precisions; what is not converted need not be made again for a new version of it.
        del versions["onnxruntime"]
    is_copy = spec.source is Source.ONNX and spec.precision is Precision.FP32
    of_format = {name: _version(name) for name in _FORMAT_PACKAGES.get(format, ())}
    whole: dict[str, Any] = {
        "spec": asked,
        "format": format,
        "content": content_sha256,
        "versions": {**({} if is_copy else versions), **of_format},
        "export": EXPORT_VERSION,
    }
    if isolated := environments.for_format(format):
        whole["environment"] = isolated.pins
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def package_versions(format: str = "onnx") -> dict[str, str]:
    """Of the packages that shape an artifact, read from their metadata: importing them takes 10 s."""
    return {name: _version(name) for name in (*_PACKAGES, *_FORMAT_PACKAGES.get(format, ()))}


def files_sha256(paths: list[Path]) -> str:
    """One hash over several files in order: for one file its own, as `sha256sum` prints it."""
    hashes = [_sha256(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def files_in(folder: Path) -> list[Path]:
    """Every file under `folder`, in an order that does not change."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def read(cache_root: Path, key: str) -> Artifact | None:
    """The artifact of `key`, where it is there and whole; from now on the one that was used last."""
    folder = folder_of(cache_root, key)
    try:
        artifact = read_folder(folder)
    except OSError as error:
        raise unwritable(cache_root, error) from error
    if artifact is not None:
        eviction.mark_used(folder)
    return artifact


def read_folder(folder: Path) -> Artifact | None:
    """The artifact in `folder`, where it is whole. `OSError` where the folder cannot be read."""
    try:
        body = json.loads((folder / RECORD).read_text())
        if any((folder / name).stat().st_size != size for name, size in body["files"].items()):
            return None
        return _artifact_from_json(body["artifact"], folder)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        # Absent, cut off, or written by a version with other fields: made again, and then replaced.
        return None


def publish(cache_root: Path, key: str, staging_dir: Path, artifact: Artifact) -> Artifact:
    """Moves a complete staging folder into its place with its record; the artifact that is there in the end.

    Where another writer was first, its artifact is the answer. What was not used for longest makes room for it.
    """
    try:
        _write_record(staging_dir, artifact)
        published = _moved(cache_root, key, staging_dir)
    except OSError as error:
        raise unwritable(cache_root, error) from error
    # A cache that is too large is no reason to lose what was just made.
    with contextlib.suppress(VitprofError, OSError):
        eviction.evict(cache_root, places().cache_cap_bytes, keep=[key])
    return published


def _moved(cache_root: Path, key: str, staging_dir: Path) -> Artifact:
    target = folder_of(cache_root, key)
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        present = read(cache_root, key)
        if present is not None:
            return present
        if target.exists():
            _discard(cache_root, target)
        # Another writer may come between: then the rename fails on its folder, and the loop reads that one.
        with contextlib.suppress(FileExistsError, IsADirectoryError, NotADirectoryError):
            _rename(staging_dir, target)


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if target.exists():
            raise FileExistsError(str(target)) from error
        raise


def _discard(cache_root: Path, broken: Path) -> None:
    """Takes a damaged folder out of the way in one step, so that nobody finds it half deleted."""
    with staging(cache_root) as aside, contextlib.suppress(FileNotFoundError):
        broken.rename(aside / broken.name)


def _write_record(folder: Path, artifact: Artifact) -> None:
    files = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    body = {"artifact": _json_from_artifact(artifact), "files": files}
    (folder / RECORD).write_text(json.dumps(body))


def _json_from_artifact(artifact: Artifact) -> dict[str, Any]:
    # Without the folder: the cache may be moved.
    return {key: value for key, value in dataclasses.asdict(artifact).items() if key != "folder"}


def _artifact_from_json(body: Mapping[str, Any], folder: Path) -> Artifact:
    return Artifact(
        **{
            **body,
            "folder": folder,
            "spec": _spec_from_json(body["spec"]),
            "cost": _cost_from_json(body["cost"]),
            "input_shape": tuple(body["input_shape"]),
            "expected_outputs": tuple((dtype, tuple(shape)) for dtype, shape in body["expected_outputs"]),
            "fixups": tuple(body["fixups"]),
            "folded_weights": tuple(body["folded_weights"]),
            # Not in records of versions that wrote no such files.
            "program": ProgramFacts(**body["program"]) if body.get("program") else None,
            "lint": tuple(Doubt(**doubt) for doubt in body.get("lint", ())),
        }
    )


def _spec_from_json(body: Mapping[str, Any]) -> ModelSpec:
    kinds = {
        "source": Source(body["source"]),
        "precision": Precision(body["precision"]),
        "size": None if body["size"] is None else (body["size"][0], body["size"][1]),
        "exporter": None if body["exporter"] is None else Exporter(body["exporter"]),
        "compute_capabilities": tuple(body.get("compute_capabilities", ())),
    }
    return ModelSpec(**{**body, **kinds})


def _cost_from_json(body: Mapping[str, Any]) -> Cost:
    rows = tuple(
        OpRow(**{**row, "kind": Kind(row["kind"]), "shape_out": tuple(row["shape_out"])}) for row in body["rows"]
    )
    return Cost(**{**body, "rows": rows, "ledgers": Ledgers(**body["ledgers"])})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
