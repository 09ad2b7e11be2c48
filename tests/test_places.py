from __future__ import annotations

import pytest

from vitprof.errors import ExitCode, UsageError
from vitprof.places import DEFAULT_CACHE_CAP_BYTES, places


@pytest.mark.parametrize(("text", "cap_bytes"), [("50GB", 50 * 10**9), ("0", 0), ("", DEFAULT_CACHE_CAP_BYTES)])
def test_the_limit_of_the_cache_is_what_the_variable_says(
    monkeypatch: pytest.MonkeyPatch, text: str, cap_bytes: int
) -> None:
    monkeypatch.setenv("VITPROF_CACHE_MAX_BYTES", text)
    assert places().cache_cap_bytes == cap_bytes


def test_a_limit_that_is_no_amount_of_bytes_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPROF_CACHE_MAX_BYTES", "lots")
    with pytest.raises(UsageError, match="VITPROF_CACHE_MAX_BYTES: 'lots'") as caught:
        places()
    assert "20GB" in caught.value.remedy
    assert caught.value.exit_code is ExitCode.USAGE
