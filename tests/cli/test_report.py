"""`vitprof report` as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import reported
from vitprof.devices.profiles import reference_model

TINY = str(reference_model("cpu-ref-1"))


def vitprof(folder: Path, *words: str, without: str = "") -> subprocess.CompletedProcess[str]:
    """`without`: a package that is as good as not installed."""
    blocked = f"import sys; sys.modules['{without}'] = None\n" if without else ""
    program = f"{blocked}from vitprof.cli import main; main({list(words)!r})"
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "VITPROF_DATA_DIR": str(folder / "data")},
        timeout=180,
        check=False,
    )


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(reported.store_of(tmp_path / "a.sqlite", reported.now_rows(), reported.before_rows()))


def test_without_a_file_the_markdown_goes_to_standard_output_and_nothing_is_written(store: str, tmp_path: Path) -> None:
    done = vitprof(tmp_path, "report", "--store", store)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"# Report of run {reported.NOW.id}" in done.stdout and "![" not in done.stdout
    assert {file.name for file in tmp_path.iterdir()} == {"a.sqlite"}


def test_pictures_and_html_are_beside_the_file_and_the_folders_list_names_it(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    # Made with the first report.
    assert not folder.exists()
    done = vitprof(tmp_path, "report", "20260111", "--store", store, "-o", "reports/week.md", "--html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    names = ["README.md", "week-front-1.svg", "week-front-2.svg", "week-ranks.svg", "week.html", "week.md"]
    assert sorted(file.name for file in folder.iterdir()) == names
    text = (folder / "week.md").read_text()
    assert all(f"]({name})" in text for name in names[1:-1])
    told = "(week.md) ([HTML](week.html)): 14 results (1 failed, 1 with broken parity) of 1 run"
    assert told in (folder / "README.md").read_text()


def test_what_was_just_measured_is_reported(tmp_path: Path) -> None:
    measured = vitprof(tmp_path, "latency", TINY, "--effort", "quick", "--measure", "30x", "--threads", "1")
    assert measured.returncode == 0, measured.stderr
    done = vitprof(tmp_path, "report")
    assert done.returncode == 0 and "cpu-ref-1.onnx" in done.stdout and str(Path(TINY).parent) not in done.stdout
    # The store knows by which protocol.
    assert "| quick" in done.stdout


def test_without_matplotlib_the_report_says_why_it_has_no_pictures(store: str, tmp_path: Path) -> None:
    done = vitprof(tmp_path, "report", "--store", store, "-o", "a.md", without="matplotlib")
    assert done.returncode == 0 and "pip install 'vitprof[report]'" in done.stderr
    text = (tmp_path / "a.md").read_text()
    assert "No pictures: matplotlib is not installed" in text and "![" not in text
    assert not list(tmp_path.glob("*.svg"))


def test_accuracies_of_other_models_are_told(store: str, tmp_path: Path) -> None:
    (tmp_path / "top1.csv").write_text("model,top1\nresnet50,76\n")
    done = vitprof(tmp_path, "report", "--store", store, "--accuracy", "top1.csv")
    assert done.returncode == 0 and "No front" in done.stderr and "top1.csv" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "a.html"), "a report is markdown, and a.html is no .md file"),
        (("-o", "../x.txt"), "-o ../x.md"),
        (("-o", "there/is/none.md"), "cannot write there/is: its folder there does not exist"),
        (("-o", "README.md"), "-o report.md"),
        (("--html",), "name that: -o report.md --html"),
        (("2026", "--all"), "leave out the run, or --all"),
        (("--accuracy-map", "a.toml"), "--accuracy FILE"),
        (("20991231",), "nearest to that: 20260111T080000Z-bbbbbbbb"),
        (("--accuracy", "none.csv"), "none.csv"),
    ],
)
def test_what_cannot_be_meant_is_exit_2_and_writes_nothing(
    words: tuple[str, ...], said: str, store: str, tmp_path: Path
) -> None:
    done = vitprof(tmp_path, "report", *words, "--store", store)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert {file.name for file in tmp_path.iterdir()} == {"a.sqlite"}


def test_without_a_store_it_says_what_makes_one(tmp_path: Path) -> None:
    done = vitprof(tmp_path, "report", "--store", "none.sqlite")
    assert done.returncode == 2 and "vitprof latency" in done.stderr
    assert not list(tmp_path.iterdir())
