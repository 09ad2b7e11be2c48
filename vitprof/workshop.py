"""The preparing process: torch, timm and the exporters live there and nowhere else.

A process of its own so that the host stays small while it measures, an exporter's crash is a failed row and not the
end of the run, and Ctrl-C ends it at once. Started at the first model that is not in the cache, kept for the rest.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from vitprof import prepare
from vitprof.errors import VitprofError
from vitprof.export import locks
from vitprof.export.locks import InUse
from vitprof.models.catalogue import Catalogue, catalogue, expand
from vitprof.records import Artifact, ModelSpec
from vitprof.report.progress import Progress

# How often the elapsed time on the screen moves on; nothing is being timed meanwhile.
_REFRESH_S = 0.25
_T = TypeVar("_T")


class Workshop:
    """Names to specs and specs to artifacts, from the cache where they are there."""

    def __init__(self, cache_root: Path, progress: Progress, *, trust: bool = False) -> None:
        self._cache_root = cache_root
        self._trust = trust
        self._progress = progress
        self._pool: ProcessPoolExecutor | None = None
        self._catalogue: Catalogue | None = None

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._close(kill=kind is not None)

    def specs(self, texts: Sequence[str], like: ModelSpec) -> tuple[ModelSpec, ...]:
        """The models that `texts` name, each with what `like` asks for; a size of None stays the model's own."""
        return tuple(
            dataclasses.replace(
                like, name=one.name, source=one.source, path=one.path, factory=one.factory, size=like.size or one.size
            )
            for one in expand(texts, self.names)
        )

    def artifact(self, spec: ModelSpec, format: str, in_use: InUse) -> Artifact:
        """The artifact of `spec`, exported now where the cache has none, and kept there as long as `in_use` lasts.

        `VitprofError` where that fails.
        """
        key = prepare.key(spec, format, self._cache_root)
        # Before it is looked for: then no eviction comes between.
        in_use.add(key)
        present = prepare.cached(spec, format, self._cache_root)
        if present is None:
            # `prepare` waits as well, but only from here can it be shown.
            said = f"for another vitprof that exports {spec.name}"
            with locks.preparing(self._cache_root, key, lambda: self._progress.stage("wait", said)):
                present = prepare.cached(spec, format, self._cache_root)
        if present is None:
            said = f"{spec.name} to {format}"
            present = self.elsewhere("export", said, prepare.prepare, spec, format, self._cache_root, self._trust)
            # Another key than before, where running a factory has shown what it is made of.
            in_use.add(present.folder.name)
        return present

    def names(self) -> Catalogue:
        if self._catalogue is None:
            self._catalogue = catalogue(
                self._cache_root, lambda build: self.elsewhere("list", "the models of timm and torchvision", build)
            )
        return self._catalogue

    def elsewhere(self, stage: str, detail: str, work: Callable[..., _T], *arguments: object) -> _T:
        """What `work` returns in the preparing process; every failure there, foreseen or not, is a `VitprofError`."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=_become_worker)
        future = self._pool.submit(work, *arguments)
        try:
            self._progress.stage(stage, detail)
            while not wait([future], timeout=_REFRESH_S).done:
                self._progress.stage(stage, detail)
            return future.result()
        except BrokenProcessPool as error:
            # The next model gets a new process.
            self._pool = None
            raise VitprofError(
                f"{detail}: the preparing process died (the kernel kills it when memory runs out)",
                remedy="close other programs or use a smaller model; then run again",
                stage=stage,
            ) from error
        except VitprofError:
            raise
        except Exception as error:
            # The border of the preparing process: a bug there is a failed row, not the end of the run.
            raise VitprofError(
                f"{detail}: {type(error).__name__}: {error}",
                remedy="report this with the output of: vitprof doctor",
                stage=stage,
            ) from error

    def _close(self, *, kill: bool) -> None:
        if self._pool is None:
            return
        self._pool.shutdown(wait=not kill, cancel_futures=True)
        if kill:
            for process in multiprocessing.active_children():
                process.kill()
        self._pool = None


def _become_worker() -> None:
    """Standard output belongs to the host's data; Ctrl-C is the host's to handle; without a host there is no work."""
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_host, daemon=True).start()


def _die_with_host() -> None:
    host = multiprocessing.parent_process()
    if host is not None:
        host.join()
        os._exit(1)
