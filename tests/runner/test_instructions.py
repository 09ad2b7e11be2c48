from __future__ import annotations

import struct
from pathlib import Path

import pytest

from vitprof.runner.backends import BackendError
from vitprof.runner.instructions import FILE_VARIABLE, counted
from vitprof.runner.wire import CountRequest


def test_the_counter_is_read_around_each_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator's part is played by the call itself: each adds to the file, the first ones more."""
    counter = tmp_path / "counter"
    counter.write_bytes(struct.pack("<Q", 2**40))
    work = iter([9000, 1000, 1000, 1100, 1000, 1000])

    def call() -> None:
        executed = struct.unpack("<Q", counter.read_bytes())[0]
        with counter.open("r+b") as file:
            file.write(struct.pack("<Q", executed + next(work)))

    monkeypatch.setenv(FILE_VARIABLE, str(counter))
    # One call warms up; a call that does nothing costs nothing here, so nothing is taken off.
    assert counted(call, CountRequest(5)).instructions == (1000, 1000, 1100, 1000, 1000)


def test_a_counter_that_stands_still_is_an_error_and_not_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counter").write_bytes(bytes(8))
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "counter"))
    with pytest.raises(BackendError, match="counts 0 instructions") as caught:
        counted(lambda: None, CountRequest(5))
    assert "devices setup" in caught.value.remedy


def test_without_a_counter_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    with pytest.raises(BackendError, match="does not run in an emulator") as caught:
        counted(lambda: None, CountRequest(1))
    assert "--device emulated-a72" in caught.value.remedy
