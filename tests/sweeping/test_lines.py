"""Lines of keys and elements in TOML texts, in every way that TOML has to write them."""

from __future__ import annotations

from vitprof.sweeping.lines import lines_of

_TEXT = """# a plan
models = ["a", # the first
  'b=[1]', "c # no comment",

  \"\"\"d
\"\"\", "e"]
"batches" = [1, 2]   # here too
sizes = [
  224,
  "256x192",
]
effort = "quick"

[[exclude]]
models = ["a"]
batches = [
  2]

[[exclude]]  # the second
sizes = [[1], 2]
exclude.deep = 1
"""


def test_every_key_and_element_has_its_line() -> None:
    lines = lines_of(_TEXT)
    assert lines["models",] == 2
    assert [lines["models", index] for index in range(5)] == [2, 3, 3, 5, 6]
    assert (lines["batches",], lines["batches", 1]) == (7, 7)
    assert (lines["sizes",], lines["sizes", 0], lines["sizes", 1]) == (8, 9, 10)
    assert lines["effort",] == 12


def test_tables_of_an_array_are_counted() -> None:
    lines = lines_of(_TEXT)
    assert (lines["exclude", 0], lines["exclude", 1]) == (14, 19)
    assert (lines["exclude", 0, "models"], lines["exclude", 0, "batches", 0]) == (15, 17)
    # A list within a list is one element.
    assert (lines["exclude", 1, "sizes", 0], lines["exclude", 1, "sizes", 1]) == (20, 20)
    assert ("exclude", 1, "sizes", 2) not in lines


def test_a_dotted_name_is_known_by_its_first_part() -> None:
    lines = lines_of("a.b = 1\na.c = 2\n[d.e]\nf = 3\n[[g.h]]\n")
    assert (lines["a",], lines["d",], lines["g",], lines["g", 0]) == (1, 3, 5, 5)


def test_windows_line_ends_and_no_end_at_all() -> None:
    assert lines_of('models = [\r\n"a",\r\n"b"]')["models", 1] == 3


def test_a_plan_may_be_empty() -> None:
    assert lines_of("\n# nothing\n") == {}
