"""The list of reports in a README that belongs to a person."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from vitprof.errors import VitprofError
from vitprof.report.report_index import BEGIN, END, update_index
from vitprof.report.report_words import MARK

_REPORT = (
    f"{MARK}\n# Report of run {{}}\n\n3 results of 1 run.\n\n## What changed\n\n**1 broke, 2 same**, each cell …\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "reports"
    made.mkdir()
    for name, link in (("b", " Every row, sortable: [b.html](b.html)."), ("a c", "")):
        (made / f"{name}.md").write_text(_REPORT.format(name).replace("1 run.", f"1 run.{link}"))
        # Beside `a c` it is of a report that was there before.
        (made / f"{name}.html").write_text("")
    (made / "notes.md").write_text("# Mine\n")
    return made


def listed(text: str) -> list[str]:
    return text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()


def test_a_folder_called_reports_gets_a_list_of_its_reports_and_of_nothing_else(folder: Path) -> None:
    assert update_index(folder) == folder / "README.md"
    assert listed((folder / "README.md").read_text()) == [
        "- [Report of run a c](a%20c.md): 3 results of 1 run. 1 broke, 2 same.",
        "- [Report of run b](b.md) ([HTML](b.html)): 3 results of 1 run. 1 broke, 2 same.",
    ]


def test_what_a_person_wrote_stays_byte_for_byte(folder: Path) -> None:
    readme = folder / "README.md"
    readme.write_text("# Ours\r\n\r\n- [old.md](old.md): by hand\n", newline="")
    before = readme.read_bytes().rstrip()
    update_index(folder)
    first = readme.read_bytes()
    assert first.startswith(before) and len(listed(first.decode())) == 2
    readme.write_bytes(first + b"\r\nBelow.\n")
    (folder / "b.md").unlink()
    update_index(folder)
    again = readme.read_bytes()
    assert again.startswith(before) and again.endswith(b"\r\nBelow.\n") and len(listed(again.decode())) == 1


def _report_and_list(folders: Sequence[Path], at: int, together: Barrier) -> None:
    for folder in folders:
        together.wait(30)
        (folder / f"r{at}.md").write_text(_REPORT.format(at))
        update_index(folder)


def test_of_processes_that_report_at_once_all_are_in_the_list(tmp_path: Path) -> None:
    folders = [tmp_path / str(at) / "reports" for at in range(60)]
    for one in folders:
        one.mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    together = context.Barrier(4)
    processes = [context.Process(target=_report_and_list, args=(folders, at, together)) for at in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert {len(listed((one / "README.md").read_text())) for one in folders} == {4}


def test_another_folder_is_left_alone_unless_its_readme_has_the_marks(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(_REPORT)
    assert update_index(tmp_path) is None and not (tmp_path / "README.md").exists()
    (tmp_path / "README.md").write_text(f"# Project\n\n{BEGIN}\n{END}\nmore\n")
    assert update_index(tmp_path) == tmp_path / "README.md"
    assert (tmp_path / "README.md").read_text().endswith(f"1 broke, 2 same.\n{END}\nmore\n")


def test_a_list_without_an_end_is_not_guessed_at(folder: Path) -> None:
    text = f"# Ours\n\n{BEGIN}\n- something of mine\n"
    (folder / "README.md").write_text(text)
    with pytest.raises(VitprofError, match="has no end") as caught:
        update_index(folder)
    assert END in caught.value.remedy and (folder / "README.md").read_text() == text


def test_a_readme_that_is_no_text_is_told(folder: Path) -> None:
    (folder / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(VitprofError, match="not UTF-8"):
        update_index(folder)
    assert (folder / "README.md").read_bytes() == b"\xff\xfe"
