"""The program as a user types it: real processes, real exit codes, the mistakes that people make."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from onnx import TensorProto, helper

import vitprof as vitprof_package
from tests.processes import command_of, runs, started_by, wait_for
from vitprof.devices.profiles import reference_model
from vitprof.places import Places

TINY = str(reference_model("cpu-ref-1"))
QUICK = ("--effort", "quick", "--measure", "30x", "--threads", "1")
_WAIT_S = 90


def vitprof(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vitprof", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=_WAIT_S * 3,
        check=False,
    )


def test_a_file_is_measured_and_the_json_is_alone_on_standard_output() -> None:
    done = vitprof("latency", TINY, *QUICK, "--json", "-", "--samples")
    assert (done.returncode, done.stderr) == (0, "")
    [row] = json.loads(done.stdout)["results"]
    assert row["outcome"] == "ok" and row["backend"] == "ort"
    assert row["latency_ns"]["samples"] >= 30 and row["latency_ns"]["stop_reason"] == "calls"
    assert len(row["samples_ns"]) == row["latency_ns"]["samples"]
    # The reference against itself: no mood of the machine makes one of them twice as slow for half of the rounds.
    assert 0.5 < row["relative"]["ratio"] < 2
    assert row["parity"]["verdict"] == "not-checked" and "no original" in row["parity"]["reason"]
    assert row["environment"]["before"]["cores"] >= 1


def test_every_output_is_written_where_it_was_asked_for(tmp_path: Path) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "md")}
    options = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    done = vitprof("latency", TINY, *QUICK, *options)
    assert done.returncode == 0
    assert "cpu-ref-1" in done.stdout
    assert json.loads(files["json"].read_text())["schema_version"] == 1
    assert files["csv"].read_text().splitlines()[0].startswith("model,")
    assert files["md"].read_text().startswith("|") or "| model" in files["md"].read_text()


@pytest.mark.parametrize(
    ("words", "code", "said", "remedy"),
    [
        (("latency", "nope.onnx"), 2, "no such file", "existing .onnx"),
        (("latency", TINY, "--backend", "tensorflow"), 2, "unknown backend 'tensorflow'", "--backend ort"),
        (("latency", TINY, "--device", "toaster"), 2, "unknown device 'toaster'", "devices list"),
        (("latency", TINY, "--device", "../local"), 2, "unknown device", "devices list"),
        (("latency", TINY, "--device", "a100"), 4, "no NVIDIA A100 in this machine", 'host = "user@server"'),
        (("latency", TINY, "--batch", "0"), 2, "--batch 0 is below 1", "--batch 1"),
        (("latency", TINY, "--threads", "-2"), 2, "--threads -2 is below 1", "--threads 1"),
        (("latency", TINY, "--threads", "2147483648"), 2, "--threads 2147483648 is above 2147483647", "a smaller"),
        (("latency", TINY, "--batch", "2"), 2, "batch", "batch"),
        (("latency", TINY, "--size", "big"), 2, "'big' is not an input size", "224"),
        (("latency", TINY, "--measure", "3 parsecs"), 2, "neither a duration nor", "200x"),
        (("latency", TINY, "--precision-goal", "200%"), 2, "not a share", "1%"),
        (("latency", TINY, "--timeout", "0.01s"), 2, "below 0.1 s", "second"),
        (("latency", TINY, "--effort", "heroic"), 2, "heroic", "--help"),
        (("latency", TINY, "--json", "/no/such/folder/x.json"), 2, "does not exist", "existing folder"),
        (("latency",), 2, "models", "--help"),
        (("latency", "model.pt2"), 2, "there is no such file", "existing .pt2"),
        (("export", TINY, "--to", "tflite"), 2, "unknown format 'tflite'", "--to onnx"),
        (("devices", "show", "toaster"), 2, "unknown device", "devices list"),
        (("devices", "calibrate", "toaster"), 2, "unknown device", "devices list"),
        (("devices", "calibrate", "--threads", "0"), 2, "--threads 0", "--threads 1"),
        (("frobnicate",), 2, "frobnicate", "--help"),
    ],
)
def test_a_mistake_is_told_with_what_to_type_next(words: tuple[str, ...], code: int, said: str, remedy: str) -> None:
    done = vitprof(*words)
    assert done.returncode == code, done.stderr
    told = done.stderr + done.stdout
    assert said in told and remedy in told
    assert "Traceback" not in told


def test_an_unknown_model_names_the_nearest() -> None:
    done = vitprof("latency", "lowfromer_b1")
    assert done.returncode == 2
    assert "lowformer_b1" in done.stderr and "vitprof models" in done.stderr


def test_a_truncated_file_is_a_failed_row_and_does_not_stop_the_others(tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(Path(TINY).read_bytes()[:5000])
    done = vitprof("latency", str(cut), TINY, *QUICK, "--json", "-")
    assert done.returncode == 3
    assert f"{cut} cannot be read" in done.stderr and "→" in done.stderr
    outcomes = {Path(row["model"]).name: row["outcome"] for row in json.loads(done.stdout)["results"]}
    assert outcomes == {"cut.onnx": "failed", "cpu-ref-1.onnx": "ok"}


def test_a_traceback_is_shown_only_with_debug() -> None:
    assert "Traceback" in vitprof("latency", TINY, "--backend", "nope", "--debug").stderr


def test_what_the_runtime_says_is_shown_with_debug(tmp_path: Path) -> None:
    node = helper.make_node("NoSuchOperator", ["image"], ["y"], domain="nowhere")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8, 8))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)]
    model = helper.make_model(helper.make_graph([node], "g", [image], [out]), opset_imports=imports, ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    plain = vitprof("latency", str(tmp_path / "m.onnx"), *QUICK)
    assert plain.returncode == 3 and "NoSuchOperator" in plain.stdout and "Traceback" not in plain.stdout + plain.stderr
    assert "Traceback" in vitprof("latency", str(tmp_path / "m.onnx"), *QUICK, "--debug").stderr


def test_a_runner_that_does_not_answer_in_time_is_a_failed_row() -> None:
    done = vitprof("latency", TINY, *QUICK, "--timeout", "0.1s", "--json", "-")
    assert done.returncode == 3
    assert "no answer within 0.1 s" in json.loads(done.stdout)["results"][0]["failure"]["error"]
    assert "--timeout" in done.stderr


def test_more_threads_than_cores_is_a_warning() -> None:
    done = vitprof("latency", TINY, "--effort", "quick", "--measure", "3x", "--threads", "64", "--json", "-")
    warnings = {warning["code"]: warning for warning in json.loads(done.stdout)["results"][0]["warnings"]}
    assert "64 threads" in warnings["more threads than cores"]["detail"]


# Too small for the images, which is seen before they are made; and room for these, but not for the model too.
@pytest.mark.parametrize(("size", "why"), [("400k", "4 images of 3x224x224 take 2.408 MB"), ("2750k", "No space left")])
def test_a_full_disk_is_told_and_nothing_hangs(disk: Callable[[str], Path], size: str, why: str) -> None:
    done = vitprof("latency", TINY, *QUICK, VITPROF_CACHE_DIR=str(disk(size) / "cache"))
    assert done.returncode == 3
    told = " ".join((done.stderr + done.stdout).split())
    assert why in told and "VITPROF_CACHE_DIR" in told


def test_a_disk_that_is_full_while_results_are_written_is_told(disk: Callable[[str], Path]) -> None:
    # Thirty rounds are more than two pages of journal.
    many = ("--effort", "quick", "--measure", "300x", "--threads", "1")
    done = vitprof("latency", TINY, *many, VITPROF_DATA_DIR=str(disk("8k") / "data"))
    assert done.returncode == 3
    assert "No space left" in done.stderr and "VITPROF_DATA_DIR" in done.stderr
    # The disk cost the journal, not what was measured.
    assert "× cpu-ref-1" in done.stdout


def test_a_read_only_cache_is_told_unless_everything_is_in_it(
    disk: Callable[[str], Path], remounted: Callable[[Path, str], None]
) -> None:
    mounted = disk("16m")
    words = ("latency", TINY, *QUICK)
    remounted(mounted, "ro")
    done = vitprof(*words, VITPROF_CACHE_DIR=str(mounted / "cache"))
    assert done.returncode == 3
    told = " ".join((done.stderr + done.stdout).split())
    assert "Read-only" in told and "VITPROF_CACHE_DIR" in told
    remounted(mounted, "rw")
    assert vitprof(*words, VITPROF_CACHE_DIR=str(mounted / "cache")).returncode == 0
    remounted(mounted, "ro")
    assert vitprof(*words, VITPROF_CACHE_DIR=str(mounted / "cache")).returncode == 0


Running = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def running() -> Iterator[Running]:
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "vitprof", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def _runners_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [child for child in started_by(process.pid) if any("runner-" in word for word in command_of(child))]


def _wait_for_counted_rounds(here: Places, before: set[Path]) -> None:
    """Until the journal that is new has rounds after the warm-up."""
    wait_for(lambda: any('"is_warm_up":false' in path.read_text() for path in _journals(here) - before))


def _journals(here: Places) -> set[Path]:
    return set((here.data_root / "runs").glob("*.jsonl"))


def test_ctrl_c_while_measuring_shows_and_keeps_what_was_measured(running: Running, here: Places) -> None:
    before = _journals(here)
    process = running("latency", TINY, "--effort", "strict", "--threads", "1", "--json", "-")
    wait_for(lambda: len(_runners_of(process)) == 2)
    _wait_for_counted_rounds(here, before)
    runners = _runners_of(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=_WAIT_S)
    assert process.returncode == 130
    assert "interrupted" in err and "Traceback" not in err
    [row] = json.loads(out)["results"]
    assert row["latency_ns"]["samples"] > 0 and row["latency_ns"]["stop_reason"] == "interrupted"
    assert len(runners) == 2 and not any(map(runs, runners))


@pytest.mark.parametrize("delay_s", [0.0, 0.3, 0.8])
def test_ctrl_c_before_anything_is_measured_ends_at_once(running: Running, delay_s: float) -> None:
    process = running("latency", TINY, "--effort", "strict")
    time.sleep(0.15 + delay_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=_WAIT_S)
    if "KeyboardInterrupt" in err and f"{Path(vitprof_package.__file__).parent}/" not in err:
        # In the first tenths of a second Python itself may still be starting: it dies of the signal, or says so and 1.
        assert process.returncode in (1, -signal.SIGINT)
        return
    # While the program is being imported it dies of the signal, and says nothing.
    assert process.returncode in (130, -signal.SIGINT) and "Traceback" not in err


def test_ctrl_c_while_a_model_is_exported_ends_the_exporter(running: Running, tmp_path: Path) -> None:
    process = running("export", "resnet18", "--seed", str(time.time_ns() % 10**6), "-o", str(tmp_path))
    wait_for(lambda: started_by(process.pid))
    time.sleep(1.5)
    children = started_by(process.pid)
    assert children
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=_WAIT_S)
    assert process.returncode == 130 and "Traceback" not in err
    wait_for(lambda: not any(map(runs, children)))
    assert not list(tmp_path.glob("*.onnx"))


def test_a_runner_killed_while_measuring_is_a_failed_row_with_its_samples(running: Running, here: Places) -> None:
    before = _journals(here)
    # One long set: killed between two sets, it would be missed by nobody.
    options = ("--effort", "quick", "--measure", "60s", "--threads", "1", "--json", "-", "--samples")
    process = running("latency", TINY, *options)
    wait_for(lambda: len(_runners_of(process)) == 2)
    _wait_for_counted_rounds(here, before)
    # The cell is started after the reference.
    cell = max(_runners_of(process), key=lambda runner: runner.create_time())
    cell.kill()
    out, _ = process.communicate(timeout=_WAIT_S)
    assert process.returncode == 3
    [row] = json.loads(out)["results"]
    assert row["outcome"] == "failed"
    assert "SIGKILL" in row["failure"]["error"] and "smaller model" in row["failure"]["remedy"]
    assert row["samples_ns"] and row["latency_ns"]["stop_reason"] == "failed"


def test_runners_end_when_vitprof_is_killed(running: Running) -> None:
    process = running("latency", TINY, "--effort", "strict", "--threads", "1")
    wait_for(lambda: len(_runners_of(process)) == 2)
    runners = _runners_of(process)
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(runs, runners)))


def test_a_broken_pipe_is_no_traceback() -> None:
    command = f"{sys.executable} -m vitprof models '*' | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.strip() and "Traceback" not in done.stderr and "Exception" not in done.stderr
