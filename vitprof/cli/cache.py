"""`vitprof cache`: what the artifact cache holds, and emptying it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitprof.cli import options

if TYPE_CHECKING:
    from vitprof.export.eviction import Cleared, Entry
    from vitprof.places import Places
    from vitprof.records import Artifact
    from vitprof.report.schema import CacheDocument, CachedRow

app = typer.Typer(help="List and clear the artifact cache.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_cache(json: options.JsonFile = None) -> None:
    """List the artifacts in the cache, the one used last first."""
    from vitprof.places import places

    options.check_writable(json)
    document = _document(places())
    if json:
        from vitprof.report.document import json_text

        options.write_text(json, json_text(document))
        return
    from rich.console import Console

    from vitprof.report.terminal import show_cache

    show_cache(document, Console())


@app.command("clear")
def clear_cache(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Names or globs as in: vitprof cache list; default: everything.", show_default=False),
    ] = None,
) -> None:
    """Remove what can be made again: artifacts that nobody is using, and without MODELS all the rest of the cache."""
    from vitprof.errors import UsageError
    from vitprof.export import eviction
    from vitprof.places import places

    cache_root = places().cache_root
    if not models:
        typer.echo(_text_from_cleared(eviction.clear(cache_root)))
        return
    named = {one.key: artifact for one in eviction.entries(cache_root) if (artifact := _artifact(one))}
    for pattern in models:
        if not any(_is_meant(artifact, [pattern]) for artifact in named.values()):
            raise UsageError(f"nothing in the cache matches '{pattern}'", remedy="vitprof cache list shows the names")
    keys = {key for key, artifact in named.items() if _is_meant(artifact, models)}
    typer.echo(_text_from_cleared(eviction.clear(cache_root, keys)))


def _document(where: Places) -> CacheDocument:
    from vitprof.export import eviction, locks
    from vitprof.report.outside import encodable
    from vitprof.report.schema import CacheDocument, CachePart

    found = eviction.entries(where.cache_root)
    needed = locks.busy(where.cache_root).keys
    return CacheDocument(
        cache=CachePart(
            folder=encodable(str(where.cache_root)),
            bytes=eviction.taken_bytes(found),
            cap_bytes=where.cache_cap_bytes,
        ),
        artifacts=tuple(_row(one, in_use=one.key in needed) for one in reversed(found)),
    )


def _row(entry: Entry, *, in_use: bool) -> CachedRow:
    from vitprof.report.outside import encodable
    from vitprof.report.schema import CachedRow

    artifact = _artifact(entry)
    last_used_at = datetime.fromtimestamp(entry.last_used_s, UTC).isoformat(timespec="seconds")
    if artifact is None:
        return CachedRow(bytes=entry.bytes, last_used_at=last_used_at, in_use=in_use, damaged=True)
    spec = artifact.spec
    return CachedRow(
        model=encodable(spec.name),
        source=spec.source.value,
        size=spec.size or _height_and_width(artifact.input_shape),
        format=artifact.format,
        precision=spec.precision.value,
        # The zero of a file for every batch is no number of images.
        batch=spec.batch or None,
        bytes=entry.bytes,
        sha256=artifact.sha256,
        last_used_at=last_used_at,
        in_use=in_use,
    )


def _height_and_width(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Of an (N, C, H, W) input, for a file that was not asked for at a size."""
    return (shape[2], shape[3]) if len(shape) == 4 else None


def _artifact(entry: Entry) -> Artifact | None:
    from vitprof.export.cache import read_folder

    try:
        return read_folder(entry.folder)
    except OSError:
        return None


def _is_meant(artifact: Artifact, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns is for this model: by its name, `source:name`, or the name of its file alone."""
    spec = artifact.spec
    names = {spec.name, f"{spec.source.value}:{spec.name}"}
    names |= {Path(spec.path).name} if spec.path else set()
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _text_from_cleared(cleared: Cleared) -> str:
    from vitprof.units import text_from_bytes

    count = len(cleared.removed)
    lines = [f"removed {count} artifact{'' if count == 1 else 's'}, {text_from_bytes(cleared.freed_bytes)} freed"]
    lines += [f"kept, in use by a running vitprof: {_told(one)}" for one in cleared.kept]
    if cleared.is_rest_kept:
        lines.append("kept the runner, the reference's image and the list of models: another vitprof is running")
    return "\n".join(lines)


def _told(entry: Entry) -> str:
    from vitprof.report.outside import plain

    artifact = _artifact(entry)
    if artifact is None:
        return f"a damaged folder, {entry.folder}"
    spec = artifact.spec
    return f"{plain(spec.name)}  {artifact.format}  {spec.precision}  batch {spec.batch or 'any'}"
