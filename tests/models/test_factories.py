from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from vitprof.errors import UsageError, VitprofError  # noqa: E402
from vitprof.models.dependencies import content_sha256, remember_source_files, source_files  # noqa: E402
from vitprof.models.load import Loaded, load  # noqa: E402
from vitprof.records import ModelSpec, Source  # noqa: E402

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images):
        return self.norm(self.conv(images)).mean((2, 3))
"""


def spec(folder: Path, code: str, factory: str = "make", **options: object) -> ModelSpec:
    path = folder / "net.py"
    path.write_text(NET + code)
    made = ModelSpec(name=f"net.py:{factory}", source=Source.PYTHON, path=str(path), factory=factory)
    return replace(made, **options)  # type: ignore[arg-type]


def line_of(asked: ModelSpec, text: str) -> int:
    lines = Path(asked.path or "").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def out(loaded: Loaded) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.module(torch.ones(loaded.input_shape))


def test_a_function_builds_a_module_in_inference_form(tmp_path: Path) -> None:
    loaded = load(spec(tmp_path, "def make(): return Net()", batch=2))
    assert loaded.input_shape == (2, 3, 224, 224)
    assert "input size not named by the factory: 3x224x224 taken" in loaded.fixups
    # The batch norm's scale and bias, two tensors of four values.
    assert "drew 2 constant-valued tensors (8 values) anew" in loaded.fixups
    assert not any(part.training for part in loaded.module.modules())
    assert out(loaded).shape == (2, 4)


def test_a_class_is_a_factory_and_a_module_is_taken_as_it_is(tmp_path: Path) -> None:
    assert type(load(spec(tmp_path, "", "Net")).module).__name__ == "Net"
    assert type(load(spec(tmp_path, "made = Net()", "made")).module).__name__ == "Net"


def test_an_image_gives_channels_and_size(tmp_path: Path) -> None:
    loaded = load(spec(tmp_path, "def make(): return Net(5), torch.zeros(1, 5, 40, 24)"))
    assert loaded.input_shape == (1, 5, 40, 24)
    assert not any("not named" in fixup for fixup in loaded.fixups)
    assert out(loaded).shape == (1, 4)


@pytest.mark.parametrize(
    "holder",
    [
        "net.input_size = (1, 20, 30)",
        "net.default_cfg = {'input_size': (1, 20, 30)}",
        "net.pretrained_cfg = {'input_size': (1, 20, 30)}",
    ],
)
def test_a_module_names_its_size_as_timms_do(tmp_path: Path, holder: str) -> None:
    loaded = load(spec(tmp_path, f"def make():\n  net = Net(1)\n  {holder}\n  return net"))
    assert loaded.input_shape == (1, 1, 20, 30)


def test_a_size_that_was_asked_for_needs_no_fix_up(tmp_path: Path) -> None:
    loaded = load(spec(tmp_path, "", "Net", size=(32, 48)))
    assert loaded.input_shape == (1, 3, 32, 48)
    assert not any("not named" in fixup for fixup in loaded.fixups)


def test_a_size_that_the_module_cannot_take_names_its_own(tmp_path: Path) -> None:
    code = "class Flat(Net):\n  def forward(self, x): return x.reshape(1, 3 * 16 * 16)\n"
    with pytest.raises(UsageError, match="cannot take the size 32; its own is 16") as caught:
        load(spec(tmp_path, code + "def make(): return Flat(), torch.zeros(1, 3, 16, 16)", size=(32, 32)))
    assert caught.value.remedy == "--size 16"


def test_the_seed_chooses_the_weights(tmp_path: Path) -> None:
    first, again, other = (out(load(spec(tmp_path, "", "Net", seed=seed, size=(8, 8)))) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_blocks_that_can_be_fused_are_fused(tmp_path: Path) -> None:
    code = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    def forward(self, x): return self.a(x) + self.b(x)
    def fuse(self):
        one = nn.Conv2d(3, 3, 1)
        one.weight.data, one.bias.data = self.a.weight + self.b.weight, self.a.bias + self.b.bias
        return one
class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()
    def forward(self, x): return self.block(x).mean((2, 3))
"""
    fused, built = (load(spec(tmp_path, code, "Whole", reparam=reparam, size=(8, 8))) for reparam in (True, False))
    assert "fused re-parameterisable blocks for inference" in fused.fixups
    assert (len(fused.module.state_dict()), len(built.module.state_dict())) == (2, 4)
    assert torch.allclose(out(fused), out(built), atol=1e-5)


def test_weights_of_another_precision_are_converted_and_that_is_told(tmp_path: Path) -> None:
    loaded = load(spec(tmp_path, "def make(): return Net().double()", size=(8, 8)))
    assert "converted its weights to float32" in loaded.fixups
    assert out(loaded).dtype is torch.float32


def test_files_beside_it_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text("CHANNELS = 2\n")
    code = "import parts\ndef make(): return Net(parts.CHANNELS), torch.zeros(1, 2, 8, 8)"
    assert load(spec(tmp_path, code)).input_shape == (1, 2, 8, 8)
    assert not (tmp_path / "__pycache__").exists()


def test_two_folders_may_have_files_of_the_same_names(tmp_path: Path) -> None:
    for channels in (2, 5):
        folder = tmp_path / str(channels)
        folder.mkdir()
        (folder / "parts.py").write_text(f"CHANNELS = {channels}\n")
        code = "import parts\ndef make(): return Net(parts.CHANNELS), torch.zeros(1, parts.CHANNELS, 8, 8)"
        assert load(spec(folder, code)).input_shape == (1, channels, 8, 8)


def test_what_the_code_changes_is_put_back(tmp_path: Path) -> None:
    code = f"""
import os, sys
os.chdir({str(tmp_path)!r})
sys.path.append("/nowhere")
sys.argv.append("more")
torch.set_default_dtype(torch.float64)
torch.set_default_device("meta")
torch.set_grad_enabled(False)
def make():
    with torch.device("cpu"):
        return Net()
"""
    before = (Path.cwd(), sys.path[:], sys.argv[:], sys.dont_write_bytecode)
    load(spec(tmp_path, code, size=(8, 8)))
    assert (Path.cwd(), sys.path, sys.argv, sys.dont_write_bytecode) == before
    assert torch.zeros(1).dtype is torch.float32
    assert torch.zeros(1).device.type == "cpu"
    assert torch.is_grad_enabled()


def test_code_reads_its_own_command_line_as_empty(tmp_path: Path) -> None:
    code = "import argparse\nargparse.ArgumentParser().parse_args()\ndef make(): return Net()"
    load(spec(tmp_path, code, size=(8, 8)))


def test_classes_of_the_file_can_be_found_by_their_module(tmp_path: Path) -> None:
    # As dataclasses and pickles do, under its own __future__ and no other.
    code = "import dataclasses\n@dataclasses.dataclass\nclass Setting:\n  width: int = 4\n"
    code += "def make():\n  assert Setting.__annotations__['width'] is int\n  return Net()"
    load(spec(tmp_path, code, size=(8, 8)))


@pytest.mark.parametrize(
    ("code", "said", "where", "remedy"),
    [
        ("def make(): return 1 / 0", "ZeroDivisionError: division by zero", "1 / 0", "/net.py, line"),
        ("raise SystemExit(2)", "SystemExit: 2", "SystemExit", "if __name__ == '__main__':"),
        ("import sys\ndef make(): sys.exit('no data')", "SystemExit: no data", "sys.exit", "__main__"),
        ("import no_such_module", "ModuleNotFoundError", "no_such", "install no_such_module in vitprof's environment"),
        ("from . import parts", "ImportError: attempted relative import", "from .", "instead of net.py"),
        ("def make(: pass", "SyntaxError", "def make(", "/net.py, line"),
        ("def make(width): return Net()", "TypeError: make() missing 1 required", "", "a factory takes no arguments"),
        ("def make(): return nn.Conv2d(3)", "TypeError: Conv2d.__init__() missing", "nn.Conv2d(3)\n", "mend"),
        ("def make(): assert False", "AssertionError", "assert False", "/net.py, line"),
        ("def make(): raise BaseException('x\\ny')", "BaseException: x (", "raise Base", "/net.py, line"),
    ],
)
def test_whatever_the_code_raises_is_told_with_its_line(
    tmp_path: Path, code: str, said: str, where: str, remedy: str
) -> None:
    asked = spec(tmp_path, code + "\n")
    with pytest.raises(VitprofError) as caught:
        load(asked)
    assert f"net.py:make fails: {said}" in caught.value.message
    # The call itself is vitprof's, with no line in the file.
    line = f", line {line_of(asked, where.strip())}" if where else ""
    assert f"({asked.path}{line})" in caught.value.message
    assert remedy in caught.value.remedy
    assert (caught.value.exit_code, caught.value.stage) == (3, "model")


def test_the_line_may_be_in_another_file_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text("def part():\n    return {}['absent']\n")
    with pytest.raises(VitprofError) as caught:
        load(spec(tmp_path, "import parts\ndef make(): return parts.part()"))
    assert f"KeyError: 'absent' ({tmp_path}/parts.py, line 2)" in caught.value.message


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("None", "returned None"),
        ("'resnet18'", "returned a str"),
        ("Net().state_dict()", "returned a OrderedDict"),
        ("(Net(), 1, 2)", "returned a tuple of Net, int, int"),
        ("(Net(), 224)", "returned a module with a int for its image"),
        ("(Net(), torch.zeros(3, 8, 8))", "with a float32 tensor of the shape (3, 8, 8) for its image"),
        ("(Net(), torch.zeros(1, 3, 8, 8).long())", "with a int64 tensor of the shape (1, 3, 8, 8) for its image"),
    ],
)
def test_anything_but_a_module_is_told(tmp_path: Path, returned: str, said: str) -> None:
    with pytest.raises(VitprofError) as caught:
        load(spec(tmp_path, f"def make(): return {returned}"))
    assert said in caught.value.message
    assert "returns a torch.nn.Module, or (module, image)" in caught.value.remedy


def test_a_factory_that_turns_out_to_be_missing_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no 'make' when it is run"):
        load(spec(tmp_path, "globals()['other'] = 1"))


def test_published_weights_of_a_file_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a file, which has its own weights"):
        load(spec(tmp_path, "", "Net", pretrained=True))


def test_the_files_that_made_the_module_are_told(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    for name in ("parts.py", "pack/__init__.py", "pack/inner.py", "sizes.json", "unused.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "sizes.json").write_text("[8, 8]")
    code = """
import json, pathlib, timm
import parts
def make():
    from pack import inner
    height, width = json.load(open("sizes.json"))
    pathlib.Path("log.txt").write_text("built")
    return Net(), torch.zeros(1, 3, height, width)
"""
    asked = spec(tmp_path, f"import os; os.chdir({str(tmp_path)!r})" + code)
    loaded = load(asked)
    names = [path.relative_to(tmp_path).as_posix() for path in loaded.source_files]
    assert names == ["net.py", "pack/__init__.py", "pack/inner.py", "parts.py", "sizes.json"]
    # Run again in the same process: nothing is taken for known.
    again = load(asked)
    assert (again.source_files, again.content_sha256) == (loaded.source_files, loaded.content_sha256)


def test_the_hash_changes_with_every_file_that_made_the_module(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text("CHANNELS = 3\n")
    asked = spec(tmp_path, "import parts\ndef make(): return Net(parts.CHANNELS), torch.zeros(1, 3, 8, 8)")
    loaded = load(asked)
    cache = tmp_path / "cache"
    path = Path(asked.path or "")
    assert source_files(path, "make", cache) == (path,), "nothing is known before it is remembered"
    remember_source_files(path, "make", loaded.source_files, cache)
    assert source_files(path, "make", cache) == loaded.source_files
    assert content_sha256(source_files(path, "make", cache)) == loaded.content_sha256
    (tmp_path / "parts.py").write_text("CHANNELS = 4\n")
    assert content_sha256(source_files(path, "make", cache)) != loaded.content_sha256
    (tmp_path / "parts.py").unlink()
    assert content_sha256(source_files(path, "make", cache)) is None
