"""The host's side of the keeper, with a real keeper as a process of this machine: no link lies between them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vitprof.devices.shipping import BOOT, Keeper, Lost, Parcels, Refused, program

_WAIT_S = 60.0
_RUN = "run"
Start = Callable[[], contextlib.AbstractContextManager[Keeper]]


def _start(cache: Path) -> Start:
    @contextlib.contextmanager
    def start() -> Iterator[Keeper]:
        text = program()
        command = [sys.executable, "-c", BOOT, str(len(text))]
        variables = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=variables) as one:
            keeper = Keeper(one, text, _RUN, _WAIT_S, lambda _: None)
            yield keeper
            keeper.close()

    return start


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return _start(tmp_path / "cache")


@pytest.fixture
def parcels() -> Iterator[Parcels]:
    one = Parcels()
    yield one
    one.close()


def test_a_keeper_that_ends_late_leaves_the_folder_of_the_run_to_the_next_one(start: Start) -> None:
    # The same run has begun anew, while the first keeper did not notice that its link was cut.
    with start() as first, start() as second:
        folder = Path(second.facts["run"])
        assert first.facts["run"] == second.facts["run"]
        (folder / "outputs").write_bytes(b"x")
        assert first._process.stdin
        first._process.stdin.close()
        first._process.wait(_WAIT_S)
        assert (folder / "outputs").exists()
    assert not folder.exists()


def test_what_does_not_fit_is_refused_at_once_each_time(
    parcels: Parcels, disk: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(os.urandom(2_000_000))
    with _start(disk("1m"))() as keeper:
        for _ in range(2):
            with pytest.raises(Refused, match="are free") as caught:
                keeper.placed(parcels.parcel(str(tmp_path / "model.onnx")))
            assert caught.value.kind == "full"


def test_a_disk_without_a_free_byte_can_still_be_freed(disk: Callable[[str], Path]) -> None:
    cache = disk("1m")
    with _start(cache)() as keeper:
        files = Path(keeper.facts["root"]) / "files"
    with contextlib.suppress(OSError), (files / f"{'0' * 64}.onnx").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    assert os.statvfs(cache).f_bavail == 0
    with _start(cache)() as keeper:
        assert keeper.asked("clean", cap_bytes=0, everything=True)["removed"] == [f"files/{'0' * 64}.onnx"]
    assert os.statvfs(cache).f_bavail > 0


def test_what_arrives_torn_twice_is_an_error(start: Start, parcels: Parcels, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"one")
    other = replace(parcels.parcel(str(tmp_path / "model.onnx")), sha256="0" * 64, name="0" * 64)
    with start() as keeper:
        with pytest.raises(Refused, match="arrived with the sha256") as caught:
            keeper.placed(other)
        assert caught.value.kind == "torn"
        # The link is none the worse for it.
        assert Path(keeper.placed(parcels.parcel(str(tmp_path / "model.onnx")))).read_bytes() == b"one"


def test_a_file_that_becomes_shorter_is_given_up_and_not_waited_for(
    start: Start, parcels: Parcels, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"one")
    longer = replace(parcels.parcel(str(tmp_path / "model.onnx")), bytes=10)
    with start() as keeper, pytest.raises(Lost, match="became shorter"):
        keeper.placed(longer)


def test_a_folder_that_changes_does_not_take_another_s_place(start: Start, parcels: Parcels, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
    first = [parcels.parcel(str(tmp_path / name)) for name in ("one", "other")]
    (tmp_path / "one" / "weights").write_text("another one")
    changed = parcels.parcel(str(tmp_path / "one"))
    (tmp_path / "other" / "weights").write_text("another other")
    last = parcels.parcel(str(tmp_path / "other"))
    assert len({parcel.file for parcel in (*first, changed, last)}) == 4
    with start() as keeper:
        assert (Path(keeper.placed(changed)) / "weights").read_text() == "another one"
