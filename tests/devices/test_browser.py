"""Real Chromium measuring real models on the page: WebAssembly on the processor, WebGPU on SwiftShader."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.devices.chromium import Chromium, chromium, runtime, started
from tests.export import made
from tests.runner.test_litert import NET
from vitprof import prepare
from vitprof.analysis.summary import summarise
from vitprof.cells import Cell
from vitprof.devices import lease, profiles
from vitprof.devices.browser import control, litert_js, serving
from vitprof.devices.transports import RunnerFailed
from vitprof.devices.transports.browser import BrowserLink, BrowserTransport
from vitprof.export import cache
from vitprof.export.inputs import seeded_inputs, write_tensors
from vitprof.group import Setting, measure_group
from vitprof.measurements import Grade
from vitprof.places import places
from vitprof.protocols import protocol, protocol_on
from vitprof.records import ModelSpec, Readiness, Source
from vitprof.report.progress import NoProgress
from vitprof.runner.wire import BlockRequest, End, EndRequest, Outputs, OutputsRequest, Plan, Ready
from vitprof.store.journal import Journal
from vitprof.units import Amount

Start = Callable[[BrowserTransport, Plan], BrowserLink]
_SHAPE = (2, 3, 8, 8)
_WAIT_S = 60


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One Chromium for the tests that leave it as it was."""
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITPROF_DATA_DIR", str(data))
        with serving.serving(data, runtime()) as server, chromium(server) as opened:
            yield opened


@pytest.fixture
def plan(browser: Chromium, tmp_path: Path) -> Plan:
    return plan_of(transport(), tmp_path)


@pytest.fixture
def start(browser: Chromium) -> Iterator[Start]:
    """Begins links that are closed whatever the test says: a page works for one at a time."""
    with contextlib.ExitStack() as open_links:

        def begin(own: BrowserTransport, plan: Plan) -> BrowserLink:
            link = own.start(plan)
            open_links.callback(link.close)
            return link

        yield begin


def transport() -> BrowserTransport:
    return BrowserTransport(profiles.device("browser"))


def plan_of(placed_by: BrowserTransport, folder: Path, **changed: object) -> Plan:
    write_tensors(folder / "images.bin", seeded_inputs(_SHAPE, "float32", 2, seed=0))
    plan = Plan(
        backend="litert",
        artifact=placed_by.place(str(NET)),
        artifact_sha256=placed_by.place(str(NET)).rpartition("/")[2],
        inputs=placed_by.place(str(folder / "images.bin")),
        input_name="image",
        input_shape=_SHAPE,
        input_count=2,
    )
    return replace(plan, **changed)  # type: ignore[arg-type]


def ready(link: BrowserLink) -> Ready:
    message = link.receive(_WAIT_S)
    assert isinstance(message, Ready)
    return message


def failure(plan: Plan) -> tuple[str, str, str]:
    """(stage, error, remedy) of a plan that a page cannot follow."""
    link = transport().start(plan)
    with pytest.raises(RunnerFailed) as caught:
        link.receive(_WAIT_S)
    return caught.value.failure.stage, caught.value.failure.error, caught.value.failure.remedy


def _expected(index: int) -> list[np.ndarray]:
    import torch

    from tests.data.net import net

    image = torch.from_numpy(seeded_inputs(_SHAPE, "float32", 2, seed=0)[index])
    with torch.no_grad():
        return [tensor.numpy() for tensor in net()(image).values()]


def check_outputs(outputs: Outputs, file: Path) -> None:
    data = file.read_bytes()
    for index in (0, 1):
        mine = outputs.tensors[2 * index : 2 * index + 2]
        for tensor, wanted in zip(mine, _expected(index), strict=True):
            assert tensor.shape == wanted.shape
            actual = np.frombuffer(data, tensor.dtype, wanted.size, tensor.offset).reshape(wanted.shape)
            np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("backend", "threads"), [("litert", 1), ("litert", 2), ("litert-gpu", 1)])
def test_a_page_measures_and_its_outputs_are_those_of_the_module(
    plan: Plan, start: Start, tmp_path: Path, backend: str, threads: int
) -> None:
    own = transport()
    link = start(own, replace(plan, backend=backend, threads=threads, rewarm_ns=30_000_000))
    answer = ready(link)
    assert answer.clock == "browser" and answer.backend_version.startswith("LiteRT.js ")
    assert 0 < answer.clock_step_ns <= 100_000 and answer.load_ns > 0 and answer.first_call_ns > 0
    assert answer.placement_ops_share == 1.0
    assert answer.environment["cross_origin_isolated"] is True and answer.environment["cores"] >= 1
    link.send(BlockRequest(3))
    block = link.receive(_WAIT_S)
    # The first stretch of a block is set aside.
    assert block.index == 3 and len(block.samples_ns) >= 3
    assert len(block.set_aside_ns) > 1 and min(block.samples_ns) >= answer.clock_step_ns
    assert block.sensors["page_hidden"] is False
    path = own.scratch("outputs", tmp_path)
    link.send(OutputsRequest(path))
    outputs = link.receive(_WAIT_S)
    check_outputs(outputs, own.fetch(outputs.path, tmp_path))
    link.send(EndRequest())
    assert isinstance(link.receive(_WAIT_S), End)
    if backend == "litert-gpu":
        assert answer.environment["gpu_is_software"] is True and "swiftshader" in answer.environment["gpu"]
        assert (
            "queue.onSubmittedWorkDone" in answer.environment["completion"]
            or "read" in answer.environment["completion"]
        )
    else:
        assert "gpu_is_software" not in answer.environment


def test_a_whole_group_is_measured_and_a_renderer_in_software_is_graded_c(plan: Plan, tmp_path: Path) -> None:
    """Two backends take turns, each in a worker of its own."""
    device = replace(profiles.device("browser"), ready=Readiness(wait_s=60))
    rule = protocol_on(device, protocol(measure=Amount(calls=30)))
    rule = replace(rule, sets=1, block_ns=20_000_000, rewarm_ns=5_000_000, cap_s_per_cell=60.0, warm_up_floor_ns=0)
    assert rule.reference == ""
    own = transport()
    cells = [
        Cell(
            name,
            replace(plan, backend=name, block_ns=rule.block_ns, rewarm_ns=rule.rewarm_ns),
            own.scratch(name, tmp_path),
        )
        for name in ("litert", "litert-gpu")
    ]
    with lease.held(device, own, lambda _: None) as held:
        assert held.wait_until_ready() == ()
        group = measure_group(cells, None, Setting(own, rule, Journal(tmp_path), NoProgress()))
    for cell, gives in zip(cells, group.cells, strict=True):
        assert gives.samples.failure is None and gives.outputs is not None
        check_outputs(gives.outputs, own.fetch(gives.outputs.path, tmp_path))
        summary = summarise(gives.samples, rule, batch=2, macs_per_image=1, reference_long_run_ns=None)
        assert summary is not None and summary.latency.samples >= 30
        codes = [one.code for one in summary.warnings]
        assert ("software gpu" in codes) == (cell.name == "litert-gpu")
        assert cell.name == "litert" or summary.grade is Grade.C


def test_the_page_says_how_it_stands_without_being_held(browser: Chromium) -> None:
    device, own = profiles.device("browser"), transport()
    told = lease.look(device, own, with_runtimes=True)
    assert told["runtimes"]["litert"] and told["runtimes"]["litert-gpu"] and told["user_agent"]
    assert lease.threads_of(device, own) == told["cores"]


def test_a_page_behind_another_says_so_in_its_blocks(browser: Chromium, plan: Plan, start: Start) -> None:
    link = start(transport(), plan)
    ready(link)

    def is_hidden() -> bool:
        link.send(BlockRequest(0))
        return bool(link.receive(_WAIT_S).sensors["page_hidden"])

    assert not is_hidden()
    with browser.page_behind_another():
        end_s = time.monotonic() + _WAIT_S
        while not is_hidden():
            assert time.monotonic() < end_s
    while is_hidden():
        assert time.monotonic() < end_s


@pytest.mark.parametrize(
    ("changed", "error", "remedy"),
    [
        ({"backend": "ort"}, "no backend 'ort'", "litert"),
        ({"region": "e2e"}, "calls alone", "--region"),
        ({"profile_path": "x"}, "no profile by layer", "--backend ort"),
        ({"options": {"x": 1}}, "no options, and was given x", "profile"),
        ({"input_dtype": "float16"}, "cannot feed float16", "fp32"),
        ({"artifact_sha256": "0" * 64}, "sha256 .* expected 000000000000", "cache clear"),
        ({"artifact": f"files/{'0' * 64}", "artifact_sha256": ""}, "status 404", "run again"),
        ({"deadline_s": 0.001}, "deadline", "--timeout"),
    ],
)
def test_what_a_page_cannot_do_is_a_failure_with_a_remedy(
    plan: Plan, changed: dict[str, object], error: str, remedy: str
) -> None:
    import re

    stage, found, hint = failure(replace(plan, **changed))  # type: ignore[arg-type]
    assert stage == "load" and re.search(error, found) and remedy in hint


def test_a_file_that_is_no_model_is_a_failure(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "broken.tflite").write_bytes(b"not a model" * 100)
    own = transport()
    stage, _, remedy = failure(replace(plan, artifact=own.place(str(tmp_path / "broken.tflite")), artifact_sha256=""))
    assert stage == "load" and remedy


def test_more_than_a_page_takes_is_refused_before_it_is_fetched(plan: Plan, tmp_path: Path) -> None:
    large = tmp_path / "large.tflite"
    with large.open("wb") as file:
        file.truncate(1_100_000_000)
    state = control.running(places().data_root)
    assert state is not None
    control.ask(state, ask="offer", path=str(large), sha256="f" * 64)
    _, error, remedy = failure(replace(plan, artifact=f"files/{'f' * 64}", artifact_sha256=""))
    assert "1100 MB" in error and "at most" in error and "smaller" in remedy


@pytest.mark.slow
def test_a_page_that_is_closed_while_it_measures_is_a_failure_and_the_next_run_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITPROF_DATA_DIR", str(tmp_path / "data"))
    with serving.serving(tmp_path / "data", runtime()) as server:
        with chromium(server) as opened:
            link = transport().start(plan_of(transport(), tmp_path, block_ns=30_000_000_000))
            ready(link)
            link.send(BlockRequest(0))
            time.sleep(0.3)
            opened.end()
            with pytest.raises(RunnerFailed) as caught:
                link.receive(_WAIT_S)
            assert caught.value.failure.stage == "link" and "in front" in caught.value.failure.remedy
        assert not server.hub.pages()
        with chromium(server):
            link = transport().start(plan_of(transport(), tmp_path))
            assert ready(link).placement_ops_share == 1.0


def _publish(root: Path) -> None:
    """Puts the file into the cache as if `vitprof export` had made it: its exporter takes 2 GB."""
    spec = ModelSpec("net", Source.PYTHON, (8, 8), batch=2, path=str(NET.with_suffix(".py")), factory="net")
    key = prepare.key(spec, "litert", root)
    with cache.staging(root) as folder:
        (folder / "model").mkdir()
        shutil.copyfile(NET, folder / "model" / "net.tflite")
        write_tensors(folder / "inputs.bin", seeded_inputs(_SHAPE, "float32", 2, seed=0))
        expected = [_expected(index) for index in (0, 1)]
        write_tensors(folder / "expected.bin", [tensor for outputs in expected for tensor in outputs])
        artifact = replace(
            made.artifact(folder, spec),
            file="model/net.tflite",
            format="litert",
            sha256=cache.files_sha256([folder / "model" / "net.tflite"]),
            bytes=NET.stat().st_size,
            input_shape=_SHAPE,
            input_count=2,
            expected_outputs=tuple((str(tensor.dtype), tensor.shape) for tensor in expected[0]),
        )
        cache.publish(root, key, folder, artifact)


@pytest.mark.slow
def test_the_commands_serve_and_measure_as_a_person_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPROF_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("VITPROF_CACHE_DIR", str(tmp_path / "cache"))
    _publish(tmp_path / "cache")
    shutil.copytree(runtime().folder, litert_js.folder_of(tmp_path / "cache"))
    vitprof = [sys.executable, "-m", "vitprof"]
    serve = subprocess.Popen([*vitprof, "devices", "serve"], stdout=subprocess.PIPE, text=True, bufsize=1)
    try:
        assert serve.stdout is not None
        address = next(line.strip() for line in serve.stdout if "/?token=" in line)
        words = [*vitprof, "latency", f"{NET.with_suffix('.py')}:net", "--size", "8", "--batch", "2", "--json", "-"]
        words += ["--device", "browser", "--backends", "litert,litert-gpu", "--effort", "quick", "--threads", "1"]
        missing = subprocess.run(words, capture_output=True, text=True, check=False)
        assert missing.returncode == 4 and "no browser is connected" in missing.stderr
        with started(address):
            while not control.pages(control.running(places().data_root) or pytest.fail("the server ended")):
                time.sleep(0.1)
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)["results"]
        assert [row["outcome"] for row in rows] == ["ok", "ok"]
        assert [row["parity"]["verdict"] for row in rows] == ["match", "match"]
        assert rows[0]["parity"]["where"] == "device" and rows[0]["latency_ns"]["samples"] >= 30
        assert rows[1]["grade"] == "C" and rows[0]["environment"]["before"]["user_agent"]
    finally:
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(20) == 0
    assert not (tmp_path / "data" / "browser-server.json").exists()
