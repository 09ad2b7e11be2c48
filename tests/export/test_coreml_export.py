"""A conversion for real, on any machine: coremltools writes packages without a Mac."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("coremltools")

from vitprof.cost.count import count  # noqa: E402
from vitprof.cost.mil_count import count_mil  # noqa: E402
from vitprof.errors import VitprofError  # noqa: E402
from vitprof.export.coreml_export import CoremlExport, export_coreml  # noqa: E402
from vitprof.export.coreml_program import facts_of, read_program  # noqa: E402
from vitprof.mil import MilProgram  # noqa: E402

SHAPE = (1, 3, 16, 16)


class Attention(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = torch.nn.Linear(8, 24)
        self.proj = torch.nn.Linear(8, 8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        return self.proj((query @ key.transpose(-1, -2)).softmax(-1) @ value)


class Net(torch.nn.Module):
    """A convolution with a batch norm, a position embedding, attention, two outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.BatchNorm2d(8))
        self.pos_embed = torch.nn.Parameter(torch.randn(1, 64, 8))
        self.attn = Attention()
        self.head = torch.nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        tokens = self.stem(image).flatten(2).transpose(1, 2) + self.pos_embed
        tokens = tokens + self.attn(tokens)
        return {"out": self.head(tokens.mean(1)), "tokens": tokens}


PARAMETERS = [name for name, _ in Net().named_parameters()]


def exported(folder: Path, *, is_half: bool) -> tuple[Path, CoremlExport]:
    torch.manual_seed(0)
    package = folder / "model.mlpackage"
    return package, export_coreml(Net().eval(), SHAPE, package, is_half=is_half)


@pytest.fixture(scope="module", params=[False, True], ids=["fp32", "fp16"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[MilProgram, CoremlExport]:
    package, export = exported(tmp_path_factory.mktemp("coreml"), is_half=request.param)
    return read_program(package, export.modules, PARAMETERS), export


def test_inputs_outputs_and_arithmetic_are_of_the_precision_asked_for(made: tuple[MilProgram, CoremlExport]) -> None:
    program, export = made
    word = {"float32": "fp32", "float16": "fp16"}[export.input_dtype]
    assert word in export.exporter and "iOS 16" in export.exporter
    [image] = program.inputs
    assert (image.name, image.dtype, image.shape) == ("image", word, SHAPE)
    assert {value.dtype for op in program.ops for value in op.outputs} == {word}


def test_macs_read_in_the_package_are_those_of_the_module(made: tuple[MilProgram, CoremlExport]) -> None:
    cost = count_mil(made[0])
    # The stem: 8 x 8 x 8 outputs of 3 x 3 x 3. 64 tokens of 8: queries, keys, values and projection; scores and sum;
    # the head.
    by_hand = 512 * 27 + 64 * 8 * 32 + 2 * 64 * 64 * 8 + 8 * 5
    assert cost.macs == by_hand == count(Net().eval(), SHAPE).macs
    assert cost.uncounted_ops == {}


def test_parameters_are_those_of_the_module_without_the_folded_batch_norm(
    made: tuple[MilProgram, CoremlExport],
) -> None:
    # Its eight weights are in the convolution's, its biases are the convolution's.
    assert count_mil(made[0]).params == sum(one.numel() for one in Net().parameters()) - 16


def test_operators_know_their_modules(made: tuple[MilProgram, CoremlExport]) -> None:
    modules = {op.type: op.module for op in made[0].ops}
    assert modules["conv"] == "stem.0" and modules["softmax"] == "attn"
    assert {op.module for op in made[0].ops if op.type == "linear"} == {"attn.qkv", "attn.proj", "head"}


def test_facts_are_of_operators_without_constants(made: tuple[MilProgram, CoremlExport]) -> None:
    facts = facts_of(made[0], 1, 2)
    assert facts.ops["conv"] == 1 and facts.ops["linear"] == 3 and "const" not in facts.ops
    assert sum(facts.dtypes.values()) == sum(facts.ops.values())


def test_a_program_of_torch_export_stands_in_and_the_record_says_why(tmp_path: Path) -> None:
    class Untraceable(Net):
        """Its last operator is an alias to torch.export, which the converter does not know."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if torch.jit.is_tracing():
                raise RuntimeError("not for the tracer")
            return super().forward(image)["out"].detach()

    export = export_coreml(Untraceable().eval(), SHAPE, tmp_path / "model.mlpackage", is_half=True)
    assert "torch.export" in export.exporter
    assert export.fixups == ("torch.jit.trace failed: not for the tracer",)
    program = read_program(tmp_path / "model.mlpackage", export.modules, PARAMETERS)
    assert count_mil(program).macs == count(Net().eval(), SHAPE).macs
    assert [(image.name, image.dtype) for image in program.inputs] == [("image", "fp16")]
    # The converter knows no modules of such a program; those with parameters have them from these.
    assert "attn.qkv" in {op.module for op in program.ops}


def test_a_model_that_no_way_takes_is_told_with_every_cause(tmp_path: Path) -> None:
    class Bicubic(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.interpolate(image, scale_factor=1.5, mode="bicubic")

    with pytest.raises(VitprofError, match="upsample_bicubic2d") as caught:
        export_coreml(Bicubic(), SHAPE, tmp_path / "model.mlpackage", is_half=False)
    assert "torch.jit.trace failed" in caught.value.message and "torch.export failed" in caught.value.message


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    sums = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        package, _ = exported(tmp_path / name, is_half=True)
        files = sorted(path for path in package.rglob("*") if path.is_file())
        sums.append([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
    assert sums[0] == sums[1]
    # The names of the parts are random where the converter gives them.
    manifest = json.loads((tmp_path / "a" / "model.mlpackage" / "Manifest.json").read_text())
    assert manifest["rootModelIdentifier"] in manifest["itemInfoEntries"]


def test_a_conversion_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exported(tmp_path, is_half=False)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_folder_that_is_no_package_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "model.mlpackage").mkdir()
    with pytest.raises(VitprofError, match="cannot be read"):
        read_program(tmp_path / "model.mlpackage")
