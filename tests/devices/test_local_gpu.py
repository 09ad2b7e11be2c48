"""A GPU of this machine, as nvidia-smi names it: a program of that name stands in where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vitprof.devices import clock_lock, profiles, reach
from vitprof.devices.transports.local import LocalTransport
from vitprof.errors import UnreachableError, UsageError
from vitprof.places import Places

Gpus = Callable[..., None]


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpus]:
    def install(*names: str) -> None:
        program = tmp_path / "nvidia-smi"
        lines = "".join(f"echo '{name}'\n" for name in names)
        program.write_text(f'#!/bin/sh\n[ "$1" = --query-gpu=name ] || exit 1\n{lines}')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        reach.accelerators.cache_clear()

    yield install
    reach.accelerators.cache_clear()


def test_a_device_whose_gpu_is_here_is_measured_here(gpus: Gpus, here: Places) -> None:
    gpus("NVIDIA RTX A1000", "NVIDIA A100-SXM4-80GB")
    a100 = profiles.device("a100")
    assert reach.is_reachable(a100)
    with reach.connected(a100, here.cache_root) as transport:
        assert isinstance(transport, LocalTransport)
    assert reach.options_of(a100, "torch") == {"device": "cuda:1"}
    assert reach.options_of(profiles.device("local"), "torch") == {}


def test_a_gpu_of_a_longer_name_is_another_gpu(gpus: Gpus) -> None:
    gpus("NVIDIA RTX A1000", "NVIDIA RTX A4000")
    assert not reach.is_reachable(profiles.device("a100")) and not reach.is_reachable(profiles.device("a40"))


def test_what_cuda_visible_devices_leaves_is_numbered_anew(gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus("NVIDIA RTX A1000", "NVIDIA A100-SXM4-80GB")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert reach.gpu_index(profiles.device("a100")) == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, 1")
    assert reach.gpu_index(profiles.device("a100")) == 1
    # The only one that is left is another one.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert reach.gpu_index(profiles.device("a100")) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f5e")
    assert reach.gpu_index(profiles.device("a100")) == 0


def test_a_host_that_is_named_counts_for_more_than_a_gpu_that_is_here(gpus: Gpus) -> None:
    gpus("NVIDIA RTX A1000", "NVIDIA A100-SXM4-80GB")
    elsewhere = replace(profiles.device("a100"), host="me@there")
    assert not reach.is_here(elsewhere) and reach.is_reachable(elsewhere) is None
    assert reach.options_of(elsewhere, "torch") == {"device": "cuda:0"}
    with pytest.raises(UsageError, match="no NVIDIA GPU of this machine"):
        clock_lock.check(elsewhere, 1000)


def test_a_jetson_is_known_by_the_name_of_its_board(tmp_path: Path) -> None:
    board = tmp_path / "model"
    board.write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    assert reach._jetson(board) == ("NVIDIA Jetson AGX Orin Developer Kit",)
    board.write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert reach._jetson(board) == () == reach._jetson(tmp_path / "none")


def test_a_backend_goes_to_the_only_reachable_device_that_has_it(gpus: Gpus) -> None:
    gpus("NVIDIA A40")
    local = profiles.device("local")
    assert reach.device_for(local, ("trt",)).name == "a40"
    assert reach.device_for(local, ("ort",)) == local
    assert reach.device_for(local, ()) == local


def test_of_several_one_must_be_named(gpus: Gpus) -> None:
    gpus("NVIDIA A40", "NVIDIA A100-SXM4-80GB")
    with pytest.raises(UnreachableError, match="several reachable devices offer it: a100, a40") as caught:
        reach.device_for(profiles.device("local"), ("trt",))
    assert "--device a100" in caught.value.remedy


def test_without_a_gpu_the_devices_that_would_have_the_backend_are_named(gpus: Gpus) -> None:
    gpus()
    with pytest.raises(UnreachableError, match=r"no backend 'trt', and no reachable device .*a100.*h100"):
        reach.device_for(profiles.device("local"), ("trt",))
    with pytest.raises(UnreachableError, match="no NVIDIA A100 in this machine"):
        reach.check_reachable(profiles.device("a100"))


def test_a_gpu_s_runtime_must_be_installed_where_the_gpu_is(gpus: Gpus) -> None:
    gpus("NVIDIA A40")
    with pytest.raises(UnreachableError, match="needs the package tensorrt") as caught:
        reach.check_installed("trt", profiles.device("a40"))
    assert caught.value.remedy == "pip install 'vitprof[trt]'"


def test_options_of_a_profile_reach_its_runners(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = 'kind = "gpu"\nchip = "X"\ntransport = "local"\nbackends = ["torch", "trt"]\n'
    path.write_text(f'{text}[options.torch]\nchannels_last = true\ndevice = "mps"\n')
    mine = profiles.device("mine", path)
    assert reach.options_of(mine, "torch") == {"channels_last": True, "device": "mps"}
    assert reach.options_of(mine, "trt") == {"device": "cuda:0"}
    path.write_text(f"{text}[options.nope]\nspin = true\n")
    with pytest.raises(UsageError, match="key 'options': unknown nope"):
        profiles.device("mine", path)


def test_a_clock_can_be_locked_on_a_gpu_of_this_machine_only(gpus: Gpus) -> None:
    gpus()
    with (
        pytest.raises(UsageError, match="device 'local' is no NVIDIA GPU"),
        clock_lock.held(profiles.device("local"), 9),
    ):
        pass
    with pytest.raises(UnreachableError, match="no NVIDIA A100"), clock_lock.held(profiles.device("a100"), 9):
        pass
    with clock_lock.held(profiles.device("local"), None):
        pass
    gpus("NVIDIA A40")
    with pytest.raises(UnreachableError), clock_lock.held(profiles.device("a40"), 1410):
        pass
