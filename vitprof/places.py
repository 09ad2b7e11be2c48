"""Where vitprof keeps things: a cache that may be deleted at any time and has a limit, and data that may not."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from vitprof.errors import UnreachableError, UsageError, VitprofError
from vitprof.units import bytes_from_text

POSTGRESQL_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
# A hundred models of fifty million weights in fp32: a study's worth, and a tenth of a small laptop's disk.
DEFAULT_CACHE_CAP_BYTES = 20_000_000_000


@dataclass(frozen=True)
class Places:
    """`cache_root`: artifacts, the runner, the list of models. `data_root`: journals of runs, reference times, results.

    `cache_cap_bytes`: above this, the artifacts that were not used for longest are removed.
    `named_store`: the results store that was asked for instead of the one in the data folder.
    """

    cache_root: Path
    data_root: Path
    cache_cap_bytes: int = DEFAULT_CACHE_CAP_BYTES
    named_store: str | None = None

    @property
    def store(self) -> str:
        """The file, or the URL, of the results store."""
        if self.named_store is None:
            return str(self.data_root / "results.sqlite")
        # A file that is named as SQLAlchemy does is still a file.
        return self.named_store.removeprefix("sqlite:///")

    @property
    def has_store(self) -> bool:
        """Whether the results store's file is there; of a server only asking it can tell."""
        try:
            return "://" in self.store or Path(self.store).exists()
        except OSError:
            # A name that is too long, a folder that is shut: `check_store` says which.
            return True

    @property
    def shown_store(self) -> str:
        """`store` as a message may name it."""
        return shown_store(self.store)

    def ready_store(self) -> str:
        """`store`, checked as far as that needs no database; the data folder is made, another folder must exist."""
        if self.named_store is None:
            try:
                self.data_root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise VitprofError(
                    f"cannot make the folder {self.data_root}: {error.strerror}",
                    remedy="set VITPROF_DATA_DIR to a writable folder, or name a file with --store",
                    stage="store",
                ) from error
        check_store(self.store)
        return self.store


def shown_store(address: str) -> str:
    """The file or the URL of a results store as it may be shown: without a password."""
    if "://" not in address:
        return address
    scheme, _, rest = address.partition("://")
    # A password may hold any character, an @ that should have been written as %40 among them; in the query, too.
    authority, at, where = re.sub(r"(?i)([?&]\w*password=)[^&]*", r"\1***", rest).rpartition("@")
    user, colon, _ = authority.partition(":")
    hidden = f"{user}:***" if colon else user
    return f"{scheme}://{hidden}{at}{where}"


def check_store(address: str) -> None:
    """What can be told of a results store without a database: better now than after a minute of measuring.

    `UsageError` for one that can be neither a file nor a server, `UnreachableError` where the driver is not installed.
    """
    if "://" in address:
        _check_url(address)
        return
    what = _why_no_file(Path(address)) if address else "that is no name"
    if what:
        raise UsageError(
            f"cannot keep results in '{address}': {what}", remedy="name a file in an existing folder with --store"
        )


def _why_no_file(file: Path) -> str | None:
    try:
        if file.is_dir():
            return "is a folder"
        if file.exists() and not file.is_file():
            return "is a device or a pipe"
        return None if file.parent.is_dir() else f"its folder {file.parent} does not exist"
    except OSError as error:
        return error.strerror or str(error)


def _check_url(address: str) -> None:
    scheme = address.partition("://")[0]
    if scheme not in POSTGRESQL_SCHEMES:
        raise UsageError(
            f"--store {shown_store(address)}: results are kept in a SQLite file or in PostgreSQL, not in '{scheme}'",
            remedy="name a file (--store results.sqlite) or a URL such as postgresql://USER@HOST/DATABASE",
        )
    if find_spec("psycopg") is None:
        raise UnreachableError(
            "a results store in PostgreSQL needs the package psycopg",
            remedy="pip install 'vitprof[postgres]'",
            stage="store",
        )


def places(named_store: str | None = None) -> Places:
    """The user's folders and limit, or those that VITPROF_CACHE_DIR, _DATA_DIR and _CACHE_MAX_BYTES name."""
    cache = os.environ.get("VITPROF_CACHE_DIR")
    data = os.environ.get("VITPROF_DATA_DIR")
    return Places(
        Path(cache) if cache else user_cache_path("vitprof"),
        Path(data) if data else user_data_path("vitprof"),
        _cap_bytes(os.environ.get("VITPROF_CACHE_MAX_BYTES")),
        named_store,
    )


def _cap_bytes(text: str | None) -> int:
    if not text:
        return DEFAULT_CACHE_CAP_BYTES
    try:
        return bytes_from_text(text)
    except UsageError as error:
        raise UsageError(
            f"VITPROF_CACHE_MAX_BYTES: {error.message}", remedy="set VITPROF_CACHE_MAX_BYTES to a size such as 20GB"
        ) from error
