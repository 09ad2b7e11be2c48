"""`docs/interface.md` against the program: commands, options, JSON fields, and its examples run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pydantic
import pytest

from tests.report import samples
from vitprof.devices.profiles import reference_model
from vitprof.places import places
from vitprof.report import (
    devices,
    document,
    schema,
    schema_analysis,
    schema_curves,
    schema_gate,
    schema_static,
    schema_store,
    sweeps,
)
from vitprof.store.results import open_store
from vitprof.store.runs import new_run

PAGE = (Path(__file__).parent.parent / "docs" / "interface.md").read_text()
COMMANDS = (
    "latency",
    "throughput",
    "sweep",
    "layers",
    "count",
    "compare",
    "pareto",
    "export",
    "models",
    "devices list",
    "devices show",
    "devices check",
    "devices calibrate",
    "devices setup",
    "devices clean",
    "devices serve",
    "cache list",
    "cache clear",
    "results list",
    "results show",
    "results diff",
    "results import",
    "results export",
    "results prune",
    "report",
    "gate",
    "history",
    "setup",
    "doctor",
)
_LAYERS = tuple(name for name in schema_analysis.LayersDocument.model_fields if name != "schema_version")
_CHECK = tuple(name for name in devices.CheckDocument.model_fields if name != "schema_version")
_GATE = tuple(name for name in schema_gate.GateDocument.model_fields if name != "schema_version")
_PLAN = tuple(name for name in sweeps.PlanDocument.model_fields if name != "schema_version")
_STATIC_LAYERS = tuple(name for name in schema_static.StaticLayersDocument.model_fields if name != "schema_version")
# Said in the page in words, or typer's own.
_GLOBAL = {"--help", "--version", "--debug", "--install-completion", "--show-completion"}


@cache
def _help(command: str) -> str:
    words = [sys.executable, "-m", "vitprof", *command.split(), "--help"]
    return subprocess.run(
        words, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"}
    ).stdout


def _commands_in_help(command: str = "") -> set[str]:
    listed = _help(command).partition("Commands:")[2]
    return {line.split()[0] for line in listed.splitlines() if re.match(r"  \w", line)}


def _options_in_help(command: str) -> set[str]:
    lines = _help(command).partition("Options:")[2].splitlines()
    return {word for line in lines if re.match(r"\s+-", line) for word in re.findall(r"--[a-z-]+", line.split("  ")[1])}


def _options_in_page(command: str) -> set[str]:
    rows = re.findall(r"^\| (`--.*?) \| (.*?) \|", PAGE, re.MULTILINE)
    of_command = (names for names, commands in rows if command in commands.split(", "))
    return {word for names in of_command for word in re.findall(r"--[a-z-]+", names)}


def test_the_page_has_every_command_and_no_other() -> None:
    in_page = {
        " ".join(words.split()) for words in re.findall(r"^\| `vitprof ([a-z]+(?: [a-z]+)?)", PAGE, re.MULTILINE)
    }
    groups = {"devices", "cache", "results"}
    in_help = (_commands_in_help() - groups) | {
        f"{group} {name}" for group in groups for name in _commands_in_help(group)
    }
    assert in_page == in_help == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_has_every_option_and_no_other(command: str) -> None:
    assert _options_in_page(command) == _options_in_help(command) - _GLOBAL


def _json_blocks() -> list[dict[str, object]]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize(
    ("keys", "model"),
    [
        (("results",), schema.ResultDocument),
        (("results",), schema_analysis.CountDocument),
        (("runs", "rows"), schema_store.ShownDocument),
        (("before", "now", "changes"), schema_store.DifferenceDocument),
        (("results", "curves", "crossovers"), schema_curves.ThroughputDocument),
        (("artifacts",), document.ArtifactDocument),
        (("devices",), document.DeviceDocument),
        (_CHECK, devices.CheckDocument),
        (_LAYERS, schema_analysis.LayersDocument),
        (_PLAN, sweeps.PlanDocument),
        (_GATE, schema_gate.GateDocument),
        (("series",), schema_gate.HistoryDocument),
        (_STATIC_LAYERS, schema_static.StaticLayersDocument),
        (("models",), schema.ModelDocument),
        (("cache", "artifacts"), schema.CacheDocument),
        (("metric", "groups", "pairs"), schema_analysis.ComparisonDocument),
        (("cost", "unit", "rows"), schema_analysis.FrontDocument),
        (("calibrations",), schema.CalibrationDocument),
    ],
)
def test_the_json_of_the_page_is_that_of_the_models(keys: tuple[str, ...], model: type[pydantic.BaseModel]) -> None:
    blocks = [block for block in _json_blocks() if set(block) == {"schema_version", *keys}]
    # `latency` comes before `count`, which has the same key.
    block = blocks[1] if model is schema_analysis.CountDocument else blocks[0]
    read = model.model_validate(block)
    # Every field of the models stands on the page, with the same nesting, and nothing else.
    assert _shape(json.loads(document.json_text(read))) == _shape(block)  # type: ignore[arg-type]


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return {name: _shape(entry) for name, entry in value.items() if name not in ("environment", "uncounted_ops")}
    return [_shape(value[0])] if isinstance(value, list) and value else None


@pytest.mark.parametrize("line", re.findall(r"^\$ (vitprof .*)$", PAGE, re.MULTILINE))
def test_every_example_of_the_page_runs(line: str, tmp_path: Path) -> None:
    shutil.copy(reference_model("cpu-ref-1"), tmp_path)
    (tmp_path / "plan.toml").write_text('models = ["cpu-ref-1.onnx"]\nbatches = [1]\n')
    with open_store(places().ready_store()) as store:
        # Something to show, whichever example is run first.
        store.add(new_run("latency"), document.dicts_from_results([samples.ok()]))
    words = [sys.executable, "-m", "vitprof", *shlex.split(line)[1:]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout, done.stderr
    if "--json -" in line:
        assert json.loads(done.stdout)["schema_version"] == 1
