"""Where vitprof keeps things: a cache that may be deleted at any time, and data that may not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path, user_data_path


@dataclass(frozen=True)
class Places:
    """`cache_root`: artifacts, the runner, the list of models. `data_root`: journals of runs, reference times."""

    cache_root: Path
    data_root: Path


def places() -> Places:
    """The user's folders, or those that VITPROF_CACHE_DIR and VITPROF_DATA_DIR name."""
    cache = os.environ.get("VITPROF_CACHE_DIR")
    data = os.environ.get("VITPROF_DATA_DIR")
    return Places(
        Path(cache) if cache else user_cache_path("vitprof"), Path(data) if data else user_data_path("vitprof")
    )
