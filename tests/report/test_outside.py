"""Text from outside becomes one harmless line without losing its words."""

from __future__ import annotations

import pytest

from vitprof.report.outside import encodable, plain, plain_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;cut off and still readable", "0;cut off and still readable"),
        ("\x1bcreset", "reset"),
        ("one\r\ntwo\tthree\x00", "one two three"),
        ("safe\u202egnp.exe", "safegnp.exe"),
        ("m\udcff", "m\N{REPLACEMENT CHARACTER}"),
        ("größe 模型 [x] <b>", "größe 模型 [x] <b>"),
    ],
)
def test_plain(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_encodable_text_is_kept() -> None:
    assert encodable("größe\x1b[0m") == "größe\x1b[0m"


def test_lines_and_blanks_of_an_own_text_stay_and_nothing_in_them_is_a_command() -> None:
    text = "vitprof: no run 'a\x1b]0;title\x07\x1b[31m\x9b2J\u202eb'\n  → type  this\ror that"
    assert plain_lines(text) == "vitprof: no run 'ab'\n  → type  this or that"
