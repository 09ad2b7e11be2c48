"""The project's own rules: lint, types, layers, the README's commands, what is inside the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_BIN = Path(sys.executable).parent


def _passes(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    _passes(str(_BIN / "ruff"), "check", ".")
    _passes(str(_BIN / "ruff"), "format", "--check", ".")


def test_mypy_strict_finds_nothing() -> None:
    _passes(str(_BIN / "mypy"))


def test_imports_point_down() -> None:
    _passes(str(_BIN / "lint-imports"))


def test_ci_runs_exactly_the_test_command_of_the_readme() -> None:
    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1].replace(" -q ", " ")
    assert ".venv/bin/python -m pytest" in command
    assert f"\n{command}\n" in (ROOT / "README.md").read_text()


def test_the_runner_is_python_3_9() -> None:
    import ast

    for path in (ROOT / "vitprof" / "runner").rglob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 9))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _passes(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT))
    [path] = folder.glob("*.whl")
    return path


def test_profiles_reference_and_types_are_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("device_data/local.toml", "device_data/a100.toml", "device_data/reference/cpu-ref-1.onnx", "py.typed"):
        assert f"vitprof/{name}" in names
    assert not any(name.startswith(("tests/", "devices/")) for name in names)


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """In a new environment; its dependencies are those of this one, lent by path, the package is the wheel's."""
    environment = tmp_path / "environment"
    _passes(sys.executable, "-m", "venv", str(environment))
    python = environment / "bin" / "python"
    _passes(str(python), "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", str(wheel))
    site = next((environment / "lib").glob("python*/site-packages"))
    (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*words: str) -> str:
        command = [str(environment / "bin" / "vitprof"), *words]
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    asked = [str(python), "-c", "import vitprof; print(vitprof.__file__)"]
    where = subprocess.run(asked, cwd=tmp_path, env=clean, capture_output=True, text=True, check=True)
    assert str(environment) in where.stdout
    assert "a100" in run("devices", "list")
    reference = site / "vitprof" / "device_data" / "reference" / "cpu-ref-1.onnx"
    assert "cpu-ref-1" in run("latency", str(reference), "--effort", "quick", "--measure", "30x")
