from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitprof.errors import ExitCode, UsageError, worst
from vitprof.units import (
    Amount,
    amount_from_text,
    bytes_from_text,
    duration_s_from_text,
    share_from_text,
    significant,
    size_from_text,
    text_from_bytes,
    text_from_count,
    text_from_ns,
    text_from_share,
    time_unit,
)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("3s", Amount(duration_ns=3_000_000_000)),
        ("500ms", Amount(duration_ns=500_000_000)),
        ("2min", Amount(duration_ns=120_000_000_000)),
        ("1.5s", Amount(duration_ns=1_500_000_000)),
        ("200x", Amount(calls=200)),
    ],
)
def test_durations_and_counts_share_one_grammar(text: str, amount: Amount) -> None:
    assert amount_from_text(text) == amount


@pytest.mark.parametrize("text", ["", "3", "x", "0x", "0s", "1.5x", "-3s", "3 parsecs", "s3", "9" * 400 + "s"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="neither"):
        amount_from_text(text)


def test_a_time_out_is_no_count() -> None:
    assert duration_s_from_text("250ms") == 0.25
    with pytest.raises(UsageError, match="not a duration"):
        duration_s_from_text("3x")


def test_shares_and_sizes() -> None:
    assert share_from_text("1%") == share_from_text("0.01") == 0.01
    assert size_from_text("224") == (224, 224) and size_from_text("256x192") == (256, 192)
    for text in ("0%", "100%", "2", "x", "-1%"):
        with pytest.raises(UsageError):
            share_from_text(text)
    # The last ones are more than a database keeps.
    for text in ("0", "224x0", "a", "1x2x3", "2147483648", "224x99999999999999999999"):
        with pytest.raises(UsageError):
            size_from_text(text)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("20GB", 20 * 10**9),
        ("20 gb", 20 * 10**9),
        ("1.5 MB", 1_500_000),
        ("2GiB", 2 * 2**30),
        ("12345", 12345),
        ("7B", 7),
        ("0", 0),
    ],
)
def test_amounts_of_bytes_are_decimal_unless_they_say_otherwise(text: str, amount: int) -> None:
    assert bytes_from_text(text) == amount


@pytest.mark.parametrize("text", ["", "lots", "GB", "-1GB", "5 parsecs", "1e9"])
def test_what_is_no_amount_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an amount of bytes"):
        bytes_from_text(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.05654, "0.05654"), (12.344, "12.34"), (9.9996, "10.00"), (1234.5, "1,234"), (123456, "123,456")],
)
def test_four_significant_digits_and_never_a_power_of_ten(value: float, text: str) -> None:
    assert significant(value) == text


@given(st.floats(1e-6, 1e12))
def test_what_is_shown_is_near_what_is_meant(value: float) -> None:
    assert float(significant(value).replace(",", "")) == pytest.approx(value, rel=5.1e-4)


def test_texts_carry_their_unit_and_none_is_n_a() -> None:
    assert text_from_ns(12_340_000) == "12.34 ms"
    assert text_from_ns(12_340_000, "us") == "12,340 µs"
    assert text_from_count(1_410_980_096, "MAC") == "1.411 GMAC"
    assert text_from_bytes(71_745_248) == "71.75 MB"
    assert text_from_share(0.0123) == "1.2%"
    assert text_from_ns(None) == text_from_count(None) == text_from_share(None) == "n/a"
    assert [time_unit(value) for value in (5, 5e3, 5e6, 5e9)] == ["ns", "us", "ms", "s"]


def test_of_several_outcomes_the_first_of_the_list_is_the_exit_code() -> None:
    assert worst(set()) is ExitCode.OK
    assert worst({ExitCode.OK, ExitCode.PARITY_BROKEN, ExitCode.FAILED}) is ExitCode.FAILED
    assert worst({ExitCode.INTERRUPTED, ExitCode.USAGE}) is ExitCode.INTERRUPTED
