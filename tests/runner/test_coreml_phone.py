"""The way to an iPhone: Xcode's tools are programs of their names, the phone a stand-in of coremltools' interface.

As documented by coremltools 9.0: no phone and no Mac were at hand.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")

from tests.runner import native_core_ml
from tests.test_prepare_coreml import FACTORY
from vitprof.devices import profiles
from vitprof.prepare import prepare
from vitprof.protocols import protocol, protocol_on
from vitprof.records import ModelSpec, Precision, Source
from vitprof.runner.backends import BackendError, coreml, coreml_phone
from vitprof.runner.serve import Server
from vitprof.runner.wire import BlockRequest, Plan, Profile, ProfileRequest

OPTIONS = {"iphone": "Bench", "development_team": "A1B2C3D4E5", "compute_units": "cpu+ane"}
LOAD_NS = 30_000_000


def _device(name: str, kind: str, state: str) -> dict[str, Any]:
    return {
        "identifier": f"ID-{name}",
        "hardwareProperties": {"deviceType": kind, "udid": f"UDID-{name}"},
        "deviceProperties": {"name": name, "osVersionNumber": "18.1", "developerModeStatus": "enabled"},
        "connectionProperties": {"tunnelState": state},
    }


DEVICES = (
    _device("Bench", "iPhone", "connected"),
    _device("Away", "iPhone", "disconnected"),
    _device("Tablet", "iPad", "connected"),
)


def _program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def xcode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`xcrun devicectl list devices -j FILE` answers as Xcode's does; the tools are where xcode-select says."""
    from coremltools.models.ml_program.experimental import remote_device

    listed = tmp_path / "devices.json"
    listed.write_text(json.dumps({"result": {"devices": list(DEVICES)}}))
    tools, developer = tmp_path / "bin", tmp_path / "developer"
    (developer / "usr").mkdir(parents=True)
    _program(tools, "xcode-select", f"echo {developer}")
    _program(tools, "xcrun", f'for last; do :; done; cp {listed} "$last"')
    for name in ("devicectl", "xcodebuild"):
        _program(developer / "usr" / "bin", name, "exit 1")
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(remote_device._DeviceCtl, "_validation_done", False)
    yield developer / "usr" / "bin"


class Phone:
    """A model on a phone: a prediction takes 2 ms there, then 3 ms, 4 ms, …"""

    load_duration_in_nano_seconds: int | None = LOAD_NS

    def __init__(self, package: str) -> None:
        self._package = package
        self.last_predict_duration_in_nano_seconds: int | None = None
        self._calls = 1

    async def load(self) -> None:
        pass

    async def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        from vitprof.export.mil_eval import evaluate

        self._calls += 1
        self.last_predict_duration_in_nano_seconds = self._calls * 1_000_000
        return evaluate(Path(self._package), inputs)

    async def retrieve_compute_plan(self) -> Any:
        from coremltools.models.compute_plan import MLComputePlan

        return MLComputePlan(native_core_ml.PlanProxy(Path(self._package), "CPU_AND_NE"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, xcode: Path) -> dict[str, Any]:
    """What coremltools was asked for on the way to the phone."""
    from coremltools.models.ml_program.experimental import async_wrapper, remote_device

    native_core_ml.install(monkeypatch)
    told: dict[str, Any] = {}

    async def prepared(device: Any, **given: Any) -> Any:
        told.update(given, device=device)
        return dataclasses.replace(device, session="running")

    def wrapped(spec_or_path: str, weights_dir: str, **given: Any) -> Phone:
        told.update(given, weights_dir=weights_dir)
        return Phone(spec_or_path)

    monkeypatch.setattr(remote_device.Device, "prepare_for_model_debugging", prepared)
    monkeypatch.setattr(async_wrapper.MLModelAsyncWrapper, "from_spec_or_path", staticmethod(wrapped))
    return told


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("source") / "net.py"
    path.write_text(FACTORY)
    spec = ModelSpec("net.py:net", Source.PYTHON, precision=Precision.FP16, path=str(path), factory="net")
    artifact = prepare(spec, "coreml", tmp_path_factory.mktemp("cache"))
    return Plan(
        backend="coreml",
        options=OPTIONS,
        artifact=str(artifact.path),
        inputs=str(artifact.folder / artifact.inputs),
        input_name=artifact.input_name,
        input_shape=artifact.input_shape,
        input_dtype=artifact.input_dtype,
        input_count=artifact.input_count,
    )


def _load(plan: Plan) -> Any:
    return coreml_phone.load(plan, coreml.options_of(plan))


def test_samples_are_the_durations_that_the_phone_sends_back(asked: dict[str, Any], plan: Plan) -> None:
    server = Server(dataclasses.replace(plan, block_ns=0), _load, "9.0", lambda: 10**9)
    ready = server.ready
    # The first call takes 2 ms there; another one finds out how many make a sample.
    assert (ready.load_ns, ready.build_ns, ready.first_call_ns) == (LOAD_NS, None, 2_000_000)
    assert (ready.clock, ready.calls_per_sample, ready.loop_overhead_ns) == ("device", 1, 0)
    block = server.answer(BlockRequest(0))
    # As few calls as a block may have: each goes over the cable.
    assert getattr(block, "set_aside_ns") == (4_000_000,)  # noqa: B009
    assert getattr(block, "samples_ns") == (5_000_000, 6_000_000, 7_000_000)  # noqa: B009
    assert server.end().call_energy_j is None


def test_its_protocol_has_the_fewest_calls_of_a_block_and_a_hash_of_its_own() -> None:
    phone = profiles.device("iphone15")
    rules = protocol_on(phone, protocol())
    assert (rules.block_ns, rules.rewarm_ns, rules.reference) == (0, 0, "")
    # Whatever the profile calls it: the reference cell would run on the Mac.
    assert protocol_on(dataclasses.replace(phone, kind="arm-cpu"), protocol()) == rules
    others = [protocol_on(profiles.device(name), protocol()).hash for name in ("macbook-m2", "a100", "pixel8")]
    assert len({rules.hash, *others}) == 4


def test_a_profile_is_of_few_calls_as_each_goes_over_the_cable(asked: dict[str, Any], plan: Plan) -> None:
    server = Server(plan, _load, "9.0", lambda: 0)
    profile = server.answer(ProfileRequest())
    assert isinstance(profile, Profile) and profile.is_estimate
    # Two calls when it was loaded, five before the profile and five of it: the middle three of these are kept.
    assert (profile.runs, profile.total_ns) == (3, 11_000_000)


def test_the_record_is_of_the_phone_without_its_name(asked: dict[str, Any], plan: Plan) -> None:
    ready = Server(plan, _load, "9.0", lambda: 0).ready
    facts = ready.environment
    assert facts["cpu"] == "iPhone, iOS 18.1" and facts["host_cpu"] and facts["cores"] is None
    assert facts["placed_ops"]["ane"] == 2 and ready.misplaced_ops
    assert "Bench" not in str(facts)


def test_its_outputs_come_back_over_the_cable(asked: dict[str, Any], plan: Plan) -> None:
    [(_, dtype, shape, data)] = _load(plan).outputs(1)
    assert (shape, np.frombuffer(data, dtype).size) == ((1, 5), 5)


def test_the_app_is_signed_as_asked_and_kept_where_a_mac_keeps_caches(asked: dict[str, Any], plan: Plan) -> None:
    from coremltools import ComputeUnit

    _load(plan)
    assert asked["credentials"].development_team == "A1B2C3D4E5"
    assert asked["device"].name == "Bench"
    assert asked["working_directory"] == os.path.expanduser("~/Library/Caches/vitprof/modelrunner")  # noqa: PTH111
    assert asked["compute_units"] is ComputeUnit.CPU_AND_NE and asked["weights_dir"] == ""


@pytest.mark.parametrize("wanted", ["Away", "Tablet", "nobody's"])
def test_a_phone_that_is_not_connected_is_told_with_those_that_are(
    asked: dict[str, Any], plan: Plan, wanted: str
) -> None:
    options = {**OPTIONS, "iphone": wanted}
    with pytest.raises(
        BackendError, match=f"no iPhone '{wanted}' is connected to this Mac; connected: Bench"
    ) as caught:
        _load(dataclasses.replace(plan, options=options))
    assert "Developer Mode" in caught.value.remedy


@pytest.mark.parametrize("wanted", ["Bench", "UDID-Bench", "ID-Bench"])
def test_a_phone_has_three_names(asked: dict[str, Any], plan: Plan, wanted: str) -> None:
    _load(dataclasses.replace(plan, options={**OPTIONS, "iphone": wanted}))
    assert asked["device"].udid == "UDID-Bench"


def test_without_an_identity_that_signs_nothing_is_built(plan: Plan) -> None:
    with pytest.raises(BackendError, match="must be signed") as caught:
        _load(dataclasses.replace(plan, options={"iphone": "Bench"}))
    assert "development_team" in caught.value.remedy


def test_without_xcode_there_is_no_way_to_a_phone(plan: Plan, xcode: Path) -> None:
    (xcode / "xcodebuild").unlink()
    with pytest.raises(BackendError, match="there is no xcodebuild on this Mac") as caught:
        _load(plan)
    assert "install Xcode" in caught.value.remedy


def test_a_compiled_model_is_not_sent(plan: Plan) -> None:
    with pytest.raises(BackendError, match="compiled already"):
        _load(dataclasses.replace(plan, artifact="net.mlmodelc"))


def test_a_duration_that_does_not_come_back_is_an_error_and_not_zero(
    asked: dict[str, Any], plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Phone, "load_duration_in_nano_seconds", None)
    with pytest.raises(BackendError, match="how long the load took") as caught:
        _load(plan)
    assert "docs/iphone.md" in caught.value.remedy


def test_the_telling_line_of_a_failed_build_is_its_error() -> None:
    error = coreml_phone.phone_error(RuntimeError("note: using new build\nfoo.swift:3: error: no account\nmore"))
    assert "no account" in str(error) and "\n" not in str(error)
    assert "RuntimeError" in str(coreml_phone.phone_error(RuntimeError()))


def test_coremltools_has_what_is_used_of_its_remote_devices() -> None:
    from coremltools.models.ml_program.experimental import async_wrapper, remote_device

    def names(function: Any) -> set[str]:
        return set(inspect.signature(function).parameters)

    device, wrapper = remote_device.Device, async_wrapper.MLModelAsyncWrapper
    assert names(remote_device.AppSigningCredentials) == set(coreml._CREDENTIALS)
    assert {"credentials", "working_directory"} <= names(device.prepare_for_model_debugging)
    assert {"device_type"} <= names(device.get_connected_devices)
    assert {"spec_or_path", "weights_dir", "compute_units", "device"} <= names(wrapper.from_spec_or_path)
    for name in ("load", "predict", "retrieve_compute_plan"):
        assert inspect.iscoroutinefunction(getattr(async_wrapper.RemoteMLModelAsyncWrapper, name))
    for name in ("load_duration_in_nano_seconds", "last_predict_duration_in_nano_seconds"):
        assert isinstance(getattr(async_wrapper.RemoteMLModelAsyncWrapper, name), property)
