from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from vitprof.devices import profiles, reach
from vitprof.devices.transports.local import LocalTransport
from vitprof.errors import UnreachableError, UsageError
from vitprof.places import Places
from vitprof.records import Peak

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
        (GOOD + "[ready]\nwait_s = inf\n", "wait_s"),
        (GOOD + '[peak_macs_per_s]\nfp32 = { value = inf, source = "x" }\n', "fp32"),
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
    # Whether anybody is there only connecting can tell.
    assert reach.is_reachable(profiles.device("a100")) is None


def test_a_device_that_is_not_here_says_what_to_write_where() -> None:
    with pytest.raises(UnreachableError) as caught:
        reach.check_reachable(profiles.device("a100"))
    remedy = caught.value.remedy
    assert 'host = "user@server"' in remedy and 'extends = "a100"' in remedy
    assert str(profiles.user_folder() / "a100.toml") in remedy


def test_a_profile_of_the_user_s_own_without_a_host_is_told_what_to_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITPROF_CONFIG_DIR", str(tmp_path))
    own = tmp_path / "devices" / "pi.toml"
    own.parent.mkdir()
    own.write_text('extends = "pi5"\n')
    with pytest.raises(UnreachableError, match="'pi': no host named for it") as caught:
        reach.check_reachable(profiles.device("pi"))
    # It would extend itself.
    assert caught.value.remedy.startswith(f'add to {own}: host = "') and "extends" not in caught.value.remedy
    with pytest.raises(UnreachableError) as caught:
        reach.check_reachable(profiles.device("mine", _file(tmp_path, GOOD)))
    assert caught.value.remedy.startswith("add to its profile: host = ")


def test_what_the_remedy_says_is_all_that_need_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = profiles.device("a100")
    monkeypatch.setenv("VITPROF_CONFIG_DIR", str(tmp_path))
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "a100.toml").write_text('extends = "a100"\nhost = "me@there"\n')
    assert profiles.device("a100") == dataclasses.replace(shipped, host="me@there")


def test_tables_are_joined_entry_by_entry_and_a_peak_is_taken_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITPROF_CONFIG_DIR", str(tmp_path))
    (tmp_path / "devices").mkdir()
    base = """[ready]\nmax_load = 0.5\nmax_temperature_c = 60\n[options.ort]\nspin = true\n"device" = "cpu"
        [options.torch]\nspin = true
        [peak_macs_per_s]\nfp32 = {value = 1, source = "a"}\nfp16 = {value = 2, source = "b"}
        """
    (tmp_path / "devices" / "base.toml").write_text(GOOD + base)
    own = """extends = "base"\n[ready]\nmax_load = 2\n[options.ort]\nspin = false
        [peak_macs_per_s]\nfp16 = {value = 3, source = "c"}\n"""
    device = profiles.device("mine", _file(tmp_path, own))
    assert device.name == "mine" and device.chip == "X" and device.backends == ("ort",)
    assert (device.ready.max_load, device.ready.max_temperature_c) == (2, 60)
    assert device.options == {"ort": {"spin": False, "device": "cpu"}, "torch": {"spin": True}}
    assert device.peak_macs_per_s == {"fp32": Peak(1, "a"), "fp16": Peak(3, "c")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('extends = "a10"', r"'extends': there is no profile 'a10'; there are: a100"),
        ('extends = "mine"', "'extends': there is no profile 'mine'"),
        ('extends = "../local"', "there is no profile '../local'"),
        ("extends = 3", "'extends'"),
        ('extends = "a100"\nkind = "toaster"', "'kind'.*'gpu'"),
    ],
)
def test_a_profile_extends_one_that_there_is(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        profiles.device("mine", _file(tmp_path, text))


def test_profiles_that_extend_each_other_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPROF_CONFIG_DIR", str(tmp_path))
    (tmp_path / "devices").mkdir()
    for one, other in (("egg", "hen"), ("hen", "egg")):
        (tmp_path / "devices" / f"{one}.toml").write_text(f'extends = "{other}"\n')
    with pytest.raises(UsageError, match="is or extends this very profile"):
        profiles.device("egg")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "peak_macs_per_sec = 3\n", "unknown key 'peak_macs_per_sec'; did you mean 'peak_macs_per_s'.*allowed:"),
        (GOOD + "[ready]\nmax_lod = 3\n", r"unknown key 'ready.max_lod'; did you mean 'max_load'.*allowed: .*wait_s"),
        (GOOD + "zzz = 3\n", "unknown key 'zzz'; allowed: backends, chip"),
        (GOOD.replace('"gpu"', '"gp"'), "'kind'.*'gpu', 'mobile-gpu', 'arm-cpu'.*got 'gp'"),
        (GOOD.replace('"ssh"', '"shs"'), "'transport'.*'local', 'ssh', 'adb'.*got 'shs'"),
        (GOOD.replace('transport = "ssh"\n', ""), "'transport' is missing"),
        (GOOD.replace('["ort"]', "[]"), "'backends' names none; allowed: .*ort"),
        (GOOD + 'cores = "big"\n', "'cores': 'big' names no cores; write '4-7' or '0,2'"),
        (GOOD + 'cores = "7-4"\n', "names no cores"),
        (GOOD + 'cores = "0-99999999"\n', "names no cores"),
        (GOOD + '[peak_macs_per_s]\nfp31 = { value = 1, source = "x" }\n', "unknown fp31; allowed: fp32, tf32"),
        (GOOD + "[ready]\nmin_battery_share = 50\n", "ready.min_battery_share.*1.*got 50"),
        (GOOD + "[options.nope]\nx = 1\n", "'options': unknown nope; allowed:"),
    ],
)
def test_a_slip_of_the_hand_is_told_with_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        profiles.device("mine", _file(tmp_path, text))


def test_every_peak_of_a_shipped_profile_names_its_source() -> None:
    peaks = [
        (device.name, peak)
        for device in profiles.devices()
        for peak in (*device.peak_macs_per_s.values(), device.peak_bytes_per_s)
        if peak is not None
    ]
    assert len(peaks) > 20
    # A maker, a document, and the figure as it stands there.
    assert [name for name, peak in peaks if not re.search(r"[a-z].*: .*\d", peak.source)] == []


def test_the_devices_of_the_papers_have_profiles() -> None:
    known = {device.name for device in profiles.devices()}
    assert {"a100", "a40", "titan-rtx", "jetson-tx2", "iphone12", "iphone13", "iphone15", "pi5", "pixel8"} <= known


def test_the_readme_explains_every_key_and_no_other() -> None:
    page = (profiles.shipped_folder() / "README.md").read_text()
    keys, _, rest = page.partition("Before a group is measured")
    of_ready = rest.partition("Options of runners")[0]
    assert _keys(keys) == set(profiles.Profile.model_fields)
    assert _keys(of_ready) == set(profiles.ReadyEntry.model_fields)


def _keys(text: str) -> set[str]:
    return set(re.findall(r"^\| `(\w+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["../local", "/etc/passwd", "a100.toml", "$(id)", "a\nb", "", "a" * 5000])
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
