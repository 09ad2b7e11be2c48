"""`vitprof throughput` as a user types it: real files and real runners, on ONNX Runtime and on the fake backend."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.curves import MS, write_device, write_model
from tests.processes import wait_for
from vitprof.cli.throughput import batches_from_text, sizes_from_text
from vitprof.errors import UsageError
from vitprof.store.results import open_store

QUICK = ("--effort", "quick", "--measure", "3x", "--threads", "1")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def _words(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "vitprof", "throughput", *map(str, words)]


def vitprof(data: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VITPROF_DATA_DIR": str(data)}
    return subprocess.run(_words(*words), capture_output=True, text=True, env=environment, timeout=240, check=False)


def _curves(text: str) -> list[dict[str, Any]]:
    document = json.loads(text)
    assert document["schema_version"] == 1
    return list(document["curves"])


def test_two_models_over_batches_and_sizes_in_every_form(data: Path, tmp_path: Path) -> None:
    models = [write_model(tmp_path / "narrow.onnx", 4), write_model(tmp_path / "wide.onnx", 16)]
    files = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "md", "svg")}
    done = vitprof(
        data, *models, "--batch", "2,1", "--size", "32,48x64", *QUICK, "--json", files["json"], "--csv", files["csv"],
        "--md", files["md"], "--plot", files["svg"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    curves = _curves(files["json"].read_text())
    assert [(Path(one["model"]).stem, one["size"]) for one in curves] == [
        ("narrow", [32, 32]), ("narrow", [48, 64]), ("wide", [32, 32]), ("wide", [48, 64]),
    ]  # fmt: skip
    for one in curves:
        assert [point["batch"] for point in one["points"]] == [1, 2] and one["stopped_by"] == "asked"
        assert one["best_batch"] in (1, 2) and one["reference"] == "cpu-ref-1"
        for point in one["points"]:
            assert point["outcome"] == "ok"
            assert point["images_per_s"] == pytest.approx(point["batch"] * 1e9 / point["latency_ns"], rel=1e-4)
            assert point["memory_bytes"] == point["peak_rss_bytes"] > 10_000_000
        assert one["headroom"]["memory"] == "host"
        assert one["headroom"]["left_bytes"] == one["headroom"]["usable_bytes"] - one["headroom"]["taken_bytes"]
    # A row in the JSON of `latency` for every point, and one in the store.
    rows = json.loads(files["json"].read_text())["results"]
    assert len(rows) == 8 and {row["batch"] for row in rows} == {1, 2}
    with open_store(data / "results.sqlite") as store:
        assert len(store.rows(is_all=True)) == 8 and [run.command for run in store.runs()] == ["throughput"]
    assert len(list(csv.DictReader(files["csv"].open()))) == 8
    assert files["md"].read_text().startswith("## Throughput, local × ort × fp32")
    assert "side of the image, pixels" in files["svg"].read_text()
    assert "Crossovers" in done.stdout and "narrow.onnx at 48x64" in " ".join(done.stdout.split())


def test_a_search_finds_the_end_of_memory_of_a_device(data: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "net.onnx")
    device = write_device(tmp_path / "tiny.toml", call_ns=MS, image_ns=MS, image_bytes=10**6, memory_bytes=3 * 10**6)
    done = vitprof(data, model, "--size", "32", "--device-file", device, *QUICK, "--json", "-")
    assert done.returncode == 0, done.stderr
    [curve] = _curves(done.stdout)
    assert [(point["batch"], point["outcome"]) for point in curve["points"]] == [
        (1, "ok"), (2, "ok"), (3, "ok"), (4, "out of memory"),
    ]  # fmt: skip
    assert curve["stopped_by"] == "memory" and "memory" not in done.stderr
    assert curve["points"][2]["device_bytes"] == [{"counted_by": "allocator", "bytes": 3_000_000}]
    assert curve["points"][2]["memory_bytes"] == 3_000_000
    last = json.loads(done.stdout)["results"][-1]
    assert last["outcome"] == "failed" and last["failure"]["kind"] == "out of memory"


def test_another_error_is_no_end_of_memory(data: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "net.onnx")
    device = write_device(tmp_path / "bad.toml", call_ns=MS, fault="raise", fault_at="load")
    done = vitprof(data, model, "--size", "32", "--device-file", device, *QUICK, "--json", "-")
    assert done.returncode == 3
    [curve] = _curves(done.stdout)
    assert curve["stopped_by"] == "failure" and curve["best_batch"] is None
    assert [point["outcome"] for point in curve["points"]] == ["failed"]
    assert "was asked to raise" in done.stderr


def test_a_file_of_one_batch_has_a_curve_of_one_point_and_says_why(data: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "fixed.onnx", batch=1)
    done = vitprof(data, model, "--size", "32", *QUICK)
    assert done.returncode == 2
    # Where a line ends depends on the length of the file's path.
    told = " ".join(done.stdout.split())
    assert "best batch 1" in told and "which failed" in told
    assert "made for batches of 1, not of 2" in told


def test_ctrl_c_shows_and_keeps_what_was_measured(data: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "net.onnx")
    device = write_device(tmp_path / "slow.toml", call_ns=10 * MS, image_ns=MS)
    file = tmp_path / "out.json"
    words = _words(model, "--size", "32", "--device-file", device, *QUICK, "--json", file)
    process = subprocess.Popen(words, env={**os.environ, "VITPROF_DATA_DIR": str(data)}, stdout=subprocess.DEVNULL)
    # A batch of 1 has been measured where the next one is ready.
    wait_for(lambda: any(run.read_text().count('"kind":"ready"') >= 2 for run in (data / "runs").glob("*.jsonl")))
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    [curve] = _curves(file.read_text())
    assert curve["stopped_by"] == "interrupted" and curve["points"][0]["outcome"] == "ok" and curve["best_batch"]


def test_what_cannot_be_meant_is_said_before_anything_is_measured(data: Path) -> None:
    done = vitprof(data, "resnet50", "--batch", "1,x")
    assert done.returncode == 2 and not (data / "results.sqlite").exists()
    assert "--batch 'x' is no batch" in done.stderr and "→ write --batch auto, or a list: --batch 1,8,64" in done.stderr


def test_the_end_of_a_search_beside_batches_that_are_named_is_refused(data: Path) -> None:
    done = vitprof(data, "resnet50", "--batch", "8", "--max-batch", "4")
    assert done.returncode == 2 and not (data / "results.sqlite").exists()
    assert "--max-batch 4 ends a search, and --batch 8 asks for none" in done.stderr


def test_a_picture_of_one_batch_is_refused_before_anything_is_measured(data: Path, tmp_path: Path) -> None:
    done = vitprof(data, "resnet50", "--batch", "8", "--plot", tmp_path / "a.svg")
    assert done.returncode == 2 and not (data / "results.sqlite").exists()
    assert "--plot has nothing to draw of one batch" in done.stderr and "several to --batch or --size" in done.stderr


def test_what_was_measured_is_shown_though_nothing_can_be_drawn(data: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "fixed.onnx", batch=1)
    done = vitprof(data, model, "--size", "32", *QUICK, "--plot", tmp_path / "a.svg")
    # The code is that of the batch that the file does not take.
    assert done.returncode == 2 and "best batch 1" in " ".join(done.stdout.split())
    assert "nothing to draw" in done.stderr and not (tmp_path / "a.svg").exists()


def test_lists_of_batches_and_sizes() -> None:
    assert batches_from_text("auto") == () and batches_from_text("1, 8,64") == (1, 8, 64)
    assert sizes_from_text(None) == () and sizes_from_text("224,256x192,224") == ((224, 224), (256, 192))
    for text in ("0", ",", "-1", "1.5", "", "3000000000", "1" * 5000):
        with pytest.raises(UsageError, match="is no batch"):
            batches_from_text(text)
    for text in ("", "224,big", "0", "3000000000", "224x99999999999999999999"):
        with pytest.raises(UsageError, match="is not an input size"):
            sizes_from_text(text)


@pytest.mark.slow
def test_formats_of_fixed_shapes_are_converted_for_each_batch(data: Path, tmp_path: Path) -> None:
    words = ("mobilenetv3_small_050", "--size", "64", "--batch", "1,2,4", "--backends", "ort,torch", *QUICK)
    done = vitprof(data, *words, "--json", "-")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["results"]
    assert {row["parity"]["verdict"] for row in rows} == {"match"}
    of_ort, of_torch = (
        [row["artifact"]["sha256"] for row in rows if row["backend"] == name] for name in ("ort", "torch")
    )
    # One ONNX file for every batch above one.
    assert len(of_ort) == len(of_torch) == 3 and len(set(of_ort[1:])) == 1
    names = [point["batch"] for curve in _curves(done.stdout) for point in curve["points"]]
    assert names == [1, 2, 4, 1, 2, 4]
