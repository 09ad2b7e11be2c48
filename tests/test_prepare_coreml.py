"""A Core ML artifact from a module to its parity, without a Mac."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("coremltools")

from vitprof.errors import UsageError
from vitprof.export.cache import files_in, files_sha256
from vitprof.export.coreml_parity import WHERE, reference_parity
from vitprof.prepare import cached, prepare
from vitprof.records import Artifact, ModelSpec, ParityVerdict, Precision, Source

FACTORY = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, image):
        return self.head(self.stem(image).relu().mean((2, 3)))

def net():
    return Net(), torch.zeros(1, 3, 16, 16)
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    path = tmp_path_factory.mktemp("source") / "net.py"
    path.write_text(FACTORY)
    return ModelSpec("net.py:net", Source.PYTHON, batch=2, precision=Precision.FP16, path=str(path), factory="net")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def artifact(spec: ModelSpec, root: Path) -> Artifact:
    return prepare(spec, "coreml", root)


def test_an_artifact_may_be_a_folder_with_the_hash_and_size_of_all_its_files(artifact: Artifact) -> None:
    assert artifact.path.is_dir() and artifact.path.suffix == ".mlpackage"
    files = files_in(artifact.path)
    assert artifact.bytes == sum(file.stat().st_size for file in files)
    assert artifact.sha256 == files_sha256(files)


def test_it_is_of_the_batch_and_precision_asked_for(artifact: Artifact) -> None:
    assert (artifact.input_shape, artifact.input_dtype) == ((2, 3, 16, 16), "float16")
    assert "coremltools" in artifact.versions and "fp16" in artifact.exporter


def test_what_was_read_in_the_program_agrees_with_the_module_and_stays_in_the_cache(
    artifact: Artifact, spec: ModelSpec, root: Path
) -> None:
    # Of one image: 8 x 8 x 8 outputs of 3 x 3 x 3, and 8 by 5.
    macs = 512 * 27 + 40
    assert artifact.program is not None
    assert (artifact.program.macs, artifact.cost.macs, artifact.count_doubt) == (macs, macs, None)
    assert artifact.program.params == artifact.cost.params
    assert cached(spec, "coreml", root) == artifact


def test_its_parity_is_that_of_the_reference_evaluator(artifact: Artifact) -> None:
    parity = reference_parity(artifact)
    assert (parity.verdict, parity.where) == (ParityVerdict.MATCH, WHERE)


def test_a_program_that_cannot_be_read_is_not_checked_and_says_why(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "model.mlpackage").mkdir()
    (tmp_path / artifact.inputs).write_bytes((artifact.folder / artifact.inputs).read_bytes())
    parity = reference_parity(replace(artifact, folder=tmp_path, file="model.mlpackage"))
    assert parity.verdict is ParityVerdict.NOT_CHECKED
    assert "cannot read" in str(parity.reason)


def test_in_fp32_nothing_runs_on_the_neural_engine(spec: ModelSpec, root: Path) -> None:
    full = prepare(replace(spec, precision=Precision.FP32), "coreml", root)
    assert [doubt.code for doubt in full.lint] == ["fp32"]
    assert reference_parity(full).verdict is ParityVerdict.MATCH


def test_there_is_no_int8_of_it(spec: ModelSpec, root: Path) -> None:
    with pytest.raises(UsageError, match="int8"):
        prepare(replace(spec, precision=Precision.INT8), "coreml", root)
