"""Where in a TOML text a key or an element of a list stands.

Its own file because the parser of the standard library gives values without their lines, and an error that names no
line of a long plan helps little. The text is not checked here: for lines of keys it has to be valid TOML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

Place = tuple[str | int, ...]

# Of valid TOML: strings of all four kinds, comments, marks, and whatever else stands without quotes.
_TOKEN = re.compile(
    r'(?P<string>"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\')'
    r"|(?P<comment>\#[^\n]*)|(?P<end>\n)|(?P<mark>[\[\]{}=,.])|(?P<bare>[^\s\[\]{}=,.\#\"']+)",
    re.DOTALL,
)
# Far more than any number that is meant, far fewer than Python refuses to print.
_LONG = 100


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int
    begin: int


def lines_of(text: str) -> dict[Place, int]:
    """The line, from 1, of every key at the top or in an array of tables, and of every element of their lists.

    `("batches",)`, `("batches", 2)`, `("exclude", 0)`, `("exclude", 0, "backends", 1)`.
    Of a dotted name the first part.
    """
    tokens = [token for token in _tokens(text) if token.kind != "comment"]
    lines: dict[Place, int] = {}
    counts: dict[str, int] = {}
    table: Place = ()
    index = 0
    while index < len(tokens):
        token = tokens[index]
        if token.kind == "end":
            index += 1
        elif token.text == "[" and token.kind == "mark":
            index, name, is_array = _header(tokens, index)
            table = (name, counts.get(name, 0)) if is_array else (name,)
            counts[name] = counts.get(name, 0) + is_array
            lines[table] = token.line
            lines.setdefault((name,), token.line)
        else:
            index = _statement(tokens, index, table, lines)
    return lines


def long_number(text: str) -> tuple[int, int] | None:
    """The line and the length of the first number, or bare name, of over a hundred characters; None without one.

    The text may be no valid TOML.
    """
    longest = (token for token in _tokens(text) if token.kind == "bare" and len(token.text) > _LONG)
    return next(((token.line, len(token.text)) for token in longest if token.text.lstrip("+-")[:1].isdigit()), None)


def _tokens(text: str) -> Iterator[_Token]:
    line, seen = 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", seen, match.start())
        seen = match.start()
        yield _Token(match.lastgroup or "", match[0], line, match.start())


def _header(tokens: list[_Token], index: int) -> tuple[int, str, bool]:
    """Past `[name]` or `[[name]]`: where it goes on, the name, and whether it is an element of an array."""
    is_array = tokens[index + 1].begin == tokens[index].begin + 1 and tokens[index + 1].text == "["
    name = _bare(tokens[index + 1 + is_array])
    while index < len(tokens) and tokens[index].kind != "end":
        index += 1
    return index, name, is_array


def _statement(tokens: list[_Token], index: int, table: Place, lines: dict[Place, int]) -> int:
    """Past `key = value`, whose lines are added to `lines`."""
    place = (*table, _bare(tokens[index]))
    lines.setdefault(place, tokens[index].line)
    while tokens[index].text != "=" or tokens[index].kind != "mark":
        index += 1
    depth, element, is_new = 0, 0, True
    for token in tokens[index + 1 :]:
        index += 1
        is_mark = token.kind == "mark"
        if token.kind == "end":
            if depth == 0:
                break
        elif is_mark and token.text in "]}":
            depth -= 1
        elif is_mark and token.text == ",":
            element, is_new = (element + 1, True) if depth == 1 else (element, is_new)
        else:
            if depth == 1 and is_new:
                lines[(*place, element)] = token.line
                is_new = False
            depth += is_mark and token.text in "[{"
    return index + 1


def _bare(token: _Token) -> str:
    return token.text.strip("\"'") if token.kind == "string" else token.text
