"""The timed loop in virtual time: what is counted, what is set aside, when a block ends."""

from __future__ import annotations

from vitprof.devices.transports.fake import VirtualClock
from vitprof.runner import loop
from vitprof.runner.backends.fake import FakeSession
from vitprof.runner.wire import Block, Plan

MS = 1_000_000


def _block(call_ns: int, repeats: int = 1, clock: VirtualClock | None = None) -> Block:
    clock = clock or VirtualClock()
    plan = Plan(backend="fake", options={"call_ns": call_ns})
    return loop.run_block(plan, FakeSession(plan, clock.wait), clock, repeats, index=7)


def test_the_first_call_of_a_block_is_set_aside() -> None:
    block = _block(4 * MS)
    assert block.set_aside_ns == (4 * MS,)
    # 50 ms hold 12.5 calls of 4 ms: one is set aside, the one that passes 50 ms still counts.
    assert block.samples_ns == (4 * MS,) * 12


def test_a_block_holds_at_least_three_counted_calls() -> None:
    assert _block(100 * MS).samples_ns == (100 * MS,) * 3


def test_a_slow_call_counts_and_is_a_block_by_itself() -> None:
    block = _block(600 * MS)
    assert block.set_aside_ns == ()
    assert block.samples_ns == (600 * MS,)


def test_several_calls_make_one_sample_where_the_clock_is_too_coarse() -> None:
    block = _block(MS, repeats=5)
    assert set(block.samples_ns) == {5 * MS}
    assert sum(block.samples_ns) + sum(block.set_aside_ns) >= 50 * MS


def test_calls_are_batched_only_below_a_hundred_clock_steps() -> None:
    def repeats(call_ns: int, step_ns: int) -> int:
        clock = VirtualClock()
        plan = Plan(backend="fake", options={"call_ns": call_ns})
        return loop.calls_per_sample(FakeSession(plan, clock.wait).call, clock, step_ns)

    assert repeats(call_ns=10_000, step_ns=40) == 1
    assert repeats(call_ns=1_000, step_ns=40) == 4
    assert repeats(call_ns=1_001, step_ns=40) == 4


def test_only_the_call_lies_between_the_two_readings_of_the_clock() -> None:
    readings: list[str] = []
    ticks = iter(range(100))

    def clock() -> int:
        readings.append("clock")
        return next(ticks)

    loop.timed(lambda: readings.append("call"), clock, 1, minimum=2, until_ns=0)
    assert readings == ["clock", "call", "clock"] * 2


def test_the_clock_s_step_and_cost_are_those_of_its_readings() -> None:
    ticks = iter(range(0, 10_000_000, 25))
    assert loop.clock_facts(lambda: next(ticks)) == (25, 25)
