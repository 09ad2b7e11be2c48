from __future__ import annotations

import ast
import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from vitprof.devices import runner_zip
from vitprof.places import Places
from vitprof.runner.wire import BlockRequest, EndRequest, Failure, Plan, Ready, line_from_message, message_from_line


def test_the_zip_is_the_same_every_time_and_holds_the_runner_only() -> None:
    first = runner_zip.runner_zip_bytes()
    runner_zip.runner_zip_bytes.cache_clear()
    assert runner_zip.runner_zip_bytes() == first
    names = zipfile.ZipFile(io.BytesIO(first)).namelist()
    assert names == sorted(names) and "vitprof/runner/backends/ort.py" in names
    assert all(
        name.startswith("vitprof/runner/") for name in names if name not in ("__main__.py", "vitprof/__init__.py")
    )


def test_a_torn_zip_in_the_cache_is_replaced(here: Places) -> None:
    path = runner_zip.runner_zip(here.cache_root)
    path.write_bytes(b"torn")
    assert runner_zip.runner_zip(here.cache_root).read_bytes() == runner_zip.runner_zip_bytes()


def _python(version: str) -> str | None:
    """An interpreter of that version: on the path, or one of pyenv's that is not switched on."""
    found = [shutil.which(f"python{version}"), *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    asked = ([path, "-c", "import sys; print(sys.version)"] for path in found if path)
    for command in asked:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.stdout.startswith(version):
            return command[0]
    return None


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.8"])
def test_a_python_that_is_too_old_says_so_in_one_line(here: Places, version: str) -> None:
    python = _python(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    command = [python, str(runner_zip.runner_zip(here.cache_root))]
    done = subprocess.run(command, input=b"", capture_output=True, check=False)
    said = f"Python 3.9 or newer is needed on the device, and this is {version}"
    assert done.returncode and done.stderr.decode().startswith(said) and done.stderr.count(b"\n") == 1
    failure = message_from_line(done.stdout)
    assert isinstance(failure, Failure) and failure.error.startswith(said) and "python =" in failure.remedy


def test_the_way_in_can_be_read_by_any_python_3() -> None:
    entry = zipfile.ZipFile(io.BytesIO(runner_zip.runner_zip_bytes())).read("__main__.py")
    ast.parse(entry, feature_version=(3, 0))


@pytest.mark.parametrize("version", ["3.9", "3.12", "3.13"])
def test_it_runs_on_another_python(here: Places, version: str) -> None:
    python = _python(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    lines = [line_from_message(one) for one in (Plan("fake", {"call_ns": 1_000_000}), BlockRequest(0), EndRequest())]
    process = subprocess.Popen(
        [python, str(runner_zip.runner_zip(here.cache_root))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin and process.stdout
    process.stdin.write(b"".join(lines))
    process.stdin.flush()
    answers = [message_from_line(process.stdout.readline()) for _ in range(3)]
    assert isinstance(answers[0], Ready) and answers[0].environment["python"].startswith(version)
    process.stdin.close()
    process.wait(60)
