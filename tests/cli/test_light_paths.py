"""What must stay light: help, a cached measurement, the list of devices."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from vitprof.devices.profiles import reference_model

_HEAVY = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "scipy", "matplotlib", "pandas")
# Of no use before there is a result to write or to read.
_DATABASE = "sqlalchemy"
_REPORT = """
import sys
from vitprof.cli import main
try:
    main({words!r})
except SystemExit as end:
    code = end.code
loaded = sorted({{name.partition(".")[0] for name in sys.modules}} & set({heavy!r}))
print("CODE", code, "LOADED", *loaded, file=sys.stderr)
"""


def _loaded_by(*words: str, before: str = "", heavy: tuple[str, ...] = _HEAVY) -> list[str]:
    program = before + _REPORT.format(words=list(words), heavy=heavy)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    line = done.stderr.splitlines()[-1]
    assert line.startswith("CODE 0 "), done.stderr
    return line.partition("LOADED")[2].split()


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("latency", "--help"),
        ("results", "--help"),
        ("report", "--help"),
        ("--version",),
        ("devices", "list"),
    ],
)
def test_nothing_heavy_is_imported_to_answer(words: tuple[str, ...]) -> None:
    assert _loaded_by(*words, heavy=(*_HEAVY, _DATABASE)) == []


def test_this_test_can_fail() -> None:
    assert _loaded_by("--help", before="import onnx") == ["onnx"]


def test_results_are_read_without_anything_heavy_but_the_database_library() -> None:
    words = ("latency", str(reference_model("cpu-ref-1")), "--effort", "quick", "--measure", "30x")
    _loaded_by(*words)
    assert _loaded_by("results", "list", heavy=(*_HEAVY, _DATABASE)) == [_DATABASE]


def test_help_needs_neither_numpy_nor_pydantic_nor_rich_nor_a_database() -> None:
    names = "{'numpy', 'pydantic', 'rich', 'sqlalchemy'}"
    program = f"import sys; from vitprof.cli import app; print(sorted(set(sys.modules) & {names}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_answers_at_once() -> None:
    def processor_s(*words: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # By turns, and the best of each: the machine may be slow, or busy with something else. It takes two to three times
    # what typer's own start does.
    pairs = [(processor_s("-m", "vitprof", "--help"), processor_s("-c", "import typer")) for _ in range(5)]
    ours_s, typer_s = (min(column) for column in zip(*pairs, strict=True))
    assert ours_s < 4 * typer_s


def test_a_cached_measurement_imports_nothing_heavy(tmp_path: Path) -> None:
    words = ("latency", str(reference_model("cpu-ref-1")), "--effort", "quick", "--measure", "30x")
    _loaded_by(*words)
    assert _loaded_by(*words, "--json", str(tmp_path / "x.json"), "--csv", str(tmp_path / "x.csv")) == []


@pytest.mark.slow
def test_a_cached_timm_model_imports_nothing_heavy_and_stays_small(tmp_path: Path) -> None:
    words = ("latency", "mobilenetv3_small_100", "--effort", "quick", "--measure", "30x")
    _loaded_by(*words)
    assert _loaded_by(*words) == []
    peak = "import atexit, pathlib; atexit.register(lambda: print(pathlib.Path('/proc/self/status').read_text()))\n"
    program = peak + _REPORT.format(words=list(words), heavy=_HEAVY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    kilobytes = next(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("VmHWM"))
    assert kilobytes < 150_000
