"""`vitprof layers` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_cli import TINY, vitprof


def test_every_output_is_written_where_it_was_asked_for(tmp_path: Path) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "md")}
    words = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    done = vitprof("layers", TINY, "--threads", "1", "--by", "op", *words, "--plot", str(tmp_path / "out.svg"))
    assert done.returncode == 0 and done.stderr == ""
    assert "Disagreements" in done.stdout and "depthwise_conv" in done.stdout
    read = json.loads(files["json"].read_text())
    assert read["backend"] == "ort" and len(files["csv"].read_text().splitlines()) == len(read["ops"]) + 1
    assert "| module" in files["md"].read_text() and "<svg" in (tmp_path / "out.svg").read_text()


def test_the_json_is_alone_on_standard_output() -> None:
    done = vitprof("layers", TINY, "--threads", "1", "--json", "-")
    assert (done.returncode, done.stderr) == (0, "") and json.loads(done.stdout)["schema_version"] == 1


@pytest.mark.parametrize(
    ("words", "code", "said", "remedy"),
    [
        ((TINY, "--backend", "compile"), 2, "cannot tell which of its operators", "--backend ort"),
        ((TINY, "--backend", "tensorflow"), 2, "unknown backend 'tensorflow'", "--backend ort"),
        ((TINY, "--backend", "torch"), 2, "no torch module behind it", "--backend ort or openvino"),
        ((TINY, "--depth", "0"), 2, "--depth 0 is below 1", "--depth 1"),
        ((TINY, "--json", "/no/such/folder/x.json"), 2, "does not exist", "existing folder"),
        ((TINY, "--store", "/no/such/folder/x.sqlite"), 2, "cannot keep results", "with --store"),
        (("nope.onnx",), 2, "no such file", "existing .onnx"),
        ((), 2, "model", "--help"),
    ],
)
def test_a_mistake_is_told_with_what_to_type(words: tuple[str, ...], code: int, said: str, remedy: str) -> None:
    done = vitprof("layers", *words)
    assert done.returncode == code and "Traceback" not in done.stderr
    assert said.lower() in done.stderr.lower() and remedy in done.stderr
