"""`vitprof devices`, and what a run does with a device that is in use or not ready."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vitprof import pipeline
from vitprof.devices import profiles
from vitprof.devices.check import doubts_of
from vitprof.errors import ExitCode, UnreachableError
from vitprof.measurements import Grade
from vitprof.pipeline import Request
from vitprof.places import Places
from vitprof.protocols import Effort, protocol
from vitprof.records import Device, ModelSpec, Readiness, Source
from vitprof.runner import hold
from vitprof.units import amount_from_text

_LOCAL = 'transport = "local"\nbackends = ["ort"]\nthreads = 1\n'


def _vitprof(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vitprof", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})


def _profile(tmp_path: Path, ready: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(f"{_LOCAL}[ready]\n{ready}\n")
    return path


def _request(device_file: Path) -> Request:
    return Request(
        models=(str(profiles.reference_model("cpu-ref-1")),),
        protocol=protocol(Effort.QUICK, measure=amount_from_text("30x")),
        like=ModelSpec("", Source.TIMM),
        device_file=device_file,
        threads=1,
    )


def test_a_device_that_is_checked_answers_with_its_facts_and_runtimes() -> None:
    done = _vitprof("devices", "check", "local", "--json", "-")
    document = json.loads(done.stdout)
    assert done.returncode == 0 and document["device"] == "local"
    assert document["ready"] is True and document["held_by"] is None
    assert document["facts"]["cores"] >= 1 and document["facts"]["python"]
    assert document["runtimes"]["ort"]


def test_a_device_in_use_says_by_whom_when_it_is_checked(tmp_path: Path) -> None:
    lock = hold.Lock("alice@desk, pid 7")
    done = _vitprof("devices", "check", "local")
    lock.release()
    assert done.returncode == 0 and "by alice@desk, pid 7, since" in done.stdout
    assert "remedy: wait until it is free" in done.stdout


def test_a_device_that_is_nowhere_is_exit_4_with_what_to_write(tmp_path: Path) -> None:
    done = _vitprof("devices", "check", "jetson-tx2")
    assert done.returncode == ExitCode.UNREACHABLE and 'extends = "jetson-tx2"' in done.stderr


def test_the_list_asks_nobody_over_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPROF_CONFIG_DIR", str(tmp_path))
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "pi5.toml").write_text('extends = "pi5"\nhost = "nobody@192.0.2.1"\n')
    done = _vitprof("devices", "list", "--json", "-")
    reachable = {row["name"]: row["reachable"] for row in json.loads(done.stdout)["devices"]}
    assert reachable["local"] is True and reachable["pi5"] is None and reachable["pi4"] is False


def test_a_run_waits_for_nobody_longer_than_its_profile_says(tmp_path: Path, here: Places) -> None:
    lock = hold.Lock("alice@desk, pid 7")
    try:
        with pytest.raises(UnreachableError, match=r"'mine': in use by alice@desk, pid 7.*waited 0 s"):
            pipeline.measure(_request(_profile(tmp_path, "wait_s = 0")), here)
    finally:
        lock.release()


def test_a_device_that_is_not_ready_is_measured_all_the_same_and_not_trusted(tmp_path: Path, here: Places) -> None:
    if os.getloadavg()[0] < 0.01:
        pytest.skip("this machine does nothing at all")
    run = pipeline.measure(_request(_profile(tmp_path, "wait_s = 0\nmax_load = 0.001")), here)
    summary = run.results[0].summary
    assert summary and summary.grade is Grade.C and summary.latency.samples >= 30
    doubt = next(one for one in summary.warnings if one.code == "not ready")
    assert "waiting for 0.001, and was not waited for" in doubt.detail
    assert run.exit_codes <= {ExitCode.OK} and hold.holder() is None


@pytest.mark.parametrize(
    ("told", "code", "said"),
    [
        ({"machine": "x86_64"}, "another processor", "says arm-cpu, the device is x86_64"),
        ({"governor": "ondemand"}, "governor", "'ondemand'"),
        ({"runtimes": {"ort": None}}, "runtime missing", "onnxruntime"),
        ({"held_by": "by alice"}, "in use", "by alice"),
        ({"temperature_c": 80}, "not ready", "80 °C, waiting for 60 °C"),
    ],
)
def test_what_a_check_finds_comes_with_what_to_type(told: dict[str, object], code: str, said: str) -> None:
    device = Device("board", "arm-cpu", "X", "ssh", ("ort",), host="there", ready=Readiness(max_temperature_c=60))
    doubts = list(doubts_of(device, {"machine": "aarch64", "governor": "performance", **told}))
    assert [one.code for one in doubts] == [code] and said in doubts[0].detail and doubts[0].remedy


def test_a_gpu_server_without_that_gpu_is_told() -> None:
    device = Device("a100", "gpu", "NVIDIA A100", "ssh", ("torch",), host="there", match="A100")
    assert [one.code for one in doubts_of(device, {"gpus": ["NVIDIA RTX A1000"]})] == ["no such GPU"]
    assert list(doubts_of(device, {"gpus": ["NVIDIA A100-SXM4-80GB"]})) == []
    both = {"gpus": ["NVIDIA RTX A1000", "NVIDIA A100-SXM4-80GB"]}
    [doubt] = doubts_of(device, both)
    assert "is NVIDIA RTX A1000; number 1 is meant" in doubt.detail and 'device = "cuda:1"' in doubt.remedy
    told = replace(device, options={"torch": {"device": "cuda:1"}})
    assert list(doubts_of(told, both)) == []
