from __future__ import annotations

import json
from pathlib import Path

import pytest

from vitprof.errors import VitprofError
from vitprof.runner.wire import Failure
from vitprof.store.journal import Journal


def test_what_is_written_stands_on_disk_before_the_next_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("round", {"set": 0})
    journal.write("failure", Failure("run", "broke", "mend it", kind="link lost"))
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert lines[0] == {"kind": "round", "set": 0}
    assert (lines[1]["kind"], lines[1]["remedy"], lines[1]["own_kind"]) == ("failure", "mend it", "link lost")


def test_two_runs_in_one_second_have_journals_of_their_own(tmp_path: Path) -> None:
    assert len({Journal(tmp_path).path for _ in range(20)}) == 20


def test_a_folder_that_cannot_be_written_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VitprofError) as caught:
        Journal(tmp_path / "file")
    assert "VITPROF_DATA_DIR" in caught.value.remedy
