"""A shipped phone's profile without a phone: one line that says what is missing and what to type, and exit 4."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitprof.devices.transports.adb import TOOL_VARIABLE


def _said(folder: Path, tool: Path | None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != TOOL_VARIABLE}
    environment.update({"PATH": str(folder)} if tool is None else {"PATH": str(folder), TOOL_VARIABLE: str(tool)})
    words = [sys.executable, "-m", "vitprof", "latency", "resnet18", "--device", "pixel8"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (4, "")
    assert len(done.stderr.strip().splitlines()) == 2
    return done.stderr


@pytest.mark.parametrize("is_given", [False, True])
def test_what_is_missing_for_a_phone_is_told_one_thing_at_a_time(tmp_path: Path, is_given: bool) -> None:
    tool = tmp_path / "benchmark_model"
    if is_given:
        tool.touch()
        (tmp_path / "adb").write_text("#!/bin/sh\necho 'List of devices attached'\n")
    else:
        (tmp_path / "adb").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "adb").chmod(0o755)
    said = _said(tmp_path, tool if is_given else None)
    assert "device 'pixel8'" in said
    wanted = "no Android device is attached" if is_given else f"export {TOOL_VARIABLE}="
    assert wanted in said


def test_a_phone_needs_the_program_adb(tmp_path: Path) -> None:
    assert "apt install adb" in _said(tmp_path, None)
