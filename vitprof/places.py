"""Where vitprof keeps things: a cache that may be deleted at any time and has a limit, and data that may not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from vitprof.errors import UsageError, VitprofError
from vitprof.units import bytes_from_text

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
        return self.named_store or str(self.data_root / "results.sqlite")

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


def check_store(address: str) -> None:
    """`UsageError` for a results store that cannot be a file: better now than after a minute of measuring."""
    if "://" in address:
        return
    file = Path(address)
    if not address or file.is_dir() or not file.parent.is_dir():
        what = f"its folder {file.parent} does not exist" if address and not file.is_dir() else "is a folder"
        raise UsageError(
            f"cannot keep results in '{address}': {what}", remedy="name a file in an existing folder with --store"
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
