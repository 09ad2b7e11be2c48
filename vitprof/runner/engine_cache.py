"""What TensorRT made before on this device, kept beside the artifact: engines, timings of kernels, compiled kernels.

Its own file because whether a kept one fits is a question of its own: TensorRT checks some of it, and silently runs
slower where it does not. The key therefore holds everything that an engine depends on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from typing import Mapping, Optional

from vitprof.runner.cuda import DriverFacts
from vitprof.runner.wire import Plan

_KEY_DIGITS = 16
_HASH_CHUNK_BYTES = 1 << 20


class EngineCache:
    """Files in `folder` by kind and key; where it cannot be written nothing is kept, and nothing fails."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def read(self, kind: str, key: str) -> Optional[bytes]:
        try:
            with open(self._path(kind, key), "rb") as file:
                return file.read()
        except OSError:
            return None

    def keep(self, kind: str, key: str, data: bytes) -> None:
        written: Optional[str] = None
        try:
            os.makedirs(self._folder, exist_ok=True)
            handle, written = tempfile.mkstemp(dir=self._folder)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            # In one step: a process that reads meanwhile finds the old file or the new one.
            os.replace(written, self._path(kind, key))
        except OSError:
            # Half a file would go on filling a disk that is full.
            if written is not None:
                with contextlib.suppress(OSError):
                    os.remove(written)

    def _path(self, kind: str, key: str) -> str:
        return os.path.join(self._folder, f"{key}.{kind}")


def cache_of(plan: Plan) -> EngineCache:
    """Beside the inputs and not the model: what lies beside the model belongs to it and travels with it."""
    return EngineCache(os.path.join(os.path.dirname(plan.inputs), "engines"))


def key_of_gpu(driver: DriverFacts, version: str) -> str:
    """Of what depends on the GPU, its driver and TensorRT alone."""
    return _digest({"gpu": driver.name, "uuid": driver.uuid, "driver": driver.cuda_version, "version": version})


def key_of_engine(plan: Plan, driver: DriverFacts, version: str, options: Mapping[str, object]) -> str:
    """Of an engine: the file, its shape and precision, the GPU and what builds for it, and `options` of the build."""
    return _digest(
        {
            "artifact": plan.artifact_sha256 or _files_sha256(os.path.dirname(plan.artifact)),
            "shape": plan.input_shape,
            "precision": plan.precision,
            "gpu": key_of_gpu(driver, version),
            "options": dict(options),
        }
    )


def _digest(facts: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]


def _files_sha256(folder: str) -> str:
    """Of a model whose weights lie beside it: every file of its folder, in an order that does not change."""
    digest = hashlib.sha256()
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            digest.update(name.encode())
            with open(path, "rb") as file:
                for chunk in iter(lambda: file.read(_HASH_CHUNK_BYTES), b""):
                    digest.update(chunk)
    return digest.hexdigest()
