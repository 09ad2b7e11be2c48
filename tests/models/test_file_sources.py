"""Files as models from end to end: what is kept, what is made again, what reaches the user."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from vitprof.models.catalogue import find
from vitprof.prepare import cached, prepare
from vitprof.records import ModelSpec

NET = """
import torch, parts
print("printed by the user's file")
def make():
    return torch.nn.Sequential(torch.nn.Conv2d(3, parts.CHANNELS, 3), torch.nn.Flatten()), torch.zeros(1, 3, 8, 8)
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "parts.py").write_text("CHANNELS = 2\n")
    return tmp_path / "net.py"


def spec(path: Path) -> ModelSpec:
    (found,) = find(f"{path}:make", lambda: pytest.fail("a file needs no catalogue"))
    return found


def test_an_artifact_is_kept_until_a_file_behind_it_changes(net: Path, tmp_path: Path) -> None:
    cache, parts = tmp_path / "cache", net.parent / "parts.py"
    first = prepare(spec(net), "onnx", cache)
    # A convolution of three channels to two with 3x3 weights: 2 x 27 weights and 2 biases.
    assert first.cost.params == 2 * 27 + 2
    assert cached(spec(net), "onnx", cache) == first
    parts.write_text("CHANNELS = 4\n")
    assert cached(spec(net), "onnx", cache) is None
    assert prepare(spec(net), "onnx", cache).cost.params == 4 * 27 + 4
    # The old text, and so the old artifact.
    parts.write_text("CHANNELS = 2\n")
    assert cached(spec(net), "onnx", cache) == first
    net.write_text(NET + "\n# a remark\n")
    assert cached(spec(net), "onnx", cache) is None
    parts.unlink()
    assert cached(spec(net), "onnx", cache) is None


def test_what_the_users_code_prints_stays_out_of_the_json(net: Path) -> None:
    words = ("latency", "net.py:make", "--effort", "quick", "--measure", "3x", "--threads", "1", "--json", "-")
    done = subprocess.run(
        [sys.executable, "-m", "vitprof", *words], cwd=net.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)["results"]
    assert (row["model"], row["source"], row["size"], row["outcome"]) == ("net.py:make", "python", [8, 8], "ok")
    assert row["parity"]["verdict"] == "match"
    assert "printed by the user's file" in done.stderr
