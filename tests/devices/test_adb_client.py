"""Which Android device is meant, and what is said where it cannot be had; the words of adb as it prints them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vitprof.devices import adb_client
from vitprof.devices.adb_client import Attached
from vitprof.errors import UnreachableError

PROFILE = Path("/home/me/.config/vitprof/devices/pixel8.toml")
ONE, OTHER = Attached("38ABC", "device"), Attached("192.168.1.7:5555", "device")


def test_devices_are_read_out_of_the_list() -> None:
    text = "* daemon not running; starting now\nList of devices attached\n38ABC\tdevice\n192.168.1.7:5555\toffline\n\n"
    assert adb_client.attached_from_text(text) == (ONE, Attached("192.168.1.7:5555", "offline"))
    assert adb_client.attached_from_text("List of devices attached\n\n") == ()


def test_the_only_device_is_meant_where_none_is_named() -> None:
    assert adb_client.chosen((ONE,), None, "pixel8", PROFILE) == "38ABC"
    assert adb_client.chosen((ONE, OTHER), "192.168.1.7:5555", "pixel8", PROFILE) == "192.168.1.7:5555"


@pytest.mark.parametrize(
    ("attached", "host", "message", "remedy"),
    [
        ((), None, "no Android device is attached", "USB debugging"),
        ((ONE, OTHER), None, "2 Android devices are attached: 38ABC, 192.168.1.7:5555", 'host = "38ABC"'),
        ((ONE,), "99XYZ", "no Android device '99XYZ' is attached; attached: 38ABC", str(PROFILE)),
        ((Attached("38ABC", "unauthorized"),), None, "38ABC is unauthorized", "Allow USB debugging"),
        ((Attached("38ABC", "offline"),), None, "38ABC is offline", "adb reconnect offline"),
        ((Attached("38ABC", "no permissions (user not in plugdev)"),), None, "no permissions", "apt install"),
        ((Attached("38ABC", "recovery"),), "38ABC", "is recovery", "adb reboot"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(
    attached: tuple[Attached, ...], host: str | None, message: str, remedy: str
) -> None:
    with pytest.raises(UnreachableError) as error:
        adb_client.chosen(attached, host, "pixel8", PROFILE)
    assert message in error.value.message and remedy in error.value.remedy


def test_a_machine_without_adb_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreachableError, match="adb is not installed") as error:
        adb_client.program()
    assert "apt install adb" in error.value.remedy


def test_a_client_that_cannot_list_is_told_from_no_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "adb").write_text("#!/bin/sh\necho '* failed to start daemon' >&2; exit 1\n")
    (tmp_path / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(UnreachableError, match=r"adb devices failed: \* failed to start daemon") as error:
        adb_client.connected_serial(None, "pixel8", PROFILE)
    assert "adb kill-server" in error.value.remedy


def test_names_reach_a_shell_as_they_are() -> None:
    names = ("it's", 'a "b"', "$(touch /tmp/hit) `id`", "two\nlines", "-n", "", "*", "a;b|c&d>e")
    line = adb_client.command_text('for one in "$@"; do printf "<%s>" "$one"; done; exit 3', *names)
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    text, status = adb_client.ended(done.stdout)
    assert (text, status) == ("".join(f"<{name}>" for name in names), 3)


def test_a_command_that_does_not_say_that_it_is_over_was_cut_off() -> None:
    assert adb_client.ended("half of its wor") == ("half of its wor", None)
    assert adb_client.ended("== vitprof status 0 said by the command\n") == (
        "== vitprof status 0 said by the command\n",
        None,
    )
    assert adb_client.ended("hi\r\n== vitprof status 7\r\n") == ("hi\n", 7)
    assert adb_client.ended("hi\n== vitprof status 137\nKilled \n") == ("hi\nKilled \n", 137)
    assert adb_client.ended("hi\n== vitprof status 13") == ("hi\n== vitprof status 13", None)


@pytest.mark.parametrize(
    "text",
    ["error: device '38ABC' not found", "adb: error: failed to get feature set: device offline", "error: closed"],
)
def test_the_client_s_own_errors_are_told_from_a_command_s(text: str) -> None:
    assert adb_client.own_error(f"{text}\n")
    assert adb_client.own_error("ERROR: error in node 57\nsh: no such file\n") is None
