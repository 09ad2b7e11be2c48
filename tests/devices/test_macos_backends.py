"""A backend whose runtime is there on macOS only, asked for on another system."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vitprof.devices import profiles, reach
from vitprof.errors import UnreachableError
from vitprof.places import Places

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="on a Mac Core ML runs here")

MAC = 'kind = "arm-cpu"\nchip = "Apple M2"\ntransport = "{transport}"\nbackends = ["coreml", "ort"]\n'


def test_it_does_not_run_here_and_the_remedy_names_a_mac() -> None:
    pytest.importorskip("coremltools")
    with pytest.raises(UnreachableError, match="'coreml' runs on macOS only, and this machine runs") as caught:
        reach.check_installed("coreml", profiles.device("local"))
    assert "--device macbook-m2" in caught.value.remedy and "docs/iphone.md" in caught.value.remedy
    assert not reach.can_run_here("coreml") and reach.can_run_here("ort")


def test_a_mac_elsewhere_is_not_asked_what_runs_here(tmp_path: Path) -> None:
    path = tmp_path / "mac.toml"
    path.write_text(MAC.format(transport="ssh"))
    mac = profiles.device("mac", path)
    assert reach.offers(mac, "coreml") and not reach.offers(profiles.device("local"), "coreml")
    reach.check_installed("coreml", mac)


def test_this_machine_is_no_device_that_offers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Places
) -> None:
    monkeypatch.setenv("VITPROF_CONFIG_DIR", str(tmp_path))
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "my-mac.toml").write_text(MAC.format(transport="ssh"))
    with pytest.raises(UnreachableError, match="no backend 'coreml', and no reachable device") as caught:
        reach.device_for(profiles.device("local"), ("coreml",))
    assert "my-mac" in caught.value.message and "local" not in caught.value.message
