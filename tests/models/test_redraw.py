import pytest

torch = pytest.importorskip("torch")

from vitprof.models.redraw import redraw_constant_parameters  # noqa: E402


def redrawn(module: "torch.nn.Module", seed: int = 0) -> "torch.nn.Module":
    redraw_constant_parameters(module, seed)
    return module


def test_a_zero_norm_scale_is_drawn_around_one() -> None:
    norm = torch.nn.BatchNorm2d(64)
    torch.nn.init.zeros_(norm.weight)
    redrawn(norm)
    assert norm.weight.min() >= 0.5
    assert norm.weight.max() <= 1.5
    assert norm.weight.unique().numel() > 32


def test_zero_weights_and_biases_get_small_values() -> None:
    linear = torch.nn.Linear(64, 64)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    assert redraw_constant_parameters(linear, 0) == (2, 64 * 64 + 64)
    assert 0 < linear.weight.abs().max() < 0.2
    assert 0.015 < linear.weight.std() < 0.025
    assert linear.bias.abs().min() > 0


def test_a_layer_scale_of_a_millionth_no_longer_hides_its_block() -> None:
    module = torch.nn.Module()
    module.gamma = torch.nn.Parameter(1e-6 * torch.ones(16))
    assert redrawn(module).gamma.min() >= 0.5


def test_a_constant_temperature_keeps_its_magnitude() -> None:
    module = torch.nn.Module()
    module.logit_scale = torch.nn.Parameter(torch.full((4, 1, 1), 2.3))
    redrawn(module)
    assert module.logit_scale.min() >= 2.3 * 0.5
    assert module.logit_scale.max() <= 2.3 * 1.5


def test_drawn_weights_single_values_and_buffers_are_left_alone() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.PReLU(), torch.nn.BatchNorm2d(8))
    before = module[0].weight.clone()
    redrawn(module)
    assert torch.equal(module[0].weight, before)
    assert module[1].weight.item() == 0.25
    assert torch.equal(module[2].running_mean, torch.zeros(8))
    assert torch.equal(module[2].running_var, torch.ones(8))


def test_the_same_seed_draws_the_same_values_and_another_seed_others() -> None:
    first, again, other = (redrawn(torch.nn.LayerNorm(32), seed) for seed in (1, 1, 2))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
