import dataclasses
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from tests.processes import SPAWN, started, wait_for
from vitprof.errors import ExitCode, VitprofError
from vitprof.export import cache
from vitprof.records import ModelSpec, Source

from .made import SPEC, artifact, publish

KEY = cache.artifact_key(SPEC, "onnx")


def test_what_is_published_is_read_back_with_the_folder_it_lies_in(tmp_path: Path) -> None:
    assert cache.read(tmp_path, KEY) is None
    published = publish(tmp_path)
    assert published.folder == tmp_path / "artifacts" / KEY[:2] / KEY
    assert cache.read(tmp_path, KEY) == published == artifact(published.folder)
    assert published.path.read_text() == "model"
    assert list((tmp_path / "staging").iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [{"size": (256, 256)}, {"batch": 2}, {"seed": 1}, {"reparam": False}, {"pretrained": True}, {"name": "resnet34"}],
)
def test_everything_that_changes_an_artifact_changes_its_key(change: dict[str, Any]) -> None:
    assert cache.artifact_key(dataclasses.replace(SPEC, **change), "onnx") != KEY


def test_another_format_is_another_artifact() -> None:
    assert cache.artifact_key(SPEC, "pt2") != KEY


def test_a_file_source_is_known_by_its_bytes_wherever_it_lies() -> None:
    here, there = (ModelSpec(name=path, source=Source.ONNX, path=path) for path in ("/a/x.onnx", "/b/y.onnx"))
    assert cache.artifact_key(here, "onnx", "11") == cache.artifact_key(there, "onnx", "11")
    assert cache.artifact_key(here, "onnx", "11") != cache.artifact_key(here, "onnx", "22")


def test_the_first_of_two_writers_wins_and_the_second_gets_its_artifact(tmp_path: Path) -> None:
    publish(tmp_path, "first")
    assert publish(tmp_path, "other").path.read_text() == "first"


def write_many(root: Path, mark: str, start: Any) -> None:
    start.wait()
    for _ in range(20):
        content = publish(root, mark * 1000).path.read_text()
        assert len(set(content)) == 1
        assert len(content) == 1000


def test_concurrent_writers_never_mix_and_readers_never_see_a_part(tmp_path: Path) -> None:
    start = SPAWN.Event()
    writers = [started(write_many, tmp_path, mark, start) for mark in "ab"]
    start.set()
    while any(writer.is_alive() for writer in writers):
        seen = cache.read(tmp_path, KEY)
        assert seen is None or len(set(seen.path.read_text())) == 1
        time.sleep(0.001)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(list((tmp_path / "artifacts" / KEY[:2]).iterdir())) == 1


def test_a_half_written_file_makes_its_folder_absent_and_is_replaced(tmp_path: Path) -> None:
    path = publish(tmp_path, "whole").path
    path.write_text("who")
    assert cache.read(tmp_path, KEY) is None
    assert publish(tmp_path, "again").path.read_text() == "again"
    assert [child.name for child in path.parent.parent.iterdir()] == [KEY]


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", '{"files": {}, "artifact": {}}'])
def test_a_record_that_cannot_be_read_makes_its_folder_absent_and_is_replaced(tmp_path: Path, record: str) -> None:
    folder = publish(tmp_path, "whole").folder
    (folder / cache.RECORD).write_text(record)
    assert cache.read(tmp_path, KEY) is None
    assert publish(tmp_path, "again").path.read_text() == "again"


def test_a_missing_file_makes_its_folder_absent(tmp_path: Path) -> None:
    published = publish(tmp_path)
    (published.folder / "source" / "weights.bin").unlink()
    assert cache.read(tmp_path, KEY) is None


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), cache.staging(tmp_path) as folder:
        (folder / "model.onnx").write_text("half")
        raise ZeroDivisionError
    assert list((tmp_path / "staging").iterdir()) == []
    assert cache.read(tmp_path, KEY) is None


def stage_for_ever(root: Path) -> None:
    with cache.staging(root) as folder:
        (folder / "model.onnx").write_text("half")
        time.sleep(600)


def test_what_a_killed_process_staged_goes_with_the_next_and_what_a_living_one_stages_stays(tmp_path: Path) -> None:
    dead, alive = (started(stage_for_ever, tmp_path) for _ in range(2))
    wait_for(lambda: len(list(tmp_path.glob("staging/*/model.onnx"))) == 2)
    dead.kill()
    dead.join()
    publish(tmp_path)
    [left] = (tmp_path / "staging").iterdir()
    assert left.name.startswith(f"{alive.pid}-")
    alive.kill()
    alive.join()
    publish(tmp_path, name="resnet34")
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_cache_that_cannot_be_written_says_where_and_what_to_set(tmp_path: Path) -> None:
    # A file in the folder's place: refused for root too, unlike a folder without permission to write.
    root = tmp_path / "occupied"
    root.write_text("")
    with pytest.raises(VitprofError) as caught:
        publish(root)
    assert str(root) in caught.value.message
    assert "VITPROF_CACHE_DIR" in caught.value.remedy
    assert caught.value.exit_code is ExitCode.FAILED


def test_a_disk_that_fills_up_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # The limit on a file's size stands for the full disk: the same write fails half-way.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(VitprofError, match="File too large") as caught:
            publish(tmp_path, "x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "free space" in caught.value.remedy
    assert list((tmp_path / "staging").iterdir()) == []


def test_one_file_has_the_hash_that_sha256sum_prints(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    (tmp_path / "b").write_text("def")
    one = cache.files_sha256([tmp_path / "a"])
    assert one == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert cache.files_sha256([tmp_path / "a", tmp_path / "b"]) != one
