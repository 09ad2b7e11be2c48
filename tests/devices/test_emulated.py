"""A board that QEMU emulates: what it consists of, and the real one, made by apt and pip."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.devices.aarch64 import DEVICE, board_cache
from vitprof.devices import debian, emulation, profiles, reach
from vitprof.devices.check import check
from vitprof.devices.transports import RunnerFailed
from vitprof.devices.transports.emulated import EmulatedTransport
from vitprof.errors import UnreachableError, UsageError
from vitprof.runner.wire import CountRequest, Counts, Plan, Ready

_WAIT_S = 60


def test_the_profile_is_shipped_and_says_that_it_is_emulated() -> None:
    device = profiles.device("emulated-a72")
    assert (device.kind, device.transport, device.backends, device.threads) == ("emulated", "emulated", ("ort",), 1)
    assert "emulated" in device.chip


def test_what_is_not_set_up_is_unreachable_and_says_what_to_type(tmp_path: Path) -> None:
    for ask in (emulation.board, lambda device, root: emulation.counting_board(device, root, root / "counter")):
        with pytest.raises(UnreachableError, match="not set up yet") as caught:
            ask(DEVICE, tmp_path)
        assert caught.value.remedy == "vitprof devices setup emulated-a72"


def test_what_is_installed_is_said_first_and_only_in_the_cache(tmp_path: Path) -> None:
    said = emulation.announcement(DEVICE, tmp_path)
    for word in ("onnxruntime 1.31.1", "onnxruntime 1.24.1", "numpy 2.4.6", "bookworm", "trixie"):
        assert word in said
    assert said.count(f"into {tmp_path}/environments/emulated-a72") == 2
    # Of what is there already nothing is said.
    emulation.folder_of(tmp_path).mkdir(parents=True)
    assert "1.31.1" not in emulation.announcement(DEVICE, tmp_path)
    emulation.counting_folder_of(tmp_path).mkdir()
    assert emulation.announcement(DEVICE, tmp_path) == "" == emulation.lacking(DEVICE, tmp_path)


def test_a_board_runs_with_nothing_of_this_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_OF_THE_HOST", "x")
    folder, counting = emulation.folder_of(tmp_path), emulation.counting_folder_of(tmp_path)
    for one in (folder, counting):
        one.mkdir(parents=True)
        (one / "facts.json").write_text('{"emulator": "qemu-aarch64 1.2.3, cortex-a72"}')
    board = emulation.board(DEVICE, tmp_path)
    assert board.command[:2] == ("env", "-i") and board.command[-1] == str(folder / "root/usr/bin/python3")
    assert board.emulator == "qemu-aarch64 1.2.3, cortex-a72"
    place = board.command.index("-cpu")
    assert board.command[place : place + 2] == ("-cpu", "cortex-a72") and "-plugin" not in board.command
    counted = emulation.counting_board(DEVICE, tmp_path, tmp_path / "a,b")
    plugin = counted.command[counted.command.index("-plugin") + 1]
    # A comma ends a value of QEMU's, two are one.
    assert plugin.endswith(f"into={tmp_path}/a,,b") and f"VITPROF_INSTRUCTIONS_FILE={tmp_path}/a,b" in counted.command


def test_set_ups_of_older_pins_are_removed_and_on_demand_all(tmp_path: Path) -> None:
    old = tmp_path / "environments" / "emulated-a72-0123456789ab"
    for folder in (old, emulation.folder_of(tmp_path), emulation.counting_folder_of(tmp_path)):
        folder.mkdir(parents=True)
    assert emulation.remove(tmp_path, everything=False) == (old,)
    assert len(emulation.remove(tmp_path, everything=True)) == 2
    assert not list((tmp_path / "environments").iterdir())


def test_a_named_mirror_goes_before_the_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(debian.MIRROR_VARIABLE, "http://127.0.0.1/debian")
    assert debian.mirror() == "http://127.0.0.1/debian"


def test_a_host_without_apt_says_where_it_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreachableError, match="has no apt-get") as caught:
        emulation.set_up(DEVICE, tmp_path)
    assert "container" in caught.value.remedy and not list(tmp_path.iterdir())


def test_no_conclusion_is_drawn_from_emulated_times() -> None:
    with pytest.raises(UsageError, match="compared with none") as caught:
        reach.check_times_count(DEVICE)
    assert "--metric instructions" in caught.value.remedy
    reach.check_times_count(profiles.device("local"))


# The real one.


@pytest.fixture(scope="module")
def cache() -> Path:
    return board_cache()


def _vitprof(cache: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "vitprof", "latency", *words, "--device", "emulated-a72", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(cache), check=False)
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)["results"]
    return dict(row)


def _environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "VITPROF_CACHE_DIR": str(cache)}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_is_measured_on_the_emulated_board(cache: Path) -> None:
    model = str(profiles.reference_model("cpu-ref-1"))
    row = _vitprof(cache, model, "--effort", "quick", "--measure", "3x")
    before = row["environment"]["before"]
    assert (before["machine"], before["cpu"].split(" x ")[1]) == ("aarch64", "Cortex-A72")
    assert "asimd" in before["cpu_features"] and before["emulator"].startswith("qemu-aarch64 10.")
    assert row["backend_version"] == "1.31.1" and row["latency_ns"]["p50"] > 0
    assert row["grade"] == "C" and "emulated" in [one["code"] for one in row["warnings"]]
    assert row["instructions_per_inference"] is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_board_itself_is_asked_how_it_stands(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPROF_CACHE_DIR", str(cache))
    checked = check(DEVICE, cache)
    assert checked.facts["machine"] == "aarch64" and checked.facts["cpu"].endswith("Cortex-A72")
    assert checked.runtimes == {"ort": "1.31.1"} and checked.is_ready


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_counts_of_two_processes_are_the_same_to_a_hundred_thousandth(cache: Path) -> None:
    model = str(profiles.reference_model("cpu-ref-1"))
    first, second = (_vitprof(cache, model, "--metric", "instructions") for _ in range(2))
    counts = [row["instructions_per_inference"] for row in (first, second)]
    assert abs(counts[0]["value"] / counts[1]["value"] - 1) < 1e-5
    # 4 values to an instruction at the most, and something must lead them there.
    macs = first["cost"]["macs"]
    assert macs / 4 < counts[0]["value"] < 10 * macs
    assert first["backend_version"] == "1.24.1" and counts[0]["counted_by"].startswith("qemu-aarch64 7.2.")
    assert first["latency_ns"] is None and first["grade"] is None and first["region"] == "instructions"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_counting_costs_is_taken_off_and_nothing_else(cache: Path, tmp_path: Path) -> None:
    # The fake model without a fault has a call that does nothing; with one that never strikes, some lines of Python.
    nothing = _fake_counts(cache, tmp_path / "nothing")
    assert abs(statistics.median(nothing)) < 100
    some_lines = _fake_counts(cache, tmp_path / "some-lines", fault="crash", fault_at="1000000")
    assert 1000 < statistics.median(some_lines) < 100_000


def _fake_counts(cache: Path, counter: Path, **options: str) -> tuple[int, ...]:
    counter.write_bytes(bytes(8))
    transport = EmulatedTransport(emulation.counting_board(DEVICE, cache, counter), cache)
    link = transport.start(Plan(backend="fake", options=options, deadline_s=_WAIT_S))
    try:
        assert isinstance(link.receive(_WAIT_S), Ready)
        link.send(CountRequest(5))
        counts = link.receive(_WAIT_S)
    finally:
        link.close()
    assert isinstance(counts, Counts) and len(counts.instructions) == 5
    # All of Python's start and more.
    assert int.from_bytes(counter.read_bytes(), "little") > 1_000_000
    return counts.instructions


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_board_that_does_not_count_says_so(cache: Path) -> None:
    link = EmulatedTransport(emulation.board(DEVICE, cache), cache).start(Plan(backend="fake", deadline_s=_WAIT_S))
    try:
        link.receive(_WAIT_S)
        link.send(CountRequest(5))
        with pytest.raises(RunnerFailed, match="not run in an emulator that counts"):
            link.receive(_WAIT_S)
    finally:
        link.close()
