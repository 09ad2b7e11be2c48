"""Core ML where there is no Mac: what a user is told, and what Xcode measured instead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import xcode
from vitprof.runner.backends import BACKENDS

OFF_MAC = pytest.mark.skipif(sys.platform == "darwin", reason="on a Mac Core ML runs here")


def vitprof(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    names = {f"VITPROF_{name}_DIR": str(folder / name.lower()) for name in ("CACHE", "DATA", "CONFIG")}
    return subprocess.run(
        [sys.executable, "-m", "vitprof", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **names},
        timeout=180,
        check=False,
    )


@OFF_MAC
@pytest.mark.parametrize("words", [("latency", "resnet18"), ("layers", "resnet18")])
def test_off_a_mac_it_ends_at_once_with_exit_4_and_what_to_type(tmp_path: Path, words: tuple[str, ...]) -> None:
    pytest.importorskip("coremltools")
    done = vitprof(tmp_path, *words, "--backend", "coreml")
    assert (done.returncode, done.stdout) == (4, ""), done.stderr
    [what, remedy] = done.stderr.strip().splitlines()
    assert "coreml" in what and "--device" in remedy
    # Before anything was loaded or exported.
    assert not (tmp_path / "cache" / "artifacts").exists()


@OFF_MAC
def test_the_doctor_knows_that_it_is_for_a_mac() -> None:
    pytest.importorskip("coremltools")
    from vitprof.checkup import State, _backend

    check = _backend("coreml", BACKENDS["coreml"])
    assert check.state is State.DOUBT and "runs on macOS" in check.detail
    assert "export --to coreml" in str(check.remedy)


def test_a_report_of_xcode_is_imported_once_and_listed(tmp_path: Path) -> None:
    folder = xcode.write(tmp_path, xcode.report())
    done = vitprof(tmp_path, "results", "import", str(folder), "--device", "iphone13", "--backend", "coreml")
    assert done.returncode == 0, done.stderr
    assert "1 result imported as run" in done.stdout
    assert "measured by xcode" in done.stderr and "counts not known" in done.stderr
    again = vitprof(tmp_path, "results", "import", str(folder / "report.json"), "--device", "iphone13")
    assert "1 of 1 was in the store already" in again.stdout
    [row] = json.loads(vitprof(tmp_path, "results", "list", "--json", "-").stdout)["results"]
    assert (row["model"], row["source"], row["size"], row["precision"]) == ("net", "xcode", [16, 16], "fp16")
    assert (row["device"], row["backend"], row["backend_version"]) == ("iphone13", "coreml", "iOS 18.7.8")
    # The median of nine: the first prediction of each load is set aside.
    assert (row["latency_ns"]["p50"], row["latency_ns"]["samples"], row["clock"]) == (2_100_000, 9, "device")
    assert row["set_aside_samples_ns"] == [5_000_000, 3_000_000, 3_000_000]
    assert row["cold_ns"] == {"load": 400_000_000, "build": 90_000_000, "first_call": 5_000_000}
    assert row["placement"] == {"ops": 0.666667, "macs": None}
    assert row["started_at"] == "2026-09-03T03:33:52+00:00" and row["cost"] is None
    assert "SECRET" not in json.dumps(row)


def test_two_reports_of_phones_are_compared(tmp_path: Path) -> None:
    for device, factor in (("iphone12", 2.0), ("iphone15", 1.0)):
        body = xcode.report()
        predict = body["deviceResults"]["predict"]
        predict["samples"] = [factor * one for one in predict["samples"]]
        folder = xcode.write(tmp_path, body, f"{device}.mlperf")
        assert vitprof(tmp_path, "results", "import", str(folder), "--device", device).returncode == 0
    done = vitprof(tmp_path, "compare", "--devices", "iphone12,iphone15", "--backends", "coreml", "--json", "-")
    assert done.returncode == 0, done.stderr
    [pair] = json.loads(done.stdout)["pairs"]
    assert pair["ratio"] == 0.5 and pair["verdict"] == "faster"


def test_a_report_is_of_core_ml_whatever_is_said(tmp_path: Path) -> None:
    done = vitprof(tmp_path, "results", "import", str(xcode.write(tmp_path, xcode.report())), "--backend", "ort")
    assert done.returncode == 2 and "--backend ort is not of" in done.stderr


def test_another_form_of_report_is_exit_3_with_its_keys(tmp_path: Path) -> None:
    body = {**xcode.report(), "jsonVersion": 2}
    done = vitprof(tmp_path, "results", "import", str(xcode.write(tmp_path, body)))
    assert done.returncode == 3
    assert "key 'jsonVersion'" in done.stderr and "its keys: computeUnit" in done.stderr
