"""`vitprof compare` and `vitprof pareto` as a user types them: on a table, on imported results, and measuring."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.report import samples
from vitprof.devices.profiles import reference_model
from vitprof.report.document import dicts_from_results

TINY = str(reference_model("cpu-ref-1"))
# Times of eight models on two accelerators, and what was counted: the two disagree with each other and with the MACs.
SOURCES = (("timm", 10), ("torchvision", 20))
MODELS = ("net_a", "net_b", "mob_c", "mob_d", "vit_e", "vit_f", "eff_g", "eff_h")
MACS_M = (100, 200, 300, 400, 500, 600, 700, 800)
COREML_MS = (1, 2, 3, 4, 5, 6, 7, 8)
TRT_MS = (8, 7, 6, 5, 4, 3, 2, 1)
# What the depthwise convolutions of the first model move makes up for its few MACs.
FEW_BYTES = {"conv": {"calls": 4, "macs": 10, "bytes_in": 1_000_000, "bytes_out": 1_000_000, "weight_bytes": 0}}
MANY_BYTES = {
    "depthwise_conv": {"calls": 4, "macs": 10, "bytes_in": 40_000_000, "bytes_out": 40_000_000, "weight_bytes": 0}
}


def vitprof(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vitprof", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "VITPROF_DATA_DIR": str(data)},
        timeout=240,
        check=False,
    )


def row(model: str, device: str, backend: str, ms: float, macs: int, kinds: dict[str, Any]) -> dict[str, Any]:
    made = dicts_from_results([samples.ok()])[0]
    ns = round(ms * 1e6)
    latency = {**made["latency_ns"], "p50": ns, "ci95": [round(ns * 0.99), round(ns * 1.01)]}
    cost = {**made["cost"], "macs": macs, "params": 1_000, "kinds": kinds, "ops": 4}
    names = {"model": model, "device": device, "backend": backend, "relative": None}
    return {**made, **names, "latency_ns": latency, "cost": cost}


def document(file: Path, rows: Sequence[dict[str, Any]]) -> str:
    file.write_text(json.dumps({"schema_version": 1, "results": list(rows)}))
    return str(file)


@pytest.fixture(scope="module")
def accelerators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose store holds what two machines, that are not here, have measured."""
    data = tmp_path_factory.mktemp("data")
    for device, backend, times in (("iphone15", "coreml", COREML_MS), ("a100", "trt", TRT_MS)):
        rows = [
            row(model, device, backend, ms, macs * 10**6, MANY_BYTES if model == "net_a" else FEW_BYTES)
            for model, ms, macs in zip(MODELS, times, MACS_M, strict=True)
        ]
        file = document(data / f"{backend}.json", rows)
        done = vitprof(data, "results", "import", file)
        assert done.returncode == 0, done.stderr
    return data


def test_two_accelerators_are_compared_in_ranks_inversions_and_verdicts(accelerators: Path) -> None:
    done = vitprof(accelerators, "compare", "--backends", "coreml,trt", "--json", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    groups = {group["backend"]: group for group in found["groups"]}
    assert {name: group["models"] for name, group in groups.items()} == {"coreml": 8, "trt": 8}
    # Time rises with the MACs on the one and falls on the other.
    assert groups["coreml"]["spearman"]["macs"]["value"] == 1.0
    assert groups["trt"]["spearman"]["macs"]["value"] == -1.0
    assert groups["trt"]["kendall"]["macs"]["value"] == -1.0
    assert groups["coreml"]["inversions"] == {"total": 0, "pairs": 28, "rows": []}
    # 100 M in 8 ms against 800 M in 1 ms is the worst.
    worst = groups["trt"]["inversions"]["rows"][0]
    assert (worst["slower"], worst["faster"]) == ("net_a", "eff_h")
    assert (worst["macs_ratio"], worst["time_ratio"]) == (0.125, 8.0)
    assert "depthwise" in worst["reason"]
    # Of two models with the same operators nothing explains the time.
    others = [one for one in groups["trt"]["inversions"]["rows"] if one["slower"] != "net_a"]
    assert others and {one["reason"] for one in others} == {"unexplained"}
    pairs = {pair["model"]: pair for pair in found["pairs"]}
    assert pairs["net_a"]["verdict"] == "slower" and pairs["net_a"]["ratio"] == 8.0
    assert pairs["eff_h"]["verdict"] == "faster"
    assert all(pair["confounders"][0].startswith("device") for pair in found["pairs"])


def test_ranks_reasons_and_verdicts_are_shown_on_a_terminal_and_drawn(accelerators: Path, tmp_path: Path) -> None:
    picture = tmp_path / "compare.svg"
    done = vitprof(accelerators, "compare", "--backends", "coreml,trt", "--plot", str(picture))
    assert done.returncode == 0, done.stderr
    assert "iphone15 × coreml × fp32, batch 1: 8 models" in done.stdout
    assert "A against B" in done.stdout
    assert "net_a" in picture.read_text()


def test_a_side_that_the_store_lacks_is_told_with_what_it_has(accelerators: Path, tmp_path: Path) -> None:
    done = vitprof(accelerators, "compare", "--backends", "coreml,openvino")
    assert done.returncode == 2
    assert "has no model that all of coreml, openvino have measured" in done.stderr
    done = vitprof(accelerators, "compare", "--backends", "openvino,ort")
    assert "holds nothing of openvino, ort; it has: coreml on iphone15, trt on a100" in done.stderr
    done = vitprof(tmp_path, "compare", "--backends", "coreml,trt")
    assert done.returncode == 2
    assert "holds no results" in done.stderr
    assert "vitprof compare MODEL… --backends coreml,trt" in done.stderr
    assert "vitprof results import FILE" in done.stderr


def test_two_runs_of_one_backend_are_compared(tmp_path: Path) -> None:
    for number, ms in enumerate((10, 12)):
        rows = [row(model, "local", "ort", ms, 10**8, FEW_BYTES) for model in MODELS[:2]]
        assert vitprof(tmp_path, "results", "import", document(tmp_path / f"{number}.json", rows)).returncode == 0
    with sqlite3.connect(tmp_path / "results.sqlite") as store:
        ids = [run for (run,) in store.execute("SELECT id FROM runs WHERE command LIKE '%.json' ORDER BY command")]
    found = json.loads(vitprof(tmp_path, "compare", "--runs", ",".join(ids), "--json", "-").stdout)
    # 12 ms for 10, each known to 1 %.
    judged = sorted((pair["model"], pair["ratio"], pair["verdict"]) for pair in found["pairs"])
    assert judged == [("net_a", 1.2, "slower"), ("net_b", 1.2, "slower")]
    assert {(pair["baseline"], pair["candidate"]) for pair in found["pairs"]} == {tuple(ids)}


def test_a_name_of_torchvision_is_not_that_of_timm(tmp_path: Path) -> None:
    rows = [{**row("resnet50", "local", "ort", ms, 10**8, FEW_BYTES), "source": source} for source, ms in SOURCES]
    assert vitprof(tmp_path, "results", "import", document(tmp_path / "both.json", rows)).returncode == 0

    def models(*words: str) -> list[int]:
        done = vitprof(tmp_path, "compare", *words, "--stored", "--json", "-")
        return [group["models"] for group in json.loads(done.stdout)["groups"]]

    assert models() == [2]
    assert models("torchvision:resnet50") == models("timm:resnet50") == models("resnet50") == [1]
    assert models("*resnet50") == [2]


def test_limits_and_match_choose_what_counts(accelerators: Path) -> None:
    words = ("compare", "--backends", "trt", "--match", "^(net|eff)", "--json", "-")
    found = json.loads(vitprof(accelerators, *words).stdout)["groups"][0]
    assert (found["models"], found["inversions"]["total"]) == (4, 4)
    # Only net_a against both of the other family has as little as a seventh of the MACs.
    strict = json.loads(vitprof(accelerators, *words, "--max-macs-ratio", "0.145").stdout)["groups"][0]
    assert strict["inversions"]["total"] == 2
    assert vitprof(accelerators, *words, "--max-macs-ratio", "-1").returncode == 2
    assert "no regular expression" in vitprof(accelerators, "compare", "--match", "(").stderr


HEAD = "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count,infer_gmacs,infer_macts"


@pytest.fixture
def table(tmp_path: Path) -> str:
    """timm's form; throughput falls with the MACs but for one model, and one row lacks a count."""
    rows = [f"net{i}_x,224,{1000 / (i + 1):.2f},{i + 1},1,{i + 1}.5,{i + 1}.0,{i + 1}.0" for i in range(9)]
    rows += ["odd_y,224,50.0,20.0,1,1.5,1.0,9.0", "bare_z,224,100.0,10.0,1,,1.0,1.0"]
    path = tmp_path / "bench.csv"
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    return str(path)


def test_a_published_table_is_compared_as_it_is(table: str, tmp_path: Path) -> None:
    done = vitprof(tmp_path, "compare", "--from", table, "--json", "-")
    assert done.returncode == 0, done.stderr
    whole, batch_1 = json.loads(done.stdout)["groups"]
    assert (whole["batch"], whole["models"], batch_1["batch"], batch_1["models"]) == (None, 10, 1, 10)
    # 20 ms at 1 GMAC against each of the eight nets with at least 1 / 0.7 GMACs.
    assert whole["inversions"]["total"] == 8
    shown = vitprof(tmp_path, "compare", "--from", table).stdout
    assert "time per image" in shown and "latency" not in shown
    assert "Left out: 1 row" in shown and "bare_z" in shown
    assert not (tmp_path / "results.sqlite").exists()


def test_a_table_loads_no_torch(table: str, tmp_path: Path) -> None:
    code = (
        "import sys; from vitprof.cli import main\n"
        f"try: main(['compare', '--from', {table!r}])\n"
        "finally: print('torch' in sys.modules, 'scipy' in sys.modules, 'sqlalchemy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.endswith("False False False\n"), done.stderr


def test_a_front_of_a_table_names_who_is_left_out(table: str, tmp_path: Path) -> None:
    accuracy = tmp_path / "top1.csv"
    # Better with every MAC but for the last, which net7 beats on both.
    lines = [f"net{i}_x,{70 + i - 5 * (i == 8)}" for i in range(9)]
    accuracy.write_text("model,top1\n" + "\n".join(lines) + "\n")
    words = ("pareto", "--accuracy", str(accuracy), "--from", table)
    done = vitprof(tmp_path, *words, "--cost", "macs", "--json", "-")
    assert done.returncode == 0, done.stderr
    rows = {row["model"]: row for row in json.loads(done.stdout)["rows"]}
    assert [name for name, row in rows.items() if row["on_front"]] == [f"net{i}_x" for i in range(8)]
    assert not rows["net8_x"]["on_front"]
    shown = vitprof(tmp_path, *words, "--cost", "throughput", "--plot", str(tmp_path / "front.png"))
    assert shown.returncode == 0, shown.stderr
    assert "odd_y" in shown.stdout and "no accuracy" in shown.stdout
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
    # Published images/s are no latency.
    latency = vitprof(tmp_path, *words, "--cost", "latency")
    assert "no latency" in latency.stdout


def test_costs_of_two_backends_do_not_share_an_axis(accelerators: Path, tmp_path: Path) -> None:
    accuracy = tmp_path / "top1.csv"
    accuracy.write_text("model,top1\n" + "\n".join(f"{name},{70 + i}" for i, name in enumerate(MODELS)) + "\n")
    done = vitprof(accelerators, "pareto", "--accuracy", str(accuracy))
    assert done.returncode == 2
    assert "coreml" in done.stderr and "--backend" in done.stderr
    one = vitprof(accelerators, "pareto", "--accuracy", str(accuracy), "--backend", "trt", "--json", "-")
    # The most accurate is the fastest there: it alone is on the front.
    assert [row["model"] for row in json.loads(one.stdout)["rows"] if row["on_front"]] == ["eff_h"]


def test_what_is_stored_is_not_measured_again(tmp_path: Path) -> None:
    words = ("compare", TINY, "--backends", "ort", "--effort", "quick", "--threads", "1", "--json", "-")
    first = vitprof(tmp_path, *words)
    assert first.returncode == 0, first.stderr
    again = vitprof(tmp_path, *words)
    assert again.stdout == first.stdout
    stored = json.loads(vitprof(tmp_path, "results", "list", "--all", "--json", "-").stdout)["results"]
    assert len(stored) == 1
    # Another number of threads is another cell.
    changed = vitprof(tmp_path, *words[:-3], "2", "--stored", "--json", "-")
    assert changed.returncode == 0 and json.loads(changed.stdout)["groups"][0]["models"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "bench.csv", "--backends", "ort"), "takes no MODEL"),
        (("--plot", "picture.gif"), ".svg and .png"),
        (("--from", "nothing.csv"), "cannot read nothing.csv"),
        (("lowformer_b1", "--backends", "opnvino"), "opnvino"),
    ],
)
def test_likely_mistakes_are_told(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = vitprof(tmp_path, "compare", *words)
    assert done.returncode in (2, 3) and said in done.stderr and "Traceback" not in done.stderr


FACTORIES = """
import torch

class Thin(torch.nn.Module):
    # A few products, and forty passes over a large tensor.
    def __init__(self):
        super().__init__()
        self.stem, self.head = torch.nn.Conv2d(3, 32, 1), torch.nn.Linear(32, 10)
    def forward(self, image):
        x = self.stem(image)
        for _ in range(20):
            x = torch.nn.functional.softmax(x, dim=1) + x
        return self.head(x.mean((2, 3)))

class Dense(torch.nn.Module):
    # Ten times the products, on a small one.
    def __init__(self):
        super().__init__()
        self.stem, self.body = torch.nn.Conv2d(3, 64, 8, 8), torch.nn.Conv2d(64, 64, 3, padding=1)
        self.head = torch.nn.Linear(64, 10)
    def forward(self, image):
        return self.head(self.body(self.stem(image)).mean((2, 3)))

def thin():
    return Thin(), torch.zeros(1, 3, 128, 128)

def dense():
    return Dense(), torch.zeros(1, 3, 128, 128)
"""


@pytest.mark.slow
def test_a_reason_is_measured_where_layers_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(FACTORIES)
    models = (f"{file}:thin", f"{file}:dense")
    words = ("compare", *models, "--backends", "ort", "--effort", "quick", "--threads", "1", "--layers", "--json", "-")
    done = vitprof(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    [group] = json.loads(done.stdout)["groups"]
    [inversion] = group["inversions"]["rows"]
    assert inversion["slower"].endswith("thin") and inversion["faster"].endswith("dense")
    assert "softmax" in inversion["reason"] and "measured" in inversion["reason"]


def test_results_of_two_regions_are_never_compared(tmp_path: Path) -> None:
    call = [row("net_a", "m2", "coreml", 4, 10, FEW_BYTES), row("net_a", "a40", "trt", 2, 10, FEW_BYTES)]
    ways = (("coreml", "m2", 9), ("trt", "a40", 3))
    e2e = [
        {**row("net_a", device, name, ms, 10, FEW_BYTES), "region": "e2e", "protocol_hash": "e2e"}
        for name, device, ms in ways
    ]
    imported = vitprof(tmp_path, "results", "import", document(tmp_path / "rows.json", [*call, *e2e[:1]]))
    assert imported.returncode == 0, imported.stderr
    asked = ("compare", "--backends", "coreml,trt", "--json", "-")
    [pair] = json.loads(vitprof(tmp_path, *asked).stdout)["pairs"]
    assert pair["ratio"] == 0.5
    # One side has this region and the other has not: 9 ms from memory to memory are not held against 2 ms of a call.
    alone = vitprof(tmp_path, *asked, "--region", "e2e")
    assert alone.returncode == 2 and "region e2e" in alone.stderr
    # What the store has is what it has of that region.
    other = vitprof(tmp_path, "compare", "--backends", "ort,torch", "--region", "e2e")
    assert "it has: coreml on m2" in other.stderr and "trt" not in other.stderr
    assert vitprof(tmp_path, "results", "import", document(tmp_path / "more.json", e2e[1:])).returncode == 0
    [pair] = json.loads(vitprof(tmp_path, *asked, "--region", "e2e").stdout)["pairs"]
    assert pair["ratio"] == pytest.approx(3 / 9, rel=1e-5)
