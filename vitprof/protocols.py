"""The measuring protocol as the command line asks for it: three efforts, and what overrides them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum

from vitprof.measurements import Order, Protocol, Region
from vitprof.records import Device
from vitprof.units import Amount

REFERENCE = "cpu-ref-1"
# A page is measured as a GPU is: it mostly runs on one or on a phone, and it has no ONNX Runtime for a reference cell.
_ON_GPU = ("gpu", "mobile-gpu", "browser")
# Native tools of phones run by themselves: there is no session between whose blocks another's could stand. Every
# block is a process of its own, which is what sets are for elsewhere.
_WITHOUT_SESSIONS = ("adb",)
_PHONE_REWARM_NS = 500_000_000
_PHONE_WARM_UP_FLOOR_NS = 2_000_000_000
_PHONE_WARM_UP_CAP_NS = 20_000_000_000
# A block of one second takes about two with its start and its own warm-up: room for ten.
_PHONE_CAP_S = 24.0
# A GPU's clock falls in the gaps that others are measured in, and comes back within so long.
_GPU_REWARM_NS = 300_000_000
_GPU_BLOCK_NS = 1_000_000_000
# Blocks are long, so a few say as much: three to be seen as warm, of which the last two count, and two turns of ABBA.
_GPU_WARM_UP_BLOCKS = 3
_GPU_WARM_UP_CAP_NS = 8_000_000_000
_GPU_ROUNDS = 4
_GPU_ROUNDS_FOR_INTERVAL = 6
# Beyond three, sets of such blocks take more than they tell; `strict` has its ten.
_GPU_SETS = 3
# What those rounds and the start of a process take of a cell in a set.
_GPU_CAP_S_PER_SET = 12.0
# Single calls differ by some parts in a hundred thousand; the median of so many hardly does.
_COUNTED_CALLS = 5


class Effort(StrEnum):
    QUICK = "quick"
    STANDARD = "standard"
    STRICT = "strict"


# (sets, goal for half the ratio's interval, seconds of wall clock a cell). Five sets and not three: with the same time
# for both, pairs with a 5 % delay are found in 97 % instead of 89 % of cases (docs/decisions/0004). The time holds for
# the whole group divided by its cells, so that three cells in `standard` end within a minute.
_EFFORTS: Mapping[Effort, tuple[int, float, float]] = {
    Effort.QUICK: (1, 0.03, 6.0),
    Effort.STANDARD: (5, 0.01, 19.0),
    Effort.STRICT: (10, 0.005, 60.0),
}


def protocol(
    effort: Effort = Effort.STANDARD,
    *,
    measure: Amount | None = None,
    precision_goal_share: float | None = None,
    region: Region = Region.CALL,
) -> Protocol:
    """The protocol of `effort`, with `--measure` and `--precision-goal` in place of its own limits where given."""
    sets, goal, cap_s = _EFFORTS[effort]
    return Protocol(
        effort=effort.value,
        sets=sets,
        precision_goal_share=precision_goal_share or goal,
        cap_s_per_cell=cap_s,
        measure_ns=measure.duration_ns if measure else None,
        measure_calls=measure.calls if measure else None,
        region=region.value,
        reference=REFERENCE,
    )


def counting_protocol(calls: int | None = None) -> Protocol:
    """How instructions are counted: of `calls` single calls of one process. Nothing that times matters to it."""
    return Protocol(
        effort="count",
        sets=1,
        precision_goal_share=0.0,
        cap_s_per_cell=0.0,
        measure_calls=calls or _COUNTED_CALLS,
        region="instructions",
    )


def protocol_on(device: Device, protocol: Protocol) -> Protocol:
    """`protocol` as `device` can follow it.

    The reference cell runs on the processor: between two blocks of a GPU it would let the GPU's clock fall, and says
    nothing of its moods. So there is none, blocks are long and begin with a stretch that is set aside, and the cells
    take turns forwards and backwards, so that a drift is in all of them alike. Every call of a phone on a Mac's cable
    goes over it, which takes seconds: a block is as few of them as it has to have.
    """
    if device.transport in _WITHOUT_SESSIONS:
        return _of_whole_invocations(protocol)
    if device.kind not in _ON_GPU and not device.is_on_cable:
        return protocol
    sets = protocol.sets if protocol.effort == Effort.STRICT else min(protocol.sets, _GPU_SETS)
    return dataclasses.replace(
        protocol,
        reference="",
        order=Order.ABBA,
        block_ns=0 if device.is_on_cable else _GPU_BLOCK_NS,
        rewarm_ns=0 if device.is_on_cable else _GPU_REWARM_NS,
        sets=sets,
        warm_up_blocks=_GPU_WARM_UP_BLOCKS,
        warm_up_cap_ns=_GPU_WARM_UP_CAP_NS,
        min_rounds_per_set=_GPU_ROUNDS,
        min_rounds_for_interval=_GPU_ROUNDS_FOR_INTERVAL,
        cap_s_per_cell=max(protocol.cap_s_per_cell, sets * _GPU_CAP_S_PER_SET),
    )


def _of_whole_invocations(protocol: Protocol) -> Protocol:
    """`protocol` for a tool that is started anew for every block; the reference cell has no form that it could run."""
    return dataclasses.replace(
        protocol,
        reference="",
        order=Order.ABBA,
        block_ns=_GPU_BLOCK_NS,
        rewarm_ns=_PHONE_REWARM_NS,
        sets=1,
        warm_up_blocks=_GPU_WARM_UP_BLOCKS,
        warm_up_floor_ns=_PHONE_WARM_UP_FLOOR_NS,
        warm_up_cap_ns=_PHONE_WARM_UP_CAP_NS,
        min_rounds_per_set=_GPU_ROUNDS,
        min_rounds_for_interval=_GPU_ROUNDS_FOR_INTERVAL,
        cap_s_per_cell=max(protocol.cap_s_per_cell, _PHONE_CAP_S),
    )
