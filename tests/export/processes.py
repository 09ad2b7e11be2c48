"""Other processes for tests about what happens between processes."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess

SPAWN = multiprocessing.get_context("spawn")
_WAIT_S = 60


def started(target: Callable[..., None], *arguments: object) -> SpawnProcess:
    """A fresh process that runs `target`; it ends with this one."""
    process = SPAWN.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
