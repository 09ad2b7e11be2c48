from __future__ import annotations

from pathlib import Path

import pytest

from vitprof.devices import profiles, reach
from vitprof.devices.transports.local import LocalTransport
from vitprof.errors import UnreachableError, UsageError
from vitprof.places import Places

GOOD = 'kind = "gpu"\nchip = "X"\ntransport = "ssh"\nbackends = ["ort"]\n'


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_the_shipped_profiles_are_read_and_peaks_have_their_source() -> None:
    found = {device.name: device for device in profiles.devices()}
    assert {"local", "a100"} <= set(found)
    peaks = found["a100"].peak_macs_per_s
    # 312 TFLOPS are 156 TMAC/s: one MAC is two FLOP.
    assert peaks["fp16"].value == 156e12 and all(peak.source for peak in peaks.values())


def test_local_is_this_machine() -> None:
    local = profiles.device("local")
    assert local.chip and local.kind in ("x86-cpu", "arm-cpu")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (GOOD.replace('"gpu"', '"toaster"'), "kind"),
        (GOOD.replace('"ssh"', '"pigeon"'), "transport"),
        (GOOD.replace('["ort"]', '["nope"]'), "backends"),
        (GOOD + "speed = 3\n", "speed"),
        (GOOD + "threads = 0\n", "threads"),
        (GOOD + "[peak_macs_per_s]\nfp32 = { value = 1e12 }\n", "source"),
        (GOOD.replace('chip = "X"\n', ""), "chip"),
        ("kind = [", "TOML"),
    ],
)
def test_a_bad_profile_names_file_and_key(tmp_path: Path, text: str, key: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        profiles.device("mine", path)
    assert str(path) in caught.value.message and key in caught.value.message
    assert "devices/README.md" in caught.value.remedy


def test_a_profile_of_the_user_s_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPROF_CONFIG_DIR", str(tmp_path))
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "a100.toml").write_text(GOOD + 'host = "me@there"\n')
    assert profiles.device("a100").host == "me@there"
    with pytest.raises(UnreachableError, match="me@there"):
        reach.check_reachable(profiles.device("a100"))


def test_a_device_that_is_not_here_says_what_to_write_where() -> None:
    with pytest.raises(UnreachableError) as caught:
        reach.check_reachable(profiles.device("a100"))
    assert 'host = "user@server"' in caught.value.remedy and "a100.toml" in caught.value.remedy


@pytest.mark.parametrize("name", ["../local", "/etc/passwd", "a100.toml", "$(id)", "a\nb", ""])
def test_a_name_is_not_a_path(name: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        profiles.device(name)


def test_a_backend_that_the_device_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="has no backend 'fake'"):
        reach.check_backend("fake", profiles.device("local"))


def test_the_local_transport_is_behind_the_seam(here: Places) -> None:
    with reach.connected(profiles.device("local"), here.cache_root) as transport:
        assert isinstance(transport, LocalTransport)
        assert transport.place("/x/y") == "/x/y"


def test_without_a_driver_there_are_no_accelerators() -> None:
    assert reach.accelerators() == ()
