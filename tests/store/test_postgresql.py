"""A store on a PostgreSQL server: what it says when it cannot be used, and never the password."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_results import QUICK, TINY, rows_of, vitprof
from tests.report import samples
from tests.store import postgres
from vitprof.errors import UnreachableError, UsageError, VitprofError
from vitprof.places import Places, shown_store
from vitprof.report.document import dicts_from_results
from vitprof.store.results import open_store
from vitprof.store.runs import new_run


def _refused(address: str) -> VitprofError:
    with pytest.raises(VitprofError) as caught:
        open_store(address)
    assert "hun" not in caught.value.message + caught.value.remedy
    return caught.value


def test_a_server_that_is_not_there_is_told_with_what_to_do() -> None:
    pytest.importorskip("psycopg")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    error = _refused(f"postgresql://me:hunter2@127.0.0.1:{port}/vitprof")
    assert isinstance(error, UnreachableError) and "efused" in error.message and "host and port" in error.remedy
    assert f"postgresql://me:***@127.0.0.1:{port}/vitprof" in error.message


def test_a_server_that_is_not_there_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"postgresql://me:hunter2@127.0.0.1:{probe.getsockname()[1]}/vitprof"
    done = vitprof(tmp_path, "latency", TINY, "--store", address)
    assert done.returncode == 4 and "efused" in done.stderr and "hunter2" not in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("scheme", ["mysql", "oracle", "postgresql+asyncpg", "http"])
def test_another_database_is_a_mistake_of_the_caller(scheme: str) -> None:
    error = _refused(f"{scheme}://me:hunter2@host/name")
    assert isinstance(error, UsageError) and f"not in '{scheme}'" in error.message


@pytest.mark.parametrize("password", ["hun@ter2", "hun@/ter2"])
def test_the_end_of_a_password_is_not_shown_as_a_host(password: str) -> None:
    error = _refused(f"postgresql://me:{password}@127.0.0.1:1/name")
    assert isinstance(error, UsageError) and "%40" in error.remedy
    assert "hun" not in str(error) and "ter2" not in f"{error.message}{error.remedy}"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("/a/b.sqlite", "/a/b.sqlite"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://me:hunter2@host:5/db", "postgresql://me:***@host:5/db"),
        ("postgresql://me:hun@ter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:hun:ter2@host/db?sslmode=require", "postgresql://me:***@host/db?sslmode=require"),
        ("postgresql:///db?user=me&password=hunter2&x=1", "postgresql:///db?user=me&password=***&x=1"),
        ("postgresql://host/db?password=hun@ter2", "postgresql://host/db?password=***"),
        ("postgresql://me@host:5/db?sslpassword=hun@ter2&x=1", "postgresql://me@host:5/db?sslpassword=***&x=1"),
        ("postgresql://me:hunter2password=3@host/db", "postgresql://me:***@host/db"),
    ],
)
def test_a_password_is_not_shown(address: str, shown: str) -> None:
    assert shown_store(address) == shown == Places(Path(), Path(), named_store=address).shown_store


def test_without_the_driver_it_is_told_before_anything_is_measured() -> None:
    # As if it were not installed, in a process of its own.
    program = (
        "import sys, importlib.util, vitprof.places\n"
        "real = importlib.util.find_spec\n"
        "vitprof.places.find_spec = lambda name: None if name == 'psycopg' else real(name)\n"
        "from vitprof.cli import main\n"
        "main(['latency', 'nosuch.onnx', '--store', 'postgresql://me:hunter2@host/db'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 4 and "pip install 'vitprof[postgres]'" in done.stderr
    assert "hunter2" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "said", "remedy"),
    [
        (lambda server: server.url("postgres", "hunter2"), "password authentication failed", "the password"),
        (lambda server: server.url("nosuch"), "does not exist", "createdb"),
        (lambda server: server.url("postgres").replace("vitprof:", "nobody:"), "authentication failed", "the user"),
    ],
)
def test_what_the_server_refuses_is_told(server: postgres.Server, address: object, said: str, remedy: str) -> None:
    assert callable(address)
    error = _refused(address(server))
    assert isinstance(error, UnreachableError) and said in error.message and remedy in error.remedy


@pytest.mark.slow
def test_a_database_of_somebody_else_is_refused_and_left_as_it_is(server: postgres.Server) -> None:
    import psycopg

    address = server.new_database()
    with psycopg.connect(address) as connection:
        connection.execute("CREATE TABLE mine (x integer)")
    assert "no results store" in _refused(address).message
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (1,)


@pytest.mark.slow
def test_a_user_who_may_not_make_tables_is_told_what_to_grant(server: postgres.Server) -> None:
    import psycopg

    address = server.new_database()
    with psycopg.connect(address) as connection:
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'hun'")
    error = _refused(address.replace("vitprof:", "reader:").replace(postgres.QUOTED, "hun"))
    assert "permission denied" in error.message and "GRANT CREATE" in error.remedy


@pytest.mark.slow
def test_text_that_postgresql_cannot_hold_comes_back_whole(server: postgres.Server) -> None:
    [row] = dicts_from_results([samples.ok()])
    row["model"] = "a\0b"
    with open_store(server.new_database()) as store:
        store.add(new_run("latency \0"), [row])
        assert [one.document for one in store.rows("a?b")] == [row]


@pytest.mark.slow
def test_a_server_that_goes_away_is_told(server: postgres.Server) -> None:
    import psycopg

    address = server.new_database()
    with open_store(address) as store:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 't%'")
        with pytest.raises(UnreachableError, match="cannot use the results store"):
            store.rows()


@pytest.mark.slow
def test_what_is_measured_goes_to_the_server_and_comes_back(server: postgres.Server, tmp_path: Path) -> None:
    address = server.new_database()
    for _ in range(2):
        done = vitprof(tmp_path, "latency", TINY, *QUICK, "--store", address)
        assert done.returncode == 0, done.stderr
    first, second = reversed(rows_of(tmp_path, "--all", "--store", address))
    # What the first saw of the reference serves the second.
    assert first["drift_corrected_ns"] is None and second["drift_corrected_ns"] > 0
    shown = json.loads(vitprof(tmp_path, "results", "show", "latest", "--json", "-", "--store", address).stdout)
    [row] = shown["rows"]
    assert row["result"] == second and row["samples_ns"]["sets"][0]["calls"] >= 30
    assert vitprof(tmp_path, "results", "prune", "--keep", "1", "--store", address).stdout.startswith(
        "removed 1 result"
    )
    assert rows_of(tmp_path, "--all", "--store", address) == [second]
