"""What leaves the cache, in which order, and what never does."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import SPAWN, started, wait_for
from vitprof.errors import VitprofError
from vitprof.export import cache, eviction, locks

from . import made


def published(root: Path, *names: str, content: str = "x" * 1000) -> None:
    """One artifact for each name, the first used last before all others, an hour apart."""
    for age, name in enumerate(reversed(names)):
        folder = made.publish(root, content, name).folder
        long_ago = time.time() - 3600 * (age + 1)
        os.utime(folder / cache.RECORD, (long_ago, long_ago))


def names_in(root: Path) -> set[str]:
    folders = (cache.read_folder(one.folder) for one in eviction.entries(root))
    return {artifact.spec.name for artifact in folders if artifact}


def size_of_one(root: Path) -> int:
    return eviction.entries(root)[0].bytes


def test_entries_come_in_order_of_last_use_with_what_they_take(tmp_path: Path) -> None:
    published(tmp_path, "a", "b", "c")
    found = eviction.entries(tmp_path)
    assert [one.key for one in found] == [made.key_of(name) for name in "abc"]
    record = (found[0].folder / cache.RECORD).stat().st_size
    assert found[0].bytes == 1000 + len("w") + record
    assert eviction.taken_bytes(found) == sum(one.bytes for one in found)


def test_what_was_not_used_for_longest_goes_first_and_no_more_than_is_needed(tmp_path: Path) -> None:
    published(tmp_path, "a", "b", "c", "d")
    one = size_of_one(tmp_path)
    removed = eviction.evict(tmp_path, 2 * one)
    assert [gone.key for gone in removed] == [made.key_of("a"), made.key_of("b")]
    assert names_in(tmp_path) == {"c", "d"}
    assert list((tmp_path / "staging").iterdir()) == []


def test_under_the_cap_nothing_goes(tmp_path: Path) -> None:
    published(tmp_path, "a", "b")
    assert eviction.evict(tmp_path, 2 * size_of_one(tmp_path)) == ()
    assert names_in(tmp_path) == {"a", "b"}


def test_an_artifact_that_is_read_is_the_one_used_last(tmp_path: Path) -> None:
    published(tmp_path, "a", "b")
    assert cache.read(tmp_path, made.key_of("a")) is not None
    eviction.evict(tmp_path, size_of_one(tmp_path))
    assert names_in(tmp_path) == {"a"}


def test_listing_is_no_use(tmp_path: Path) -> None:
    published(tmp_path, "a", "b")
    before = eviction.entries(tmp_path)
    assert names_in(tmp_path) == {"a", "b"}
    assert eviction.entries(tmp_path) == before


def test_what_is_in_use_survives_and_the_next_one_goes_instead(tmp_path: Path) -> None:
    published(tmp_path, "a", "b", "c")
    with locks.InUse(tmp_path) as in_use:
        in_use.add(made.key_of("a"))
        eviction.evict(tmp_path, 2 * size_of_one(tmp_path))
        assert names_in(tmp_path) == {"a", "c"}
        eviction.evict(tmp_path, 0)
        assert names_in(tmp_path) == {"a"}
    eviction.evict(tmp_path, 0)
    assert names_in(tmp_path) == set()


def test_what_is_being_prepared_survives(tmp_path: Path) -> None:
    published(tmp_path, "a", "b")
    with locks.preparing(tmp_path, made.key_of("a")):
        eviction.evict(tmp_path, 0)
    assert names_in(tmp_path) == {"a"}


def test_publishing_makes_room_and_what_is_published_stays_even_above_the_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(tmp_path, "a", "b")
    monkeypatch.setenv("VITPROF_CACHE_MAX_BYTES", str(2 * size_of_one(tmp_path)))
    made.publish(tmp_path, "x" * 1000, "c")
    assert names_in(tmp_path) == {"b", "c"}
    made.publish(tmp_path, "x" * 20_000, "large")
    assert names_in(tmp_path) == {"large"}


def test_a_file_that_artifacts_share_counts_once_and_is_free_when_the_last_is_gone(tmp_path: Path) -> None:
    published(tmp_path, "a", "b", "c", content="x" * 10_000)
    first, second, third = eviction.entries(tmp_path)
    (second.folder / "model.onnx").unlink()
    (second.folder / "model.onnx").hardlink_to(first.folder / "model.onnx")
    found = eviction.entries(tmp_path)
    total = eviction.taken_bytes(found)
    assert total == sum(one.bytes for one in found) - 10_000
    # Without the first alone the shared file stays, so the second has to go as well.
    removed = eviction.evict(tmp_path, total - 5_000)
    assert {one.key for one in removed} == {first.key, second.key}
    assert [one.key for one in eviction.entries(tmp_path)] == [third.key]


def test_a_damaged_folder_has_its_size_and_its_age_and_goes_like_any_other(tmp_path: Path) -> None:
    published(tmp_path, "a")
    [whole] = eviction.entries(tmp_path)
    (whole.folder / cache.RECORD).unlink()
    [damaged] = eviction.entries(tmp_path)
    assert damaged.key == whole.key
    assert damaged.bytes == 1001
    assert cache.read_folder(damaged.folder) is None
    assert eviction.evict(tmp_path, 0) == (damaged,)
    assert eviction.entries(tmp_path) == ()


def test_clear_removes_everything_that_can_be_made_again(tmp_path: Path) -> None:
    published(tmp_path, "a", "b")
    for name in ("catalogue", "reference", "runner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("0123456789")
    taken = eviction.taken_bytes(eviction.entries(tmp_path))
    cleared = eviction.clear(tmp_path)
    assert {one.key for one in cleared.removed} == {made.key_of("a"), made.key_of("b")}
    assert cleared.freed_bytes == taken + 30
    assert cleared.kept == () and not cleared.is_rest_kept
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_clear_keeps_what_is_in_use_and_then_the_runner_too(tmp_path: Path) -> None:
    published(tmp_path, "a", "b")
    (tmp_path / "runner").mkdir()
    with locks.InUse(tmp_path) as in_use:
        in_use.add(made.key_of("a"))
        cleared = eviction.clear(tmp_path)
    assert [one.key for one in cleared.removed] == [made.key_of("b")]
    assert [one.key for one in cleared.kept] == [made.key_of("a")]
    assert cleared.is_rest_kept
    assert names_in(tmp_path) == {"a"}
    assert (tmp_path / "runner").exists()


def test_clear_of_some_leaves_the_others_and_the_rest(tmp_path: Path) -> None:
    published(tmp_path, "a", "b")
    (tmp_path / "runner").mkdir()
    one = size_of_one(tmp_path)
    cleared = eviction.clear(tmp_path, [made.key_of("b")])
    assert [gone.key for gone in cleared.removed] == [made.key_of("b")]
    assert cleared.freed_bytes == one
    assert not cleared.is_rest_kept
    assert names_in(tmp_path) == {"a"}
    assert (tmp_path / "runner").exists()


def use_again_and_again(root: Path, name: str, start: Any, count: int) -> None:
    """What a measurement does: says what it needs, looks for it, makes it, and then expects it to stay."""
    start.wait()
    for _ in range(count):
        with locks.InUse(root) as in_use:
            in_use.add(made.key_of(name))
            found = cache.read(root, made.key_of(name))
            if found is None:
                with locks.preparing(root, made.key_of(name)):
                    found = cache.read(root, made.key_of(name)) or made.publish(root, "x" * 1000, name)
            for _ in range(3):
                assert found.path.read_text() == "x" * 1000
                time.sleep(0.001)


def test_however_often_others_evict_what_is_needed_stays(tmp_path: Path) -> None:
    start = SPAWN.Event()
    users = [started(use_again_and_again, tmp_path, name, start, 40) for name in "aab"]
    start.set()
    removed = 0
    while any(user.is_alive() for user in users):
        removed += len(eviction.evict(tmp_path, 0))
    assert [user.exitcode for user in users] == [0, 0, 0]
    assert removed > 0, "this test did not test anything"


def evict_all(root: Path) -> None:
    (root / "evicts").touch()
    eviction.evict(root, 0)


def test_an_eviction_waits_while_somebody_says_what_they_need(tmp_path: Path) -> None:
    published(tmp_path, "a")
    with locks.evicting(tmp_path):
        other = started(evict_all, tmp_path)
        wait_for((tmp_path / "evicts").exists)
        time.sleep(0.3)
        assert names_in(tmp_path) == {"a"}
    other.join()
    assert names_in(tmp_path) == set()


def need_when_told(root: Path) -> None:
    with locks.InUse(root) as in_use:
        (root / "runs").touch()
        wait_for((root / "told").exists)
        in_use.add(made.key_of("a"))
        (root / "needs").touch()


def test_nobody_comes_to_need_an_artifact_while_an_eviction_chooses(tmp_path: Path) -> None:
    other = started(need_when_told, tmp_path)
    wait_for((tmp_path / "runs").exists)
    with locks.evicting(tmp_path):
        (tmp_path / "told").touch()
        time.sleep(0.3)
        assert not (tmp_path / "needs").exists()
    other.join()
    assert (tmp_path / "needs").exists()


def test_a_cache_that_cannot_be_written_is_used_as_it_is_and_says_so_when_it_should_be_emptied(
    tmp_path: Path, disk: Callable[[str], Path], remounted: Callable[[Path, str], None]
) -> None:
    root = disk("1m") / "cache"
    published(root, "a", "b")
    before = eviction.entries(root)
    remounted(root.parent, "ro")
    with locks.InUse(root) as in_use:
        in_use.add(made.key_of("a"))
        assert cache.read(root, made.key_of("a")) is not None
    assert eviction.entries(root) == before
    for attempt in (lambda: eviction.evict(root, 0), lambda: eviction.clear(root)):
        with pytest.raises(VitprofError, match="Read-only file system") as caught:
            attempt()
        assert "VITPROF_CACHE_DIR" in caught.value.remedy
    assert eviction.entries(root) == before


def test_an_artifact_that_another_process_removes_meanwhile_is_no_trouble(tmp_path: Path) -> None:
    published(tmp_path, "a", "b")
    shutil.rmtree(eviction.entries(tmp_path)[0].folder)
    assert len(eviction.evict(tmp_path, 0)) == 1
