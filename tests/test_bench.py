"""A held device: which cells are measured together, and what becomes of those that do not fit beside each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests import small_device
from vitprof.bench import Hold, Job
from vitprof.errors import ExitCode, UnreachableError, VitprofError
from vitprof.protocols import Effort, protocol
from vitprof.rows import is_out_of_memory
from vitprof.runner.wire import Failure
from vitprof.store.runs import new_run

_RULES = dataclasses.replace(protocol(Effort.QUICK), reference="")


def _hold(tmp_path: Path, room: int, why_not: VitprofError | None = None) -> Hold:
    return small_device.held(tmp_path, _RULES, new_run("latency"), room, why_not)


def _jobs(tmp_path: Path, *names: str) -> dict[str, Job]:
    return {name: small_device.job(tmp_path, name, _RULES, 1_000_000) for name in names}


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
