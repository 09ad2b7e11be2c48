import time
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from vitprof.errors import UsageError, VitprofError  # noqa: E402
from vitprof.models.built import text_from_size  # noqa: E402
from vitprof.models.load import load  # noqa: E402
from vitprof.records import ModelSpec, Source  # noqa: E402


def timm(name: str, **options: object) -> ModelSpec:
    return replace(ModelSpec(name=name, source=Source.TIMM), **options)  # type: ignore[arg-type]


def torchvision(name: str, **options: object) -> ModelSpec:
    return replace(ModelSpec(name=name, source=Source.TORCHVISION), **options)  # type: ignore[arg-type]


def constant_parameters(module: "torch.nn.Module") -> list[str]:
    return [n for n, p in module.named_parameters() if p.numel() > 1 and bool((p == p.flatten()[0]).all())]


def run(module: "torch.nn.Module", shape: tuple[int, ...]) -> "torch.Tensor":
    with torch.inference_mode():
        return module(torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def test_a_module_comes_in_inference_form_with_its_own_input_shape() -> None:
    loaded = load(timm("mobilevit_xxs", batch=3))
    assert loaded.input_shape == (3, 3, 256, 256)
    assert not any(part.training for part in loaded.module.modules())
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())
    assert set(loaded.versions) == {"torch", "timm"}


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "lowformer_b0", "convnext_atto"])
def test_nothing_that_a_compiler_may_fold_is_left(name: str) -> None:
    loaded = load(timm(name))
    assert constant_parameters(loaded.module) == []
    assert loaded.fixups[0].startswith("drew ")


def test_the_fixup_tells_how_much_was_drawn_anew() -> None:
    # resnet18's 20 batch norms: a scale and a bias each, over 4,800 channels in all.
    # By stage: 64 + 4*64 | 4*128 + 128 | 4*256 + 256 | 4*512 + 512, the extra one of each being the shortcut's.
    channels = (64 + 4 * 64) + 5 * 128 + 5 * 256 + 5 * 512
    assert channels == 4800
    assert load(timm("resnet18")).fixups[0] == f"drew 40 constant-valued tensors ({2 * channels:,} values) anew"


def test_the_same_seed_gives_the_same_outputs_and_another_seed_others() -> None:
    first, again, other = (load(timm("resnet18", seed=seed)) for seed in (7, 7, 8))
    outputs = [run(loaded.module, (1, 3, 64, 64)) for loaded in (first, again, other)]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize(
    "name", ["mobileone_s0", "fastvit_t8", "repvit_m0_9", "levit_128s", "repghostnet_050", "efficientvit_m0"]
)
def test_a_re_parameterisable_family_is_fused_to_the_same_function(name: str) -> None:
    fused, built = load(timm(name)), load(timm(name, reparam=False))
    assert "fused re-parameterisable blocks for inference" in fused.fixups
    assert not any("fused" in fixup for fixup in built.fixups)
    assert len(fused.module.state_dict()) < len(built.module.state_dict())
    ours, theirs = run(fused.module, fused.input_shape), run(built.module, built.input_shape)
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_a_net_without_such_blocks_is_not_called_fused() -> None:
    assert not any("fused" in fixup for fixup in load(timm("resnet18")).fixups)


def test_a_size_that_the_model_cannot_take_names_both_sizes() -> None:
    with pytest.raises(UsageError) as caught:
        load(timm("efficientformer_l1", size=(256, 192)))
    assert "efficientformer_l1 cannot take the size 256x192; its own is 224" in caught.value.message
    assert caught.value.remedy == "--size 224"
    assert caught.value.stage == "model"


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_another_size_reaches_models_that_are_built_for_one_and_models_that_are_not(name: str) -> None:
    loaded = load(timm(name, size=(96, 64)))
    assert loaded.input_shape == (1, 3, 96, 64)
    assert run(loaded.module, loaded.input_shape).shape == (1, 1000)


def test_torchvision_models_load_by_name_and_take_another_size() -> None:
    loaded = load(torchvision("vit_b_16", size=(64, 64)))
    assert run(loaded.module, loaded.input_shape).shape == (1, 1000)
    assert set(loaded.versions) == {"torch", "torchvision"}


def test_a_tag_that_timm_does_not_know_is_a_usage_error() -> None:
    with pytest.raises(UsageError) as caught:
        load(timm("vit_tiny_patch16_224.no_such_tag"))
    assert caught.value.remedy == "give vit_tiny_patch16_224"


@pytest.mark.parametrize("spec", [timm("resnet18", pretrained=True), torchvision("alexnet", pretrained=True)])
def test_pretrained_weights_without_a_network_fail_soon_with_the_way_out(
    spec: ModelSpec, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy that refuses every connection is a machine without a network, wherever the test runs.
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # urllib keeps the proxies of its first request for the whole process: the next test must not get these.
    monkeypatch.setattr("urllib.request._opener", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(VitprofError) as caught:
        load(spec)
    # Not after the minutes that a network's own time-outs take.
    assert time.monotonic() - start < 100
    assert "--pretrained" in caught.value.remedy


def test_sizes_are_written_as_the_option_reads_them() -> None:
    assert (text_from_size((224, 224)), text_from_size((256, 192))) == ("224", "256x192")
