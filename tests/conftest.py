"""Every test works in folders of its own: a developer's cache and results are never touched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from vitprof.places import Places, places

# An example may take a second on a machine that does something else as well, and the same commit is judged by the same
# examples everywhere. `--hypothesis-profile search` looks at others, and at more of them.
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.register_profile("search", deadline=None, max_examples=3000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Sends cache, data, configuration and the device's lock of this process and its children to temporary folders."""
    root = tmp_path_factory.mktemp("vitprof")
    names = {f"VITPROF_{name}_DIR": str(root / name.lower()) for name in ("CACHE", "DATA", "CONFIG", "LOCK")}
    # Unlike the others, it must be there: it stands for /tmp.
    Path(names["VITPROF_LOCK_DIR"]).mkdir()
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    yield
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def here(folders: None) -> Places:
    """The session's cache and data folders: artifacts are exported once for all tests."""
    return places()


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    """One (1, 3, 224, 224) float32 image for the reference model."""
    import numpy as np

    path = tmp_path / "image.bin"
    np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype("float32").tofile(path)
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of a given size (`400k`) for this test, or skips it where that is not allowed."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no right to mount a small disk here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=False)


@pytest.fixture
def remounted() -> Callable[[Path, str], None]:
    """Makes a disk of `disk` read-only (`ro`), for root too, or writable again (`rw`)."""

    def remount(folder: Path, mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)

    return remount
