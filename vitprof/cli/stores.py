"""What the commands of `vitprof results` share: which rows are meant, and the store that they are in.

Its own file because two of them are in files of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitprof.cli import options
from vitprof.errors import UsageError

if TYPE_CHECKING:
    from vitprof.places import Places
    from vitprof.store.results import Store
    from vitprof.store.wanted import Wanted

Pattern = Annotated[str, typer.Argument(metavar="[GLOB]", help="Models such as 'lowformer*'.")]
OnlyBackends = Annotated[
    str | None, typer.Option("--backend", "--backends", help="Only these, comma-separated.", show_default=False)
]
OnlyDevices = Annotated[
    str | None, typer.Option("--device", "--devices", help="Only these, comma-separated.", show_default=False)
]
OnlyRun = Annotated[
    str | None, typer.Option("--run", help="Only the rows of this run: its id, or 'latest'.", show_default=False)
]


def wanted_from_options(pattern: str, backend: str | None, device: str | None, run: str | None) -> Wanted:
    """`UsageError` for an option that is given and names nothing: it must not mean everything."""
    from vitprof.store.wanted import Wanted

    for option, text in (("--backend", backend), ("--device", device), ("--run", run)):
        if text is not None and not options.names_from_list(text):
            raise UsageError(
                f"{option} '{text}' names nothing", remedy=f"give {option} a name, or leave it out for all"
            )
    return Wanted(pattern, options.names_from_list(backend), options.names_from_list(device), run)


def check_files(where: Places, *files: Path | None) -> None:
    """`UsageError` for an output file that cannot be written, or that is the store itself."""
    options.check_writable(*files)
    if Path(where.store).resolve() in [file.resolve() for file in files if file]:
        raise UsageError(f"{where.store} is the store itself", remedy="name another file to write")


def opened_store(where: Places) -> Store:
    """The store that is there: looking must not make one."""
    if not where.has_store:
        raise UsageError(
            f"there is no results store {where.shown_store}",
            remedy="measure something (vitprof latency MODEL), or name a store with --store",
        )
    from vitprof.store.results import open_store

    return open_store(where.ready_store())
