"""Faults of a device as a runner on this machine meets them: each ends as a Failure with its stage and a remedy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vitprof.devices.runner_zip import runner_zip
from vitprof.devices.transports import RunnerFailed
from vitprof.devices.transports.local import LocalLink
from vitprof.places import Places
from vitprof.runner.__main__ import failure_from_error
from vitprof.runner.wire import Failure, OutputsRequest, Plan

_WAIT_S = 60.0


def _failure(command: list[str]) -> Failure:
    with pytest.raises(RunnerFailed) as caught:
        LocalLink(command, Plan(backend="fake")).receive(_WAIT_S)
    return caught.value.failure


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    failure = _failure([str(tmp_path / "python")])
    assert failure.stage == "start" and "No such file" in failure.error and failure.remedy


def test_a_program_for_another_processor(tmp_path: Path) -> None:
    program = tmp_path / "python"
    # The head of an ELF file, and nothing that this machine can run.
    program.write_bytes(b"\x7fELF" + bytes(60))
    program.chmod(0o755)
    failure = _failure([str(program)])
    assert failure.stage == "start" and "Exec format error" in failure.error and failure.remedy


def test_a_runner_that_is_gone(tmp_path: Path) -> None:
    failure = _failure([sys.executable, str(tmp_path / "runner.zip")])
    assert "the runner is gone" in failure.error and "run again" in failure.remedy


def test_a_runner_of_which_half_arrived(here: Places, tmp_path: Path) -> None:
    whole = runner_zip(here.cache_root).read_bytes()
    torn = tmp_path / "runner.zip"
    torn.write_bytes(whole[: len(whole) // 2])
    failure = _failure([sys.executable, str(torn)])
    assert failure.stage == "load" and failure.remedy and failure.detail


def test_a_runner_that_sends_without_an_end_what_is_no_message() -> None:
    failure = _failure(["cat", "/dev/zero"])
    assert "what is no message" in failure.error and r"\x00" in failure.error and failure.remedy


def test_a_disk_that_is_full(here: Places, disk: Callable[[str], Path]) -> None:
    folder = disk("4k")
    (folder / "rest").write_bytes(bytes(4096))
    link = LocalLink([sys.executable, str(runner_zip(here.cache_root))], Plan(backend="fake"))
    link.receive(_WAIT_S)
    link.send(OutputsRequest(str(folder / "outputs")))
    with pytest.raises(RunnerFailed) as caught:
        link.receive(_WAIT_S)
    failure = caught.value.failure
    assert failure.stage == "run" and "no space is left" in failure.error and "free some" in failure.remedy


def test_a_runtime_for_another_machine_says_to_install_it_anew() -> None:
    error = ImportError("/x/lib.so: wrong ELF class: ELFCLASS32")
    failure = failure_from_error("load", error)
    assert "wrong ELF class" in failure.error and "install it there anew" in failure.remedy
