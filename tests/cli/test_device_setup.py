"""`vitprof devices setup` and `devices clean` on a device behind a real sshd, and where there is nothing to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.devices.sshd import HOST, Sshd, running


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running(tmp_path_factory.mktemp("sshd")) as server:
        (server.folder / "board.toml").write_text(
            f'kind = "x86-cpu"\nchip = "x"\ntransport = "ssh"\nhost = "{HOST}"\nbackends = ["ort"]\n'
            'requirements = ["pip"]\n'
        )
        yield server


def _vitprof(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vitprof", "devices", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})


def _of(board: Sshd, *words: str) -> subprocess.CompletedProcess[str]:
    return _vitprof(*words, "board", "--device-file", str(board.folder / "board.toml"))


def test_what_a_device_keeps_is_shown_and_freed(board: Sshd) -> None:
    board.files.mkdir(parents=True)
    (board.files / f"{'0' * 64}.onnx").write_bytes(b"x" * 2_000_000)
    kept = _of(board, "clean")
    assert kept.returncode == 0 and "board keeps 2.000 MB" in kept.stdout and "nothing removed" in kept.stdout
    freed = _of(board, "clean", "--all")
    assert freed.returncode == 0 and "removed 1 entry, 2.000 MB freed" in freed.stdout
    assert not list(board.files.iterdir()) and board.is_quiet()


@pytest.mark.slow
def test_an_environment_is_announced_and_made_once(board: Sshd) -> None:
    first = _of(board, "setup")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[0] == "board (board): installs pip and what they need"
    assert "pip" in first.stderr and "bin/python" in first.stdout.splitlines()[-1]
    again = _of(board, "setup")
    assert again.stdout.splitlines() == first.stdout.splitlines()[-1:] and not again.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("setup", "local"), 2, "in this machine"),
        (("clean", "local"), 2, "nothing is kept on 'local', which is this machine"),
        (("setup", "local", "--wheels", "."), 2, "--wheels is for devices reached by ssh"),
        (("setup", "a100"), 4, 'host = "user@server"'),
    ],
)
def test_where_there_is_nothing_to_do_it_says_so(words: tuple[str, ...], code: int, said: str) -> None:
    done = _vitprof(*words)
    assert done.returncode == code
    assert any(one in done.stderr for one in said.split("|"))
    assert "Traceback" not in done.stderr
