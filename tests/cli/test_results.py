"""`vitprof results` as a user types it."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.report import samples
from vitprof.devices.profiles import reference_model
from vitprof.records import Result
from vitprof.report.document import json_text, rows_from_results

TINY = str(reference_model("cpu-ref-1"))
QUICK = ("--effort", "quick", "--measure", "30x", "--threads", "1")


def vitprof(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vitprof", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "VITPROF_DATA_DIR": str(data), "TZ": "UTC"},
        timeout=180,
        check=False,
    )


def exported(file: Path, *results: Result, with_samples: bool = False) -> Path:
    file.write_text(json_text(rows_from_results(results, with_samples=with_samples)))
    return file


def rows_of(data: Path, *words: str) -> list[dict[str, Any]]:
    done = vitprof(data, "results", "list", "--json", "-", *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    return rows


def test_looking_at_no_results_makes_no_store(tmp_path: Path) -> None:
    done = vitprof(tmp_path / "data", "results", "list")
    assert (done.returncode, done.stdout) == (0, "no results\n")
    assert not (tmp_path / "data").exists()


def test_what_is_measured_is_kept_and_its_export_imports_to_the_same_rows(tmp_path: Path) -> None:
    first, second, file = tmp_path / "a.sqlite", tmp_path / "b.sqlite", tmp_path / "a.json"
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(b"no model")
    done = vitprof(tmp_path, "latency", TINY, str(cut), *QUICK, "--store", str(first), "--json", str(file))
    assert done.returncode == 3, done.stderr
    measured = json.loads(file.read_text())["results"]
    assert [row["outcome"] for row in measured] == ["ok", "failed"]
    assert sorted(rows_of(tmp_path, "--store", str(first), "--all"), key=str) == sorted(measured, key=str)
    assert "holds" not in vitprof(tmp_path, "results", "import", str(file), "--store", str(second)).stdout
    assert sorted(rows_of(tmp_path, "--store", str(second)), key=str) == sorted(measured, key=str)
    again = vitprof(tmp_path, "results", "import", str(file), "--store", str(first))
    assert again.returncode == 0 and "2 of 2 were in the store already" in again.stdout
    # The journal of the run says which rows are its own.
    [journal] = (tmp_path / "runs").glob("*.jsonl")
    [run] = [line for line in map(json.loads, journal.read_text().splitlines()) if line["kind"] == "run"]
    assert len(rows_of(tmp_path, "--store", str(first), "--run", run["id"])) == 2
    assert not (tmp_path / "results.sqlite").exists()


def test_results_are_kept_in_the_data_folder_and_a_store_that_fails_costs_none_of_them(tmp_path: Path) -> None:
    store = tmp_path / "results.sqlite"
    store.write_text("this is no database" * 100)
    done = vitprof(tmp_path, "latency", TINY, *QUICK, "--json", "-")
    assert done.returncode == 3
    assert json.loads(done.stdout)["results"][0]["outcome"] == "ok"
    assert done.stderr.count("file is not a database") == 1 and "--store" in done.stderr
    store.unlink()
    # It stands beside the journal, to be brought in when there is a store again.
    [kept] = (tmp_path / "runs").glob("*-rows.jsonl")
    assert f"vitprof results import {kept}" in done.stderr
    assert "1 result imported" in vitprof(tmp_path, "results", "import", str(kept)).stdout
    [row] = rows_of(tmp_path)
    assert row == json.loads(done.stdout)["results"][0] and "samples_ns" not in row
    [shown] = json.loads(vitprof(tmp_path, "results", "show", "latest", "--json", "-").stdout)["rows"]
    assert shown["origin"] == "measured" and shown["samples_ns"]["sets"][0]["calls"] >= 30
    assert vitprof(tmp_path, "latency", TINY, *QUICK).returncode == 0
    assert len(rows_of(tmp_path, "--all")) == 2 and len(list((tmp_path / "runs").glob("*-rows.jsonl"))) == 1


@pytest.mark.parametrize(
    ("store", "said"), [("", "is a folder"), ("no/x.sqlite", "does not exist"), ("/dev/null", "is a device")]
)
def test_a_store_that_cannot_be_a_file_is_told_before_anything_is_measured(
    tmp_path: Path, store: str, said: str
) -> None:
    done = vitprof(tmp_path, "latency", TINY, "--store", str(tmp_path / store))
    assert done.returncode == 2 and said in done.stderr and "existing folder" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_an_import_is_counted_and_a_second_one_is_noticed(tmp_path: Path) -> None:
    file = exported(tmp_path / "a.json", *samples.several(), with_samples=True)
    done = vitprof(tmp_path, "results", "import", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{file}: 7 results imported as run ")
    run = done.stdout.split()[-1]
    assert len(rows_of(tmp_path, "--run", run)) == 7
    # Raw samples are kept where the file has them.
    assert rows_of(tmp_path, "lowformer*")[0]["samples_ns"] == [11, 12, 111, 112]
    again = vitprof(tmp_path, "results", "import", str(file), str(file))
    assert again.returncode == 0
    assert again.stdout.splitlines() == [f"{file}: 7 of 7 were in the store already"] * 2
    assert len(rows_of(tmp_path, "--all")) == 7
    fewer = exported(tmp_path / "b.json", samples.ok(), samples.hostile())
    told = vitprof(tmp_path, "results", "import", str(fewer)).stdout
    assert "1 result imported" in told and "1 of 2 was in the store already" in told


def test_what_is_listed_can_be_filtered_and_is_the_same_in_every_form(tmp_path: Path) -> None:
    file = exported(tmp_path / "a.json", samples.ok(), samples.broken(), samples.result("m", backend="torch"))
    vitprof(tmp_path, "results", "import", str(file))
    done = vitprof(tmp_path, "results", "list", "*former*")
    head, *lines = done.stdout.splitlines()
    heads = "model size batch precision device backend ms ±95% grade ratio images/s GMAC outcome from measured id run"
    assert " ".join(head.split()) == heads
    found = {line.split()[0]: line.split() for line in lines}
    assert set(found) == {"lowformer_b1", "efficientformer_l1"}
    # 12.34 ms ± 1 %, 3.085 times the reference, 81 images a second, 1.41 GMAC.
    assert found["lowformer_b1"][6:13] == ["12.34", "1.0%", "A", "3.085", "81.04", "1.410", "ok"]
    assert found["lowformer_b1"][13:16] == ["imported", "2026-05-09", "12:00"]
    assert found["efficientformer_l1"][12] == "broken"
    assert [row["model"] for row in rows_of(tmp_path, "--backend", "torch,openvino")] == ["m"]
    elsewhere = vitprof(tmp_path, "results", "list", "--device", "a100", "--json", "-")
    assert elsewhere.returncode == 0 and json.loads(elsewhere.stdout)["results"] == []
    table = vitprof(tmp_path, "results", "list", "--csv", "-").stdout
    read = list(csv.DictReader(io.StringIO(table)))
    assert {row["model"]: row["latency_p50_ns"] for row in read} == {
        "lowformer_b1": "12340000",
        "efficientformer_l1": "9876000",
        "m": "",
    }


# The columns of timm's own.
TIMM = """model,infer_img_size,infer_batch_size,infer_samples_per_sec,infer_step_time,\
param_count,infer_macts,infer_gmacs
levit_128,224,1024,2000.5,511.87,9.21,2.71,0.41
no_macs,224,1024,3000,341.33,9.21,2.71,
levit_128,224,1024,2000.5,511.87,9.21,2.71,0.41
"""
FACTS = ("--device", "rtx3090", "--backend", "torch", "--precision", "amp")


def test_a_published_table_is_imported_with_its_batch_and_what_it_lacks_is_told(tmp_path: Path) -> None:
    file = tmp_path / "timm.csv"
    file.write_text(TIMM)
    lacking = vitprof(tmp_path, "results", "import", str(file), "--precision", "amp")
    assert lacking.returncode == 2 and "does not say the backend" in lacking.stderr and "--backend" in lacking.stderr
    done = vitprof(tmp_path, "results", "import", str(file), *FACTS)
    assert done.returncode == 0 and "2 results imported" in done.stdout
    assert "line 3, left out: no_macs: column 'infer_gmacs'" in done.stderr
    assert "2 of 2 were" in vitprof(tmp_path, "results", "import", str(file), *FACTS).stdout
    rows = rows_of(tmp_path, "--all")
    assert len(rows) == 2 and rows[0] == rows[1]
    row = rows[0]
    # A throughput at a batch of 1024 is no latency.
    assert (row["throughput_images_per_s"], row["batch"], row["latency_ns"]) == (2000.5, 1024, None)
    assert (row["device"], row["backend"], row["precision"], row["size"]) == ("rtx3090", "torch", "amp", [224, 224])
    counts = {"macs": 410_000_000, "params": 9_210_000, "activations": 2_710_000, "activation_bytes": None}
    assert {name: row["cost"][name] for name in counts} == counts
    # What is exported is imported again as the same row.
    out = tmp_path / "out.json"
    vitprof(tmp_path, "results", "list", "--all", "--json", str(out))
    assert "2 of 2 were" in vitprof(tmp_path, "results", "import", str(out)).stdout
    refused = vitprof(tmp_path, "results", "import", str(out), "--device", "a")
    assert refused.returncode == 2 and "--device" in refused.stderr


def test_any_table_is_imported_with_a_map_of_its_columns(tmp_path: Path) -> None:
    file, columns = tmp_path / "phones.csv", tmp_path / "map.toml"
    file.write_text("net,ms,phone\n=cmd,2.5,iphone13\n")
    columns.write_text('[columns]\nmodel = "net"\nlatency_ms = "ms"\ndevice = "phone"\n[constants]\nbatch = 4\n')
    words = ("results", "import", str(file), "--map", str(columns), "--backend", "coreml", "--precision", "fp16")
    done = vitprof(tmp_path, *words)
    assert done.returncode == 0 and "1 result imported" in done.stdout, done.stderr
    [row] = rows_of(tmp_path)
    # 4 images in 2.5 ms.
    assert (row["model"], row["device"], row["throughput_images_per_s"]) == ("=cmd", "iphone13", 1600.0)
    assert row["cost"]["macs"] is None and row["size"] is None
    columns.write_text('[columns]\nmodel = "net"\nlatency_ms = "seconds"\n[constants]\nbatch = 1\n')
    wrong = vitprof(tmp_path, *words)
    assert wrong.returncode == 3 and "line 1: no column 'seconds'" in wrong.stderr


def test_names_from_outside_cannot_run_anything(tmp_path: Path) -> None:
    name = "\x1b[31m[red]x\u202e\n=cmd"
    file = exported(tmp_path / "a\x1b[31m.json", samples.hostile(), samples.result(name))
    done = vitprof(tmp_path, "results", "import", str(file))
    listed = vitprof(tmp_path, "results", "list").stdout
    assert "\x1b" not in done.stdout + listed and "\u202e" not in listed
    assert "[red]x =cmd" in listed and samples.HOSTILE_NAME in listed
    assert len(listed.splitlines()) == 3
    # In the JSON it is what it was.
    assert name in {row["model"] for row in rows_of(tmp_path)}


def test_a_damaged_file_is_told_with_its_place_and_nothing_is_imported(tmp_path: Path) -> None:
    good, bad = exported(tmp_path / "good.json", samples.quick()), tmp_path / "bad.json"
    bad.write_text('{"schema_version": 1,\n "results": [}')
    done = vitprof(tmp_path, "results", "import", str(good), str(bad))
    assert done.returncode == 3 and done.stdout == ""
    assert f"{bad}, line 2: Expecting value" in done.stderr and "vitprof latency --json" in done.stderr
    bad.write_bytes(b"\xff\x00")
    assert "not UTF-8 text" in vitprof(tmp_path, "results", "import", str(bad)).stderr
    assert rows_of(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "code", "said", "remedy"),
    [
        (("import", "nope.json"), 2, "there is no such file", "name a JSON or a CSV"),
        (("import", "."), 2, "is a folder", "name a JSON or a CSV"),
        (("import",), 2, "", "--help"),
        (("list", "--store", "nope.sqlite"), 2, "there is no results store nope.sqlite", "vitprof latency MODEL"),
        (("list", "--json", "/no/such/folder/x.json"), 2, "does not exist", "existing folder"),
        (("list", "--store", TINY), 3, "file is not a database", "name another file"),
    ],
)
def test_a_mistake_is_told_with_what_to_type(
    tmp_path: Path, words: tuple[str, ...], code: int, said: str, remedy: str
) -> None:
    done = vitprof(tmp_path, "results", *words)
    assert done.returncode == code and said in done.stderr and remedy in done.stderr, done.stderr
    assert "internal error" not in done.stderr


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    vitprof(tmp_path, "results", "import", str(exported(tmp_path / "a.json", samples.ok())))
    connection = sqlite3.connect(tmp_path / "results.sqlite")
    connection.execute("UPDATE meta SET value = '99'")
    connection.commit()
    connection.close()
    done = vitprof(tmp_path, "results", "list")
    assert done.returncode == 3 and "newer vitprof" in done.stderr and "pip install --upgrade" in done.stderr
