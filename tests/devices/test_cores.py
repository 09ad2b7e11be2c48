"""A profile's `cores` reach the runner, which confines itself to them before its runtime loads."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from vitprof.devices import profiles, reach
from vitprof.devices.transports import RunnerFailed
from vitprof.devices.transports.local import LocalTransport
from vitprof.places import Places
from vitprof.records import Device
from vitprof.runner.wire import Plan, Ready

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to cores")


def _ready(cores: str | None, here: Places) -> Ready:
    device = replace(profiles.device("local"), cores=cores)
    link = LocalTransport(here.cache_root).start(_plan(device))
    try:
        ready = link.receive(60)
        assert isinstance(ready, Ready)
        return ready
    finally:
        link.close()


def _plan(device: Device) -> Plan:
    return Plan(backend="fake", options=reach.options_of(device, "fake"), deadline_s=60)


def test_a_runner_is_on_the_cores_of_its_profile_and_says_so(here: Places) -> None:
    last = max(os.sched_getaffinity(0))
    facts = _ready(str(last), here).environment
    assert facts["cores"] == 1
    assert facts.get("pinned_cores") == (str(last) if (os.cpu_count() or 1) > 1 else None)
    # The host itself stays where it was.
    assert _ready(None, here).environment["cores"] == len(os.sched_getaffinity(0))


def test_a_core_that_is_not_there_is_a_failure_with_a_remedy(here: Places) -> None:
    with pytest.raises(RunnerFailed, match="no core 4000") as caught:
        _ready("4000", here)
    assert "'cores' in the device's profile" in caught.value.failure.remedy
