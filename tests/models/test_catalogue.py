import json
import sys
from pathlib import Path

import pytest

from vitprof.errors import UsageError, VitprofError
from vitprof.models.catalogue import Catalogue, catalogue, expand, find, matching
from vitprof.records import ModelSpec, Source

SMALL = Catalogue(
    timm={
        "lowformer_b0": (3, 224, 224),
        "lowformer_b1": (3, 224, 224),
        "lowformer_b15": (3, 224, 224),
        "lowformer_b2": (3, 224, 224),
        "mobilevit_s": (3, 256, 256),
        "resnet18": (3, 224, 224),
        "resnet50": (3, 224, 224),
        "resnet50d": (3, 224, 224),
        "vit_base_patch16_224": (3, 224, 224),
    },
    torchvision={"resnet18": (3, 224, 224), "swin_t": (3, 224, 224), "lraspp_mobilenet_v3_large": (3, 520, 520)},
    timm_tags={"resnet50.big": (3, 288, 256)},
)


def small() -> Catalogue:
    return SMALL


def never() -> Catalogue:
    raise AssertionError("the catalogue was asked for")


def only(text: str) -> ModelSpec:
    (spec,) = find(text, small)
    return spec


def test_a_plain_name_is_timms_and_carries_the_models_own_size() -> None:
    assert only("mobilevit_s") == ModelSpec(name="mobilevit_s", source=Source.TIMM, size=(256, 256))


def test_a_prefix_chooses_the_source() -> None:
    assert only("torchvision:resnet18") == ModelSpec(name="resnet18", source=Source.TORCHVISION, size=(224, 224))
    assert only("timm:resnet18") == ModelSpec(name="resnet18", source=Source.TIMM, size=(224, 224))


def test_a_glob_gives_its_models_in_natural_order() -> None:
    names = [spec.name for spec in expand(["lowformer*"], small)]
    assert names == ["lowformer_b0", "lowformer_b1", "lowformer_b2", "lowformer_b15"]


def test_a_model_named_twice_is_expanded_once_in_the_place_it_was_first_named() -> None:
    names = [spec.name for spec in expand(["resnet50", "resnet*", "resnet50"], small)]
    assert names == ["resnet50", "resnet18", "resnet50d"]


def test_a_torchvision_glob_looks_at_torchvision_only() -> None:
    assert {spec.source for spec in expand(["torchvision:*"], small)} == {Source.TORCHVISION}


def test_a_tag_of_a_known_model_is_kept_in_the_name() -> None:
    spec = only("vit_base_patch16_224.augreg_in21k")
    assert (spec.name, spec.size) == ("vit_base_patch16_224.augreg_in21k", (224, 224))


def test_a_tag_with_a_size_of_its_own_gives_that_size() -> None:
    assert only("resnet50.big").size == (288, 256)


def test_an_unknown_name_lists_the_nearest_and_how_to_search() -> None:
    with pytest.raises(UsageError) as caught:
        find("resnet05", small)
    assert "resnet50" in caught.value.message
    assert caught.value.remedy == "vitprof models 'resnet*' lists names"


def test_a_torchvision_name_without_its_prefix_is_named_with_it() -> None:
    with pytest.raises(UsageError, match="torchvision:swin_t"):
        find("swin_t", small)


def test_at_most_five_near_names_are_listed() -> None:
    many = Catalogue(timm={f"vit_{i}": (3, 224, 224) for i in range(20)}, torchvision={})
    with pytest.raises(UsageError) as caught:
        find("vit_x", lambda: many)
    assert caught.value.message.count("vit_") == 1 + 5


def test_a_glob_that_matches_nothing_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no model matches 'xyz"):
        expand(["xyz*"], small)


def test_an_unknown_source_names_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        find("keras:resnet50", small)
    assert "torchvision:NAME" in caught.value.remedy


@pytest.mark.parametrize("name", ["net.pt2", "net.pt", "net.py:make"])
def test_a_file_needs_no_catalogue(tmp_path: Path, name: str) -> None:
    (tmp_path / name.partition(":")[0]).write_text("def make(): ...")
    (spec,) = expand([str(tmp_path / name)], never)
    assert (spec.name, spec.path) == (str(tmp_path / name), str(tmp_path / name.partition(":")[0]))


def test_an_onnx_file_needs_no_catalogue(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(b"")
    (spec,) = expand([str(file)], never)
    assert spec == ModelSpec(name=str(file), source=Source.ONNX, path=str(file.resolve()))


def test_an_onnx_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        expand([str(tmp_path / "absent.onnx")], never)


def test_a_search_without_a_prefix_looks_in_both_sources() -> None:
    assert matching("resnet*", SMALL) == (
        ("resnet18", "timm"),
        ("resnet50", "timm"),
        ("resnet50d", "timm"),
        ("resnet18", "torchvision"),
    )
    assert matching("torchvision:swin*", SMALL) == (("swin_t", "torchvision"),)
    assert matching("timm:resnet18", SMALL) == (("resnet18", "timm"),)


def test_a_search_that_finds_nothing_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no model matches"):
        matching("xyz*", SMALL)
    with pytest.raises(UsageError, match="resnet50"):
        matching("resnet5", SMALL)


def test_a_given_process_builds_the_catalogue_instead_of_a_new_one(tmp_path: Path) -> None:
    assert catalogue(tmp_path, lambda build: SMALL) == SMALL
    assert catalogue(tmp_path, lambda build: never()) == SMALL


def test_the_catalogue_is_built_once_and_torch_stays_out_of_this_process(tmp_path: Path) -> None:
    had_torch = "torch" in sys.modules
    known = catalogue(tmp_path)
    assert ("torch" in sys.modules) == had_torch
    assert known.timm["lowformer_b1"] == (3, 224, 224)
    assert known.torchvision["lraspp_mobilenet_v3_large"] == (3, 520, 520)
    assert known.timm_tags["convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384"] == (3, 384, 384)
    (file,) = (tmp_path / "catalogue").iterdir()
    # A mark that only the file can have: the second call reads it and builds nothing.
    file.write_text(json.dumps({"timm": {"marked": [3, 8, 8]}, "torchvision": {}, "timm_tags": {}}))
    assert catalogue(tmp_path).timm == {"marked": (3, 8, 8)}


def test_a_cache_that_cannot_be_written_names_its_path(tmp_path: Path) -> None:
    from vitprof.models.catalogue import _write

    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(VitprofError) as caught:
        _write(occupied / "catalogue" / "x.json", SMALL)
    assert str(occupied) in caught.value.message
    assert "VITPROF_CACHE_DIR" in caught.value.remedy
