from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vitprof.errors import VitprofError
from vitprof.runner.wire import Failure
from vitprof.store import reference_times
from vitprof.store.journal import Journal


def test_what_is_written_stands_on_disk_before_the_next_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("round", {"set": 0})
    journal.write("failure", Failure("run", "broke", "mend it"))
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert lines[0] == {"kind": "round", "set": 0}
    assert (lines[1]["kind"], lines[1]["remedy"]) == ("failure", "mend it")


def test_two_runs_in_one_second_have_journals_of_their_own(tmp_path: Path) -> None:
    assert len({Journal(tmp_path).path for _ in range(20)}) == 20


def test_a_folder_that_cannot_be_written_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VitprofError) as caught:
        Journal(tmp_path / "file")
    assert "VITPROF_DATA_DIR" in caught.value.remedy


def test_the_long_run_is_the_median_over_runs_weighted_by_blocks(tmp_path: Path) -> None:
    assert reference_times.long_run(tmp_path, "r") is None
    for block_ns, count in ((4.0, 10), (5.0, 30), (9.0, 10)):
        reference_times.add(tmp_path, "r", [block_ns] * count)
    reference_times.add(tmp_path, "other", [1.0] * 1000)
    found = reference_times.long_run(tmp_path, "r")
    assert found and (found.p50_ns, found.runs) == (5.0, 3)


def test_a_line_that_a_crash_cut_short_is_passed_over(tmp_path: Path) -> None:
    reference_times.add(tmp_path, "r", [4.0])
    with (tmp_path / "reference_times.jsonl").open("a") as file:
        file.write('{"machine": "x", "refer\n')
    found = reference_times.long_run(tmp_path, "r")
    assert found and found.runs == 1


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: reference_times.add(tmp_path, "r", [4.0] * 100), range(100)))
    found = reference_times.long_run(tmp_path, "r")
    assert found and found.runs == 100
