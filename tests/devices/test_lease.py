"""Holding a device: against a device that answers as it is told, and against real processes on this machine."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vitprof.devices import lease, profiles
from vitprof.devices.transports import RunnerFailed
from vitprof.devices.transports.local import LocalTransport
from vitprof.errors import ExitCode, UnreachableError
from vitprof.places import Places
from vitprof.records import Device, Readiness
from vitprof.runner import hold
from vitprof.runner.wire import Facts, Failure, Hold, Message, Task, line_from_message

IN_USE = Failure(hold.IN_USE_STAGE, "in use by alice@desk, pid 7, since 3 min", "wait until it is free")
CUT = Failure("link", "the connection was closed", "look after it")
Answer = dict[str, Any] | Failure


class Board:
    """A device: its answers in order, the last one for ever. Time passes only while somebody waits."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.now_s = 0.0
        self.open_links = 0
        self.tasks: list[Task] = []

    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def clock(self) -> float:
        return self.now_s

    def answer(self) -> Answer:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def place(self, path: str) -> str:
        return path

    def scratch(self, name: str, folder: Path) -> str:
        return name

    def fetch(self, path: str, folder: Path) -> Path:
        return Path(path)

    def start(self, task: Task) -> BoardLink:
        self.tasks.append(task)
        return BoardLink(self)

    def close(self) -> None:
        pass


class BoardLink:
    def __init__(self, board: Board) -> None:
        self._board = board
        board.open_links += 1

    def send(self, message: Message) -> None:
        pass

    def receive(self, timeout_s: float) -> Message:
        answer = self._board.answer()
        if isinstance(answer, Failure):
            raise RunnerFailed(answer)
        return Facts(answer)

    def close(self) -> None:
        self._board.open_links -= 1


def _device(**ready: Any) -> Device:
    return Device("board", "arm-cpu", "X", "ssh", ("ort",), host="there", ready=Readiness(**ready))


def _lease(board: Board, device: Device, said: list[str]) -> lease.Lease:
    return lease.Lease(device, board, said.append, clock=board.clock, pause=board.wait)


def test_a_device_in_use_is_waited_for_and_it_is_said_for_whom() -> None:
    board, said = Board(IN_USE, IN_USE, {}), list[str]()
    held = _lease(board, _device(), said)
    held.take()
    assert said == ["board: in use by alice@desk, pid 7, since 3 min"] * 2
    assert board.open_links == 1 and board.now_s > 0
    task = board.tasks[-1]
    assert isinstance(task, Hold) and "pid" in task.who
    held.close()
    held.close()
    assert board.open_links == 0


def test_a_device_that_stays_in_use_is_unreachable() -> None:
    board = Board(IN_USE)
    with pytest.raises(UnreachableError, match=r"'board': in use by alice.*waited 30 s") as caught:
        _lease(board, _device(wait_s=30), []).take()
    assert caught.value.exit_code is ExitCode.UNREACHABLE and "until it is free" in caught.value.remedy
    assert 30 <= board.now_s < 40 and board.open_links == 0


def test_what_else_is_wrong_at_the_beginning_is_not_waited_for() -> None:
    board = Board(CUT)
    with pytest.raises(UnreachableError, match="the connection was closed"):
        _lease(board, _device(), []).take()
    assert board.now_s == 0


def test_a_hot_device_is_waited_for_until_it_is_cool() -> None:
    board, said = Board({}, {"temperature_c": 72.4}, {"temperature_c": 66}, {"temperature_c": 59}), list[str]()
    held = _lease(board, _device(max_temperature_c=60), said)
    held.take()
    assert held.wait_until_ready() == ()
    assert said == ["board: 72 °C, waiting for 60 °C", "board: 66 °C, waiting for 60 °C"]


def test_the_load_that_a_run_makes_itself_is_not_waited_for() -> None:
    board, said = (
        Board({}, {"load_1min": 0.1}, {"load_1min": 4.0, "temperature_c": 72}, {"load_1min": 4.0}),
        list[str](),
    )
    held = _lease(board, _device(max_load=0.5, max_temperature_c=60), said)
    held.take()
    assert held.wait_until_ready() == () and said == []
    assert held.wait_until_ready() == () and said == ["board: 72 °C, waiting for 60 °C"]


def test_a_device_that_stays_hot_is_measured_with_a_warning() -> None:
    board = Board({"temperature_c": 72.4, "load_1min": 3.0})
    held = _lease(board, _device(max_temperature_c=60, max_load=0.5, wait_s=10), [])
    held.take()
    doubts = held.wait_until_ready()
    assert [one.code for one in doubts] == [lease.NOT_READY] * 2
    assert "load 3, waiting for 0.5, after 10 s of waiting" in doubts[0].detail and "[ready]" in doubts[0].remedy


def test_a_processor_of_another_kind_is_a_warning_and_not_waited_for() -> None:
    board = Board({"machine": "x86_64"})
    held = _lease(board, _device(), [])
    held.take()
    (doubt,) = held.wait_until_ready()
    assert doubt.code == "another processor" and "says arm-cpu, the device is x86_64" in doubt.detail and doubt.remedy
    assert board.now_s == 0


def test_who_measures_there_is_asked_less_and_less_often() -> None:
    board = Board(IN_USE)
    with pytest.raises(UnreachableError):
        _lease(board, _device(wait_s=600), []).take()
    assert len(board.tasks) < 50


@pytest.mark.parametrize(
    ("asked", "told", "said"),
    [
        ({"max_load": 0.5}, {"load_1min": 0.6}, "load 0.6, waiting for 0.5"),
        ({"max_load": 0.5}, {"load_1min": 0.5}, None),
        ({"min_battery_share": 0.5}, {"battery_share": 0.42}, "battery at 42%, waiting for 50%"),
        ({"on_mains": True}, {"power": "battery"}, "on battery, waiting for mains"),
        ({"on_mains": True}, {"power": "mains"}, None),
        # What is not told is not waited for; what a device tells may be anything.
        ({"max_load": 0.5, "max_temperature_c": 60, "min_battery_share": 0.5, "on_mains": True}, {}, None),
        ({"max_load": 0.5}, {"load_1min": "high"}, None),
        ({}, {"load_1min": 99, "temperature_c": 99, "battery_share": 0.01, "power": "battery"}, None),
    ],
)
def test_what_is_not_ready_is_named_with_both_values(asked: Any, told: Any, said: str | None) -> None:
    assert lease.unready(Readiness(**asked), told) == ((said,) if said else ())


def test_a_device_that_reboots_is_held_again() -> None:
    board, said = Board({}, CUT, CUT, CUT, {}), list[str]()
    held = _lease(board, _device(), said)
    held.take()
    assert held.wait_until_ready() == ()
    assert said == ["board: the connection was closed"] * 2 and board.open_links == 1


def test_a_device_that_does_not_come_back_is_waited_for_once() -> None:
    board = Board({}, CUT)
    held = _lease(board, _device(wait_s=30), [])
    held.take()
    with pytest.raises(UnreachableError, match="the connection was closed"):
        held.wait_until_ready()
    waited_s = board.now_s
    with pytest.raises(UnreachableError, match="the connection was closed"):
        held.wait_until_ready()
    assert waited_s >= 30 and board.now_s == waited_s and board.open_links == 0


def test_looking_does_not_hold_and_leaves_nothing_open() -> None:
    board = Board({"cores": 4})
    assert lease.look(_device(), board) == {"cores": 4}
    task = board.tasks[0]
    assert isinstance(task, Hold) and task.only_look and board.open_links == 0


@pytest.mark.parametrize(
    ("changes", "told", "threads"),
    [
        ({}, {"cores": 4}, 4),
        ({"threads": 2}, {"cores": 4}, 2),
        ({"cores": "4-7,0"}, {"cores": 8}, 5),
        ({}, {}, 1),
        ({}, {"cores": "many"}, 1),
    ],
)
def test_threads_are_the_profile_s_or_one_for_each_core_there(changes: Any, told: Any, threads: int) -> None:
    assert lease.threads_of(dataclasses.replace(_device(), **changes), Board(told)) == threads


@pytest.mark.parametrize(
    ("told", "free_bytes"),
    [
        ({"memory_available_bytes": 3 * 10**9, "memory_bytes": 4 * 10**9}, 3e9),
        ({"memory_bytes": 4 * 10**9}, 4e9),
        ({}, math.inf),
        ({"memory_available_bytes": "much"}, math.inf),
    ],
)
def test_the_memory_that_a_group_may_take_is_that_of_the_device(told: Any, free_bytes: float) -> None:
    held = _lease(Board(told), _device(), [])
    held.take()
    assert held.free_bytes() == free_bytes


def test_threads_of_this_machine_are_its_cores(here: Places) -> None:
    local = profiles.device("local")
    environment = lease.look(local, LocalTransport(here.cache_root))
    assert lease.threads_of(local, LocalTransport(here.cache_root)) == environment["cores"]


@pytest.fixture
def another(here: Places) -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else that has this machine."""
    command = [sys.executable, "-m", "vitprof.runner"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    process.stdin.write(line_from_message(Hold("alice@desk, pid 7")))
    process.stdin.flush()
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def test_two_processes_of_one_machine_wait_for_each_other(another: subprocess.Popen[bytes], here: Places) -> None:
    said: list[str] = []

    def say(what: str) -> None:
        said.append(what)
        another.kill()

    local = profiles.device("local")
    with lease.held(local, LocalTransport(here.cache_root), say) as held:
        assert held.wait_until_ready() == ()
        assert (hold.holder() or "").startswith("by ")
    assert "in use by alice@desk, pid 7" in said[0]
    assert hold.holder() is None
