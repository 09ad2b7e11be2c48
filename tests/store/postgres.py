"""A real PostgreSQL server of its own for tests: from Debian's packages, in a folder of its own, gone afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

# Of a server that lives as long as a test.
PASSWORD = "hun ter@2/#"  # noqa: S105
QUOTED = "hun%20ter%402%2F%23"
_START_S = 60


@dataclass(frozen=True)
class Server:
    port: int
    folder: Path

    def url(self, database: str, password: str = QUOTED) -> str:
        return f"postgresql://vitprof:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        import psycopg

        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)


@contextmanager
def server() -> Iterator[Server]:
    """Starts one, or skips the test with what is missing."""
    pytest.importorskip("psycopg", reason="pip install 'vitprof[postgres]'")
    programs = _programs()
    # Of a folder that pytest makes nobody else may read, and the server refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="vitprof-postgres-"))
    user = "postgres" if os.geteuid() == 0 else None
    try:
        (folder / "password").write_text(PASSWORD)
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user, user)
        data = folder / "data"
        words = (
            "-D",
            data,
            "-U",
            "vitprof",
            "-A",
            "scram-sha-256",
            "--pwfile",
            folder / "password",
            "-N",
            "-E",
            "UTF8",
        )
        _run(user, programs / "initdb", *words)
        port = _free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
        _run(user, programs / "pg_ctl", "-D", data, "-w", "-t", _START_S, "-l", folder / "log", "-o", options, "start")
        try:
            yield Server(port, folder)
        finally:
            _run(user, programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    known = str(found[-1]) if found else shutil.which("initdb")
    if not known:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    return Path(known).parent


def _run(user: str | None, *words: object) -> None:
    done = subprocess.run(
        [str(word) for word in words],
        user=user,
        group=user,
        extra_groups=[] if user else None,
        cwd="/",
        # Not a pipe: the server would inherit it, and it would never end.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        check=False,
    )
    assert done.returncode == 0, f"{words[0]} failed with {done.returncode}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
