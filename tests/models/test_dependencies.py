from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from vitprof.errors import VitprofError
from vitprof.models.dependencies import content_sha256, is_users, remember_source_files, source_files, watched


def test_a_factory_that_never_ran_has_its_own_file_alone(tmp_path: Path) -> None:
    assert source_files(tmp_path / "net.py", "make", tmp_path) == (tmp_path / "net.py",)


def test_what_was_remembered_is_kept_for_each_factory(tmp_path: Path) -> None:
    net, parts = tmp_path / "net.py", tmp_path / "parts.py"
    remember_source_files(net, "make", (net, parts), tmp_path / "cache")
    assert source_files(net, "make", tmp_path / "cache") == (net, parts)
    assert source_files(net, "other", tmp_path / "cache") == (net,)
    remember_source_files(net, "make", (net,), tmp_path / "cache")
    assert source_files(net, "make", tmp_path / "cache") == (net,)
    (record,) = (tmp_path / "cache" / "factories").iterdir()
    assert json.loads(record.read_text())["factory"] == "make"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 3}', '{"other": []}'])
def test_a_damaged_record_counts_as_none(tmp_path: Path, text: str) -> None:
    net = tmp_path / "net.py"
    remember_source_files(net, "make", (net, tmp_path / "parts.py"), tmp_path)
    (record,) = (tmp_path / "factories").iterdir()
    record.write_text(text)
    assert source_files(net, "make", tmp_path) == (net,)


def test_a_cache_that_cannot_be_written_names_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VitprofError, match="file cannot be used") as caught:
        remember_source_files(tmp_path / "net.py", "make", (), tmp_path / "file")
    assert "VITPROF_CACHE_DIR" in caught.value.remedy


def test_one_file_is_hashed_as_sha256sum_does(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert content_sha256([tmp_path / "a"]) == hashlib.sha256(b"abc").hexdigest()


def test_the_hash_is_of_contents_and_of_places_beside_the_first(tmp_path: Path) -> None:
    def folder(name: str, **texts: str) -> str | None:
        (tmp_path / name).mkdir()
        for file, text in texts.items():
            (tmp_path / name / file).write_text(text)
        return content_sha256([tmp_path / name / file for file in texts])

    first = folder("first", net="1", a="2", b="3")
    assert folder("moved", net="1", a="2", b="3") == first
    assert folder("swapped", net="1", a="3", b="2") != first
    assert content_sha256([tmp_path / "first" / "net", tmp_path / "first" / "absent"]) is None


def test_pythons_own_files_and_packages_are_not_the_users(tmp_path: Path) -> None:
    own = tmp_path / "net.py"
    own.write_text("")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "x.py").write_text("")
    assert is_users(own)
    assert not is_users(tmp_path / "site-packages" / "x.py")
    assert not is_users(Path(json.__file__))
    assert not is_users(Path(pytest.__file__))
    assert not is_users(Path(sys.modules["vitprof.errors"].__file__ or ""))
    assert not is_users(tmp_path / "absent.py")
    assert not is_users(tmp_path)


def test_files_that_are_read_inside_are_seen_and_no_others(tmp_path: Path) -> None:
    for name in ("before", "read", "relative", "after", "gone"):
        (tmp_path / name).write_text("")
    (tmp_path / "before").read_text()
    with watched() as files:
        (tmp_path / "read").read_bytes()
        (tmp_path / "written").write_text("")
        (tmp_path / "gone").read_text()
        (tmp_path / "gone").unlink()
    (tmp_path / "after").read_text()
    assert files == {tmp_path / "read"}
