from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def _run(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VITPROF_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "vitprof", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_an_unknown_environment_is_a_usage_error(tmp_path: Path) -> None:
    done = _run(tmp_path, "setup", "nope")
    assert done.returncode == 2
    assert "→ vitprof setup litert" in done.stderr


def test_what_is_not_set_up_cannot_be_removed_and_that_is_no_error(tmp_path: Path) -> None:
    done = _run(tmp_path, "setup", "litert", "--remove")
    assert (done.returncode, done.stdout) == (0, "litert is not set up\n")


def test_what_is_installed_and_where_is_said_before_it_is(tmp_path: Path) -> None:
    (tmp_path / "environments").write_text("in the way")
    done = _run(tmp_path, "setup", "litert")
    assert done.returncode == 3
    assert "installs litert-torch==" in done.stdout and str(tmp_path / "environments" / "litert-") in done.stdout
    assert "VITPROF_CACHE_DIR" in done.stderr


def test_an_export_without_the_environment_ends_with_exit_4_and_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef net():\n    return torch.nn.Conv2d(3, 4, 3)\n")
    done = _run(tmp_path, "export", f"{tmp_path / 'net.py'}:net", "--to", "litert", "--size", "16", "-o", str(tmp_path))
    assert done.returncode == 4, done.stdout + done.stderr
    assert "→ vitprof setup litert" in done.stderr
