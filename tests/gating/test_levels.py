"""What was accepted, or became faster, is what the next run is compared with; what went before it is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.gated import counted, fill, row
from vitprof.gates import GateVerdict
from vitprof.gating.stored import GateRequest, gate_stored
from vitprof.places import Places, places
from vitprof.report.progress import NoProgress

FINE, SLOWER, UNDECIDED = GateVerdict.FINE, GateVerdict.SLOWER, GateVerdict.UNDECIDED


@pytest.fixture
def store(tmp_path: Path) -> Places:
    return places(str(tmp_path / "results.sqlite"))


def night(store: Places, name: str, of: dict[str, Any], *, accept: bool = False) -> tuple[GateVerdict, int]:
    """A run is measured and judged by the last five: the verdict, and how many served."""
    fill(store.store, {name: [of]})
    request = GateRequest("last:5", 0.03, is_accepting=accept, is_verifying=False)
    [cell] = gate_stored(request, store, NoProgress()).gated.cells
    return cell.verdict, len(cell.baseline_runs)


def nights(store: Places, rows: Sequence[dict[str, Any]]) -> list[tuple[GateVerdict, int]]:
    return [night(store, f"night-{place}", one) for place, one in enumerate(rows)]


def test_a_slow_down_that_was_accepted_is_no_noise_of_the_runs_after_it(store: Places) -> None:
    fill(store.store, {name: [row(3.0)] for name in "abcde"})
    assert night(store, "slow", row(3.2), accept=True) == (GateVerdict.ACCEPTED, 5)
    assert nights(store, [row(3.2), row(3.21), row(3.2)]) == [(FINE, 1), (FINE, 2), (FINE, 3)]
    # Nor does it hide that the next one is slower again.
    assert night(store, "again", row(3.4)) == (SLOWER, 4)


def test_what_became_faster_is_what_counts_as_soon_as_two_runs_show_it(store: Places) -> None:
    fill(store.store, {name: [row(3.0)] for name in "abcde"})
    said = nights(store, [row(2.4), row(2.4), row(2.41), row(2.4)])
    assert said == [(FINE, 5), (UNDECIDED, 5), (FINE, 2), (FINE, 3)]
    # As slow as it was before.
    assert night(store, "back", row(3.0)) == (SLOWER, 4)


def test_one_fast_moment_does_not_make_another_level(store: Places) -> None:
    fill(store.store, {name: [row(3.0)] for name in "abcde"})
    said = nights(store, [row(2.4), row(3.0), row(3.0)])
    assert [count for _, count in said] == [5, 5, 5] and SLOWER not in dict(said)


def test_a_step_that_nobody_accepted_stays_what_it_is(store: Places) -> None:
    fill(store.store, {**{name: [row(3.0)] for name in "abc"}, **{name: [row(3.2)] for name in "de"}})
    # None of these runs was judged.
    assert night(store, "now", row(3.2)) == (UNDECIDED, 5)


def test_counts_that_were_accepted_are_not_rejected_the_next_night(store: Places) -> None:
    fill(store.store, {name: [counted(100_000_000)] for name in "abcde"})
    assert night(store, "slow", counted(105_000_000), accept=True) == (GateVerdict.ACCEPTED, 5)
    assert nights(store, [counted(105_000_000), counted(95_000_000)]) == [(FINE, 1), (FINE, 2)]
    assert night(store, "back", counted(100_000_000)) == (SLOWER, 1)


def test_what_was_before_this_level_is_found_behind_many_rejected_runs(store: Places) -> None:
    fill(store.store, {name: [row(3.0)] for name in "abcde"})
    said = nights(store, [*[row(3.2)] * 15, *[row(2.4)] * 4])
    assert said[:15] == [(SLOWER, 5)] * 15 and said[15:] == [(FINE, 5), (UNDECIDED, 5), (FINE, 2), (FINE, 3)]
    # Had only the last of the old level been looked at, its one run would have told nothing.
    assert night(store, "back", row(3.0)) == (SLOWER, 4)
