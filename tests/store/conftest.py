"""The same tests on both databases: SQLite in a file by default, a real PostgreSQL among the slow ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store import postgres


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    with postgres.server() as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a store that is not there yet."""
    if request.param == "sqlite":
        return str(tmp_path / "results.sqlite")
    running: postgres.Server = request.getfixturevalue("server")
    return running.new_database()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of a store that is not there yet, where only a file will do."""
    return tmp_path / "results.sqlite"
