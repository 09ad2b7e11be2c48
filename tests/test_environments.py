from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from vitprof import environments
from vitprof.environments import ENVIRONMENTS
from vitprof.errors import UnreachableError, UsageError, VitprofError

LITERT = ENVIRONMENTS["litert"]


def test_an_environment_that_is_not_set_up_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"litert-torch 0\.") as caught:
        environments.python_of(LITERT, tmp_path)
    assert caught.value.remedy == "vitprof setup litert"


def test_an_unknown_environment_names_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        environments.environment("nope")
    assert caught.value.remedy == "vitprof setup litert"


def test_other_pins_are_another_folder(tmp_path: Path) -> None:
    newer = replace(LITERT, packages=("litert-torch==99.0",))
    assert environments.folder_of(newer, tmp_path) != environments.folder_of(LITERT, tmp_path)
    assert environments.folder_of(replace(LITERT), tmp_path) == environments.folder_of(LITERT, tmp_path)


def test_the_torch_of_the_environment_is_that_of_vitprof_without_its_build() -> None:
    import torch

    assert LITERT.pins[-1] == f"torch=={torch.__version__.partition('+')[0]}"


class _Empty(environments.Environment):
    """Installs nothing, so that no network is needed; everything else is as it is."""

    @property
    def pins(self) -> tuple[str, ...]:
        return self.packages


def test_a_real_environment_is_made_whole_and_removed_again(tmp_path: Path) -> None:
    # pip installs itself: it is there, so nothing is fetched.
    one = _Empty("empty", "try it", ("pip",), "0 GB", "none")
    folder = environments.set_up(one, tmp_path)
    python = environments.python_of(one, tmp_path)
    words = [str(python), "-I", "-c", "import sys; print(sys.prefix)"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(folder)
    assert not list((tmp_path / "environments").glob("*.part"))
    assert environments.remove(one, tmp_path) == (folder,)
    assert not environments.is_ready(one, tmp_path)


@pytest.mark.slow
def test_an_environment_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    one = _Empty("broken", "try it", ("no such package !",), "0 GB", "none")
    with pytest.raises(VitprofError, match="ended with status"):
        environments.set_up(one, tmp_path)
    assert list((tmp_path / "environments").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VitprofError, match="cannot make /"):
        environments.set_up(LITERT, tmp_path / "file")
