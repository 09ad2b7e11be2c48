import csv
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from vitprof.cost.count import count  # noqa: E402
from vitprof.counts import Kind, Ledgers, OpRow  # noqa: E402
from vitprof.models.load import load, load_shapes  # noqa: E402
from vitprof.records import ModelSpec, Source  # noqa: E402

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
    assert cost.coverage == 1.0
    assert not cost.is_lower_bound


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


class Distances(torch.nn.Module):
    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        points = image.flatten(2)
        return torch.cdist(points, points)


def test_work_without_a_rule_is_named_and_makes_the_macs_a_lower_bound() -> None:
    cost = count(Distances(), (1, 3, 8, 8))
    assert cost.uncounted_ops == {"_cdist_forward": 1}
    assert cost.is_lower_bound
    # It reads the points once, 192 values, and writes 3 x 3 distances, and nothing else moves a byte.
    [row] = cost.rows
    assert (row.kind, row.bytes_in, row.bytes_out, cost.coverage) == (Kind.UNKNOWN, 4 * 192, 4 * 9, 0.0)


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


@pytest.mark.timeout(900)
def test_every_row_of_the_reference_counts_exactly() -> None:
    """As built, on shapes alone: parameters and MACs to the unit, for each family and size of the table."""
    with REFERENCE.open() as file:
        for row in csv.DictReader(file):
            size = int(row["res"])
            spec = ModelSpec(row["model"], Source.TIMM, size=(size, size), reparam=False)
            loaded = load_shapes(spec)
            cost = count(loaded.module, loaded.input_shape)
            counted = (cost.params, cost.macs, cost.uncounted_ops, cost.coverage)
            assert counted == (int(row["params"]), int(row["macs"]), {}, 1.0), row["model"]
            assert next(loaded.module.parameters()).is_meta


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "lowformer_b0", "levit_192", "mobileone_s0"])
def test_bytes_and_operators_are_those_of_the_reference(name: str) -> None:
    with REFERENCE.open() as file:
        row = next(row for row in csv.DictReader(file) if (row["model"], row["res"]) == (name, "224"))
    loaded = load_shapes(ModelSpec(name, Source.TIMM, reparam=False))
    cost = count(loaded.module, (1, 3, 224, 224))
    assert cost.activation_bytes == int(row["act_out_bytes_fp32"])
    # The reference also counts the empty buffer that each batch norm asks for as an operator.
    batch_norms = sum(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in loaded.module.modules())
    assert cost.ops == int(row["n_ops"]) - batch_norms


@pytest.mark.parametrize(
    ("name", "source", "macs"),
    [
        # 2 x 2,048 values of the head and the published 4.09 G of the body: fvcore's convolutions and linears agree.
        ("resnet50", Source.TORCHVISION, 4_089_184_256),
        # 12 layers of 197 tokens x 768: 12 x 197 x 768^2 + 2 x 197^2 x 768 a layer, patches, and the head of one token.
        ("vit_b_16", Source.TORCHVISION, 12 * (12 * 197 * 768**2 + 2 * 197**2 * 768) + 196 * 768 * 768 + 768 * 1000),
    ],
)
def test_models_that_are_not_in_the_reference_count_as_by_hand(name: str, source: Source, macs: int) -> None:
    loaded = load_shapes(ModelSpec(name, source))
    assert count(loaded.module, loaded.input_shape).macs == macs


def test_a_model_without_weights_counts_as_with_them() -> None:
    # Fused for inference, which rewrites convolutions.
    spec = ModelSpec("repghostnet_050", Source.TIMM)
    shapes, full = load_shapes(spec), load(spec)
    assert next(shapes.module.parameters()).is_meta and not next(full.module.parameters()).is_meta
    assert count(shapes.module, shapes.input_shape) == count(full.module, full.input_shape)


class Block(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens: "torch.Tensor") -> "torch.Tensor":
        return self.inner(torch.relu(tokens))


class Twice(torch.nn.Module):
    """One Linear under two parents, one of which runs twice."""

    def __init__(self) -> None:
        super().__init__()
        inner = torch.nn.Linear(4, 4, bias=False)
        self.left, self.right = Block(inner), Block(inner)

    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        return self.right(self.left(self.left(image.mean((2, 3)))))


def test_a_shared_module_is_told_by_the_parent_that_calls_it() -> None:
    rows = {row.module: row for row in count(Twice(), (1, 4, 2, 2)).rows if row.kind is Kind.LINEAR}
    assert {path: (row.calls, row.macs) for path, row in rows.items()} == {
        "left.inner": (2, 32),
        "right.inner": (1, 16),
    }


def test_programs_of_torch_export_keep_their_module_paths() -> None:
    program = torch.export.export(Twice().eval(), (torch.zeros(1, 4, 2, 2),)).module()
    macs = {row.module: row.macs for row in count(program, (1, 4, 2, 2)).rows if row.macs}
    assert macs == {"left.inner": 32, "right.inner": 16}


def test_a_row_holds_what_one_operator_reads_and_writes() -> None:
    rows = {row.op: row for row in count(Tiny(), (1, 3, 16, 16)).rows if row.op != "convolution"}
    assert rows["relu"] == OpRow("relu", Kind.ACTIVATION, "", 1, 0, 8192, 8192, (1, 8, 16, 16))
    # 8 pooled values, 10 x 8 weights and 10 biases are read, 10 logits written.
    assert rows["addmm"] == OpRow(
        "addmm", Kind.LINEAR, "linear", 1, 80, 4 * (8 + 80 + 10), 40, (1, 10), weight_bytes=4 * 90
    )


class Bias(torch.nn.Module):
    """A product of parameters alone makes a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.linear = torch.nn.Parameter(torch.ones(5, 2)), torch.nn.Linear(2, 3)

    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        return image.mean((2, 3)) + self.linear(self.table).sum(0)


def test_work_that_does_not_depend_on_the_image_is_marked() -> None:
    rows = count(Bias(), (1, 3, 4, 4)).rows
    assert {row.op for row in rows if not row.depends_on_input} == {"addmm", "sum"}
    assert {row.op for row in rows if row.depends_on_input} == {"mean", "add"}


def test_a_batch_that_a_program_insists_on_is_divided_by_its_images() -> None:
    program = torch.export.export(Tiny().eval(), (torch.zeros(4, 3, 16, 16),)).module()
    assert count(program, (4, 3, 16, 16)).macs == count(Tiny(), (1, 3, 16, 16)).macs
    [row] = [row for row in count(program, (4, 3, 16, 16)).rows if row.op == "addmm"]
    assert (row.bytes_in, row.weight_bytes) == (4 * (8 + 80 + 10), 4 * 90)


def test_ledgers_are_kept_apart_from_the_macs() -> None:
    # relu writes 8 x 16 x 16 values; the mean reads as many.
    assert count(Tiny(), (1, 3, 16, 16)).ledgers == Ledgers(elementwise=2048, pool=2048)
