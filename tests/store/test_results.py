"""The results store on a real file: what goes in comes out, several processes may write, bad files are refused."""

from __future__ import annotations

import dataclasses
import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from tests.processes import started, wait_for
from tests.report import samples
from vitprof.comparisons import LayerProfile, LayerSum, Point, ProfiledModel, TimedWork
from vitprof.counts import Kind
from vitprof.errors import UsageError, VitprofError
from vitprof.records import ModelSpec, Result, Source
from vitprof.report.document import dicts_from_results
from vitprof.store import packing, schema
from vitprof.store.pruning import Rule, prune
from vitprof.store.results import Incoming, Store, Wanted, open_store
from vitprof.store.runs import Gate, Origin, StoredRun, new_run
from vitprof.store.schema import ENVIRONMENTS, SWEEP_CELLS

EARLY = StoredRun("early", "2026-05-09T11:00:00+00:00", "0.1.0", "latency")
LATE = StoredRun("late", "2026-05-09T13:00:00+00:00", "0.1.0", "import a.json")


def row(result: Result, **changes: Any) -> dict[str, Any]:
    return {**dicts_from_results([result])[0], **changes}


def models(store: Store, *words: str, **filters: Any) -> list[str]:
    return [one.document["model"] for one in store.rows(*words, **filters)]


def test_rows_come_back_as_they_were_with_the_run_that_brought_them(address: str) -> None:
    rows = dicts_from_results([*samples.several(), samples.hostile()])
    with open_store(address) as store:
        store.add(EARLY, rows)
    with open_store(address) as store:
        found = store.rows(is_all=True)
        assert store.runs() == (EARLY,)
    # The newest first; all of these began in the same second, so the last one written comes first.
    assert [one.document for one in reversed(found)] == rows
    assert {(one.run, one.origin) for one in found} == {("early", Origin.MEASURED)}


def test_of_one_cell_the_latest_counts_and_all_are_kept(address: str) -> None:
    old, new = (
        row(samples.ok(), started_at=f"2026-05-0{day}T12:00:00Z", grade=grade) for day, grade in ((1, "A"), (2, "B"))
    )
    with open_store(address) as store:
        # What was measured later counts, not what came into the store later.
        store.add(EARLY, [new])
        store.add(EARLY, [old])
        assert [one.document["grade"] for one in store.rows()] == ["B"]
        assert [one.document["grade"] for one in store.rows(is_all=True)] == ["B", "A"]


def test_times_of_several_zones_are_put_in_order(address: str) -> None:
    # 10:30 UTC is before 11:00 UTC, although its text comes later.
    earlier = row(samples.ok(), started_at="2026-05-09T12:30:00+02:00", grade="A")
    later = row(samples.ok(), started_at="2026-05-09T11:00:00+00:00", grade="B")
    with open_store(address) as store:
        store.add(EARLY, [later, earlier])
        assert [one.document["grade"] for one in store.rows(is_all=True)] == ["B", "A"]


@pytest.mark.parametrize(
    "other",
    [
        {"batch": 8},
        {"size": [256, 192]},
        {"size": None},
        {"precision": "fp16"},
        {"device": "a100"},
        {"backend": "torch"},
        {"threads": 2},
        {"threads": None},
        {"source": "torchvision"},
        {"protocol_hash": "another"},
    ],
)
def test_a_row_that_differs_in_a_key_is_another_cell(address: str, other: dict[str, Any]) -> None:
    with open_store(address) as store:
        store.add(EARLY, [row(samples.ok()), row(samples.ok(), **other)])
        assert len(store.rows()) == 2


def test_rows_that_know_no_size_and_no_threads_are_one_cell(address: str) -> None:
    lacking = {"size": None, "threads": None, "protocol_hash": None}
    with open_store(address) as store:
        store.add(EARLY, [row(samples.ok(), **lacking), row(samples.ok(), **lacking)])
        assert len(store.rows()) == 1 and len(store.rows(is_all=True)) == 2


def test_filters_are_by_glob_backend_device_and_run(address: str) -> None:
    with open_store(address) as store:
        store.add(
            EARLY, [row(samples.ok()), row(samples.quick(), backend="torch"), row(samples.warned(), device="a100")]
        )
        store.add(LATE, [row(samples.ok(), started_at="2026-05-09T12:30:00Z")])
        assert models(store, "*net*") == ["mobilenetv3_small_100"]
        # As file names are matched: capitals matter, the whole name must fit.
        assert models(store, "LOWFORMER*") == models(store, "lowformer") == []
        assert models(store, backends=("torch", "openvino")) == ["mobilenetv3_small_100"]
        assert models(store, devices=("a100",)) == ["vit_tiny_patch16_224"]
        # The latest of the run that is asked for, although another one has a later row of that cell.
        assert "lowformer_b1" in models(store, run="early") and models(store, run="late") == ["lowformer_b1"]
        assert models(store, run="nope") == []


def test_a_file_imported_twice_is_there_once_and_its_own_duplicates_stay(address: str) -> None:
    rows = [row(samples.ok()), row(samples.ok()), row(samples.quick())]
    with open_store(address) as store:
        assert store.add_missing([[Incoming(EARLY, rows)]]) == (3,)
        assert store.add_missing([[Incoming(LATE, [*rows, row(samples.broken())])]]) == (1,)
        assert len(store.rows(is_all=True)) == 4
        assert store.add_missing([[Incoming(new_run("import b.json"), rows)]]) == (0,)
        # A run that brought nothing is none.
        assert [run.id for run in store.runs()] == ["late", "early"]
        assert {one.origin for one in store.rows()} == {Origin.IMPORTED}


def test_a_measured_row_is_known_again_with_and_without_samples_and_with_fields_of_later_versions(address: str) -> None:
    measured = row(samples.ok())
    with open_store(address) as store:
        store.add(EARLY, [measured])
        assert store.add_missing([[Incoming(LATE, [{**measured, "samples_ns": [1, 2]}])]]) == (0,)
        assert store.add_missing([[Incoming(LATE, [{**measured, "power_w": None}])]]) == (0,)
        assert store.add_missing([[Incoming(LATE, [{**measured, "grade": "C"}])]]) == (1,)


def test_of_two_files_all_rows_or_none_are_added(address: str) -> None:
    bad = row(samples.quick(), batch=None)
    with open_store(address) as store:
        with pytest.raises(VitprofError, match="batch"):
            store.add_missing([[Incoming(EARLY, [row(samples.ok())])], [Incoming(LATE, [bad])]])
        assert store.rows() == () and store.runs() == ()


def test_rows_from_outside_cannot_pass_for_those_of_another_run(address: str) -> None:
    with open_store(address) as store:
        store.add(EARLY, [row(samples.ok())])
        other = dataclasses.replace(EARLY, started_at="2026-05-09T11:00:01+00:00")
        with pytest.raises(VitprofError, match="another run 'early'") as caught:
            store.add_missing([[Incoming(other, [row(samples.quick())])]])
        assert "--store" in caught.value.remedy and len(store.rows()) == 1
        assert store.add_missing([[Incoming(EARLY, [row(samples.quick())])]]) == (1,)


def test_imports_of_one_file_at_once_bring_its_rows_once(address: str) -> None:
    rows = [row(samples.ok(), model=f"m{index}") for index in range(300)]
    open_store(address).close()
    begin = threading.Barrier(4)

    def bring(number: int) -> int:
        with open_store(address) as store:
            begin.wait()
            # Not in the same order: none may wait for the other for ever.
            parts = [rows[at : at + 50] for at in range(0, 300, 50)][:: (-1) ** number]
            run = new_run("import a.json")
            return store.add_missing([[Incoming(run, part) for part in parts]])[0]

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(bring, range(4))) == 300
    with open_store(address) as store:
        assert len(store.rows(is_all=True)) == 300


def test_rows_come_in_while_others_are_taken_out(address: str) -> None:
    """The same cells and facts, that no row has for a moment; readers see either."""
    document = row(samples.ok(), environment={"before": {"kernel": "6.1"}})

    def add(name: str) -> None:
        for _ in range(40):
            with open_store(address) as store:
                store.add(new_run(name), [document, {**document, "model": "other"}])

    def take(_: str) -> None:
        for _ in range(40):
            with open_store(address) as store:
                taken.append(prune(store, Rule(Wanted(), keep=0), is_dry=False).rows)
                assert len(store.rows(is_all=True)) <= 160

    taken: list[int] = []
    open_store(address).close()
    with ThreadPoolExecutor(4) as pool:
        # Whatever is raised there is raised here.
        list(pool.map(lambda work: work[0](work[1]), [(add, "a"), (add, "b"), (take, ""), (take, "")]))
    with open_store(address) as store:
        assert sum(taken) + len(store.rows(is_all=True)) == 160


def _write(file: str, name: str, count: int, begin: str) -> None:
    """Another process: opens the store for every row, as a run does for every group."""
    document = row(samples.ok())
    run = new_run(name)
    Path(f"{begin}-{name}").touch()
    wait_for(Path(begin).exists)
    for index in range(count):
        with open_store(file) as store:
            store.add(run, [{**document, "model": f"{name}-{index}"}])


def test_processes_that_write_at_once_lose_nothing_and_none_is_turned_away(address: str, tmp_path: Path) -> None:
    begin = tmp_path / "begin"
    # They make the file at the same time, too.
    names = [f"writer{index}" for index in range(3)]
    writers = [started(_write, address, name, 30, str(begin)) for name in names]
    wait_for(lambda: all(Path(f"{begin}-{name}").exists() for name in names))
    begin.touch()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    with open_store(address) as store:
        assert sorted(models(store)) == sorted(f"{name}-{index}" for name in names for index in range(30))
        assert len(store.runs()) == 3


def test_a_reader_does_not_wait_for_a_writer(file: Path) -> None:
    with open_store(file) as store:
        store.add(EARLY, [row(samples.ok())])
        writer = sqlite3.connect(file, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM results")
        assert models(store) == ["lowformer_b1"]
        writer.execute("ROLLBACK")
        writer.close()


def test_who_waits_for_a_writer_hears_ctrl_c_meanwhile(file: Path) -> None:
    def interrupted(*_: object) -> None:
        # Whether the other one still wrote then.
        raise KeyboardInterrupt(other.in_transaction)

    with open_store(file) as store:
        other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        before = signal.signal(signal.SIGUSR1, interrupted)
        timers = [threading.Timer(1, os.kill, (os.getpid(), signal.SIGUSR1)), threading.Timer(20, other.rollback)]
        try:
            for timer in timers:
                timer.start()
            with pytest.raises(KeyboardInterrupt) as heard:
                store.add(EARLY, [row(samples.ok())])
            assert heard.value.args == (True,)
        finally:
            for timer in timers:
                timer.cancel()
                timer.join()
            signal.signal(signal.SIGUSR1, before)
            other.close()
        # The one that was interrupted holds nothing, and its store still works.
        store.add(EARLY, [row(samples.ok())])
        assert models(store) == ["lowformer_b1"]


def test_a_newer_store_is_refused_and_left_as_it_is(file: Path) -> None:
    open_store(file).__exit__(None, None, None)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE meta SET value = '99'")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(VitprofError, match="newer vitprof: version 99 of the store, this one knows 2") as caught:
        open_store(file)
    assert "upgrade vitprof" in caught.value.remedy and file.read_bytes() == before


@pytest.mark.parametrize("value", ["one", ""])
def test_a_store_without_a_version_is_refused(file: Path, value: str) -> None:
    open_store(file).__exit__(None, None, None)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE meta SET value = ?", [value])
    connection.close()
    with pytest.raises(VitprofError, match="which version"):
        open_store(file)


def _text_file(file: Path) -> None:
    file.write_text("model,latency\nresnet50,1\n" * 100)


def _someone_elses(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()


def _with_a_table_of_that_name(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE meta (key, value)")
    connection.close()


def _overwritten(file: Path) -> None:
    with open_store(file) as store:
        store.add(EARLY, [row(samples.ok(), model=f"m{index}") for index in range(50)])
    content = bytearray(file.read_bytes())
    content[100:8192] = b"\x5a" * (8192 - 100)
    file.write_bytes(bytes(content))


def _cut_short(file: Path) -> None:
    with open_store(file) as store:
        store.add(EARLY, [row(samples.ok(), model=f"m{index}") for index in range(50)])
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_text_file, "file is not a database"),
        (_someone_elses, "no results store"),
        (_with_a_table_of_that_name, "no results store"),
        (_overwritten, "malformed"),
        (_cut_short, "malformed"),
    ],
)
def test_a_file_that_is_no_store_is_told_and_left_as_it_is(
    file: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(file)
    before = file.read_bytes()
    with pytest.raises(VitprofError, match=said) as caught, open_store(file) as store:
        store.rows()
    assert str(file) in caught.value.message and "--store" in caught.value.remedy
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE results SET document = x'01789c' WHERE id = 1",
        "UPDATE results SET document = x'09' WHERE id = 1",
        f"UPDATE results SET document = x'{packing.packed([1]).hex()}' WHERE id = 1",  # noqa: S608
        f"UPDATE results SET document = x'{packing.packed({}).hex()}' WHERE id = 1",  # noqa: S608
        "DELETE FROM environments WHERE hash = (SELECT environment FROM results WHERE id = 1)",
        "UPDATE environments SET document = x'' WHERE hash = (SELECT environment FROM results WHERE id = 1)",
        "UPDATE results SET origin = 'dreamt' WHERE id = 1",
    ],
)
def test_a_damaged_row_is_told_and_is_no_crash(file: Path, statement: str) -> None:
    with open_store(file) as store:
        store.add(EARLY, [row(samples.ok())])
        store.add(LATE, [row(samples.ok(), model="another", environment={"before": {"cpu": "another"}})])
    with sqlite3.connect(file) as connection:
        connection.execute(statement)
    connection.close()
    with open_store(file) as store:
        with pytest.raises(VitprofError, match=r"row 1 .*run early, cannot be read") as caught:
            store.rows()
        assert "results prune --run early --keep 0" in caught.value.remedy and "--store" in caught.value.remedy
        # As it says.
        prune(store, Rule(Wanted(run="early"), keep=0), is_dry=False)
        assert models(store) == ["another"]


def test_damaged_raw_samples_are_told_and_hold_up_no_export_without_them(file: Path) -> None:
    with open_store(file) as store:
        store.add(EARLY, [row(samples.ok())], samples=[{"sets": []}])
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE samples SET document = x'01789c'")
        connection.close()
        with pytest.raises(VitprofError, match="raw samples of row 1, of run early") as caught:
            list(store.each(Wanted()))
        assert "--no-samples" in caught.value.remedy and "--run early --keep 0 --samples" in caught.value.remedy
        assert [found.id for found, _ in store.each(Wanted(), with_samples=False)] == [1]
        prune(store, Rule(Wanted(run="early"), keep=0, only_samples=True), is_dry=False)
        assert [raw for _, raw in store.each(Wanted())] == [None]


def test_no_name_of_a_file_is_one_that_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store(":memory:") as store:
        store.add(EARLY, [row(samples.ok())])
    with open_store(":memory:") as store:
        assert models(store) == ["lowformer_b1"]


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("resnet50", ["timm", "torchvision"]),
        ("torchvision:*", ["torchvision"]),
        ("mobileone_s0", ["as built", "fused"]),
        ("mobileone_s0 --no-reparam", ["as built"]),
        ("* --no-reparam", ["as built"]),
        ("net[1].onnx", ["a file"]),
        ("nosuch --no-reparam", []),
    ],
)
def test_models_are_found_by_the_names_that_tables_show(address: str, glob: str, found: list[str]) -> None:
    rows = [
        row(samples.ok(), model="resnet50", grade="timm"),
        row(samples.ok(), model="resnet50", source="torchvision", grade="torchvision"),
        row(samples.ok(), model="mobileone_s0", grade="fused"),
        row(samples.ok(), model="mobileone_s0", as_built=True, grade="as built"),
        row(samples.ok(), model="net[1].onnx", source="onnx", grade="a file"),
    ]
    with open_store(address) as store:
        store.add(EARLY, rows)
        assert sorted(one.document["grade"] for one in store.rows(glob)) == found
        assert sorted(one.document["grade"] for one, _ in store.each(Wanted(glob))) == found
        assert prune(store, Rule(Wanted(glob), keep=0), is_dry=True).rows == len(found)


def test_names_of_timm_are_found_with_its_own_prefix_and_no_others(address: str) -> None:
    ours, theirs = row(samples.ok()), row(samples.ok(), source="torchvision")
    with open_store(address) as store:
        store.add(EARLY, [ours, theirs])
        for glob, source in (("timm:*", "timm"), ("torchvision:*", "torchvision"), (f"timm:{ours['model']}", "timm")):
            [found] = store.rows(glob)
            assert found.document["source"] == source
        assert store.held() == tuple(
            (f"{prefix}{ours['model']}", ours["backend"], ours["device"]) for prefix in ("", "torchvision:")
        )


def test_a_path_that_can_be_no_file_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        open_store(tmp_path)
    with pytest.raises(UsageError, match="does not exist") as caught:
        open_store(tmp_path / "no" / "x.sqlite")
    assert "existing folder" in caught.value.remedy


def test_a_url_of_an_unknown_database_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(UsageError, match="nosuch"):
        open_store("nosuch://host/name")


def test_a_disk_that_is_full_or_read_only_is_told(
    disk: Callable[[str], Path], remounted: Callable[[Path, str], None]
) -> None:
    folder = disk("200k")
    with open_store(folder / "results.sqlite") as store:
        store.add(EARLY, [row(samples.ok())])
        with pytest.raises(VitprofError, match="full") as caught:
            store.add(EARLY, [row(samples.ok(), model="x" * 500_000)])
        assert "free space" in caught.value.remedy
        # What was written before is still there, and nothing of what was not.
        assert models(store) == ["lowformer_b1"]
    remounted(folder, "ro")
    with (
        pytest.raises(VitprofError, match="cannot use the results store") as read_only,
        open_store(folder / "results.sqlite") as store,
    ):
        # What is there can still be read.
        assert models(store) == ["lowformer_b1"]
        store.add(EARLY, [row(samples.ok())])
    assert "make it and its folder writable" in read_only.value.remedy


def test_the_tables_can_be_said_to_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    said = [str(CreateTable(table).compile(dialect=dialect)) for table in schema.METADATA.sorted_tables]
    assert len(said) == 10 and "id BIGSERIAL" in "".join(said)


def profiled(pool_share: float, threads: int = 1) -> ProfiledModel:
    work = TimedWork(1.0, pool_share, None, None, None, None, None)
    told = LayerSum("pool", 1, work)
    not_told = LayerSum(None, 1, dataclasses.replace(work, time_share=1 - pool_share))
    profile = LayerProfile(2.0, 0.0, 30, 1 - pool_share, None, (), (told, not_told), (), ())
    spec = ModelSpec("net", Source.TIMM)
    return ProfiledModel(spec, (1, 3, 96, 64), "local", "ort", "1.31.1", threads, profile)


def test_points_get_the_shares_of_the_latest_profile_of_their_own_cell(address: str) -> None:
    point = Point("net", (96, 64), 1, "fp32", "local", "ort", 1e6, threads=1)
    others = [
        dataclasses.replace(point, **change) for change in ({"threads": 2}, {"size": (64, 96)}, {"backend": "torch"})
    ]
    with open_store(address) as store:
        store.add_profile(profiled(0.25))
        store.add_profile(profiled(0.75))
    with open_store(address) as store:
        told, *untold = store.with_time_shares([point, *others])
    assert told.time_shares == {Kind.POOL: 0.75}
    assert [one.time_shares for one in untold] == [None, None, None]


def test_a_row_s_number_limit_and_moment_choose_among_rows(address: str) -> None:
    rows = [row(samples.ok(), started_at=f"2026-05-0{day}T12:00:00Z", model=f"m{day}") for day in (1, 2, 3)]
    with open_store(address) as store:
        store.add(EARLY, [*rows, row(samples.ok(), started_at="2026-05-04T12:00:00Z", model="m1", grade="C")])
        assert models(store, limit=2) == models(store, limit=2, is_all=True) == ["m1", "m3"]
        # The latest before a moment, not those whose latest is before it.
        assert models(store, before="2026-05-03T13:00:00+01:00") == ["m2", "m1"]
        assert models(store, "m1", before="2026-05-03T12:00:01Z", is_all=True) == ["m1"]
        [found] = store.rows("m2")
        assert store.row(found.id) == found and store.row(10**6) is None


def test_of_each_row_the_one_before_it_of_another_run_is_found(address: str) -> None:
    with open_store(address) as store:
        for day, run in ((1, "a"), (2, "b"), (3, "b"), (4, "c")):
            of_run = StoredRun(run, "2026-05-01T00:00:00+00:00", "0.1.0", "latency")
            store.add(of_run, [row(samples.ok(), started_at=f"2026-05-0{day}T12:00:00Z")])
        store.add(EARLY, [row(samples.ok(), started_at="2026-05-05T12:00:00Z", protocol_hash="another")])
        ids = {one.document["started_at"][9]: one.id for one in store.rows(is_all=True)}
        found = store.earlier(list(ids.values()))
        told = {day: found[id].document["started_at"][9] for day, id in ids.items() if id in found}
    # Of the fourth that of run b which is nearest; of the third none of its own run; of another protocol none.
    assert told == {"4": "3", "3": "1", "2": "1"}


def test_of_failures_without_a_size_the_one_before_is_of_the_same_network(address: str) -> None:
    def failed(day: int, **changes: Any) -> dict[str, Any]:
        return row(samples.ok(), size=None, outcome="failed", started_at=f"2026-05-0{day}T12:00:00Z", **changes)

    with open_store(address) as store:
        store.add(EARLY, [failed(1, grade="fused"), failed(2, as_built=True, grade="as built")])
        store.add(LATE, [row(samples.ok(), started_at="2026-05-03T12:00:00Z", grade="fused")])
        store.add(LATE, [row(samples.ok(), started_at="2026-05-04T12:00:00Z", as_built=True, grade="as built")])
        now = store.rows(run="late", is_all=True)
        found = store.earlier([one.id for one in now])
        assert {one.document["grade"]: found[one.id].document["grade"] for one in now} == {
            "fused": "fused",
            "as built": "as built",
        }


def test_a_run_is_found_by_its_id_its_beginning_and_as_the_latest(address: str) -> None:
    measured = [row(samples.ok())]
    with open_store(address) as store:
        with pytest.raises(UsageError, match="no results"):
            store.run("latest")
        store.add(EARLY, measured)
        store.add(dataclasses.replace(EARLY, id="early_bird", started_at="2026-05-09T12:00:00+00:00"), measured)
        store.add(LATE, measured, Origin.IMPORTED)
        # An import is the newest, but nothing was measured in it.
        assert store.run("latest").id == "early_bird"
        assert [store.run(text).id for text in ("early", "early_", "l")] == ["early", "early_bird", "late"]
        with pytest.raises(UsageError, match="several runs begin with 'ear': early") as caught:
            store.run("ear")
        assert "more of the run's id" in caught.value.remedy
        with pytest.raises(UsageError, match="several runs"):
            store.meant(Wanted(run="ear"))
        assert store.meant(Wanted(run="early_")).run == "early_bird"
        with pytest.raises(UsageError, match="no run 'erly_bird'") as mistyped:
            store.meant(Wanted(run="erly_bird"))
        assert mistyped.value.remedy.startswith("nearest to that: early_bird, early, ")
        for unknown in ("nope", "%", "_", "EARLY"):
            with pytest.raises(UsageError, match="no run"):
                store.run(unknown)


def test_a_run_is_started_finished_and_judged(address: str) -> None:
    swept = dataclasses.replace(EARLY, plan_hash="abc", plan="models = []")
    with open_store(address) as store:
        store.start(swept)
        store.start(dataclasses.replace(swept, command="another"))
        assert store.runs() == (swept,)
        store.add(swept, [row(samples.ok())])
        store.finish("early")
        store.judge("early", Gate.REJECTED)
        [run] = store.runs()
        assert run.finished_at and run.finished_at >= "2026" and run.gate == "rejected" and run.plan == "models = []"


def test_a_row_fills_its_cell_of_a_sweep_once(address: str) -> None:
    with open_store(address) as store:
        store.start(EARLY)
        cells = [{"run": "early", "number": number, "group_number": 0, "ask": "{}"} for number in range(4)]
        with store.writing() as connection:
            connection.execute(insert(SWEEP_CELLS), cells)
        store.add(EARLY, [row(samples.ok(), model="m0"), row(samples.ok(), model="m2")], sweep_numbers=[0, 2])
        # Measured again, since whoever did it first seemed to be dead.
        store.add(EARLY, [row(samples.ok(), model="again"), row(samples.ok(), model="m3")], sweep_numbers=[2, 3])
        by_id = {one.id: one.document["model"] for one in store.rows(is_all=True)}
        with store.reading() as connection:
            filled = connection.execute(select(SWEEP_CELLS.c.number, SWEEP_CELLS.c.result).order_by("number")).all()
    assert [(number, by_id.get(id)) for number, id in filled] == [(0, "m0"), (1, None), (2, "m2"), (3, "m3")]
    assert sorted(by_id.values()) == ["m0", "m2", "m3"]


def test_facts_that_last_are_kept_once_and_rows_still_have_them_all(address: str) -> None:
    before = {"cpu": "x", "load_1min": 0.5, "gpu": {"name": "y", "clock_hz": 3}}
    environments = [{"before": before, "after": None}, {"before": {**before, "load_1min": 1}, "after": None}, {}]
    with open_store(address) as store:
        store.add(EARLY, [row(samples.ok(), environment=environment) for environment in environments])
        found = [one.document["environment"] for one in sorted(store.rows(is_all=True), key=lambda one: one.id)]
        with store.reading() as connection:
            kept = connection.scalar(select(func.count()).select_from(ENVIRONMENTS))
    assert found == environments and kept == 2


def test_more_names_match_than_fit_into_a_statement(address: str) -> None:
    rows = [row(samples.ok(), model=f"m{index}") for index in range(1_200)]
    with open_store(address) as store:
        store.add(EARLY, rows)
        assert len(store.rows("m*")) == len(store.rows("m*", is_all=True)) == 1_200
        assert [one.document["model"] for one, _ in store.each(Wanted("m*9"))] == [
            f"m{index}" for index in range(1_200) if index % 10 == 9
        ]
