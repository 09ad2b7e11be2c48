"""`vitprof count` as a user types it: in a process of its own, on small models."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vitprof.devices.profiles import reference_model

FACTORY = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.Linear(8, 10)
    def forward(self, image):
        points = self.conv(image).flatten(2)
        return self.head(points.mean(2)) + torch.cdist(points, points).sum()

def net():
    return Net(), torch.zeros(1, 3, 6, 6)
"""


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vitprof", "count", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("factory") / "net.py"
    path.write_text(FACTORY)
    return f"{path}:net"


def test_one_model_is_counted_by_kind(factory: str) -> None:
    done = run(factory)
    assert done.returncode == 0, done.stderr
    # 4x4 outputs of 8 channels of 3x3x3, 8x10 of the head; the distances have no rule.
    assert "≥ 3.536 k" in done.stdout
    assert "not counted: 1 x _cdist_forward" in done.stdout
    assert "the MACs are a lower bound" in done.stdout


def test_json_holds_every_operator_and_its_sums_agree(factory: str) -> None:
    [row] = json.loads(run(factory, "--json", "-").stdout)["results"]
    assert row["macs"] == 16 * 8 * 27 + 80 == sum(one["macs"] for one in row["rows"]) == sum(row["by_kind"].values())
    assert (row["params"], row["macs_is_lower_bound"], row["uncounted_ops"]) == (216 + 90, True, {"_cdist_forward": 1})
    assert 0 < row["coverage"] < 1
    assert row["bytes_moved"] == sum(one["bytes_in"] + one["bytes_out"] for one in row["rows"])
    assert {one["module"] for one in row["rows"] if one["macs"]} == {"conv", "head"}


def test_csv_and_markdown_are_written_whole(factory: str, tmp_path: Path) -> None:
    done = run(factory, "--by", "op", "--csv", "-", "--md", str(tmp_path / "count.md"))
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert sum(int(row["macs"]) for row in rows) == 3536
    text = (tmp_path / "count.md").read_text()
    assert "| convolution | conv | conv | 1 | 3.456 k |" in text
    assert "\\_cdist\\_forward" in text


def test_an_onnx_file_is_counted_without_torch() -> None:
    done = run(str(reference_model("cpu-ref-1")), "--by", "module", "--json", "-")
    [row] = json.loads(done.stdout)["results"]
    assert row["macs"] > 1_000_000
    assert row["coverage"] == 1.0


def test_one_model_of_two_that_fails_leaves_the_other(factory: str, tmp_path: Path) -> None:
    (tmp_path / "torn.onnx").write_bytes(b"no file of onnx")
    done = run(str(tmp_path / "torn.onnx"), factory, "--json", "-")
    assert done.returncode == 3
    torn, whole = json.loads(done.stdout)["results"]
    assert (torn["outcome"], torn["macs"], whole["outcome"]) == ("failed", None, "ok")
    assert "cannot be read" in torn["failure"]["error"] and torn["failure"]["remedy"]
    assert "cannot be read" in done.stderr


def test_a_name_with_a_slip_is_told_before_anything_is_built() -> None:
    done = run("vit_tinny_patch16_224")
    assert done.returncode == 2
    assert "vit_tiny_patch16_224" in done.stderr


def test_other_counters_are_shown_with_their_reasons(factory: str) -> None:
    done = run(factory, "--cross-check")
    assert done.returncode == 0, done.stderr
    assert "torch FlopCounterMode" in done.stdout
    assert "it counts flops, 2 for each MAC" in done.stdout
    assert "vitprof, ONNX export" in done.stdout
