"""An emulated aarch64 machine behind a real sshd: a board in all that vitprof can see of it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.devices.aarch64 import SESSIONS, force_command, machine
from tests.devices.sshd import HOST, Sshd, running
from vitprof.devices import profiles

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("sshd")
    with running(folder, force_command=force_command(machine(), folder)) as server:
        yield server


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "board.toml"
    path.write_text(
        f'kind = "arm-cpu"\nchip = "Cortex-A72"\ntransport = "ssh"\nhost = "{HOST}"\nbackends = ["ort"]\n'
        'python = "/usr/bin/python3"\nthreads = 1\ncores = "0"\n'
    )
    return path


def _latency(profile: Path, model: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "vitprof", "latency", model, "--device-file", str(profile)]
    command += ["--effort", "quick", "--measure", "3x", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)["results"]
    return dict(row)


def test_a_model_is_measured_there_with_parity(board: Sshd, profile: Path, tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text(
        "import torch\n\n\ndef small():\n"
        "    layers = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)\n"
        "    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(8, 10))\n"
    )
    row = _latency(profile, f"{net}:small")
    before = row["environment"]["before"]
    assert (before["machine"], before["system"], before["cpu"].split(" x ")[1]) == ("aarch64", "Linux", "Cortex-A72")
    assert (before["pinned_cores"], before["cores"]) == ("0", 1) or os.cpu_count() == 1
    assert row["parity"]["verdict"] == "match" and row["parity"]["where"] == "device"
    assert row["latency_ns"]["p50"] > 0 and row["relative"]["reference"] == "cpu-ref-1"
    assert board.is_quiet(), board.processes()


def test_the_second_run_of_a_cached_artifact_sends_nothing(board: Sshd, profile: Path) -> None:
    model = str(profiles.reference_model("cpu-ref-1"))
    _latency(profile, model)
    sent = {path: path.stat().st_ino for path in board.files.iterdir()}
    began, used_s = time.time(), _processor_s()
    _latency(profile, model)
    ended, used_s = time.time(), _processor_s() - used_s
    assert sent and {path: path.stat().st_ino for path in board.files.iterdir()} == sent
    assert board.is_quiet(), board.processes()
    # For whoever reads it: what of the time no session of the board took. A limit here would be one of this machine.
    outside_s = _without_sessions(board, began, ended)
    print(f"{ended - began:.1f} s; {outside_s:.2f} s outside of the board's sessions; {used_s:.2f} s of this processor")


def _processor_s() -> float:
    """What the programs that were started here, and have ended, have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _without_sessions(board: Sshd, began: float, ended: float) -> float:
    """Seconds between the two moments in which no session ran."""
    lines = (board.folder / SESSIONS).read_text().splitlines()
    spans = sorted((float(first), float(last)) for first, last in map(str.split, lines))
    free, last = 0.0, began
    for start, end in [*(span for span in spans if span[0] >= began), (ended, ended)]:
        free += max(0.0, start - last)
        last = max(last, end)
    return free


def test_a_core_that_the_board_does_not_have_is_refused(board: Sshd, profile: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(profile.read_text().replace('cores = "0"', 'cores = "1000"'))
    command = [sys.executable, "-m", "vitprof", "latency", str(profiles.reference_model("cpu-ref-1"))]
    command += ["--device-file", str(other), "--effort", "quick", "--measure", "3x"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 3 and "no core 1000" in done.stdout + done.stderr
    assert board.is_quiet(), board.processes()
