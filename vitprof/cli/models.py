"""`vitprof models`: the names that can be measured."""

from __future__ import annotations

from typing import Annotated

import typer

from vitprof.cli import options


def models(
    pattern: Annotated[str, typer.Argument(help="A glob such as 'lowformer*' or 'torchvision:res*'.")] = "*",
    json: options.JsonFile = None,
) -> None:
    """List model names of timm and torchvision."""
    from vitprof.models.catalogue import matching
    from vitprof.places import places
    from vitprof.report.progress import NoProgress
    from vitprof.workshop import Workshop

    options.check_writable(json)
    with Workshop(places().cache_root, NoProgress()) as workshop:
        found = matching(pattern, workshop.names())
    if json:
        from vitprof.report.document import document_from_names, json_text

        options.write_text(json, json_text(document_from_names(found)))
    else:
        typer.echo("\n".join(f"torchvision:{name}" if source == "torchvision" else name for name, source in found))
