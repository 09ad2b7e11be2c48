from __future__ import annotations

import pytest

from vitprof.analysis.families import family_of


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("efficientnet_b0", "efficientnet"),
        ("efficientformerv2_s0", "efficientformerv"),
        ("ghostnetv2_100", "ghostnetv"),
        ("lowformer_b1", "lowformer"),
        ("vit_base_patch16_224", "vit_base"),
        ("tf_efficientnet_b0", "tf_efficientnet"),
        ("test_vit", "test_vit"),
        # The letters alone are `eva`; the first word after them is `_large`.
        ("eva02_large_patch14_448", "eva_large"),
        ("vitamin_small_224", "vitamin"),
        ("timm:vit_tiny_patch16_224", "vit_tiny"),
        ("torchvision:resnet50", "resnet"),
        ("MobileNetV3-Large 0.75x", "MobileNetV"),
        ("vit", "vit"),
        ("3dnet", "3dnet"),
        ("", ""),
    ],
)
def test_the_family_is_the_leading_letters_with_a_word_where_they_say_too_little(name: str, family: str) -> None:
    assert family_of(name) == family
