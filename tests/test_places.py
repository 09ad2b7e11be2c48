from __future__ import annotations

from pathlib import Path

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


@pytest.mark.parametrize(("name", "said"), [("", "that is no name"), ("x" * 300, "too long"), ("sqlite://", "SQLite")])
def test_a_store_that_can_be_none_is_a_mistake_and_not_the_one_of_the_data_folder(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        places(name).ready_store()
    assert name == "sqlite://" or places(name).has_store


def test_a_store_may_be_named_as_a_url_of_its_file(tmp_path: Path) -> None:
    named = places(f"sqlite:///{tmp_path}/a.sqlite")
    assert named.store == named.shown_store == str(tmp_path / "a.sqlite") and not named.has_store
