"""The interleaving, with the runner's own loop in virtual time: who is measured when, what counts, when it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vitprof.analysis.summary import summarise
from vitprof.cells import Cell
from vitprof.devices import profiles
from vitprof.devices.transports.fake import FakeTransport, VirtualClock, no_noise
from vitprof.group import GroupSamples, Setting, measure_group
from vitprof.measurements import Grade, Protocol, StopReason
from vitprof.protocols import Effort, protocol, protocol_on
from vitprof.reference import timed_as
from vitprof.report.progress import NoProgress
from vitprof.runner.wire import Plan
from vitprof.store.journal import Journal
from vitprof.units import Amount

MS = 1_000_000
REFERENCE = Plan("fake", {"call_ns": 4 * MS})


def _measure(
    tmp_path: Path,
    cells: dict[str, dict[str, object]],
    rules: Protocol | None = None,
    noise: Callable[[int], float] = no_noise,
    reference: Plan | None = REFERENCE,
    clock: VirtualClock | None = None,
) -> tuple[GroupSamples, list[dict[str, object]]]:
    clock = clock or VirtualClock(noise)
    journal = Journal(tmp_path)
    setting = Setting(
        FakeTransport(clock), rules or protocol(), journal, NoProgress(), clock=lambda: clock.now_ns / 1e9
    )
    plans = [
        Cell(name, timed_as(Plan("fake", options), setting.protocol, 3600.0))  # type: ignore[arg-type]
        for name, options in cells.items()
    ]
    group = measure_group(plans, reference, setting)
    journal.close()
    return group, [json.loads(line) for line in journal.path.read_text().splitlines()]


def test_every_block_stands_between_two_reference_blocks(tmp_path: Path) -> None:
    group, _ = _measure(tmp_path, {"a": {"call_ns": 8 * MS}, "b": {"call_ns": 2 * MS}})
    for cell, ratio in zip(group.cells, (2.0, 0.5), strict=True):
        rounds = [round_ for one in cell.samples.sets for round_ in one.rounds]
        assert all(round_.reference_before_ns == round_.reference_after_ns == 4 * MS for round_ in rounds)
        summary = summarise(cell.samples, protocol(), batch=1, macs_per_image=None, reference_long_run_ns=5 * MS)
        assert summary and summary.relative
        assert summary.relative.ratio.value == pytest.approx(ratio)
        assert summary.drift_corrected_ns == pytest.approx(ratio * 5 * MS)
        assert (summary.grade, summary.relative.grade) == (Grade.A, Grade.A)


def test_a_cell_says_what_ran_its_reference(tmp_path: Path) -> None:
    # Another version of it moves the ratios of cells on every runtime.
    for reference, told in ((REFERENCE, True), (None, False)):
        group, _ = _measure(tmp_path, {"a": {"call_ns": 8 * MS}}, reference=reference)
        sets = group.cells[0].samples.sets
        assert all(("reference_runtime" in one.ready.environment) is told for one in sets)
        assert not told or sets[0].ready.environment["reference_runtime"] == sets[0].ready.backend_version


def test_what_the_real_machine_does_meanwhile_is_not_in_a_virtual_block(tmp_path: Path) -> None:
    group, _ = _measure(tmp_path, {"a": {"call_ns": 8 * MS}})
    blocks = [round_.block for one in group.cells[0].samples.sets for round_ in one.rounds]
    assert {(block.queue_delay_ns, block.involuntary_switches) for block in blocks} == {(None, None)}


def test_a_round_measures_every_cell_once_and_the_order_changes(tmp_path: Path) -> None:
    _, lines = _measure(tmp_path, {name: {"call_ns": 5 * MS} for name in "abc"})
    rounds = [line for line in lines if line["kind"] == "round"]
    orders = set()
    for index in {line["block"]["index"] for line in rounds}:  # type: ignore[index]
        order = tuple(line["cell"] for line in rounds if line["block"]["index"] == index)  # type: ignore[index]
        assert sorted(order) == ["a", "b", "c"]
        orders.add(order)
    assert len(orders) > 1


def test_on_a_gpu_the_cells_take_turns_forwards_and_backwards_in_long_blocks(tmp_path: Path) -> None:
    rules = protocol_on(profiles.device("a100"), protocol())
    cells: dict[str, dict[str, object]] = {name: {"call_ns": 5 * MS} for name in "abc"}
    group, lines = _measure(tmp_path, cells, rules, reference=None)
    rounds = [line for line in lines if line["kind"] == "round"]
    for number in range(rules.sets):
        of_set = [line for line in rounds if line["set"] == number]
        indices = sorted({line["block"]["index"] for line in of_set})  # type: ignore[index]
        orders = [tuple(line["cell"] for line in of_set if line["block"]["index"] == index) for index in indices]  # type: ignore[index]
        assert len(orders) >= 4 and len(orders) % 2 == 0
        assert sorted(orders[0]) == ["a", "b", "c"]  # type: ignore[type-var]
        assert all(order == (orders[0], orders[0][::-1])[place % 2] for place, order in enumerate(orders))
    for cell in group.cells:
        assert len(cell.samples.sets) == 3 and cell.samples.stop_reason is StopReason.PRECISION
        for one in cell.samples.sets:
            counted = [round_ for round_ in one.rounds if not round_.is_warm_up]
            assert one.is_warm and len(counted) >= rules.min_rounds_for_interval
            for round_ in one.rounds:
                assert sum(round_.block.set_aside_ns) >= 300 * MS and sum(round_.block.samples_ns) >= 1000 * MS


def test_on_a_noisy_gpu_the_cap_still_leaves_rounds_to_count(tmp_path: Path) -> None:
    rules = protocol_on(profiles.device("a100"), protocol())
    noisy = _measure(
        tmp_path,
        {name: {"call_ns": 5 * MS} for name in "ab"},
        rules,
        # Another speed every other 1.7 s: long blocks do not average it out.
        noise=lambda now_ns: 1.0 + 0.5 * (now_ns // (1700 * MS) % 2),
        reference=None,
    )
    for cell in noisy[0].cells:
        assert cell.samples.stop_reason is StopReason.CAP
        for one in cell.samples.sets:
            assert sum(not round_.is_warm_up for round_ in one.rounds) >= rules.min_rounds_per_set


def test_standard_takes_five_sets_and_at_least_three_counted_rounds_each(tmp_path: Path) -> None:
    group, _ = _measure(tmp_path, {"a": {"call_ns": 5 * MS}})
    samples = group.cells[0].samples
    assert samples.stop_reason is StopReason.PRECISION
    assert len(samples.sets) == 5
    for one in samples.sets:
        assert one.is_warm
        assert sum(not round_.is_warm_up for round_ in one.rounds) >= 3
        # Seen to be warm after 0.3 s; of the rounds that showed it all but the first count.
        seen = 4 + sum(round_.is_warm_up for round_ in one.rounds)
        assert sum(sum(r.block.samples_ns) + sum(r.block.set_aside_ns) for r in one.rounds[:seen]) >= 300 * MS


def test_warm_up_calls_are_not_in_the_summary(tmp_path: Path) -> None:
    group, _ = _measure(tmp_path, {"a": {"call_ns": 5 * MS}})
    summary = summarise(group.cells[0].samples, protocol(), batch=1, macs_per_image=None, reference_long_run_ns=None)
    rounds = [round_ for one in group.cells[0].samples.sets for round_ in one.rounds]
    assert summary
    assert summary.latency.samples == sum(len(r.block.samples_ns) for r in rounds if not r.is_warm_up)
    assert summary.latency.warm_up_samples == sum(len(r.block.samples_ns) for r in rounds if r.is_warm_up) > 0


def test_the_cap_ends_a_cell_that_stays_noisy(tmp_path: Path) -> None:
    flips = iter(range(10**9))
    group, _ = _measure(tmp_path, {"a": {"call_ns": 5 * MS}}, noise=lambda _: 1.0 + 0.5 * ((next(flips) // 13) % 2))
    samples = group.cells[0].samples
    assert samples.stop_reason is StopReason.CAP
    begin = samples.sets[0].rounds[0].block.start_ns
    end = samples.sets[-1].rounds[-1].block.start_ns
    assert (end - begin) / 1e9 < 20


@pytest.mark.parametrize(
    ("amount", "reason"), [(Amount(duration_ns=3000 * MS), StopReason.DURATION), (Amount(calls=200), StopReason.CALLS)]
)
def test_an_asked_amount_is_measured_in_full(tmp_path: Path, amount: Amount, reason: StopReason) -> None:
    group, _ = _measure(tmp_path, {"a": {"call_ns": 5 * MS}}, protocol(measure=amount))
    samples = group.cells[0].samples
    counted = [ns for one in samples.sets for r in one.rounds if not r.is_warm_up for ns in r.block.samples_ns]
    assert samples.stop_reason is reason
    assert sum(counted) >= (amount.duration_ns or 0) and len(counted) >= (amount.calls or 0)


def test_a_cell_that_fails_keeps_its_samples_and_the_others_go_on(tmp_path: Path) -> None:
    group, lines = _measure(
        tmp_path, {"bad": {"call_ns": 5 * MS, "fault": "raise", "fault_at": "80"}, "good": {"call_ns": 5 * MS}}
    )
    bad, good = (cell.samples for cell in group.cells)
    assert bad.stop_reason is StopReason.FAILED and bad.failure and "RuntimeError" in bad.failure.error
    assert len(bad.sets) == 1 and bad.sets[0].rounds
    assert good.stop_reason is StopReason.PRECISION and len(good.sets) == 5
    assert any(line["kind"] == "failure" and line["cell"] == "bad" for line in lines)


def test_a_cell_that_cannot_load_fails_alone(tmp_path: Path) -> None:
    group, _ = _measure(
        tmp_path, {"bad": {"call_ns": 1, "fault": "memory", "fault_at": "load"}, "good": {"call_ns": MS}}
    )
    assert group.cells[0].samples.failure and group.cells[0].samples.failure.stage == "load"
    assert not group.cells[0].samples.sets
    assert group.cells[1].samples.failure is None


def test_without_a_reference_there_is_no_ratio_and_the_raw_median_decides(tmp_path: Path) -> None:
    group, _ = _measure(tmp_path, {"a": {"call_ns": 5 * MS}}, reference=None)
    summary = summarise(group.cells[0].samples, protocol(), batch=1, macs_per_image=None, reference_long_run_ns=1.0)
    assert summary and summary.relative is None and summary.drift_corrected_ns is None
    assert group.cells[0].samples.stop_reason is StopReason.PRECISION


def test_a_reference_that_dies_leaves_the_cells_measured(tmp_path: Path) -> None:
    dying = Plan("fake", {"call_ns": 4 * MS, "fault": "raise", "fault_at": "80"})
    group, lines = _measure(tmp_path, {"a": {"call_ns": 5 * MS}}, reference=dying)
    assert group.reference_failure
    assert len(group.cells[0].samples.sets) == 5
    assert any(line["kind"] == "reference-failure" for line in lines)


def test_a_machine_of_two_speeds_leaves_the_ratio_right_and_is_told(tmp_path: Path) -> None:
    def two_speeds(now_ns: int) -> float:
        return 1.6 if (now_ns // 1_700_000_000) % 2 else 1.0

    rules = protocol(measure=Amount(duration_ns=5_000 * MS))
    group, _ = _measure(tmp_path, {"a": {"call_ns": 8 * MS}, "b": {"call_ns": 5 * MS}}, rules, noise=two_speeds)
    for cell, ratio in zip(group.cells, (2.0, 1.25), strict=True):
        summary = summarise(cell.samples, rules, batch=1, macs_per_image=None, reference_long_run_ns=None)
        assert summary and summary.relative
        assert summary.relative.ratio.value == pytest.approx(ratio, rel=0.005)
        assert summary.relative.grade is Grade.A
        assert summary.grade is not Grade.A
        assert "two-speed machine" in {doubt.code for doubt in summary.warnings}


def test_what_starting_takes_beyond_a_second_is_not_taken_from_the_measuring(tmp_path: Path) -> None:
    noisy = {"call_ns": 8 * MS}
    counted = {}
    for name, load_ns in (("quick to load", 0), ("slow to load", 60_000 * MS)):
        group, _ = _measure(tmp_path / name, {"a": {**noisy, "load_ns": load_ns}}, noise=_wild)
        counted[name] = sum(len(one.rounds) for one in group.cells[0].samples.sets)
        assert group.cells[0].samples.stop_reason is StopReason.CAP
    # A second for each of the two processes does come out of the 3.8 s of a set; otherwise a quarter would be left.
    assert counted["slow to load"] > 0.4 * counted["quick to load"]


def _wild(now_ns: int) -> float:
    """A machine whose speed changes by half from block to block, so that no interval is ever met."""
    return 1.0 + 0.5 * (now_ns // (37 * MS) % 3)


def test_quick_is_one_process_and_strict_is_ten(tmp_path: Path) -> None:
    for effort, sets in ((Effort.QUICK, 1), (Effort.STRICT, 10)):
        group, _ = _measure(tmp_path, {"a": {"call_ns": 5 * MS}}, protocol(effort))
        assert len(group.cells[0].samples.sets) == sets


def test_a_cell_that_shows_itself_warm_while_rounds_count_moves_the_first_one_that_counts_for_all(
    tmp_path: Path,
) -> None:
    group, lines = _measure(
        tmp_path,
        {"a": {"call_ns": 5 * MS}, "b": {"call_ns": _COLD_NS}},
        protocol(Effort.QUICK, measure=Amount(calls=60)),
        clock=_ColdClock(),
    )
    [a], [b] = (cell.samples.sets for cell in group.cells)
    counted_a, counted_b = ([r.block.index for r in one.rounds if not r.is_warm_up] for one in (a, b))
    # Otherwise few of them could be compared round by round.
    assert counted_a == counted_b and a.is_warm and b.is_warm
    times_ns = [ns for r in b.rounds if not r.is_warm_up for ns in r.block.samples_ns]
    assert len(times_ns) >= 60 and max(times_ns) < 1.1 * _COLD_NS < 5 * _COLD_NS < max(b.rounds[0].block.samples_ns)
    # Rounds were counted before: who reads the journal is told which of them are not.
    rounds = [line for line in lines if line["kind"] == "round" and line["cell"] == "a"]
    first_counted = next(line["block"]["index"] for line in rounds if not line["is_warm_up"])  # type: ignore[index]
    *_, warm = (line for line in lines if line["kind"] == "warm")
    assert warm["counted_from"] == counted_a[0] > first_counted


_COLD_NS = 44 * MS


class _ColdClock(VirtualClock):
    """The cell whose calls take 44 ms takes eight times as long at first: for longer than a warm-up may last."""

    _calls = 0

    def wait(self, duration_ns: int) -> None:
        if duration_ns == _COLD_NS:
            self._calls += 1
            duration_ns = round(duration_ns * max(1.0, 8 * 0.95**self._calls))
        super().wait(duration_ns)
