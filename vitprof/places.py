"""Where vitprof keeps things: a cache that may be deleted at any time and has a limit, and data that may not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from vitprof.errors import UsageError
from vitprof.units import bytes_from_text

# A hundred models of fifty million weights in fp32: a study's worth, and a tenth of a small laptop's disk.
DEFAULT_CACHE_CAP_BYTES = 20_000_000_000


@dataclass(frozen=True)
class Places:
    """`cache_root`: artifacts, the runner, the list of models. `data_root`: journals of runs, reference times.

    `cache_cap_bytes`: above this, the artifacts that were not used for longest are removed.
    """

    cache_root: Path
    data_root: Path
    cache_cap_bytes: int = DEFAULT_CACHE_CAP_BYTES


def places() -> Places:
    """The user's folders and limit, or those that VITPROF_CACHE_DIR, _DATA_DIR and _CACHE_MAX_BYTES name."""
    cache = os.environ.get("VITPROF_CACHE_DIR")
    data = os.environ.get("VITPROF_DATA_DIR")
    return Places(
        Path(cache) if cache else user_cache_path("vitprof"),
        Path(data) if data else user_data_path("vitprof"),
        _cap_bytes(os.environ.get("VITPROF_CACHE_MAX_BYTES")),
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
