"""How ssh is called, and what its recorded words mean; the rest is in test_ssh, with a real server."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import pytest

from tests.devices.sshd import device
from vitprof.devices.ssh_client import Ssh, checked_host, death, refusal


@pytest.mark.parametrize("host", ["pi", "me@pi5.local", "me@[fe80::1%eth0]", "ssh://me@pi:2222", "10.0.0.7", "a_b-c.d"])
def test_names_and_addresses_are_hosts(host: str) -> None:
    assert checked_host(device(host=host)) == host


def test_every_word_is_one_word_there_and_the_host_is_no_option() -> None:
    with contextlib.closing(Ssh(device(host="pi"))) as ssh:
        command = ssh.command(["sh", "-c", "it's $(id)\n; `id`"])
    assert command[-3:-1] == ["--", "pi"] and shlex.split(command[-1]) == ["sh", "-c", "it's $(id)\n; `id`"]
    assert "StrictHostKeyChecking=yes" in command and "BatchMode=yes" in command


def test_the_socket_s_path_is_short_wherever_temporary_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with contextlib.closing(Ssh(device())) as ssh:
        command = ssh.command(["true"])
        assert len(command[command.index("-S") + 1]) < 80
    assert not list(long.iterdir())


@pytest.mark.parametrize(
    ("said", "what", "remedy"),
    [
        ("ssh: Could not resolve hostname pi: Name or service not known", "Could not resolve hostname pi", "~/.ssh"),
        ("ssh: connect to host pi port 22: Connection timed out", "port 22: Connection timed out", "switch it on"),
        ("ssh: connect to host pi port 22: Connection refused", "port 22: Connection refused", "SSH server"),
        (
            "/home/me/.ssh/config line 3: Bad configuration option: foo",
            "Bad configuration option: foo",
            "~/.ssh/config",
        ),
        ("kex_exchange_identification: read: Connection reset", "kex_exchange_identification", "ssh board"),
        ("", "the session ended with status 255", "ssh board"),
    ],
)
def test_why_there_is_no_session_comes_with_what_to_type(said: str, what: str, remedy: str) -> None:
    error = refusal(device(), 255, said)
    assert what in error.message and remedy in error.remedy


def test_a_lost_link_and_a_killed_client_are_not_the_runner_s_death() -> None:
    assert death(device(), 137, "") is None and death(device(), 1, "boom") is None
    lost, killed = death(device(), 255, "client_loop: send disconnect: Broken pipe"), death(device(), -9, "")
    assert lost and "lost: client_loop" in lost[0] and "run again" in lost[1]
    assert killed and "ended here by signal 9" in killed[0]
