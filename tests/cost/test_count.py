import csv
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from vitprof.cost.count import count  # noqa: E402

REFERENCE = Path(__file__).parents[1] / "data" / "reference_counts.csv"


class Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.linear = torch.nn.Linear(8, 10)

    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        return self.linear(self.depthwise(torch.relu(self.conv(image))).mean((2, 3)))


def test_a_small_net_counts_as_by_hand() -> None:
    cost = count(Tiny(), (1, 3, 16, 16))
    # 16x16 positions: conv 8 outputs of 3x3x3, depthwise 8 of 3x3; then 8x10.
    assert cost.macs == 256 * 8 * 27 + 256 * 8 * 9 + 80
    assert cost.params == (8 * 27 + 8) + 8 * 9 + (80 + 10)
    assert cost.weight_bytes == 4 * cost.params
    # conv, relu, depthwise write 8x256 values each, mean 8, linear 10; linear's transpose is a view.
    assert cost.activation_bytes == 4 * (3 * 8 * 256 + 8 + 10)
    assert cost.ops == 5
    assert cost.uncounted_ops == {}
    assert cost.coverage is None


def test_the_count_is_of_one_image_whatever_the_batch() -> None:
    assert count(Tiny(), (64, 3, 16, 16)) == count(Tiny(), (1, 3, 16, 16))


def test_counting_leaves_the_module_as_it_was() -> None:
    module = Tiny()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    count(module, (1, 3, 16, 16))
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_transposed_convolution_counts_each_multiply_add() -> None:
    # 4x4 inputs, each spread by a 2x2 kernel to 5 channels from 3.
    assert count(torch.nn.ConvTranspose2d(3, 5, 2, stride=2), (1, 3, 4, 4)).macs == 16 * 3 * 5 * 4


class Attention(torch.nn.Module):
    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        tokens = image.flatten(2).transpose(1, 2).unsqueeze(1)
        return torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)


def test_fused_attention_is_counted() -> None:
    # 6x6 tokens of 8 channels: scores 36x36x8, values 36x36x8.
    assert count(Attention(), (1, 8, 6, 6)).macs == 2 * 36 * 36 * 8


class Shared(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.second = self.first

    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        return self.second(self.first(image.mean((2, 3))))


def test_a_shared_parameter_is_counted_once_and_its_work_each_time() -> None:
    cost = count(Shared(), (1, 4, 2, 2))
    assert (cost.params, cost.macs) == (20, 32)


class Fourier(torch.nn.Module):
    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        return torch.fft.fft2(image).abs()


def test_work_without_a_formula_is_named() -> None:
    assert count(Fourier(), (1, 3, 8, 8)).uncounted_ops == {"_fft_c2c": 1}


class ReadsValues(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        pooled = image.mean((2, 3))
        return self.linear(pooled if pooled.sum().item() >= 0 else -pooled)


def test_a_forward_that_reads_values_is_counted_on_the_cpu() -> None:
    assert count(ReadsValues(), (1, 3, 8, 8)).macs == 9


class Raises(ReadsValues):
    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        raise RuntimeError("no")


def test_macs_that_nothing_could_count_are_none() -> None:
    cost = count(Raises(), (1, 3, 8, 8))
    assert (cost.params, cost.macs, cost.activation_bytes, cost.ops) == (12, None, None, None)


def reference_rows() -> dict[tuple[str, int], dict[str, str]]:
    with REFERENCE.open() as file:
        return {(row["model"], int(row["res"])): row for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 224),
        ("mobilenetv3_large_100", 224),
        ("vit_tiny_patch16_224", 224),
        ("lowformer_b0", 256),
        ("efficientformerv2_s0", 224),
        ("swin_tiny_patch4_window7_224", 224),
        ("levit_192", 224),
        ("cait_xxs36_224", 224),
        ("mobileone_s0", 224),
    ],
)
def test_timm_models_as_built_count_to_the_reference(name: str, size: int) -> None:
    from vitprof.runner.torchvision_compat import import_timm

    row = reference_rows()[name, size]
    module = import_timm().create_model(name).eval()
    cost = count(module, (1, 3, size, size))
    assert cost.params == int(row["params"])
    assert cost.macs == int(row["macs"])
    assert cost.activation_bytes == int(row["act_out_bytes_fp32"])
    # The reference also counts the empty buffer that each batch norm asks for as an operator.
    batch_norms = sum(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in module.modules())
    assert cost.ops == int(row["n_ops"]) - batch_norms
    assert cost.uncounted_ops == {}
