"""Other counters, asked for real: what they are known to leave out or to add must come out with its size."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from vitprof.cost.count import count  # noqa: E402
from vitprof.cost.cross_check import cross_check  # noqa: E402
from vitprof.counts import OtherCount  # noqa: E402


class Attends(torch.nn.Module):
    """A convolution, a norm, attention over 36 tokens of 8, a Linear on each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = torch.nn.Conv2d(3, 8, 1), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(self.conv(image)).flatten(2).mT[:, None].contiguous()
        return self.linear(torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens))


CONV, ATTENTION, LINEAR = 36 * 3 * 8, 2 * 36 * 36 * 8, 36 * 64


@pytest.fixture(scope="module")
def others() -> dict[str, OtherCount]:
    module = Attends().eval()
    cost = count(module, (1, 3, 6, 6))
    assert cost.macs == CONV + ATTENTION + LINEAR
    return {other.name: other for other in cross_check(module, (1, 3, 6, 6), cost)}


def test_torch_counts_flops_and_is_blind_to_fused_attention(others: dict[str, OtherCount]) -> None:
    other = others["torch FlopCounterMode"]
    assert other.printed == f"{2 * (CONV + LINEAR):,} flops"
    assert other.macs == CONV + LINEAR
    # 20,736 multiply-adds of attention, and nothing else is left.
    assert other.reasons == ("it counts flops, 2 for each MAC", "it does not see fused attention: 20.74 k")


def test_fvcore_adds_norms_and_calls_macs_flops(others: dict[str, OtherCount]) -> None:
    if "fvcore" not in others:
        pytest.skip("fvcore is not installed")
    other = others["fvcore"]
    # Two for each of 8 x 36 values of the norm.
    assert other.macs == CONV + LINEAR + 2 * 288
    assert other.reasons == (
        "it calls MACs flops",
        "it adds batch_norm 576.0",
        "it does not see fused attention: 20.74 k",
    )


def test_a_counter_that_fails_is_a_line_with_its_error() -> None:
    class Raises(Attends):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if not torch.jit.is_tracing() and not image.is_meta:
                raise RuntimeError("not here")
            return super().forward(image)

    module = Raises().eval()
    found = cross_check(module, (1, 3, 6, 6), count(module, (1, 3, 6, 6)))
    [torch_s] = [other for other in found if other.name == "torch FlopCounterMode"]
    assert (torch_s.macs, torch_s.error) == (None, "RuntimeError: not here")


def test_the_module_is_left_without_hooks(others: dict[str, OtherCount]) -> None:
    module = Attends().eval()
    before = set(module.state_dict())
    cross_check(module, (1, 3, 6, 6), count(module, (1, 3, 6, 6)))
    assert set(module.state_dict()) == before
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
