"""Layer profiles from a model's name, on every runtime that has a profiler."""

from __future__ import annotations

import dataclasses

import pytest

from vitprof.counts import MAC_KINDS, Kind
from vitprof.devices.profiles import reference_model
from vitprof.devices.transports.fake import FakeTransport, VirtualClock
from vitprof.devices.transports.local import LocalTransport
from vitprof.errors import UsageError, VitprofError
from vitprof.group import Timeouts
from vitprof.layers import LayersRequest, profile_layers, profile_of
from vitprof.places import Places
from vitprof.records import ModelSpec, Source
from vitprof.runner.wire import Plan

LIKE = ModelSpec("", Source.TIMM)
TINY = str(reference_model("cpu-ref-1"))
TIMEOUTS = Timeouts(load_s=60, block_s=60)


def _request(model: str, **changes: object) -> LayersRequest:
    return dataclasses.replace(LayersRequest(model, LIKE, threads=1), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_all_time_and_all_macs_of_a_file_are_told(backend: str, here: Places) -> None:
    pytest.importorskip({"ort": "onnxruntime"}.get(backend, backend))
    profiled = profile_layers(_request(TINY, backend=backend), here)
    profile = profiled.profile
    assert (profiled.backend, profiled.input_shape, profiled.threads) == (backend, (1, 3, 224, 224), 1)
    assert profile.unattributed_share == 0 and profile.unseen_macs_share == 0
    assert sum(one.work.time_share or 0 for one in profile.by_kind) == pytest.approx(1)
    kinds = {Kind(one.name) for one in profile.by_kind if one.work.macs}
    assert {Kind.CONV, Kind.DEPTHWISE_CONV, Kind.POINTWISE_CONV, Kind.LINEAR, Kind.ATTENTION} <= kinds <= {*MAC_KINDS}
    assert len(profile.disagreements) <= 10


def test_eager_torch_is_told_by_modules(here: Places) -> None:
    like = dataclasses.replace(LIKE, size=(64, 64))
    profile = profile_layers(_request("mobilenetv3_small_100", like=like, backend="torch"), here).profile
    assert profile.unattributed_share == 0 and profile.unseen_macs_share == 0
    stem = next(op for op in profile.ops if op.module == "conv_stem")
    # 32 x 32 outputs, 16 channels of 3 x 3 x 3 inputs.
    assert (stem.op, stem.kind, stem.work.macs) == ("conv2d", Kind.CONV, 32 * 32 * 16 * 27)
    assert {"blocks.0", "blocks.5", "classifier"} <= {one.name for one in profile.by_module}


def test_a_backend_without_a_profile_names_those_that_have_one(here: Places) -> None:
    with pytest.raises(UsageError, match="cannot tell which") as caught:
        profile_layers(_request(TINY, backend="compile"), here)
    assert caught.value.remedy == "use --backend ort, torch, openvino"


def test_one_model_is_asked_for(here: Places) -> None:
    with pytest.raises(UsageError, match=r"names [0-9]+ models"):
        profile_layers(_request("lowformer_b*"), here)


def test_the_fake_backend_is_profiled_in_virtual_time() -> None:
    plan = Plan(backend="fake", options={"call_ns": 1_000_000}, profile_path="unused")
    ready, profile = profile_of(plan, FakeTransport(VirtualClock()), TIMEOUTS)
    assert ready.backend_version == "1" and [op.name for op in profile.ops] == ["conv", "act", "reorder"]


@pytest.mark.parametrize("at", ["load", "profile"])
def test_a_process_that_breaks_is_an_error_with_its_remedy(at: str, here: Places) -> None:
    plan = Plan(backend="fake", options={"fault": "memory", "fault_at": at})
    with pytest.raises(VitprofError, match="out of memory") as caught:
        profile_of(plan, LocalTransport(here.cache_root), TIMEOUTS)
    assert "smaller model" in caught.value.remedy
