"""A store of an older version: brought up to date with all its rows, with a copy first, or left as it was."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from tests.processes import started, wait_for
from tests.report import samples
from tests.store import version_1
from vitprof.comparisons import Point
from vitprof.counts import Kind
from vitprof.errors import VitprofError
from vitprof.report.document import dicts_from_results
from vitprof.store import schema
from vitprof.store.results import Incoming, open_store
from vitprof.store.runs import Origin, new_run


def _rows(count: int = 0) -> list[dict[str, Any]]:
    several = dicts_from_results([*samples.several(), samples.hostile()])
    return [*several, *({**several[0], "model": f"m{index}", "batch": 1 + index % 7} for index in range(count))]


def test_every_row_of_version_1_is_there_afterwards_as_it_was(address: str) -> None:
    # More than are moved at a time.
    rows = _rows(1_200)
    version_1.make(address, rows)
    with open_store(address) as store:
        found = store.rows(is_all=True)
        assert [one.document for one in sorted(found, key=lambda one: one.id)] == rows
        assert {(one.run, one.origin) for one in found} == {("early", Origin.MEASURED)}
        assert store.runs()[0].command == "latency" and store.runs()[0].plan is None
        [told] = store.with_time_shares([Point("net", (96, 64), 1, "fp32", "local", "ort", 1e6, threads=1)])
        assert told.time_shares == {Kind.POOL: 0.25}
        # Known again, and new ones get numbers that are free.
        assert store.add_missing([[Incoming(new_run("import a.json"), rows)]]) == (0,)
        store.add(new_run("latency"), rows[:1])
        assert max(one.id for one in store.rows(is_all=True)) == len(rows) + 1


def test_the_tables_are_those_of_a_new_store(address: str) -> None:
    version_1.make(address, _rows())
    with open_store(address) as store, store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, schema.METADATA)
    # SQLite says which table a foreign key leads to, and whether it cascades; its text types are one.
    assert [one for one in differences if not _is_of_a_text_type(one)] == []


def _is_of_a_text_type(difference: Any) -> bool:
    # VARCHAR without a length and TEXT are the same to both databases.
    entry = difference[0] if isinstance(difference, list) else difference
    return entry[0] == "modify_type" and {str(entry[5]), str(entry[6])} == {"VARCHAR", "TEXT"}


def test_a_copy_of_the_file_is_left_beside_it(file: Path) -> None:
    version_1.make(str(file), _rows())
    open_store(file).__exit__(None, None, None)
    open_store(file).__exit__(None, None, None)
    # Once, and nothing else is left over.
    [copy] = file.parent.glob("*backup*")
    assert copy.name == "results.sqlite.v1-backup"
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT value FROM meta").fetchall() == [("1",)]
        assert connection.execute("SELECT count(*) FROM results").fetchall() == [(len(_rows()),)]


def test_half_a_copy_of_a_killed_migration_is_removed(file: Path) -> None:
    version_1.make(str(file), _rows())
    file.with_name(".results.sqlite.v1-backup.12345").write_text("half")
    open_store(file).__exit__(None, None, None)
    assert sorted(path.name for path in file.parent.glob("*backup*")) == ["results.sqlite.v1-backup"]
    assert list(file.parent.glob(".*")) == []


def test_a_copy_that_is_there_already_is_not_written_over(file: Path) -> None:
    file.with_name("results.sqlite.v1-backup").write_text("mine")
    version_1.make(str(file), _rows())
    open_store(file).__exit__(None, None, None)
    assert file.with_name("results.sqlite.v1-backup").read_text() == "mine"
    assert file.with_name("results.sqlite.v1-backup-2").stat().st_size > 10_000


@pytest.mark.slow
def test_a_copy_of_the_tables_is_left_in_a_schema_of_its_own(server: Any) -> None:
    address = server.new_database()
    version_1.make(address, _rows())
    with open_store(address) as store, store.reading() as connection:
        found = connection.execute(text("SELECT count(*) FROM vitprof_v1_backup.results")).scalar()
        assert found == len(_rows())
        assert connection.execute(text("SELECT value FROM vitprof_v1_backup.meta")).scalar() == "1"


def test_a_migration_that_fails_leaves_the_store_as_it_was(address: str, tmp_path: Path) -> None:
    version_1.make(address, [*_rows(), {**_rows()[0], "environment": 3}])
    for _ in range(2):
        with pytest.raises(VitprofError, match=f"row {len(_rows()) + 1} .* cannot be read") as caught:
            open_store(address)
        assert "DELETE FROM results WHERE id = " in caught.value.remedy
    assert _version(address) == "1"
    # No try leaves a copy of its own.
    assert list(tmp_path.glob("*backup*")) == []


def _version(address: str) -> str:
    if "://" not in address:
        with closing(sqlite3.connect(address)) as connection:
            return str(connection.execute("SELECT value FROM meta").fetchone()[0])
    import psycopg

    with psycopg.connect(address) as server:
        found = server.execute("SELECT value FROM meta").fetchone()
        assert found
        return str(found[0])


def _open(address: str, begin: str, name: str) -> None:
    Path(f"{begin}-{name}").touch()
    wait_for(Path(begin).exists)
    with open_store(address) as store:
        assert len(store.rows(is_all=True)) >= 1_000
        store.add(new_run(name), _rows()[:1])


def test_of_processes_that_open_it_at_once_one_migrates_and_all_go_on(address: str, tmp_path: Path) -> None:
    version_1.make(address, _rows(1_000))
    begin = tmp_path / "begin"
    names = [f"opener{index}" for index in range(3)]
    openers = [started(_open, address, str(begin), name) for name in names]
    wait_for(lambda: all(Path(f"{begin}-{name}").exists() for name in names))
    begin.touch()
    for opener in openers:
        opener.join(120)
    assert [opener.exitcode for opener in openers] == [0, 0, 0]
    with open_store(address) as store:
        assert len(store.rows(is_all=True)) == len(_rows(1_000)) + 3
    if "://" not in address:
        assert len(list(tmp_path.glob("*backup*"))) == 1


_KILLED_AT = """
import os, signal, sys
from vitprof.store import migrations, packing
from vitprof.store.results import open_store

real, moved = packing.packed_row, 0

def packed_row(row):
    global moved
    moved += 1
    if moved == {row}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(row)

packing.packed_row = packed_row
open_store(sys.argv[1])
"""


@pytest.mark.parametrize("moved", [1, 700])
def test_a_migration_that_is_killed_leaves_the_old_store(address: str, moved: int) -> None:
    rows = _rows(1_000)
    version_1.make(address, rows)
    killed = subprocess.run([sys.executable, "-c", _KILLED_AT.format(row=moved), address], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert _version(address) == "1"
    with open_store(address) as store:
        assert [one.document for one in sorted(store.rows(is_all=True), key=lambda one: one.id)] == rows


def test_a_disk_without_room_for_the_copy_is_told_and_nothing_is_changed(disk: Callable[[str], Path]) -> None:
    folder = disk("700k")
    file = folder / "results.sqlite"
    version_1.make(str(file), _rows(150))
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(VitprofError, match="cannot copy the results store") as caught:
        open_store(file)
    assert "free space" in caught.value.remedy and str(folder) in caught.value.remedy
    assert _version(str(file)) == "1"
    assert [path.name for path in folder.iterdir() if "backup" in path.name] == []
    assert before[0] == "results.sqlite"


def test_alembic_is_loaded_for_an_old_store_only(file: Path) -> None:
    opening = "import sys; from vitprof.store.results import open_store; open_store(sys.argv[1]);"
    program = f"{opening} print('alembic' in sys.modules)"

    def loads() -> str:
        words = [sys.executable, "-c", program, str(file)]
        return subprocess.run(words, capture_output=True, text=True, check=True, env=dict(os.environ)).stdout.strip()

    version_1.make(str(file), _rows())
    assert [loads(), loads()] == ["True", "False"]
