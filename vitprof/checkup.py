"""What works on this machine, how steady it is, and what to type to mend what does not: behind `vitprof doctor`.

Beside `group` because it starts real runner processes too: the clock, the harness's overhead and the steadiness are
measured where measurements run, not guessed in the host.
"""

from __future__ import annotations

import importlib.util
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from vitprof import environments
from vitprof.analysis.grading import UNSTEADY_REFERENCE_SPREAD
from vitprof.analysis.steadiness import call_ns, spread, two_speeds
from vitprof.devices import profiles, reach
from vitprof.devices.transports import Link, RunnerFailed
from vitprof.devices.transports.local import LocalTransport
from vitprof.errors import VitprofError
from vitprof.places import Places
from vitprof.protocols import REFERENCE
from vitprof.reference import reference_plan
from vitprof.runner import energy, sensors
from vitprof.runner.backends import BACKENDS, Backend, BackendError
from vitprof.runner.wire import Block, BlockRequest, Plan, Ready
from vitprof.store import reference_times
from vitprof.units import text_from_ns, text_from_share

_PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "numpy", "typer", "rich", "pydantic")
_STEADY_S = 10.0
_ANSWER_S = 60.0
# The loop may add this much to a sample beyond what reading the clock costs.
_OVERHEAD_LIMIT_NS = 1_000


class State(StrEnum):
    OK = "ok"
    DOUBT = "doubt"
    BROKEN = "broken"


@dataclass(frozen=True)
class Check:
    """One line of the check-up."""

    name: str
    state: State
    detail: str
    remedy: str | None = None


def checkup(places: Places) -> Iterator[Check]:
    """Check after check, as each is done; the last ones measure and take about twelve seconds."""
    yield Check("Python", State.OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in _PACKAGES:
        yield _package(package)
    yield from _processor()
    yield from _energy()
    for name, entry in BACKENDS.items():
        if entry.requires:
            yield _backend(name, entry)
    yield from (_environment(one, places) for one in environments.ENVIRONMENTS.values())
    yield from _devices()
    yield _guarded("clock and harness", lambda: _harness(places))
    yield _guarded("steadiness", lambda: _steadiness(places))


def _backend(name: str, entry: Backend) -> Check:
    if importlib.util.find_spec(entry.requires or "") is None:
        state = State.DOUBT if entry.is_extra else State.BROKEN
        return Check(f"backend {name}", state, "not installed", entry.install)
    if not reach.can_run_here(name):
        detail = f"installed, but it runs on macOS, not {platform.system()}"
        remedy = "its models are made here all the same (vitprof export --to coreml) and run on a Mac (--device)"
        return Check(f"backend {name}", State.DOUBT, detail, remedy)
    if entry.needs_nvidia and not reach.accelerators():
        remedy = "run it where nvidia-smi lists a GPU"
        return Check(f"backend {name}", State.DOUBT, "installed, and there is no NVIDIA GPU here", remedy)
    return Check(f"backend {name}", State.OK, "usable", entry.install)


def _package(name: str) -> Check:
    try:
        return Check(name, State.OK, version(name))
    except PackageNotFoundError:
        return Check(name, State.BROKEN, "not installed", f"pip install {name}")


def _environment(one: environments.Environment, places: Places) -> Check:
    is_here = environments.is_ready(one, places.cache_root)
    folder = environments.folder_of(one, places.cache_root)
    detail = f"{one.title}, to {one.purpose}: {folder if is_here else 'not set up'}"
    return Check(f"setup {one.name}", State.OK if is_here else State.DOUBT, detail, f"vitprof setup {one.name}")


def _processor() -> Iterator[Check]:
    facts = sensors.environment()
    known = ", ".join(facts.get("cpu_features", ())) or "n/a"
    yield Check("processor", State.OK, f"{facts['cpu']}, {facts['cores']} cores; {known}")
    governor = facts.get("governor")
    yield Check(
        "governor",
        State.OK if governor in (None, "performance") else State.DOUBT,
        governor or "n/a (the system does not tell)",
        "sudo cpupower frequency-set -g performance",
    )
    load = facts.get("load_1min")
    is_idle = load is None or load < 0.5 * facts["cores"]
    yield Check("load", State.OK if is_idle else State.DOUBT, f"{load} over the last minute", "close other programs")


def _energy() -> Iterator[Check]:
    """What counts the energy of a model on this machine's chip, and on its GPU where it has one."""
    plans = [("energy", Plan(backend="ort"))]
    if reach.accelerators():
        plans.append(("energy of the GPU", Plan(backend="ort", options={"device": "cuda"})))
    for name, plan in plans:
        try:
            source = energy.source_of(plan)
        except BackendError as error:
            source = energy.Missing(str(error), error.remedy)
        if isinstance(source, energy.Missing):
            yield Check(name, State.DOUBT, f"is not measured: {source.reason}", source.remedy)
        else:
            yield Check(name, State.OK, source.name)


def _devices() -> Iterator[Check]:
    """A line for each that can be tried, and one for all the others: most profiles are of what one does not have."""
    absent = []
    for device in profiles.devices():
        try:
            reach.check_reachable(device)
        except VitprofError:
            absent.append(device.name)
        else:
            yield Check(f"device {device.name}", State.OK, device.chip)
    if absent:
        remedy = (
            f'most want host = "user@server" in a file of your own; what each wants: vitprof devices show {absent[0]}'
        )
        yield Check("other devices", State.DOUBT, f"out of reach: {', '.join(absent)}", remedy)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except RunnerFailed as failed:
        return Check(name, State.BROKEN, failed.failure.error, failed.failure.remedy)
    except VitprofError as error:
        return Check(name, State.BROKEN, error.message, error.remedy)


def _harness(places: Places) -> Check:
    link, ready = _started(places, Plan(backend="fake"))
    link.close()
    detail = (
        f"clock step {ready.clock_step_ns} ns, a reading costs {ready.clock_cost_ns} ns, "
        f"the loop adds {ready.loop_overhead_ns} ns to a sample"
    )
    state = State.OK if (ready.loop_overhead_ns or 0) < _OVERHEAD_LIMIT_NS else State.DOUBT
    return Check("clock and harness", state, detail, "close other programs and run again")


def _steadiness(places: Places) -> Check:
    """Ten seconds of the reference, which also count towards this machine's long-run reference time."""
    plan = reference_plan(LocalTransport(places.cache_root), places.cache_root, REFERENCE)
    link, ready = _started(places, plan)
    means: list[float] = []
    end_s = time.monotonic() + _STEADY_S
    try:
        while time.monotonic() < end_s:
            link.send(BlockRequest(len(means)))
            block = link.receive(_ANSWER_S)
            if isinstance(block, Block):
                means.append(call_ns(block.samples_ns, ready.calls_per_sample))
    finally:
        link.close()
    median_ns = float(np.median(means))
    reference_times.add(places, REFERENCE, means)
    detail = f"{REFERENCE} takes {text_from_ns(median_ns)}; its blocks spread by {text_from_share(spread(means))}"
    speeds = two_speeds(means)
    if speeds:
        detail += f"; two speeds: {text_from_ns(speeds[0])} and {text_from_ns(speeds[1])}"
    is_steady = not speeds and spread(means) <= UNSTEADY_REFERENCE_SPREAD
    remedy = "trust ratios to the reference more than milliseconds; a quieter or bare-metal machine has both"
    return Check("steadiness", State.OK if is_steady else State.DOUBT, detail, remedy)


def _started(places: Places, plan: Plan) -> tuple[Link, Ready]:
    link = LocalTransport(places.cache_root).start(plan)
    ready = link.receive(_ANSWER_S)
    assert isinstance(ready, Ready)  # noqa: S101 - the protocol of wire.py
    return link, ready
