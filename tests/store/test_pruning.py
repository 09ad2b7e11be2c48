"""Taking rows out of the store: what the rule says and nothing else, after saying so."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.report import samples
from vitprof.records import ModelSpec, Source
from vitprof.report.document import dicts_from_results
from vitprof.store import sweeps
from vitprof.store.pruning import Pruned, Rule, prune
from vitprof.store.raw_samples import document_from_samples
from vitprof.store.results import Store, Wanted, open_store
from vitprof.store.runs import StoredRun
from vitprof.store.schema import CELLS, ENVIRONMENTS, RUNS, SAMPLES
from vitprof.sweeps import SweepCell

RAW = document_from_samples(samples.samples(), samples.PROTOCOL)
EVERY = Wanted()


def _filled(address: str) -> Store:
    """Of two cells, five rows each, one a month; odd months have samples."""
    store = open_store(address)
    [row] = dicts_from_results([samples.ok()])
    for month in range(1, 6):
        run = StoredRun(f"run{month}", f"2026-0{month}-01T12:00:00+00:00", "0.1.0", "latency")
        rows = [
            {**row, "model": model, "started_at": run.started_at, "environment": {"before": {"kernel": str(month)}}}
            for model in ("a", "b")
        ]
        store.add(run, rows, samples=[RAW if month % 2 else None, None])
    return store


def _left(store: Store) -> dict[str, str]:
    """By model, the months of its rows."""
    rows = sorted(store.rows(is_all=True), key=lambda row: row.id)
    return {
        name: "".join(row.run[-1] for row in rows if row.document["model"] == name)
        for name in sorted({row.document["model"] for row in rows})
    }


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        (Rule(EVERY, keep=2), {"a": "45", "b": "45"}),
        (Rule(EVERY, keep=0), {}),
        (Rule(EVERY, before="2026-03-01T12:00:00Z"), {"a": "345", "b": "345"}),
        (Rule(EVERY, keep=4, before="2026-03-01T12:00:00Z"), {"a": "2345", "b": "2345"}),
        (Rule(Wanted("a"), keep=1), {"a": "5", "b": "12345"}),
        (Rule(Wanted(run="run2"), keep=1), {"a": "1345", "b": "1345"}),
        (Rule(Wanted(backends=("torch",)), keep=0), {"a": "12345", "b": "12345"}),
    ],
)
def test_the_rows_of_the_rule_go_and_all_others_stay(address: str, rule: Rule, left: dict[str, str]) -> None:
    with _filled(address) as store:
        told = prune(store, rule, is_dry=True)
        assert _left(store) == {"a": "12345", "b": "12345"}
        assert prune(store, rule, is_dry=False) == told
        assert _left(store) == left and told.left == sum(map(len, left.values())) == 10 - told.rows
        assert prune(store, rule, is_dry=False).rows == 0
        # Nothing is left over of what no row needs.
        months = set("".join(left.values()))
        assert {run.id[-1] for run in store.runs()} == months
        with store.reading() as connection:
            counts = [connection.scalar(select(func.count()).select_from(one)) for one in (CELLS, ENVIRONMENTS)]
        assert counts == [len(left), len(months)]


def test_it_is_told_what_goes(address: str) -> None:
    with _filled(address) as store:
        found = prune(store, Rule(EVERY, keep=2), is_dry=True)
    moments = ("2026-01-01T12:00:00+00:00", "2026-03-01T12:00:00+00:00")
    assert found == Pruned(rows=6, samples=2, cells=2, first_started_at=moments[0], last_started_at=moments[1], left=4)


def test_only_raw_samples_can_go(address: str) -> None:
    with _filled(address) as store:
        found = prune(store, Rule(EVERY, keep=1, only_samples=True), is_dry=False)
        assert (found.rows, found.samples, found.left) == (2, 2, 10)
        assert _left(store) == {"a": "12345", "b": "12345"}
        with store.reading() as connection:
            assert connection.scalar(select(func.count()).select_from(SAMPLES)) == 1


def test_a_run_that_has_only_just_begun_stays(address: str) -> None:
    begun = StoredRun("begun", "2026-06-01T12:00:00+00:00", "0.1.0", "gate")
    with _filled(address) as store:
        store.start(begun)
        prune(store, Rule(EVERY, keep=0), is_dry=False)
        assert store.runs() == (begun,)


def test_on_a_disk_without_room_to_give_space_back_the_rows_go_nevertheless(disk: Callable[[str], Path]) -> None:
    [row] = dicts_from_results([samples.ok()])
    with open_store(disk("1500k") / "results.sqlite") as store:
        for index in range(2):
            # Nothing makes these shorter.
            rows = [{**row, "model": f"m{index}", "grade": secrets.token_hex(40_000)} for _ in range(8)]
            store.add(StoredRun(f"run{index}", row["started_at"], "0.1.0", "latency"), rows)
            store.compact()
        size_bytes = store.size_bytes
        assert prune(store, Rule(Wanted("m0"), keep=7), is_dry=False).rows == 1
        assert len(store.rows(is_all=True)) == 15 and size_bytes and (store.size_bytes or 0) > size_bytes - 30_000


def test_an_unfinished_sweep_keeps_its_rows(address: str) -> None:
    swept: dict[str, Any] = {"plan_hash": "abc", "plan": "models = []"}
    [row] = dicts_from_results([samples.ok()])
    with _filled(address) as store:
        run = StoredRun("swept", "2026-01-01T12:00:00+00:00", "0.1.0", "sweep a.toml", **swept)
        sweeps.begin(store, run, [SweepCell(0, 0, ModelSpec("a", Source.TIMM), "ort", "local", None)])
        store.add(run, [{**row, "model": "a"}])
        assert prune(store, Rule(EVERY, keep=0), is_dry=True).unfinished == 1
        assert prune(store, Rule(EVERY, keep=0), is_dry=False).unfinished == 1
        assert _left(store) == {"a": "t"}
        store.finish("swept")
        prune(store, Rule(EVERY, keep=0), is_dry=False)
        with store.reading() as connection:
            assert _left(store) == {} and connection.scalar(select(func.count()).select_from(RUNS)) == 0
