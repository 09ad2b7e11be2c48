"""The long-run times of the reference cell, in the results store of this machine or of several."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vitprof.places import Places
from vitprof.store import reference_times
from vitprof.store.reference_times import machine_id
from vitprof.store.results import ReferenceTime, open_store


@pytest.fixture
def where(address: str, tmp_path: Path) -> Places:
    return Places(tmp_path / "cache", tmp_path / "data", named_store=address)


def test_the_long_run_is_the_median_over_runs_weighted_by_blocks(where: Places) -> None:
    assert reference_times.long_run(where, "r") is None
    for block_ns, count in ((4.0, 10), (5.0, 30), (9.0, 10)):
        reference_times.add(where, "r", [block_ns] * count)
    reference_times.add(where, "other", [1.0] * 1000)
    reference_times.add(where, "r", [])
    found = reference_times.long_run(where, "r")
    assert found and (found.p50_ns, found.runs) == (5.0, 3)


def test_what_a_run_saw_itself_is_not_what_was_known_when_it_began(where: Places) -> None:
    times = [(4.0, "2026-05-09T12:00:00+00:00"), (8.0, "2026-05-09T13:00:00+00:00")]
    with open_store(where.store) as store:
        store.add_reference_times([ReferenceTime(machine_id(), "r", p50_ns, 10, at) for p50_ns, at in times])
    found = reference_times.long_run(where, "r", until="2026-05-09T12:30:00+00:00")
    assert found and (found.p50_ns, found.runs) == (4.0, 1)
    assert reference_times.long_run(where, "r", until="2026-05-09T11:00:00+00:00") is None


def test_machines_that_share_a_store_are_kept_apart(where: Places) -> None:
    with open_store(where.store) as store:
        store.add_reference_times([ReferenceTime("another", "r", 9.0, 1_000, "2026-05-09T12:00:00+00:00")])
    reference_times.add(where, "r", [4.0])
    found = reference_times.long_run(where, "r")
    assert found and (found.p50_ns, found.runs) == (4.0, 1)


def test_writers_at_once_lose_nothing(where: Places) -> None:
    reference_times.add(where, "r", [4.0] * 100)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: reference_times.add(where, "r", [4.0] * 100), range(39)))
    found = reference_times.long_run(where, "r")
    assert found and found.runs == 40


def test_the_file_of_an_earlier_version_is_taken_over_once(where: Places) -> None:
    where.data_root.mkdir()
    file = where.data_root / "reference_times.jsonl"
    entry = {"machine": machine_id(), "reference": "r", "p50_ns": 4.0, "blocks": 10, "at": "2026-05-09T12:00:00+00:00"}
    elsewhere = {**entry, "machine": "another", "p50_ns": 1.0}
    cut_short = '{"machine": "x", "refer'
    file.write_text("\n".join([json.dumps(entry), json.dumps(elsewhere), cut_short, json.dumps(entry)]) + "\n")
    before = file.read_bytes()
    for runs in (2, 3, 4):
        found = reference_times.long_run(where, "r")
        assert found and (found.p50_ns, found.runs, found.since) == (4.0, runs, entry["at"])
        reference_times.add(where, "r", [4.0])
    assert file.read_bytes() == before


def test_a_file_without_a_usable_line_is_no_reason_to_look_again(where: Places) -> None:
    where.data_root.mkdir()
    (where.data_root / "reference_times.jsonl").write_text("[]\n")
    assert reference_times.long_run(where, "r") is None
    with open_store(where.store) as store:
        assert store.has_taken(f"reference times of {machine_id()}")
