"""A held device: which cells are measured together, and what becomes of those that do not fit beside each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.report import samples
from vitprof.bench import Hold, Job
from vitprof.devices import profiles
from vitprof.devices.lease import Lease
from vitprof.devices.transports import RunnerFailed
from vitprof.devices.transports.fake import FakeLink, FakeTransport, HeldLink, VirtualClock
from vitprof.errors import ExitCode, UnreachableError, VitprofError
from vitprof.group import Setting
from vitprof.places import Places
from vitprof.protocols import Effort, protocol
from vitprof.records import ModelSpec, Source
from vitprof.report.progress import NoProgress
from vitprof.rows import is_out_of_memory
from vitprof.runner.wire import OUT_OF_MEMORY, Failure, Plan, Task
from vitprof.store.journal import Journal
from vitprof.store.runs import new_run


class Small(FakeTransport):
    """A device whose memory holds so many models at a time; `why_not` is raised for files named `large`."""

    def __init__(self, clock: VirtualClock, room: int, why_not: VitprofError | None = None) -> None:
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
        if len(self.loaded) == self._room:
            raise RunnerFailed(Failure("load", "out of memory: no room", "use a smaller --batch", kind=OUT_OF_MEMORY))
        self.loaded.append(_Loaded(task, self._clock, self))
        return self.loaded[-1]


class _Loaded(FakeLink):
    def __init__(self, plan: Plan, clock: VirtualClock, device: Small) -> None:
        super().__init__(plan, clock)
        self._device = device

    def close(self) -> None:
        super().close()
        if self in self._device.loaded:
            self._device.loaded.remove(self)


def _hold(tmp_path: Path, room: int, why_not: VitprofError | None = None) -> Hold:
    clock = VirtualClock()
    transport = Small(clock, room, why_not)
    rules = dataclasses.replace(protocol(Effort.QUICK), reference="")
    setting = Setting(transport, rules, Journal(tmp_path), NoProgress(), clock=lambda: clock.now_ns / 1e9)
    held = Lease(profiles.device("local"), transport, lambda _: None)
    held.take()
    return Hold(held, setting, Places(tmp_path, tmp_path), [], new_run("latency"))


def _jobs(tmp_path: Path, *names: str) -> dict[str, Job]:
    jobs = {}
    for name in names:
        spec = ModelSpec(name, Source.TIMM)
        made = dataclasses.replace(samples.artifact(spec, 10**6, 10), folder=tmp_path / name, expected=None)
        jobs[name] = Job(made, samples.result(name, spec=spec, backend="fake"), None, {"call_ns": 1_000_000})
    return jobs


def test_who_runs_out_of_memory_beside_others_is_measured_again_alone(tmp_path: Path) -> None:
    together = list(_hold(tmp_path, room=2).each_group(_jobs(tmp_path, "a", "b", "c", "d")))
    # Two of four found room, and each of the others had the device to itself then.
    assert [len(rows) for rows, _ in together] == [2, 1, 1]
    assert {name for rows, _ in together for name in rows} == {"a", "b", "c", "d"}
    assert all(row.summary for rows, _ in together for row in rows.values())
    assert [codes for _, codes in together] == [{ExitCode.OK}] * 3


def test_who_runs_out_of_memory_alone_has_failed(tmp_path: Path) -> None:
    [(rows, codes)] = _hold(tmp_path, room=0).each_group(_jobs(tmp_path, "a"))
    assert is_out_of_memory(rows["a"]) and codes == {ExitCode.FAILED}


def test_a_row_begins_when_it_is_measured_and_not_when_it_was_prepared(tmp_path: Path) -> None:
    jobs = _jobs(tmp_path, "a")
    [(rows, _)] = _hold(tmp_path, room=1).each_group(jobs)
    assert rows["a"].started_at > jobs["a"].blank.started_at


def test_who_cannot_be_sent_to_the_device_has_failed_and_the_others_are_measured(tmp_path: Path) -> None:
    full = VitprofError("its disk is full", remedy="free some space there", stage="ship")
    [(rows, codes)] = _hold(tmp_path, room=2, why_not=full).each_group(_jobs(tmp_path, "a", "large", "b"))
    assert list(rows) == ["a", "large", "b"] and rows["a"].summary and rows["b"].summary
    assert rows["large"].failure == Failure("ship", "its disk is full", "free some space there")
    assert codes == {ExitCode.OK, ExitCode.FAILED}


def test_of_a_device_that_is_gone_nobody_is_measured(tmp_path: Path) -> None:
    gone = UnreachableError("it does not answer", remedy="look at it", stage="device")
    [(rows, codes)] = _hold(tmp_path, room=2, why_not=gone).each_group(_jobs(tmp_path, "a", "large"))
    assert all(row.failure and row.failure.stage == "device" for row in rows.values())
    assert ExitCode.UNREACHABLE in codes
