from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from tests.report import samples
from vitprof.records import Exported, ModelSpec, Parity, ParityVerdict, Source
from vitprof.report.survey import overview_of, survey_text
from vitprof.report.terminal import show_survey
from vitprof.runner.wire import Failure

SPEC = ModelSpec("net|<b>", Source.TIMM)
DONE = Exported(SPEC, "onnx", artifact=samples.artifact(SPEC, 1, 2, ("drew 3 tensors anew",)), parity=samples.MATCH)
DRIFT = replace(DONE, format="pt2", parity=Parity(ParityVerdict.DRIFT, "device", 0.01, 0.9, 1.0, "relative error 0.01"))
FAILED = Exported(SPEC, "onnx", failure=Failure("export", "no operator `x`\nand more", "try another"))


def test_the_counts_name_how_many_export_with_parity_and_what_the_others_do() -> None:
    text = survey_text([DONE, DRIFT, FAILED])
    assert "onnx: 1 of 2 (50%) export with parity, 1 failed" in text
    assert "pt2: 0 of 1 (0%) export with parity, 1 drift" in text


def test_engines_that_no_machine_here_runs_are_counted_as_made() -> None:
    unchecked = Parity(ParityVerdict.NOT_CHECKED, reason="an engine runs on its GPU only")
    engines = [replace(one, format="trt-rtx", parity=unchecked) for one in (DONE, DONE, FAILED)]
    assert "trt-rtx: 2 of 3 (67%) export, parity not checked, 1 failed" in survey_text(engines)


def test_names_and_causes_from_outside_cannot_break_the_table() -> None:
    lines = survey_text([DONE, FAILED]).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "<b>" not in "".join(table)
    assert any("no operator" in line and "and more" in line for line in table)


def test_the_terminal_shows_a_line_for_each_and_the_counts_last() -> None:
    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    show_survey([DONE, FAILED], console)
    shown = console.export_text().splitlines()
    assert "drew 3 tensors anew" in shown[1] and "failed" in shown[2]
    assert shown[-1].startswith("onnx: 1 of 2")


def test_several_formats_get_a_row_for_every_model() -> None:
    litert = replace(FAILED, format="litert")
    lines = survey_text([DONE, DRIFT, litert]).splitlines()
    assert "| model | onnx | pt2 | litert |" in lines
    [row] = [line for line in lines if line.endswith("| failed |")]
    assert "match" in row and "drift 1.0e-02" in row
    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    show_survey([DONE, DRIFT, litert], console)
    shown = console.export_text()
    assert "net|<b> to litert: no operator `x` and more" in shown
    assert len([line for line in shown.splitlines() if line.startswith("net|<b>") and "drift" in line]) == 1


def test_two_libraries_have_models_of_one_name() -> None:
    theirs = replace(FAILED, spec=replace(SPEC, source=Source.TORCHVISION))
    rows = overview_of([DONE, DRIFT, theirs, replace(theirs, format="pt2")])
    assert [row[0] for row in rows] == ["model", "net|<b>", "torchvision:net|<b>"]
    assert rows[1][1].startswith("match") and rows[2][1:] == ("failed", "failed")


def test_nothing_exported_is_said() -> None:
    assert survey_text([]) == "Nothing was exported.\n"
