"""`vitprof setup`: environments of their own for packages that collide with vitprof's."""

from __future__ import annotations

from typing import Annotated

import typer


def setup(
    name: Annotated[str, typer.Argument(help="Which one: litert (export to LiteRT).", show_default=False)],
    remove: Annotated[bool, typer.Option("--remove", help="Delete it, with those of older versions.")] = False,
) -> None:
    """Install what collides with vitprof's own packages into an environment of its own, in the cache."""
    from vitprof import environments
    from vitprof.places import places

    cache_root = places().cache_root
    one = environments.environment(name)
    if remove:
        removed = environments.remove(one, cache_root)
        typer.echo("\n".join(f"removed {folder}" for folder in removed) or f"{one.name} is not set up")
        return
    folder = environments.folder_of(one, cache_root)
    if environments.is_ready(one, cache_root):
        typer.echo(f"{one.name} is set up: {folder}")
        return
    # Before anything is fetched, so that it can be stopped.
    typer.echo(f"{one.name}: to {one.purpose}\n  installs {', '.join(one.pins)} and what they need, about {one.disk}")
    typer.echo(f"  into     {folder}")
    environments.set_up(one, cache_root)
    typer.echo(f"{one.name} is set up: {folder}")
