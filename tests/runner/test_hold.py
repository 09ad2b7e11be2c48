"""The lock of a device: real files, real processes that are killed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vitprof.runner import hold
from vitprof.runner.wire import EndRequest, Facts, FactsRequest, Failure, Hold, line_from_message, message_from_line

_WAIT_S = 60.0
Runner = Callable[[Hold], "subprocess.Popen[bytes]"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(hold.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def runner(folder: Path) -> Iterator[Runner]:
    """Starts real runners that have been sent a Hold."""
    started: list[subprocess.Popen[bytes]] = []

    def start(task: Hold) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "vitprof.runner"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        _tell(process, line_from_message(task))
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def _tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin
    process.stdin.write(line)
    process.stdin.flush()


def _answer(process: subprocess.Popen[bytes]) -> object:
    assert process.stdout
    return message_from_line(process.stdout.readline())


def _is_free() -> bool:
    end = time.monotonic() + _WAIT_S
    while time.monotonic() < end:
        if hold.holder() is None:
            return True
        time.sleep(0.02)
    return False


def test_one_has_it_and_the_other_is_told_who(folder: Path) -> None:
    first = hold.Lock("alice@desk, pid 7")
    with pytest.raises(hold.InUse, match="by alice@desk, pid 7, since less than a minute"):
        hold.Lock("bob@desk, pid 8")
    first.release()
    second = hold.Lock("bob@desk, pid 8")
    assert second.is_held
    second.release()


def test_looking_who_has_it_does_not_take_it(folder: Path) -> None:
    assert hold.holder() is None
    lock = hold.Lock("alice@desk, pid 7")
    assert (hold.holder() or "").startswith("by alice@desk")
    lock.release()
    assert hold.holder() is None


def test_the_age_of_a_hold_is_told_in_minutes(folder: Path) -> None:
    lock = hold.Lock("alice")
    Path(hold.lock_path()).write_text(json.dumps({"who": "alice", "since": time.time() - 185}))
    with pytest.raises(hold.InUse, match="by alice, since 3 min"):
        hold.Lock("bob")
    lock.release()


@pytest.mark.parametrize("note", [b"", b"\xff\xfe", b"[1]", b'{"who": "x"}', b'{"who": "x", "since": "y"}'])
def test_a_note_that_cannot_be_read_is_no_reason_to_fail(folder: Path, note: bytes) -> None:
    lock = hold.Lock("alice")
    Path(hold.lock_path()).write_bytes(note)
    with pytest.raises(hold.InUse, match="does not say who"):
        hold.Lock("bob")
    lock.release()


def test_every_user_of_the_machine_can_open_the_file(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        hold.Lock("alice").release()
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(hold.lock_path()).stat().st_mode) == 0o666


def test_a_planted_link_is_not_followed(folder: Path) -> None:
    precious = folder / "precious"
    precious.write_text("keep me")
    Path(hold.lock_path()).symlink_to(precious)
    lock = hold.Lock("alice")
    assert not lock.is_held and precious.read_text() == "keep me"


def test_a_planted_second_name_is_not_written_to(folder: Path) -> None:
    precious = folder / "precious"
    precious.write_text("keep me")
    os.link(precious, hold.lock_path())
    assert not hold.Lock("alice").is_held and precious.read_text() == "keep me"


def test_a_planted_pipe_does_not_hang(folder: Path) -> None:
    os.mkfifo(hold.lock_path())
    assert not hold.Lock("alice").is_held


def test_where_nothing_can_be_written_everything_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hold.FOLDER_VARIABLE, "/nowhere/at/all")
    assert not hold.Lock("alice").is_held and hold.holder() is None


def test_a_runner_holds_answers_and_gives_back(runner: Runner) -> None:
    process = runner(Hold("alice@desk, pid 7"))
    facts = _answer(process)
    assert isinstance(facts, Facts) and facts.environment["cores"] >= 1 and "runtimes" not in facts.environment
    assert (hold.holder() or "").startswith("by alice@desk, pid 7")
    _tell(process, line_from_message(FactsRequest(with_runtimes=True)))
    more = _answer(process)
    assert isinstance(more, Facts) and more.environment["runtimes"]["ort"]
    _tell(process, line_from_message(EndRequest()))
    assert process.wait(_WAIT_S) == 0 and hold.holder() is None


def test_a_second_runner_is_told_who_has_the_device(runner: Runner) -> None:
    first = runner(Hold("alice@desk, pid 7"))
    _answer(first)
    refused = _answer(runner(Hold("bob@desk, pid 8")))
    assert isinstance(refused, Failure) and refused.stage == hold.IN_USE_STAGE
    assert refused.error.startswith("in use by alice@desk, pid 7") and refused.remedy
    looked = _answer(runner(Hold("carol", only_look=True)))
    assert isinstance(looked, Facts) and str(looked.environment["held_by"]).startswith("by alice")


@pytest.mark.parametrize("way", ["killed", "cut"])
def test_the_lock_ends_with_its_process_however_that_ends(runner: Runner, way: str) -> None:
    process = runner(Hold("alice"))
    _answer(process)
    if way == "killed":
        process.send_signal(signal.SIGKILL)
    elif process.stdin:
        process.stdin.close()
    assert _is_free()


def test_the_lock_ends_at_the_deadline(runner: Runner) -> None:
    process = runner(Hold("alice", deadline_s=0.5))
    _answer(process)
    assert process.wait(_WAIT_S) == 76 and hold.holder() is None


def test_who_asks_has_the_whole_deadline_again(runner: Runner) -> None:
    process = runner(Hold("alice", deadline_s=4.0))
    for _ in range(5):
        assert isinstance(_answer(process), Facts)
        time.sleep(0.9)
        _tell(process, line_from_message(FactsRequest()))
    assert isinstance(_answer(process), Facts)


def test_the_name_of_this_process_is_told_where_the_user_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
    assert f"pid {os.getpid()}" in hold.who_am_i()
