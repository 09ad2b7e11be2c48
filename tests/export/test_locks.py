"""Locks between real processes: who waits, who is killed, what is left."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.processes import SPAWN, started, wait_for
from vitprof.export import cache, locks

from . import made

KEY = made.key_of("resnet18")


def prepare(root: Path, start: Any) -> None:
    start.wait()
    with locks.preparing(root, KEY, (root / "waited").touch):
        if cache.read(root, KEY) is None:
            with (root / "exports").open("a") as log:
                log.write("exported\n")
            # On a busy machine the other one may be far behind.
            wait_for((root / "waited").exists)
            made.publish(root)


def test_two_processes_that_want_the_same_artifact_export_it_once(tmp_path: Path) -> None:
    start = SPAWN.Event()
    processes = [started(prepare, tmp_path, start) for _ in range(2)]
    start.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "exports").read_text() == "exported\n"
    assert (tmp_path / "waited").exists(), "the second one was not told that it waits"
    assert cache.read(tmp_path, KEY) is not None
    assert list((tmp_path / "locks").iterdir()) == []


def prepare_for_ever(root: Path) -> None:
    with locks.preparing(root, KEY):
        (root / "prepares").touch()
        time.sleep(600)


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    holder = started(prepare_for_ever, tmp_path)
    wait_for((tmp_path / "prepares").exists)
    assert locks.busy(tmp_path) == locks.Busy(frozenset({KEY}), is_anyone_running=True)
    # Killed while this process waits for it.
    with locks.preparing(tmp_path, KEY, holder.kill):
        holder.join()
    assert locks.busy(tmp_path) == locks.Busy(frozenset(), is_anyone_running=False)


def use_for_ever(root: Path, keys: list[str]) -> None:
    with locks.InUse(root) as in_use:
        for key in keys:
            in_use.add(key)
        (root / "uses").touch()
        time.sleep(600)


def test_what_a_process_needs_is_busy_until_it_ends_or_is_killed(tmp_path: Path) -> None:
    other = started(use_for_ever, tmp_path, ["b", "c"])
    wait_for((tmp_path / "uses").exists)
    with locks.InUse(tmp_path) as in_use:
        in_use.add("a")
        assert locks.busy(tmp_path).keys == {"a", "b", "c"}
    assert locks.busy(tmp_path).keys == {"b", "c"}
    other.kill()
    other.join()
    assert locks.busy(tmp_path) == locks.Busy(frozenset(), is_anyone_running=False)
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_process_that_has_not_named_an_artifact_yet_is_known_to_run(tmp_path: Path) -> None:
    with locks.InUse(tmp_path):
        assert locks.busy(tmp_path) == locks.Busy(frozenset(), is_anyone_running=True)


def test_several_artifacts_are_needed_at_the_cost_of_one_open_file(tmp_path: Path) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with locks.InUse(tmp_path) as in_use:
        before = open_files()
        for number in range(1100):
            in_use.add(made.key_of(str(number)))
        # Fewer where something of an earlier test was collected meanwhile.
        assert open_files() <= before
        assert len(locks.busy(tmp_path).keys) == 1100


def count_up(root: Path, times: int, start: Any) -> None:
    counter = root / "counter"
    start.wait()
    for _ in range(times):
        with locks.evicting(root):
            counter.write_text(str(int(counter.read_text()) + 1))


def test_a_lock_file_that_is_deleted_while_others_open_it_lets_nobody_in_twice(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    start = SPAWN.Event()
    processes = [started(count_up, tmp_path, 300, start) for _ in range(4)]
    start.set()
    for process in processes:
        process.join()
    assert (tmp_path / "counter").read_text() == "1200"


@pytest.mark.parametrize("root", ["occupied", "occupied/below"])
def test_where_there_can_be_no_locks_everything_goes_on_without(tmp_path: Path, root: str) -> None:
    # A file in the folder's place: refused for root too, unlike a folder without permission to write.
    (tmp_path / "occupied").write_text("")
    cache_root = tmp_path / root
    with locks.InUse(cache_root) as in_use, locks.preparing(cache_root, KEY), locks.evicting(cache_root):
        in_use.add(KEY)
    assert locks.busy(cache_root) == locks.Busy(frozenset(), is_anyone_running=False)
