from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vitprof.errors import UsageError
from vitprof.models.files import is_path, spec_from_path
from vitprof.records import ModelSpec, Source

NET = """
raise RuntimeError("this file was run")
from timm.models import resnet18
import torch.nn as nn
if True:
    def small(): ...
try:
    class Net(nn.Module): ...
except ImportError:
    fallback = None
def large(width=2):
    inner = 1
def _private(): ...
base = small
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


@pytest.mark.parametrize(
    "text", ["a.py", "a.py:make", "a.b/c.PY:make", "a.pt2", "a.pt", "a.pth", "a.torchscript", "A.ONNX"]
)
def test_a_path_is_told_by_its_ending(text: str) -> None:
    assert is_path(text)


@pytest.mark.parametrize("text", ["resnet18", "timm:resnet18", "vit_tiny.augreg", "torchvision:vgg*", "happy"])
def test_a_name_is_no_path(text: str) -> None:
    assert not is_path(text)


@pytest.mark.parametrize("factory", ["small", "Net", "large", "resnet18", "base", "_private", "fallback"])
def test_any_name_that_the_file_binds_may_be_its_factory(net: Path, factory: str) -> None:
    text = f"{net}:{factory}"
    assert spec_from_path(text) == ModelSpec(name=text, source=Source.PYTHON, path=str(net), factory=factory)


@pytest.mark.parametrize(
    ("ending", "source"),
    [("pt2", Source.PT2), ("pt", Source.PT), ("pth", Source.PT), ("torchscript", Source.PT), ("onnx", Source.ONNX)],
)
def test_a_file_keeps_the_name_it_was_given_by_and_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, source: Source
) -> None:
    (tmp_path / f"net.{ending}").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    spec = spec_from_path(f"net.{ending}")
    assert spec == ModelSpec(name=f"net.{ending}", source=source, path=str(tmp_path / f"net.{ending}"))


def test_a_file_without_a_factory_lists_the_candidates(net: Path) -> None:
    with pytest.raises(UsageError) as caught:
        spec_from_path(str(net))
    assert "it defines small, Net, large" in caught.value.message
    assert "_private" not in caught.value.message and "inner" not in caught.value.message
    assert caught.value.remedy == "give net.py:small"


@pytest.mark.parametrize(
    ("factory", "said", "remedy"),
    [
        ("larg", "has no 'larg': it defines small, Net, large", "give net.py:large"),
        ("inner", "has no 'inner'", "give net.py:small"),
        ("large()", "'large()' is not the name of a function or class", "give net.py:large"),
        ("", "but not which", "give net.py:small"),
    ],
)
def test_a_wrong_factory_names_the_nearest(net: Path, factory: str, said: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        spec_from_path(f"{net}:{factory}")
    assert said in caught.value.message
    assert caught.value.remedy == remedy


@pytest.mark.parametrize("code", ["from parts import *", "globals()['make'] = 1", "def __getattr__(name): ..."])
def test_a_name_that_may_be_bound_unseen_is_left_to_the_run(tmp_path: Path, code: str) -> None:
    (tmp_path / "net.py").write_text(code)
    assert spec_from_path(f"{tmp_path}/net.py:make").factory == "make"


def test_a_file_that_is_no_python_is_left_to_the_run(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def make(:")
    assert spec_from_path(f"{tmp_path}/net.py:make").factory == "make"
    with pytest.raises(UsageError, match="it is not valid Python"):
        spec_from_path(f"{tmp_path}/net.py")


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file") as caught:
        spec_from_path(f"{tmp_path}/net.py:make")
    assert caught.value.remedy == "give an existing .py file and its factory, as net.py:make"
    with pytest.raises(UsageError, match="is a folder, not a file"):
        (tmp_path / "net.pt2").mkdir()
        spec_from_path(f"{tmp_path}/net.pt2")


@pytest.mark.parametrize("text", ["~nobody-of-that-name/net.onnx", f"{'a' * 300}.onnx", f"{'a' * 300}.py:make"])
def test_a_path_that_cannot_be_looked_at_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"no such home folder|name too long"):
        spec_from_path(text)


def test_paths_are_understood_without_torch(net: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vitprof.models import dependencies, files;"
        f"spec = files.spec_from_path('{net}:small'); path = Path(spec.path);"
        "dependencies.content_sha256(dependencies.source_files(path, spec.factory, path.parent));"
        "print([name for name in ('torch', 'timm', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
