"""The way to LiteRT's environment and back; a real conversion where that environment is set up (slow)."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vitprof import environments
from vitprof.errors import UnreachableError, UsageError, VitprofError
from vitprof.export import cache, litert_export
from vitprof.places import places
from vitprof.prepare import prepare
from vitprof.records import ModelSpec, Precision, Source
from vitprof.runner.torchvision_compat import import_timm

# A developer's own cache, read before the tests' own takes its place: the environment takes minutes and 2 GB to make.
_CACHE = places().cache_root
_SPEC = ModelSpec(name="vit_tiny_patch16_224", source=Source.TIMM)


def test_without_the_environment_nothing_is_built_and_the_remedy_sets_it_up(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError) as caught:
        prepare(_SPEC, "litert", tmp_path)
    assert caught.value.remedy == "vitprof setup litert"


def test_what_the_converter_says_becomes_one_line_with_a_remedy(tmp_path: Path) -> None:
    request = {"program": "none", "shape": [1, 3, 8, 8], "output": str(tmp_path / "net.tflite")}
    # This interpreter has no litert-torch.
    with pytest.raises(VitprofError, match="cannot take the model: ModuleNotFoundError: No module named") as caught:
        litert_export._convert(Path(sys.executable), request, tmp_path)
    assert "--backend ort" in caught.value.remedy


def test_a_converter_that_dies_is_told_with_its_status(tmp_path: Path) -> None:
    with pytest.raises(VitprofError, match="litert-torch died with status 1: without a word"):
        litert_export._convert(Path("/bin/false"), {}, tmp_path)


def test_a_cause_names_files_of_packages_and_not_where_they_are_installed() -> None:
    said = "passes: /home/me/venv/lib/python3.11/site-packages/timm/models/mobilevit.py:400:0: error: 'tfl.mul' op"
    assert litert_export._short(said) == "passes: timm/models/mobilevit.py:400:0: error: 'tfl.mul' op"


def test_other_versions_of_the_environment_make_other_artifacts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache.artifact_key(_SPEC, "litert"), cache.artifact_key(_SPEC, "onnx")
    newer = environments.Environment("litert", "", ("litert-torch==99.0",), "", "litert")
    monkeypatch.setattr(environments, "ENVIRONMENTS", {"litert": newer})
    assert cache.artifact_key(_SPEC, "litert") != before[0]
    assert cache.artifact_key(_SPEC, "onnx") == before[1]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Path:
    if not environments.is_ready(environments.environment("litert"), _CACHE):
        pytest.skip("the environment is not set up: vitprof setup litert")
    return _CACHE


class _Net(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svd(image.mean(1))[1]


@pytest.mark.slow
def test_an_operator_that_the_converter_lacks_is_named(environment: Path, tmp_path: Path) -> None:
    with pytest.raises(VitprofError, match=r"litert-torch cannot take the model.*svd"):
        litert_export.export_litert(_Net().eval(), (1, 3, 8, 8), tmp_path / "net.tflite", environment)


@pytest.mark.slow
def test_a_small_model_is_converted_with_its_attention_in_four_axes(environment: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = import_timm().create_model("vit_tiny_patch16_224", depth=2, img_size=32).eval()
    path = tmp_path / "net.tflite"
    export = litert_export.export_litert(net, (1, 3, 32, 32), path, environment)
    # Two blocks, each with queries, keys and values.
    assert export.fixups == ("rewritten with at most 4 axes: 6 chains of views",)
    assert path.stat().st_size > 4 * sum(parameter.numel() for parameter in net.parameters())


def test_fp16_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fp32 only"):
        prepare(replace(_SPEC, precision=Precision.FP16), "litert", tmp_path)
