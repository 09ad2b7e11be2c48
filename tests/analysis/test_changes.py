"""What changed between two measurements of one cell, by the words of `ChangeKind`."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.reported import NOW, broken, failed, row
from vitprof.analysis.changes import (
    Pair,
    cell_of,
    changes,
    environment_changes,
    paired,
    placement_changes,
    worst_first,
)
from vitprof.reports import Change, ChangeKind


def change(now: dict[str, Any] | None, before: dict[str, Any] | None) -> Change:
    [found] = changes([Pair(now, before, "before")])
    return found


def test_a_ratio_that_grew_is_slower_by_its_quotient_and_both_intervals() -> None:
    found = change(row("a", 100, 11.0, half=0.003), row("a", 100, 10.0, half=0.004))
    assert found.kind is ChangeKind.SLOWER
    assert found.ratio is not None and found.ratio.value == pytest.approx(1.1)
    # Logs of the upper ends: 0.3 % above and 0.4 % below, in quadrature 0.5 %.
    assert found.ratio.high == pytest.approx(1.1 * math.exp(0.005), rel=1e-4)


def test_a_ratio_that_shrank_is_faster_and_one_that_stayed_is_the_same() -> None:
    assert change(row("a", 100, 9.0), row("a", 100, 10.0)).kind is ChangeKind.FASTER
    assert change(row("a", 100, 10.05), row("a", 100, 10.0)).kind is ChangeKind.SAME


def test_an_interval_across_the_border_of_the_band_is_undecided() -> None:
    assert change(row("a", 100, 10.3, half=0.03), row("a", 100, 10.0)).kind is ChangeKind.UNDECIDED


def test_milliseconds_are_not_compared() -> None:
    slow_machine = row("a", 100, 10.0)
    slow_machine["latency_ns"] = {**slow_machine["latency_ns"], "p50": 20_000_000, "ci95": [19_000_000, 21_000_000]}
    assert change(slow_machine, row("a", 100, 10.0)).kind is ChangeKind.SAME


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({"relative": None}, "no reference ran beside it, and raw times of two runs are not compared"),
        (
            {"relative": {**row("a", 100, 10.0)["relative"], "reference": "cpu-ref-2"}},
            "another reference: cpu-ref-1 before, cpu-ref-2 now",
        ),
        ({"protocol_hash": "ffff"}, "another protocol: c2ba39e6b420 before, ffff now"),
        (
            {"environment": {"before": {"cpu": "Other CPU", "cores": 2}}},
            "another machine: cpu Some CPU before, Other CPU now",
        ),
    ],
)
def test_what_has_no_yardstick_in_common_is_not_compared_and_says_why(now: dict[str, Any], reason: str) -> None:
    found = change({**row("a", 100, 30.0), **now}, row("a", 100, 10.0))
    assert (found.kind, found.ratio, found.detail) == (ChangeKind.NOT_COMPARED, None, reason)


def test_times_of_an_emulator_are_not_compared() -> None:
    emulated = {"environment": {"before": {"emulator": "qemu"}}}
    assert "emulator" in change({**row("a", 100, 3.0), **emulated}, row("a", 100, 1.0)).detail


@pytest.mark.parametrize(
    ("now", "before", "kind", "detail"),
    [
        (failed("a"), row("a", 100, 1.0), ChangeKind.BROKE, "failed at export: Conv: unsupported"),
        (broken("a", 100, 0.5), row("a", 100, 1.0), ChangeKind.BROKE, "parity broken: its outputs are not the model's"),
        (row("a", 100, 1.0), failed("a"), ChangeKind.MENDED, "before: failed at export: Conv: unsupported"),
        (failed("a"), broken("a", 100, 1.0), ChangeKind.STILL_BROKEN, "failed at export: Conv: unsupported"),
        (row("a", 100, 1.0), None, ChangeKind.NEW, ""),
        (failed("a"), None, ChangeKind.NEW, "failed at export: Conv: unsupported"),
        (None, row("a", 100, 1.0), ChangeKind.GONE, ""),
    ],
)
def test_what_fails_or_is_there_on_one_side_only(
    now: dict[str, Any] | None, before: dict[str, Any] | None, kind: ChangeKind, detail: str
) -> None:
    found = change(now, before)
    assert (found.kind, found.ratio, found.detail) == (kind, None, detail)
    assert found.baseline_run == ("before" if before else None)


def test_intervals_are_widened_for_all_comparisons_together() -> None:
    alone = change(row("a", 100, 10.4, half=0.01), row("a", 100, 10.0, half=0.01))
    among = changes(
        [
            Pair(row(name, 100, 10.4, half=0.01), row(name, 100, 10.0, half=0.01), "before")
            for name in ("a", *(f"m{index}" for index in range(99)))
        ]
    )[0]
    assert alone.ratio is not None and among.ratio is not None
    assert alone.ratio.value == among.ratio.value
    assert (among.ratio.high or 0) > (alone.ratio.high or 9) > alone.ratio.value
    assert (alone.kind, among.kind) == (ChangeKind.SLOWER, ChangeKind.UNDECIDED)


def test_instructions_are_compared_by_their_counts() -> None:
    def counted(value: int) -> dict[str, Any]:
        counts = {"value": value, "spread": 1e-6, "calls": 5, "counted_by": "qemu"}
        return {**row("a", 100, 1.0), "latency_ns": None, "relative": None, "instructions_per_inference": counts}

    assert change(counted(1_030_000), counted(1_000_000)).kind is ChangeKind.SLOWER
    assert change(counted(1_000_001), counted(1_000_000)).kind is ChangeKind.SAME
    assert cell_of(counted(1)).region == "instructions"


def test_the_worst_comes_first() -> None:
    rows = {"a": (10.5, 10.0), "b": (13.0, 10.0), "c": (9.0, 10.0), "d": (10.0, 10.0)}
    pairs = [Pair(row(name, 100, now), row(name, 100, before), "r") for name, (now, before) in rows.items()]
    found = worst_first(changes([*pairs, Pair(failed("e"), row("e", 100, 1.0), "r"), Pair(row("f", 1, 1.0), None)]))
    told = [(one.kind.value, one.cell.model) for one in found]
    assert told == [("broke", "e"), ("slower", "b"), ("slower", "a"), ("faster", "c"), ("new", "f"), ("same", "d")]


def test_rows_of_two_runs_are_paired_by_cell() -> None:
    pairs = paired(
        [row("a", 1, 1.0), row("a", 1, 1.0, batch=8)], [row("a", 1, 2.0), row("a", 1, 2.0, precision="fp16")], "r"
    )
    assert [one.kind for one in changes(pairs)] == [ChangeKind.FASTER, ChangeKind.NEW, ChangeKind.GONE]


def test_what_failed_before_its_size_was_known_is_paired_with_the_row_like_it_in_all_else() -> None:
    sound, early = [row("a", 1, 1.0), row("a", 1, 1.0, batch=8)], failed("a", size=None)
    assert [one.kind for one in changes(paired([early, sound[1]], sound, "r"))] == [ChangeKind.BROKE, ChangeKind.SAME]
    assert [one.kind for one in changes(paired(sound, [early], "r"))] == [ChangeKind.MENDED, ChangeKind.NEW]
    assert [one.kind for one in changes(paired([early], [early], "r"))] == [ChangeKind.STILL_BROKEN]
    unlike = [row("a", 1, 1.0, precision="fp16"), row("b", 1, 1.0)]
    assert {one.kind for one in changes(paired([early], unlike, "r"))} == {ChangeKind.NEW, ChangeKind.GONE}


def test_facts_that_differ_are_told_once_with_how_many_results_they_concern() -> None:
    now = {"environment": {"before": {"kernel": "6.8", "load_1min": 9.0}}, "started_at": NOW.started_at}
    pairs = [
        Pair(row("a", 1, 1.0, backend_version="1.31", **now), row("a", 1, 1.0), "r"),
        Pair(row("b", 1, 1.0, backend_version="1.30.0", **now), row("b", 1, 1.0), "r"),
        Pair(row("c", 1, 1.0, **now), None),
    ]
    told = [(one.backend, one.name, one.before, one.now, one.rows) for one in environment_changes(pairs)]
    # The load moves while it measures, and a fact that one side does not know is no difference.
    assert told == [(None, "kernel", "6.1", "6.8", 2), ("ort", "backend version", "1.30.0", "1.31", 1)]


def test_what_is_placed_elsewhere_is_told_with_the_largest_loss_first() -> None:
    def placed(name: str, ops: float | None) -> dict[str, Any]:
        return row(name, 1, 1.0, placement=None if ops is None else {"ops": ops, "macs": None})

    names = {"a": (1.0, 0.9), "b": (1.0, 0.5), "c": (1.0, 1.0), "d": (None, 0.5), "e": (0.8, 1.0)}
    pairs = [Pair(placed(name, now), placed(name, before), "r") for name, (before, now) in names.items()]
    found = placement_changes(pairs)
    assert [(one.cell.model, one.ops_before, one.ops_now) for one in found] == [
        ("b", 1.0, 0.5),
        ("a", 1.0, 0.9),
        ("e", 0.8, 1.0),
    ]
