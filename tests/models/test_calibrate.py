from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from vitprof.models.calibrate import calibrate_batch_norms  # noqa: E402


def deep() -> torch.nn.Module:
    """Sixteen blocks that each double what goes through them, unless their norm knows its statistics."""
    torch.manual_seed(0)
    blocks = []
    for _ in range(16):
        conv = torch.nn.Conv2d(3, 3, 1, bias=False)
        torch.nn.init.constant_(conv.weight, 1.0)
        blocks += [conv, torch.nn.BatchNorm2d(3)]
    return torch.nn.Sequential(*blocks).eval()


def test_activations_of_a_deep_net_stay_where_fp16_can_hold_them() -> None:
    module, image = deep(), torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert module(image).abs().max() > 1e6
    assert calibrate_batch_norms(module, (3, 8, 8), seed=0) == 16
    assert module(image).abs().max() < 10


def test_the_module_comes_back_as_it_was_but_for_its_statistics() -> None:
    module = deep()
    weights = {name: value.clone() for name, value in module.named_parameters()}
    calibrate_batch_norms(module, (3, 8, 8), seed=0)
    assert not any(part.training for part in module.modules())
    assert all(part.momentum == 0.1 for part in module if isinstance(part, torch.nn.BatchNorm2d))
    assert all(torch.equal(value, weights[name]) for name, value in module.named_parameters())


def test_the_same_seed_gives_the_same_statistics() -> None:
    one, other = deep(), deep()
    for module in (one, other):
        calibrate_batch_norms(module, (3, 8, 8), seed=3)
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))


def test_a_forward_that_fails_leaves_everything_as_it_was() -> None:
    module = torch.nn.Sequential(*deep(), torch.nn.Linear(999, 1)).eval()
    before = [value.clone() for value in module.buffers()]
    assert calibrate_batch_norms(module, (3, 8, 8), seed=0) == 0
    assert all(torch.equal(a, b) for a, b in zip(module.buffers(), before, strict=True))
    assert not any(part.training for part in module.modules())


def test_a_net_without_batch_norms_is_left_alone() -> None:
    assert calibrate_batch_norms(torch.nn.Conv2d(3, 3, 1), (3, 8, 8), seed=0) == 0
