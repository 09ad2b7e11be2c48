"""How LiteRT.js comes into the cache: by an npm that is really run, here one of our own that gives what it is told."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from vitprof.devices.browser import litert_js
from vitprof.errors import UnreachableError, UsageError, VitprofError


def _npm(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "npm").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def _installed(folder: Path) -> Path:
    """What `npm install @litertjs/core` leaves, with modules of a line."""
    root = folder / "node_modules" / "@litertjs"
    for name, text in (
        ("core", 'import { createWasmLib } from "@litertjs/wasm-utils";\n'),
        ("wasm-utils", "export {};\n"),
    ):
        (root / name / "dist").mkdir(parents=True)
        (root / name / "dist" / "index.js").write_text(text)
    (root / "core" / "wasm").mkdir()
    (root / "core" / "wasm" / "litert_wasm_internal.wasm").write_bytes(b"\0asm")
    (root / "core" / "package.json").write_text(json.dumps({"version": "9.9.9"}))
    return folder


def test_another_file_than_the_one_that_was_tried_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "other.tgz"
    with tarfile.open(archive, "w:gz") as file:
        entry = tarfile.TarInfo("package/dist/index.js")
        entry.size = 5
        file.addfile(entry, io.BytesIO(b"alert"))
    _npm(tmp_path, f'cp {archive} "$5/core.tgz"', monkeypatch)
    with pytest.raises(VitprofError, match=r"has the hash sha512-.*expected sha512-") as caught:
        litert_js.litert_js(tmp_path / "cache")
    assert "registry" in caught.value.remedy
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("has_filters", [True, False])
def test_what_npm_gives_is_unpacked_with_pythons_that_have_no_filters_too(
    tmp_path: Path, has_filters: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12's has none."""
    if not has_filters:
        monkeypatch.delattr(tarfile, "data_filter")
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz") as file:
        for name in ("package/dist/index.js", "package/wasm/x.wasm"):
            entry = tarfile.TarInfo(name)
            entry.size = 5
            file.addfile(entry, io.BytesIO(b"12345"))
    digest = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    monkeypatch.setattr(litert_js, "_PACKAGES", {"core": digest, "wasm-utils": digest})
    _npm(tmp_path, f'cp {archive} "$5/given.tgz"', monkeypatch)
    assert set(litert_js.litert_js(tmp_path / "cache").files()) == {"core.js", "wasm-utils.js", "x.wasm"}


@pytest.mark.parametrize("body", ["echo no network >&2; exit 1", "exit 0"])
def test_an_npm_that_fetches_nothing_is_told_with_its_words(
    tmp_path: Path, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _npm(tmp_path, body, monkeypatch)
    with pytest.raises(UnreachableError, match="npm could not fetch @litertjs/core@") as caught:
        litert_js.litert_js(tmp_path / "cache")
    assert "--litert" in caught.value.remedy
    assert ("no network" in caught.value.message) == body.startswith("echo")


def test_without_npm_it_says_how_to_do_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreachableError, match="npm is not installed") as caught:
        litert_js.litert_js(tmp_path / "cache")
    assert "--litert FOLDER" in caught.value.remedy


def test_a_given_folder_is_taken_as_it_is_and_kept_under_its_content(tmp_path: Path) -> None:
    given = _installed(tmp_path / "given")
    first = litert_js.litert_js(tmp_path / "cache", given)
    assert first.version == "9.9.9"
    assert set(first.files()) == {"core.js", "wasm-utils.js", "litert_wasm_internal.wasm"}
    # A worker knows no bare names.
    assert '"./wasm-utils.js"' in (first.folder / "core.js").read_text()
    (given / "node_modules" / "@litertjs" / "core" / "wasm" / "litert_wasm_internal.wasm").write_bytes(b"\0asm2")
    assert litert_js.litert_js(tmp_path / "cache", given).folder != first.folder


def test_a_folder_without_it_is_refused_with_the_command_that_fills_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no LiteRT\.js in") as caught:
        litert_js.litert_js(tmp_path / "cache", tmp_path)
    assert "npm install @litertjs/core@" in caught.value.remedy
