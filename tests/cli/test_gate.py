"""`vitprof gate` and `vitprof history` as a user and a CI system type them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, Protocol
from xml.etree import ElementTree

import pytest

from tests.gated import failed, fill, gate_of, row
from vitprof.cli import main
from vitprof.devices.profiles import reference_model

TINY = str(reference_model("cpu-ref-1"))
RECIPE = Path(__file__).parent.parent.parent / "docs" / "gate-pull-request.yml"
BROKEN = {"verdict": "broken", "where": "device", "max_rel_error": 1.0, "cosine": 0.1, "top1_agreement": 0.0}


class Said(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Vitprof(Protocol):
    def __call__(self, store: Path | None, *words: str, **env: str) -> Said: ...


@pytest.fixture
def vitprof(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Vitprof:
    """The command line in this process: what is judged here was measured before."""

    def run(store: Path | None, *words: str, **env: str) -> Said:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.delenv("GITHUB_ACTIONS", raising=False)
            for name, text in env.items():
                patch.setenv(name, text)
            main([*words, *(["--store", str(store)] if store else [])])
        return Said(int(end.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every kind, each against `base`."""
    file = tmp_path_factory.mktemp("store") / "results.sqlite"
    models = ("a", "b", "c", "d")
    broken = row(model="c", parity={**BROKEN, "reason": None})
    runs = {
        "base": [row(model=model) for model in models],
        "fine": [row(3.01, "a")],
        "slow": [row(3.2, "a"), row(model="b")],
        "undecided": [row(3.09, "a")],
        "slow-and-undecided": [row(3.2, "a"), row(3.09, "d")],
        "failed": [row(3.2, "a"), failed("b"), broken, row(3.09, "d")],
        "broken": [row(3.2, "a"), broken],
        "refused": [row(3.2, "a", protocol_hash="ffff"), failed("b")],
    }
    fill(file, runs)
    return file


@pytest.mark.parametrize(
    ("run", "code"),
    [
        ("fine", 0),
        ("slow", 1),
        ("slow-and-undecided", 1),
        ("undecided", 5),
        ("failed", 3),
        ("broken", 6),
        ("refused", 2),
    ],
)
def test_the_exit_code_is_that_of_the_gravest_cell(vitprof: Vitprof, store: Path, run: str, code: int) -> None:
    done = vitprof(store, "gate", run, "--baseline", "base")
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout.startswith("Gate: ")


def test_files_for_a_ci_system_are_written_beside_the_table(vitprof: Vitprof, store: Path, tmp_path: Path) -> None:
    junit, table = tmp_path / "gate.xml", tmp_path / "gate.md"
    files = ("--junit", str(junit), "--md", str(table), "--json", "-")
    done = vitprof(store, "gate", "slow", "--baseline", "base", *files, GITHUB_ACTIONS="true")
    assert done.returncode == 1
    # Standard output is the JSON's alone.
    assert [one["verdict"] for one in json.loads(done.stdout)["cells"]] == ["slower", "fine"]
    assert ElementTree.parse(junit).getroot()[0].get("failures") == "1"  # noqa: S314 - our own file
    assert table.read_text().startswith("## Gate: slower than allowed")
    assert "::error title=vitprof gate%3A slower%3A a::" in done.stderr
    assert "::error" not in vitprof(store, "gate", "slow", "--baseline", "base").stderr
    assert "::error" in vitprof(store, "gate", "slow", "--baseline", "base", "--annotations").stderr


def test_a_slower_run_can_be_accepted_and_a_looser_limit_allows_it(vitprof: Vitprof, store: Path) -> None:
    assert vitprof(store, "gate", "slow", "--baseline", "base", "--max-slowdown", "10%").returncode == 0
    assert gate_of(store, "slow") == "accepted"
    assert vitprof(store, "gate", "slow", "--baseline", "base").returncode == 1
    assert gate_of(store, "slow") == "rejected"
    done = vitprof(store, "gate", "slow", "--baseline", "base", "--accept")
    assert done.returncode == 0 and "slower, and accepted" in done.stdout
    assert gate_of(store, "slow") == "accepted"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "--baseline last:5"),
        (("fine", "--baseline", "nowhere"), "no run 'nowhere'"),
        (("lowformer_b1", "--baseline", "base"), "a model is gated by --against another"),
        (("fine", "--baseline", "base", "--max-slowdown", "0"), "share"),
        (("fine", "--baseline", "base", "--batch", "8"), "leave out --batch"),
        (("fine", "--baseline", "base", "--json", "-", "--junit", "-"), "takes one of the outputs"),
        (("--against", TINY), "--against needs a MODEL"),
        ((TINY, "--against", TINY, "--baseline", "base"), "two baselines"),
    ],
)
def test_what_cannot_be_meant_is_told(vitprof: Vitprof, store: Path, words: tuple[str, ...], told: str) -> None:
    done = vitprof(store, "gate", *words)
    assert done.returncode == 2 and told in done.stderr, done.stderr


def test_two_models_of_one_file_are_fine_and_nothing_is_measured(tmp_path: Path) -> None:
    words = ("gate", TINY, "--against", TINY, "--threads", "1", "--store", str(tmp_path / "results.sqlite"))
    command = [sys.executable, "-m", "vitprof", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0 and "the same file" in done.stdout, done.stderr


def test_a_history_is_shown_written_and_drawn(vitprof: Vitprof, store: Path, tmp_path: Path) -> None:
    picture, table = tmp_path / "a.svg", tmp_path / "a.csv"
    done = vitprof(store, "history", "a", "--plot", str(picture), "--csv", str(table))
    assert done.returncode == 0, done.stderr
    assert "a 224x224, batch 1, fp32" in done.stdout and "●" in done.stdout
    # One of eight is of another protocol.
    assert done.stdout.count("not to be compared") == 1
    assert picture.read_text().startswith("<?xml") and len(table.read_text().splitlines()) == 9
    read = json.loads(vitprof(store, "history", "*", "--backend", "ort", "--json", "-").stdout)
    assert [one["model"] for one in read["series"]] == ["a", "b", "b", "c", "d"]
    done = vitprof(store, "history", "nothing", "--device", "local")
    assert done.returncode == 2 and "holds nothing of nothing on local" in done.stderr


def test_the_recipe_for_pull_requests_is_a_workflow_whose_commands_are_ours(vitprof: Vitprof) -> None:
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(RECIPE.read_text())
    # `on` is a truth value of YAML 1.1.
    assert workflow[True] == "pull_request" and workflow["permissions"] == {"contents": "read"}
    assert set(workflow["jobs"]) == {"time", "instructions"}
    typed = [
        command
        for job in workflow["jobs"].values()
        for step in job["steps"]
        for command in re.findall(r"vitprof (?:gate|devices) [^|\n]*", step.get("run", "").replace("\\\n", " "))
    ]
    assert len(typed) == 3
    for command in typed:
        words = [word for word in shlex.split(command) if not word.startswith("head/")]
        shown = vitprof(None, *words[1 : 3 if words[1] == "devices" else 2], "--help").stdout
        assert all(word in shown for word in words if word.startswith("--"))
    readme = RECIPE.parent.parent / "README.md"
    for block in re.findall(r"```yaml\n(.*?)```", readme.read_text(), re.DOTALL):
        assert yaml.safe_load(block) == workflow


def test_the_recipe_puts_the_base_that_was_merged_beside_the_merge(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    steps = [step for job in yaml.safe_load(RECIPE.read_text())["jobs"].values() for step in job["steps"]]
    [fetched] = {step["with"]["fetch-depth"] for step in steps if "checkout" in step.get("uses", "")}
    commands = [step["run"] for step in steps if "worktree" in step.get("run", "")]
    assert len(commands) == 2

    def run(command: str, folder: Path) -> None:
        named = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        words = ["sh", "-e", "-c", command]
        subprocess.run(words, cwd=folder, env={**os.environ, **named}, check=True, capture_output=True)

    origin = tmp_path / "origin"
    origin.mkdir()
    commit = "git add . && git commit -q -m x"
    run(f"git init -q -b main . && echo old > net.py && {commit}", origin)
    run(f"git checkout -q -b head && echo more > more.py && {commit} && git checkout -q main", origin)
    # The base went on after the head had left it.
    run(f"echo new > net.py && {commit} && git merge -q --no-ff -m x head", origin)
    for number, command in enumerate(commands):
        job = tmp_path / f"job-{number}"
        job.mkdir()
        run(f"git clone -q --depth {fetched} file://{origin} head", job)
        run(command, job)
        assert (job / "base/net.py").read_text() == "new\n" and not (job / "base/more.py").exists()
        assert (job / "head/net.py").read_text() == "new\n" and (job / "head/more.py").exists()
