"""The results store on a real file: what goes in comes out, several processes may write, bad files are refused."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from tests.export.processes import started, wait_for
from tests.report import samples
from vitprof.comparisons import LayerProfile, LayerSum, Point, ProfiledModel, TimedWork
from vitprof.counts import Kind
from vitprof.errors import UsageError, VitprofError
from vitprof.records import ModelSpec, Result, Source
from vitprof.report.document import dicts_from_results
from vitprof.store import schema
from vitprof.store.results import Store, open_store
from vitprof.store.runs import Origin, StoredRun, new_run

EARLY = StoredRun("early", "2026-05-09T11:00:00+00:00", "0.1.0", "latency")
LATE = StoredRun("late", "2026-05-09T13:00:00+00:00", "0.1.0", "import a.json")


def row(result: Result, **changes: Any) -> dict[str, Any]:
    return {**dicts_from_results([result])[0], **changes}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "results.sqlite"


def models(store: Store, *words: str, **filters: Any) -> list[str]:
    return [one.document["model"] for one in store.rows(*words, **filters)]


def test_rows_come_back_as_they_were_with_the_run_that_brought_them(file: Path) -> None:
    rows = dicts_from_results([*samples.several(), samples.hostile()])
    with open_store(file) as store:
        store.add(EARLY, rows)
    with open_store(file) as store:
        found = store.rows(is_all=True)
        assert store.runs() == (EARLY,)
    # The newest first; all of these began in the same second, so the last one written comes first.
    assert [one.document for one in reversed(found)] == rows
    assert {(one.run, one.origin) for one in found} == {("early", Origin.MEASURED)}


def test_of_one_cell_the_latest_counts_and_all_are_kept(file: Path) -> None:
    old, new = (
        row(samples.ok(), started_at=f"2026-05-0{day}T12:00:00Z", grade=grade) for day, grade in ((1, "A"), (2, "B"))
    )
    with open_store(file) as store:
        # What was measured later counts, not what came into the store later.
        store.add(EARLY, [new])
        store.add(EARLY, [old])
        assert [one.document["grade"] for one in store.rows()] == ["B"]
        assert [one.document["grade"] for one in store.rows(is_all=True)] == ["B", "A"]


def test_times_of_several_zones_are_put_in_order(file: Path) -> None:
    # 10:30 UTC is before 11:00 UTC, although its text comes later.
    earlier = row(samples.ok(), started_at="2026-05-09T12:30:00+02:00", grade="A")
    later = row(samples.ok(), started_at="2026-05-09T11:00:00+00:00", grade="B")
    with open_store(file) as store:
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
def test_a_row_that_differs_in_a_key_is_another_cell(file: Path, other: dict[str, Any]) -> None:
    with open_store(file) as store:
        store.add(EARLY, [row(samples.ok()), row(samples.ok(), **other)])
        assert len(store.rows()) == 2


def test_rows_that_know_no_size_and_no_threads_are_one_cell(file: Path) -> None:
    lacking = {"size": None, "threads": None, "protocol_hash": None}
    with open_store(file) as store:
        store.add(EARLY, [row(samples.ok(), **lacking), row(samples.ok(), **lacking)])
        assert len(store.rows()) == 1 and len(store.rows(is_all=True)) == 2


def test_filters_are_by_glob_backend_device_and_run(file: Path) -> None:
    with open_store(file) as store:
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


def test_a_file_imported_twice_is_there_once_and_its_own_duplicates_stay(file: Path) -> None:
    rows = [row(samples.ok()), row(samples.ok()), row(samples.quick())]
    with open_store(file) as store:
        assert store.add_missing([(EARLY, rows)]) == (3,)
        assert store.add_missing([(LATE, [*rows, row(samples.broken())])]) == (1,)
        assert len(store.rows(is_all=True)) == 4
        assert store.add_missing([(new_run("import b.json"), rows)]) == (0,)
        # A run that brought nothing is none.
        assert [run.id for run in store.runs()] == ["late", "early"]
        assert {one.origin for one in store.rows()} == {Origin.IMPORTED}


def test_a_measured_row_is_known_again_with_and_without_samples_and_with_fields_of_later_versions(file: Path) -> None:
    measured = row(samples.ok())
    with open_store(file) as store:
        store.add(EARLY, [measured])
        assert store.add_missing([(LATE, [{**measured, "samples_ns": [1, 2]}])]) == (0,)
        assert store.add_missing([(LATE, [{**measured, "power_w": None}])]) == (0,)
        assert store.add_missing([(LATE, [{**measured, "grade": "C"}])]) == (1,)


def test_of_two_files_all_rows_or_none_are_added(file: Path) -> None:
    bad = row(samples.quick(), batch=None)
    with open_store(file) as store:
        with pytest.raises(VitprofError, match="batch"):
            store.add_missing([(EARLY, [row(samples.ok())]), (LATE, [bad])])
        assert store.rows() == () and store.runs() == ()


def _write(file: str, name: str, count: int, begin: str) -> None:
    """Another process: opens the store for every row, as a run does for every group."""
    document = row(samples.ok())
    run = new_run(name)
    Path(f"{begin}-{name}").touch()
    wait_for(Path(begin).exists)
    for index in range(count):
        with open_store(file) as store:
            store.add(run, [{**document, "model": f"{name}-{index}"}])


def test_processes_that_write_at_once_lose_nothing_and_none_is_turned_away(file: Path, tmp_path: Path) -> None:
    begin = tmp_path / "begin"
    # They make the file at the same time, too.
    names = [f"writer{index}" for index in range(3)]
    writers = [started(_write, str(file), name, 60, str(begin)) for name in names]
    wait_for(lambda: all(Path(f"{begin}-{name}").exists() for name in names))
    begin.touch()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    with open_store(file) as store:
        assert sorted(models(store)) == sorted(f"{name}-{index}" for name in names for index in range(60))
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


def test_a_newer_store_is_refused_and_left_as_it_is(file: Path) -> None:
    open_store(file).__exit__(None, None, None)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE meta SET value = '99'")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(VitprofError, match="newer vitprof: version 99 of the store, this one knows 1") as caught:
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


def _overwritten(file: Path) -> None:
    with open_store(file) as store:
        store.add(EARLY, [row(samples.ok(), model=f"m{index}") for index in range(50)])
    content = bytearray(file.read_bytes())
    content[100:8192] = b"\x5a" * (8192 - 100)
    file.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "said"),
    [(_text_file, "file is not a database"), (_someone_elses, "no results store"), (_overwritten, "malformed")],
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
        pytest.raises(VitprofError, match="cannot use the results store"),
        open_store(folder / "results.sqlite") as store,
    ):
        store.add(EARLY, [row(samples.ok())])


def test_the_tables_can_be_said_to_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    said = [str(CreateTable(table).compile(dialect=dialect)) for table in schema.METADATA.sorted_tables]
    assert len(said) == 4 and "id BIGSERIAL" in "".join(said)


def test_a_document_is_kept_as_json_text_that_any_program_can_read(file: Path) -> None:
    with open_store(file) as store:
        store.add(EARLY, [row(samples.hostile())])
    [(document, model)] = sqlite3.connect(file).execute("SELECT document, model FROM results").fetchall()
    assert json.loads(document) == row(samples.hostile()) and model == samples.HOSTILE_NAME


def profiled(pool_share: float, threads: int = 1) -> ProfiledModel:
    work = TimedWork(1.0, pool_share, None, None, None, None, None)
    told = LayerSum("pool", 1, work)
    not_told = LayerSum(None, 1, dataclasses.replace(work, time_share=1 - pool_share))
    profile = LayerProfile(2.0, 0.0, 30, 1 - pool_share, None, (), (told, not_told), (), ())
    spec = ModelSpec("net", Source.TIMM)
    return ProfiledModel(spec, (1, 3, 96, 64), "local", "ort", "1.31.1", threads, profile)


def test_points_get_the_shares_of_the_latest_profile_of_their_own_cell(file: Path) -> None:
    point = Point("net", (96, 64), 1, "fp32", "local", "ort", 1e6, threads=1)
    others = [
        dataclasses.replace(point, **change) for change in ({"threads": 2}, {"size": (64, 96)}, {"backend": "torch"})
    ]
    with open_store(file) as store:
        store.add_profile(profiled(0.25))
        store.add_profile(profiled(0.75))
    with open_store(file) as store:
        told, *untold = store.with_time_shares([point, *others])
    assert told.time_shares == {Kind.POOL: 0.75}
    assert [one.time_shares for one in untold] == [None, None, None]
