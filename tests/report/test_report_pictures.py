"""The pictures beside a report: which there are, what they are called, and that they read on a dark page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests import reported
from tests.report.test_report_markdown import hostile
from tests.reported import row
from vitprof.places import Places
from vitprof.report.report_pictures import Pictures, draw
from vitprof.report.report_words import MARK
from vitprof.reporting import Question, report_of
from vitprof.reports import Report
from vitprof.store.tables import read_accuracies


def report(folder: Path, now: Sequence[dict[str, Any]], accuracies: str = "") -> Report:
    store = reported.store_of(folder / "a.sqlite", now)
    file = folder / "top1.csv"
    file.write_text(f"model,top1\n{accuracies}")
    question = Question(accuracies=read_accuracies(file) if accuracies else None)
    return report_of(question, Places(folder, folder, named_store=str(store)))


def drawn(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*.svg"))


def test_without_accuracies_there_are_ranks_and_macs_against_time(tmp_path: Path) -> None:
    pictures = draw(report(tmp_path, reported.now_rows()), tmp_path / "my report.md")
    assert drawn(tmp_path) == ["my report-front-1.svg", "my report-front-2.svg", "my report-ranks.svg"]
    assert pictures.scatter is None and pictures.ranks is not None and len(pictures.fronts) == 2


def test_with_accuracies_macs_against_time_are_a_picture_of_their_own(tmp_path: Path) -> None:
    found = report(tmp_path, reported.now_rows(), "light_b0,70\nmid_m,80\nheavy_l,85\n")
    draw(found, tmp_path / "a.md")
    # The front is of one backend: of the other only two models have an accuracy.
    assert drawn(tmp_path) == ["a-front.svg", "a-macs.svg", "a-ranks.svg"]
    assert "top-1 accuracy, %" in (tmp_path / "a-front.svg").read_text()


def test_too_few_models_have_no_picture(tmp_path: Path) -> None:
    # What the report that is there does not show is somebody's own, whatever it is called.
    others = [tmp_path / name for name in ("b-ranks.svg", "a-mine.svg", "a-macs.svg")]
    for file in (tmp_path / "a-ranks.svg", tmp_path / "a-front-2.svg", *others):
        file.write_text("of another report")
    (tmp_path / "a.md").write_text(f"{MARK}\n# Report\n\n![Ranks](a-ranks.svg)\n![Front](a-front-2.svg)\n")
    assert draw(report(tmp_path, [row("a", 1, 1.0), row("b", 2, 2.0)]), tmp_path / "a.md") == Pictures()
    # Those of the report that was here before are gone, and nothing else.
    assert set(tmp_path.glob("*.svg")) == set(others)


def test_hostile_names_stay_text_and_every_picture_has_a_background_of_its_own(tmp_path: Path) -> None:
    draw(hostile(tmp_path), tmp_path / "a.md")
    names = drawn(tmp_path)
    assert len(names) == 2
    for name in names:
        root = ElementTree.fromstring((tmp_path / name).read_bytes())  # noqa: S314
        assert not [one for one in root.iter() if one.tag.endswith(("script", "foreignObject", "}a"))]
        # The first thing painted covers the whole of it in white.
        first = next(one for one in root.iter() if one.tag.endswith("}path") and "style" in one.attrib)
        assert "fill: #ffffff" in first.attrib["style"]
        corners = {tuple(map(float, pair)) for pair in re.findall(r"[ML] ([\d.]+) ([\d.]+)", first.attrib["d"])}
        width, height = (float(one) for one in root.attrib["viewBox"].split()[2:])
        assert corners == {(0, 0), (width, 0), (0, height), (width, height)}
