"""Other processes for tests about what happens between processes; any of them may end between two questions."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess

import psutil

SPAWN = multiprocessing.get_context("spawn")
_WAIT_S = 120


def started(target: Callable[..., None], *arguments: object) -> SpawnProcess:
    """A fresh process that runs `target`; it ends with this one."""
    process = SPAWN.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def runs(process: psutil.Process) -> bool:
    """Whether it still runs: what has ended and that nobody has waited for (a zombie) does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def is_alive(pid: int) -> bool:
    try:
        return runs(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def started_by(pid: int) -> list[psutil.Process]:
    """What that process and its children have started and that runs; nothing where it has ended."""
    try:
        return [child for child in psutil.Process(pid).children(recursive=True) if runs(child)]
    except psutil.NoSuchProcess:
        return []


def command_of(process: psutil.Process) -> list[str]:
    """Its command line; empty where it has ended."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
