from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.export import made
from vitprof.errors import VitprofError
from vitprof.export.copies import copy_artifact
from vitprof.records import Artifact, Precision


@pytest.fixture
def package(tmp_path: Path) -> Artifact:
    """An artifact that is a folder, as a Core ML package is."""
    inner = tmp_path / "cached" / "model" / "model.mlpackage"
    (inner / "Data").mkdir(parents=True)
    (inner / "Manifest.json").write_text("{}")
    (inner / "Data" / "weight.bin").write_bytes(b"weights")
    spec = dataclasses.replace(made.SPEC, precision=Precision.FP16)
    return dataclasses.replace(made.artifact(tmp_path / "cached", spec), file="model/model.mlpackage", format="coreml")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_package_is_copied_whole_under_the_models_name(package: Artifact, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    copy = copy_artifact(package, out)
    assert copy == out / "resnet18-fp16.mlpackage"
    assert files(out) == {
        "resnet18-fp16.mlpackage/Manifest.json": b"{}",
        "resnet18-fp16.mlpackage/Data/weight.bin": b"weights",
    }


def test_a_newer_package_takes_the_place_of_an_older_one_and_keeps_nothing_of_it(
    package: Artifact, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    old = out / "resnet18-fp16.mlpackage"
    old.mkdir(parents=True)
    (old / "left.bin").write_bytes(b"old")
    copy_artifact(package, out)
    assert set(files(old)) == {"Manifest.json", "Data/weight.bin"}
    assert [path.name for path in out.iterdir()] == ["resnet18-fp16.mlpackage"]


def test_a_file_in_the_way_of_a_package_stays_and_is_told(package: Artifact, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "resnet18-fp16.mlpackage").write_bytes(b"mine")
    with pytest.raises(VitprofError, match="cannot write"):
        copy_artifact(package, out)
    assert files(out) == {"resnet18-fp16.mlpackage": b"mine"}
