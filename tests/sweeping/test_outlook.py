"""When a sweep will end: worked out by hand from what its groups were thought to take."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export import made
from vitprof.devices.profiles import device
from vitprof.protocols import Effort, protocol
from vitprof.records import ModelSpec, Source
from vitprof.sweeping.cells import estimate, exporting_s, measuring_s
from vitprof.sweeping.outlook import Outlook
from vitprof.sweeps import SweepCell

_QUICK = protocol(Effort.QUICK)


def _group(group: int, name: str, *models: str) -> list[SweepCell]:
    specs = [ModelSpec(model, Source.TIMM, (224, 224)) for model in models]
    return [SweepCell(10 * group + number, group, spec, "ort", name) for number, spec in enumerate(specs)]


def _thought_s(group: list[SweepCell]) -> float:
    return measuring_s(device(group[0].device), group, _QUICK)


def test_groups_take_as_long_as_was_thought_times_what_those_before_them_took(tmp_path: Path) -> None:
    groups = [_group(0, "local", "a", "b"), _group(1, "local", "a"), _group(2, "emulated-a72", "a")]
    outlook = Outlook(groups, _QUICK, tmp_path, is_here=True)
    outlook.exported([cell for group in groups for cell in group])
    assert outlook.left_s == sum(map(_thought_s, groups))
    outlook.done(0, 3 * _thought_s(groups[0]))
    # By the cell, the emulated device would be thought as quick as this machine.
    assert outlook.left_s == pytest.approx(3 * (_thought_s(groups[1]) + _thought_s(groups[2])))
    # Another process has measured it, which says nothing of the speed.
    outlook.done(1, None)
    assert outlook.left_s == pytest.approx(3 * _thought_s(groups[2]))
    outlook.done(2, 1.0)
    assert outlook.left_s == 0


def test_exports_of_later_groups_are_still_to_be_waited_for(tmp_path: Path) -> None:
    # `a` is in the cache, of the other three two groups need one.
    groups = [_group(0, "local", "a", "b"), _group(1, "local", "b", "c"), _group(2, "local", "d")]
    made.publish(tmp_path, name="a")
    outlook = Outlook(groups, _QUICK, tmp_path, is_here=True)
    every = [cell for group in groups for cell in group]
    assert outlook.left_s == estimate(every, _QUICK, tmp_path).seconds == sum(map(_thought_s, groups)) + exporting_s(3)
    outlook.exported(groups[0])
    outlook.done(0, _thought_s(groups[0]))
    assert outlook.left_s == sum(map(_thought_s, groups[1:])) + exporting_s(2)
    outlook.exported(groups[1])
    outlook.exported(groups[2])
    assert outlook.left_s == sum(map(_thought_s, groups[1:]))


def test_exports_for_another_machine_are_made_while_it_measures(tmp_path: Path) -> None:
    groups = [_group(0, "local", *(f"model-{number}" for number in range(8)))]
    outlook = Outlook(groups, _QUICK, tmp_path, is_here=False)
    assert outlook.left_s == max(_thought_s(groups[0]), exporting_s(8))
