"""The preparing process: what breaks there is an error here, and the next model gets a new one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.processes import runs, wait_for
from vitprof.errors import UsageError, VitprofError
from vitprof.report.progress import NoProgress
from vitprof.workshop import Workshop


def _dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _has_a_bug() -> None:
    raise ZeroDivisionError("a bug")


def _refuses() -> None:
    raise UsageError("no such size", remedy="--size 224")


def test_a_process_that_dies_is_an_error_and_the_next_work_gets_a_new_one(tmp_path: Path) -> None:
    with Workshop(tmp_path, NoProgress()) as workshop:
        with pytest.raises(VitprofError, match="the preparing process died"):
            workshop.elsewhere("export", "resnet50", _dies)
        first = workshop.elsewhere("export", "resnet50", os.getpid)
        assert first == workshop.elsewhere("export", "resnet50", os.getpid) != os.getpid()


def test_a_bug_there_is_an_error_with_the_model_s_name(tmp_path: Path) -> None:
    with Workshop(tmp_path, NoProgress()) as workshop, pytest.raises(VitprofError, match="resnet50: ZeroDivisionError"):
        workshop.elsewhere("export", "resnet50", _has_a_bug)


def test_an_error_keeps_its_kind_and_remedy_across_the_border(tmp_path: Path) -> None:
    with Workshop(tmp_path, NoProgress()) as workshop, pytest.raises(UsageError) as caught:
        workshop.elsewhere("export", "resnet50", _refuses)
    assert caught.value.remedy == "--size 224"


def test_what_the_process_prints_stays_off_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Workshop(tmp_path, NoProgress()) as workshop:
        workshop.elsewhere("export", "resnet50", print, "stray text")
    assert "stray text" not in capfd.readouterr().out


def test_after_an_interruption_the_process_is_gone(tmp_path: Path) -> None:
    preparing = []
    with pytest.raises(KeyboardInterrupt), Workshop(tmp_path, NoProgress()) as workshop:
        preparing.append(psutil.Process(workshop.elsewhere("export", "resnet50", os.getpid)))
        raise KeyboardInterrupt
    assert preparing
    wait_for(lambda: not runs(preparing[0]))
