"""Rewriting to four axes: nothing but the way of writing may change."""

from __future__ import annotations

import pytest
import torch

from vitprof.export.rank4 import MAX_RANK, rewrite, rewritten

_HEADS, _WINDOW = 2, 4


class _Attention(torch.nn.Module):
    """As timm writes it: one product, five axes, taken apart along the first."""

    def __init__(self, fused: bool = True) -> None:
        super().__init__()
        self.qkv, self.proj, self.fused = torch.nn.Linear(16, 48), torch.nn.Linear(16, 16), fused

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, _HEADS, width // _HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused:
            mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))


class _Tokens(torch.nn.Module):
    """An image as (N, H x W, 16), for what takes tokens."""

    def __init__(self, body: torch.nn.Module) -> None:
        super().__init__()
        self.stem, self.body = torch.nn.Conv2d(3, 16, 2, stride=2), body

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.body(self.stem(image).flatten(2).transpose(1, 2))


class _Windows(torch.nn.Module):
    """As Swin cuts them: six axes, and a table of shifts added that no image changes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = torch.nn.Conv2d(3, 16, 1), torch.nn.Linear(16, 16)
        self.table = torch.nn.Parameter(torch.randn(_WINDOW * _WINDOW, 16))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image).permute(0, 2, 3, 1)
        batch, height, width, channels = x.shape
        rows, columns = height // _WINDOW, width // _WINDOW
        x = x.view(batch, rows, _WINDOW, columns, _WINDOW, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, _WINDOW * _WINDOW, channels)
        # Through five axes, from a weight alone.
        shifts = self.table.view(1, 1, 1, _WINDOW * _WINDOW, 16).expand(1, 1, 2, -1, -1).sum(2).view(-1, 16)
        x = self.mix(x) + shifts
        x = x.view(batch, rows, columns, _WINDOW, _WINDOW, channels).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(batch, height, width, channels).mean((1, 2))


class _HighLinear(torch.nn.Module):
    """As Twins does it: a product and attention on windows that stay six and five axes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv = torch.nn.Conv2d(3, 16, 1), torch.nn.Linear(16, 48)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image).permute(0, 2, 3, 1)
        batch, height, width, channels = x.shape
        rows, columns = height // _WINDOW, width // _WINDOW
        x = x.reshape(batch, rows, _WINDOW, columns, _WINDOW, channels).transpose(2, 3)
        qkv = self.qkv(x).reshape(batch, rows * columns, _WINDOW**2, 3, _HEADS, channels // _HEADS)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)
        x = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        x = x.transpose(2, 3).reshape(batch, rows, columns, _WINDOW, _WINDOW, channels)
        return x.transpose(2, 3).reshape(batch, height * width, channels).mean(1)


def _graph(module: torch.nn.Module, image: torch.Tensor) -> torch.fx.GraphModule:
    return torch.export.export(module, (image,), strict=False).run_decompositions({}).module(check_guards=False)


def _ranks(graph: torch.fx.GraphModule) -> list[int]:
    values = (node.meta.get("val") for node in graph.graph.nodes if node.op == "call_function")
    return [value.ndim for value in values if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "make",
    [lambda: _Tokens(_Attention()), lambda: _Tokens(_Attention(fused=False)), _Windows, _HighLinear],
    ids=["attention", "attention in parts", "windows", "windows that stay"],
)
def test_the_outputs_stay_and_no_tensor_has_more_than_four_axes(make: type[torch.nn.Module], batch: int) -> None:
    torch.manual_seed(0)
    module, image = make().eval().requires_grad_(False), torch.randn(batch, 3, 8, 8)
    graph = _graph(module, image)
    assert max(_ranks(graph)) > MAX_RANK
    counts = rewrite(graph)
    assert max(_ranks(graph)) <= MAX_RANK and counts.left == 0
    torch.testing.assert_close(graph(image), module(image))


def test_queries_keys_and_values_are_three_chains() -> None:
    image = torch.randn(1, 3, 8, 8)
    module, [told] = rewritten(_Tokens(_Attention()).eval(), image)
    assert told == "rewritten with at most 4 axes: 3 chains of views"
    assert isinstance(module, torch.fx.GraphModule)


def test_a_table_that_no_image_changes_becomes_a_constant() -> None:
    graph = _graph(_Windows().eval(), torch.randn(1, 3, 8, 8))
    assert rewrite(graph).constants == 1


def test_what_has_four_axes_stays_the_module_that_it_was() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    assert rewritten(net, torch.zeros(1, 3, 8, 8)) == (net, ())


class _FiveAxes(torch.nn.Module):
    """Its windows are reduced while they have six axes: that is no mere way of writing."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = _Tokens(_Attention())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = image.shape
        x = image.view(batch, channels, height // 2, 2, width // 2, 2).amax((3, 5)) * 2
        return self.attention(x).mean(1)


def test_operators_on_more_axes_that_are_left_are_told() -> None:
    _, [told] = rewritten(_FiveAxes().eval(), torch.randn(1, 3, 16, 16))
    # The view to six axes, and amax reads it.
    assert told == "rewritten with at most 4 axes: 3 chains of views; 1 operators on more are left"


class _Untraceable(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image if float(image.sum()) > 0 else -image


def test_a_module_that_cannot_be_traced_is_left_to_whoever_exports_it() -> None:
    module = _Untraceable()
    assert rewritten(module, torch.ones(1, 3, 4, 4)) == (module, ())
