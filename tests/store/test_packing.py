"""How values are packed: nothing is lost, and what was written once is read for ever."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitprof.errors import VitprofError
from vitprof.store import packing

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
MAPPINGS = st.dictionaries(st.text(max_size=5), VALUES, max_size=4)


@settings(deadline=None)
@given(MAPPINGS)
def test_what_is_packed_comes_back(value: dict[str, object]) -> None:
    assert packing.unpacked(packing.packed(value)) == packing.unpacked(packing.packed_row(value)) == value


@settings(deadline=None)
@given(MAPPINGS)
def test_an_environment_is_the_sum_of_its_parts(value: dict[str, object]) -> None:
    assert packing.joined(packing.lasting(value), packing.moving(value)) == value


def test_numbers_move_and_all_else_lasts() -> None:
    environment = {"before": {"cpu": "x", "load_1min": 0.5, "turbo_off": True}, "after": None, "clock_step_ns": 40}
    assert packing.lasting(environment) == {"before": {"cpu": "x", "turbo_off": True}, "after": None}
    assert packing.moving(environment) == {"before": {"load_1min": 0.5}, "clock_step_ns": 40}


def test_bytes_of_the_first_version_of_this_format_are_read_for_ever() -> None:
    # `packed({"a": [1]})` and `packed_row({"model": "m"})`, as they were written first.
    assert packing.unpacked(bytes.fromhex(PLAIN)) == {"a": [1]}
    assert packing.unpacked(bytes.fromhex(ROW)) == {"model": "vit_tiny_patch16_224", "source": "timm", "batch": 1}


PLAIN = "0178daab564a54b28a368cad05000d3702c1"
ROW = "0278f958aae0d1432d8d4b32f32a0914c6b0b2b7160048c01322"


def test_what_would_fill_the_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = [packing.packed([0] * 1_000), packing.packed_row({"a": [0] * 1_000})]
    monkeypatch.setattr(packing, "LARGEST_VALUE_BYTES", 1_000)
    for blob in blobs:
        with pytest.raises(ValueError, match="more than 1000 bytes"):
            packing.unpacked(blob)
    # Nor is anything kept that could not be read again.
    for pack in (packing.packed, packing.packed_row):
        with pytest.raises(VitprofError, match="keeps 1,000 of one at most"):
            pack({"a": [0] * 1_000})


def test_the_key_of_a_cell_is_the_one_that_stores_have_and_another_for_a_model_as_built() -> None:
    row = {"model": "m", "source": "timm", "size": [224, 224], "batch": 1, "precision": "fp32", "device": "local"}
    # As the first stores of version 2 have it.
    assert packing.cell_columns(row)["key"] == packing.hash_of(["m", "timm", 224, 224, 1, "fp32", "local", *[None] * 3])
    assert packing.cell_columns({**row, "as_built": True})["key"] != packing.cell_columns(row)["key"]
    assert packing.is_as_built(packing.cell_columns({**row, "as_built": True}))
    assert not packing.is_as_built(packing.cell_columns(row))


@pytest.mark.parametrize("blob", [b"", b"\x07abc", b"\x01abc", b"\x02abc", b"\x01" + bytes(20)])
def test_other_bytes_are_an_error(blob: bytes) -> None:
    with pytest.raises(ValueError, match="packed"):
        packing.unpacked(blob)
