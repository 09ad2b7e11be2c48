"""Names of models to what is asked for (`ModelSpec`), without importing torch or timm.

Its own file because every command starts here, and importing timm takes 10 s: the names and the input size of each
are kept in a JSON file per pair of installed timm and torchvision versions, built once in a process of its own.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path

from vitprof.errors import UnreachableError, UsageError, VitprofError
from vitprof.models.files import is_path, spec_from_path
from vitprof.records import ModelSpec, Source

# Raised when the fields of the file change: an older file is then built anew.
CATALOGUE_VERSION = 1
# As many near misses as fit one line of a terminal.
NEAREST = 5

_GLOB_MARKS = "*?["

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Catalogue:
    """Each name with its own input size (C, H, W)."""

    timm: Mapping[str, Size]
    torchvision: Mapping[str, Size]
    # `name.tag`, where pretrained weights of a timm model want another size than the model's own.
    timm_tags: Mapping[str, Size] = field(default_factory=dict)


Run = Callable[[Callable[[], Catalogue]], Catalogue]


def catalogue(cache_root: Path, run: Run | None = None) -> Catalogue:
    """The names of the installed timm and torchvision; built where the file is missing.

    `run` calls what it is given in another process; without it, one is started for this and ended.
    """
    path = _catalogue_path(cache_root)
    known = _read(path)
    if known is None:
        # Importing `listing` loads neither library; calling it does.
        from vitprof.models.listing import build_catalogue

        known = (run or _run_elsewhere)(build_catalogue)
        _write(path, known)
    return known


def matching(pattern: str, known: Catalogue) -> tuple[tuple[str, str], ...]:
    """(name, source) of every model that a glob or a name means, timm's first, each in natural order.

    Without a prefix both sources are searched. `UsageError` with the nearest names where there is none.
    """
    prefix, _, name = pattern.rpartition(":")
    sources = [s for s in (Source.TIMM, Source.TORCHVISION) if prefix in ("", s.value)]
    found = tuple((one, source.value) for source in sources for one in _names_like(name, _sizes_of(source, known)))
    if not found:
        raise _unmatched(pattern) if any(mark in name for mark in _GLOB_MARKS) else _unknown(pattern, name, known)
    return found


def expand(texts: Iterable[str], names: Callable[[], Catalogue]) -> tuple[ModelSpec, ...]:
    """One spec for every model that `texts` name, each once; a glob gives its models in natural order.

    `names` is called only where a text is a name: a path needs no catalogue.
    """
    found = (spec for text in texts for spec in find(text, names))
    return tuple(dict.fromkeys(found))


def find(text: str, names: Callable[[], Catalogue]) -> tuple[ModelSpec, ...]:
    """The models of one text: several for a glob. `UsageError` where there is none."""
    if is_path(text):
        return (spec_from_path(text),)
    prefix, _, name = text.rpartition(":")
    if prefix not in ("", "timm", "torchvision"):
        raise UsageError(
            f"'{prefix}' is not a source of models",
            remedy="write NAME, timm:NAME, torchvision:NAME, or a file: net.py:factory, net.pt2, net.pt, net.onnx",
        )
    source = Source.TORCHVISION if prefix == "torchvision" else Source.TIMM
    known = names()
    if any(mark in name for mark in _GLOB_MARKS):
        sizes = _sizes_of(source, known)
        matches = _names_like(name, sizes)
        if not matches:
            raise _unmatched(text)
        return tuple(ModelSpec(name=one, source=source, size=sizes[one][1:]) for one in matches)
    size = _size_of(name, source, known)
    if size is None:
        raise _unknown(text, name, known)
    return (ModelSpec(name=name, source=source, size=size[1:]),)


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts `b2` before `b15`: the digits in a name as numbers."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))


def _names_like(pattern: str, sizes: Mapping[str, Size]) -> list[str]:
    return sorted((name for name in sizes if fnmatchcase(name, pattern)), key=natural_key)


def _sizes_of(source: Source, known: Catalogue) -> Mapping[str, Size]:
    return known.torchvision if source is Source.TORCHVISION else known.timm


def _unmatched(text: str) -> UsageError:
    return UsageError(f"no model matches '{text}'", remedy="vitprof models '*' lists every name")


def _size_of(name: str, source: Source, known: Catalogue) -> Size | None:
    if source is Source.TORCHVISION:
        return known.torchvision.get(name)
    # timm's own grammar: what follows the first dot names pretrained weights of the same network.
    return known.timm_tags.get(name) or known.timm.get(name.partition(".")[0])


def _unknown(text: str, name: str, known: Catalogue) -> UsageError:
    base = name.partition(".")[0]
    spoken = {plain: plain for plain in known.timm} | {f"torchvision:{plain}": plain for plain in known.torchvision}
    exact = [full for full, plain in spoken.items() if plain == base]
    close = difflib.get_close_matches(base, set(spoken.values()), n=NEAREST, cutoff=0.5)
    nearest = list(dict.fromkeys(exact + [full for plain in close for full, p in spoken.items() if p == plain]))
    said = f"; the nearest are {', '.join(nearest[:NEAREST])}" if nearest else ""
    # The leading letters: what people know for sure of a name that they mistype.
    stem = re.match(r"[A-Za-z]*", base)
    pattern = (stem[0] if stem else "") + "*"
    return UsageError(f"there is no model '{text}'{said}", remedy=f"vitprof models '{pattern}' lists names")


def _catalogue_path(cache_root: Path) -> Path:
    try:
        versions = f"timm-{version('timm')}-torchvision-{version('torchvision')}"
    except PackageNotFoundError as error:
        raise UnreachableError(
            f"{error.name} is not installed, so no model has a name", remedy=f"pip install {error.name}", stage="model"
        ) from error
    return cache_root / "catalogue" / f"{versions}-v{CATALOGUE_VERSION}.json"


def _read(path: Path) -> Catalogue | None:
    try:
        body = json.loads(path.read_text())
        return Catalogue(**{key: {n: (s[0], s[1], s[2]) for n, s in body[key].items()} for key in _KEYS})
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        # Missing, or not what this version writes: it is built again.
        return None


_KEYS = ("timm", "torchvision", "timm_tags")


def _write(path: Path, known: Catalogue) -> None:
    """Whole or not at all, so that another vitprof never reads half a file."""
    text = json.dumps({key: dict(getattr(known, key)) for key in _KEYS})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(name).replace(path)
    except OSError as error:
        raise VitprofError(
            f"cannot write the list of models to {path}: {error}",
            remedy="set VITPROF_CACHE_DIR to a writable folder with free space",
            stage="model",
        ) from error


def _run_elsewhere(build: Callable[[], Catalogue]) -> Catalogue:
    # Not here: torch stays in a process for good, and the host must stay small and quick to leave.
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
            return pool.submit(build).result()
    except BrokenProcessPool as error:
        raise VitprofError(
            "the process that lists timm's models ended without an answer",
            remedy='run `python -c "import timm"` to see whether timm imports',
            stage="model",
        ) from error
