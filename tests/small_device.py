"""A device in virtual time that has no room for many models beside each other, held, and models for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.report import samples
from vitprof.bench import Hold, Job
from vitprof.devices import profiles
from vitprof.devices.lease import Lease
from vitprof.devices.transports import RunnerFailed
from vitprof.devices.transports.fake import FakeLink, FakeTransport, HeldLink, VirtualClock
from vitprof.errors import VitprofError
from vitprof.group import Setting
from vitprof.measurements import Protocol
from vitprof.places import Places
from vitprof.records import ModelSpec, Source
from vitprof.report.progress import NoProgress
from vitprof.runner.wire import OUT_OF_MEMORY, Failure, Plan, Task
from vitprof.store.journal import Journal
from vitprof.store.runs import StoredRun

_REFERENCE = {"call_ns": 4_000_000}


class _Small(FakeTransport):
    """Has memory for so many models at a time, beside the reference; `why_not` is raised for files named `large`."""

    def __init__(self, clock: VirtualClock, room: int, why_not: VitprofError | None) -> None:
        super().__init__(clock)
        self.loaded: list[FakeLink] = []
        self._clock = clock
        self._room = room
        self._why_not = why_not

    def place(self, path: str) -> str:
        if self._why_not and "large" in path:
            raise self._why_not
        return path

    def start(self, task: Task) -> FakeLink | HeldLink:
        if not isinstance(task, Plan):
            return HeldLink()
        if task.backend != "fake":
            return FakeLink(dataclasses.replace(task, backend="fake", options=_REFERENCE), self._clock)
        if len(self.loaded) == self._room:
            raise RunnerFailed(Failure("load", "out of memory: no room", "use a smaller --batch", kind=OUT_OF_MEMORY))
        self.loaded.append(_Loaded(task, self._clock, self))
        return self.loaded[-1]


class _Loaded(FakeLink):
    def __init__(self, plan: Plan, clock: VirtualClock, device: _Small) -> None:
        super().__init__(plan, clock)
        self._device = device

    def close(self) -> None:
        super().close()
        if self in self._device.loaded:
            self._device.loaded.remove(self)


def held(folder: Path, rules: Protocol, run: StoredRun, room: int, why_not: VitprofError | None = None) -> Hold:
    """Such a device with room for so many models, held for `run`."""
    clock = VirtualClock()
    transport = _Small(clock, room, why_not)
    setting = Setting(transport, rules, Journal(folder), NoProgress(), clock=lambda: clock.now_ns / 1e9)
    lease = Lease(profiles.device("local"), transport, lambda _: None)
    lease.take()
    return Hold(lease, setting, Places(folder, folder), [], run)


def job(folder: Path, name: str, rules: Protocol, call_ns: int) -> Job:
    """A model of that name and time."""
    spec = ModelSpec(name, Source.TIMM)
    made = dataclasses.replace(samples.artifact(spec, 10**6, 10), folder=folder / name, sha256=name, expected=None)
    return Job(made, samples.result(name, spec=spec, backend="fake", protocol=rules), None, {"call_ns": call_ns})
