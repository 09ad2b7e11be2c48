"""Real runner processes on this machine, whole and broken in every way that the fake backend knows."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.processes import is_alive, wait_for
from vitprof.devices.transports import RunnerFailed, local
from vitprof.devices.transports.local import LocalLink, LocalTransport, death_from_status
from vitprof.places import Places
from vitprof.runner.wire import (
    OUT_OF_MEMORY,
    Block,
    BlockRequest,
    End,
    EndRequest,
    Outputs,
    OutputsRequest,
    Plan,
    Ready,
)

Start = Callable[..., LocalLink]
_WAIT_S = 60


@pytest.fixture
def start(here: Places) -> Iterator[Start]:
    links: list[LocalLink] = []

    def begin(batch: int = 1, *, deadline_s: float = 60, **options: object) -> LocalLink:
        shape = (batch, 3, 2, 2)
        plan = Plan(backend="fake", options=options, input_shape=shape, deadline_s=deadline_s)  # type: ignore[arg-type]
        links.append(LocalTransport(here.cache_root).start(plan))
        return links[-1]

    yield begin
    for link in links:
        link.close()


def test_a_runner_loads_measures_and_ends(start: Start) -> None:
    link = start(call_ns=1_000_000)
    ready = link.receive(_WAIT_S)
    assert isinstance(ready, Ready) and ready.first_call_ns >= 1_000_000
    assert ready.environment["cores"] >= 1
    link.send(BlockRequest(4))
    block = link.receive(_WAIT_S)
    assert isinstance(block, Block) and block.index == 4
    assert sum(block.samples_ns) + sum(block.set_aside_ns) >= 50_000_000
    link.send(EndRequest())
    end = link.receive(_WAIT_S)
    assert isinstance(end, End) and end.peak_rss_bytes and end.peak_rss_bytes < 60_000_000
    assert end.peak_rss_measuring_bytes and end.peak_rss_measuring_bytes <= end.peak_rss_bytes
    assert (end.peak_device_bytes, end.call_energy_j, end.idle_power_w) == (None, None, None)


def test_outputs_come_as_a_file_of_tensors(start: Start, tmp_path: Path) -> None:
    link = start(call_ns=1000)
    link.receive(_WAIT_S)
    link.send(OutputsRequest(str(tmp_path / "out.bin")))
    outputs = link.receive(_WAIT_S)
    assert isinstance(outputs, Outputs)
    assert [(one.shape, one.offset) for one in outputs.tensors] == [((2,), 0)]
    assert (tmp_path / "out.bin").stat().st_size == 8


def test_stray_prints_of_python_and_native_code_stay_off_the_wire(start: Start) -> None:
    link = start(call_ns=1000, fault="print", fault_at="load")
    assert isinstance(link.receive(_WAIT_S), Ready)


@pytest.mark.parametrize("at", ["load", "40"])
@pytest.mark.parametrize(
    ("fault", "error", "remedy"),
    [
        ("crash", "SIGKILL.*by whom", "smaller model"),
        ("exit", "status 3", "--debug"),
        ("raise", "RuntimeError", "--debug"),
        ("memory", "out of memory", "smaller model"),
        ("garbage", "not a message", "doctor"),
    ],
)
def test_every_way_to_break_is_a_failure_with_stage_and_remedy(
    start: Start, fault: str, at: str, error: str, remedy: str
) -> None:
    link = start(call_ns=2_000_000, fault=fault, fault_at=at)
    with pytest.raises(RunnerFailed, match=error) as caught:
        _measure_until_it_breaks(link)
    assert remedy in caught.value.failure.remedy
    assert caught.value.failure.stage == ("load" if at == "load" else "run")
    # A kill that the kernel does not count is a kill, whatever the reason may have been.
    assert caught.value.failure.kind == (OUT_OF_MEMORY if fault == "memory" else None)
    wait_for(lambda: not is_alive(link.pid))


def _measure_until_it_breaks(link: LocalLink) -> None:
    link.receive(_WAIT_S)
    for index in range(10):
        link.send(BlockRequest(index))
        link.receive(_WAIT_S)


def test_where_no_energy_is_counted_the_process_says_why(here: Places) -> None:
    for is_asked in (True, False):
        link = LocalTransport(here.cache_root).start(Plan(backend="fake", with_energy=is_asked, deadline_s=60))
        try:
            ready = link.receive(_WAIT_S)
        finally:
            link.close()
        assert isinstance(ready, Ready) and ("no_energy" in ready.environment) == is_asked


def test_a_batch_that_the_fake_device_has_no_room_for_runs_out_of_memory(start: Start) -> None:
    link = start(4, image_bytes=100, memory_bytes=400)
    link.receive(_WAIT_S)
    link.send(EndRequest())
    end = link.receive(_WAIT_S)
    assert isinstance(end, End) and end.peak_device_bytes == 400
    with pytest.raises(RunnerFailed, match="5 images take 500 bytes of the fake device's 400") as caught:
        start(5, image_bytes=100, memory_bytes=400).receive(_WAIT_S)
    assert caught.value.failure.kind == OUT_OF_MEMORY and caught.value.failure.stage == "load"


@pytest.mark.parametrize("at", ["load", "8"])
def test_a_hang_ends_by_the_time_out(start: Start, at: str) -> None:
    link = start(call_ns=1_000_000, fault="hang", fault_at=at)
    with pytest.raises(RunnerFailed, match=r"no answer within 1.5 s") as caught:
        link.receive(1.5)
        link.send(BlockRequest(0))
        link.receive(1.5)
    assert "--timeout" in caught.value.failure.remedy
    wait_for(lambda: not is_alive(link.pid))


def test_the_end_of_standard_input_ends_a_runner_that_hangs(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody kills it meanwhile.
    monkeypatch.setattr(local, "_GRACE_S", 10 * _WAIT_S)
    link = start(call_ns=1_000_000, fault="hang", fault_at="12")
    link.receive(_WAIT_S)
    link.send(BlockRequest(0))
    time.sleep(0.2)
    begin = time.monotonic()
    link.close()
    assert time.monotonic() - begin < _WAIT_S and not is_alive(link.pid)


def test_the_deadline_ends_a_runner_whose_host_keeps_silent(start: Start) -> None:
    link = start(deadline_s=0.5, call_ns=1000)
    with pytest.raises(RunnerFailed, match="deadline"):
        # It runs from the plan on: on a busy machine the runner may not be ready before.
        link.receive(_WAIT_S)
        link.receive(_WAIT_S)


def test_a_runner_killed_from_outside_is_a_failure(start: Start) -> None:
    link = start(call_ns=1_000_000)
    link.receive(_WAIT_S)
    os.kill(link.pid, signal.SIGKILL)
    with pytest.raises(RunnerFailed, match="SIGKILL"):
        link.send(BlockRequest(0))
        link.receive(_WAIT_S)


def test_a_runner_sleeps_between_its_blocks(start: Start) -> None:
    link = start(call_ns=1_000_000)
    link.receive(_WAIT_S)
    process = psutil.Process(link.pid)
    before = process.cpu_times()
    time.sleep(1.0)
    after = process.cpu_times()
    assert (after.user + after.system) - (before.user + before.system) <= 0.02


def test_closing_twice_is_harmless(start: Start) -> None:
    link = start(call_ns=1000)
    link.close()
    link.close()


def test_exit_statuses_are_told_apart() -> None:
    assert "SIGSEGV" in death_from_status(-signal.SIGSEGV)[0]
    assert "deadline" in death_from_status(76)[0]
    assert "connection" in death_from_status(75)[0]
    assert "status 9" in death_from_status(9)[0]


def test_a_kill_is_for_memory_where_the_kernel_counted_it_and_an_abort_where_the_library_said_so() -> None:
    assert death_from_status(-signal.SIGKILL).kind is None
    assert death_from_status(-signal.SIGKILL, for_memory=True).kind == OUT_OF_MEMORY
    said = "terminate called after throwing an instance of 'std::bad_alloc'"
    assert death_from_status(-signal.SIGABRT, said).kind == OUT_OF_MEMORY
    # The counter grew for another process meanwhile: a crash stays a crash.
    assert death_from_status(-signal.SIGSEGV, said, for_memory=True).kind is None
