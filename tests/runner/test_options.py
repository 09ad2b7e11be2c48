from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vitprof.runner.backends import BackendError
from vitprof.runner.cuda import DriverFacts
from vitprof.runner.engine_cache import EngineCache, cache_of, key_of_engine, key_of_gpu
from vitprof.runner.options import RunOptions, run_options
from vitprof.runner.wire import Plan

GPU = DriverFacts("NVIDIA A40", "0000:01:00.0", "ab", "8.6", 1, "13.0")


def test_defaults_are_those_that_the_device_page_lists() -> None:
    page = (Path(__file__).parents[2] / "devices" / "README.md").read_text()
    lines = page.partition("Options of runners")[2].splitlines()
    # Those without a default here, and those of Core ML, are other runners' own.
    rows = [line.split("`")[1] for line in lines if line[:3] == "| `" and "| coreml |" not in line]
    listed = dict(row.split(" = ") for row in rows if " = " in row)
    own = {name: value for name, value in RunOptions().facts().items() if name not in ("device", "index")}
    as_toml = {name: f'"{value}"' if isinstance(value, str) else str(value).lower() for name, value in own.items()}
    assert {name: value for name, value in listed.items() if name != "device"} == as_toml


@pytest.mark.parametrize(
    ("backend", "given", "device", "index"),
    [
        ("torch", {}, "cpu", 0),
        ("torch", {"device": "cuda"}, "cuda", 0),
        ("ort", {"device": "cuda:3"}, "cuda", 3),
        ("torch", {"device": "mps"}, "mps", 0),
        ("trt", {}, "cuda", 0),
        ("trt-rtx", {"device": "cuda:1", "tf32": True}, "cuda", 1),
    ],
)
def test_where_a_session_runs(backend: str, given: dict[str, Any], device: str, index: int) -> None:
    options = run_options(Plan(backend, given))
    assert (options.device, options.index, options.tf32) == (device, index, "tf32" in given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"device": "tpu"}, "device = 'tpu'; allowed: cpu, cuda"),
        ({"device": "cuda:x"}, "cuda:x"),
        ({"cuda_graphs": True}, "unknown option 'cuda_graphs'; allowed: .*cuda_graph,"),
        ({"index": 1}, "unknown option 'index'"),
        ({"spin": "yes"}, "spin = 'yes'; allowed: true, false"),
        ({"provider": "rocm"}, "allowed: cuda, tensorrt"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BackendError, match=said) as caught:
        run_options(Plan("torch", given))
    assert "profile" in caught.value.remedy


def test_entries_of_onnx_runtime_s_own_are_not_ours() -> None:
    assert run_options(Plan("ort", {"session.intra_op.allow_spinning": "0"})) == RunOptions()


def test_a_kept_engine_is_found_by_its_key_alone(tmp_path: Path) -> None:
    cache = EngineCache(str(tmp_path / "engines"))
    assert cache.read("engine", "a") is None
    cache.keep("engine", "a", b"one")
    cache.keep("engine", "a", b"two")
    assert cache.read("engine", "a") == b"two"
    assert cache.read("timings", "a") is None and cache.read("engine", "b") is None
    assert [path.name for path in (tmp_path / "engines").iterdir()] == ["a.engine"]


def test_where_nothing_can_be_written_nothing_is_kept_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file where the folder would be")
    cache = EngineCache(str(tmp_path / "engines"))
    cache.keep("engine", "a", b"one")
    assert cache.read("engine", "a") is None


def test_what_could_not_be_kept_leaves_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "a.engine").mkdir()
    EngineCache(str(tmp_path)).keep("engine", "a", b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["a.engine"]


def test_engines_lie_beside_the_inputs_and_not_among_the_model_s_files(tmp_path: Path) -> None:
    plan = Plan("trt", artifact=str(tmp_path / "model" / "model.onnx"), inputs=str(tmp_path / "inputs.bin"))
    cache_of(plan).keep("engine", "a", b"one")
    assert (tmp_path / "engines" / "a.engine").exists()


def test_whatever_an_engine_depends_on_is_in_its_key() -> None:
    plan = Plan("trt", artifact_sha256="1", input_shape=(1, 3, 8, 8))
    other_gpu = DriverFacts("NVIDIA A40", "0000:01:00.0", "cd", "8.6", 1, "13.0")
    newer_driver = DriverFacts("NVIDIA A40", "0000:01:00.0", "ab", "8.6", 1, "13.1")
    keys = [
        key_of_engine(plan, GPU, "11.1", {"tf32": False}),
        key_of_engine(plan, GPU, "11.1", {"tf32": True}),
        key_of_engine(plan, GPU, "11.2", {"tf32": False}),
        key_of_engine(plan, other_gpu, "11.1", {"tf32": False}),
        key_of_engine(plan, newer_driver, "11.1", {"tf32": False}),
        key_of_engine(Plan("trt", artifact_sha256="2", input_shape=(1, 3, 8, 8)), GPU, "11.1", {"tf32": False}),
        key_of_engine(Plan("trt", artifact_sha256="1", input_shape=(8, 3, 8, 8)), GPU, "11.1", {"tf32": False}),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of_engine(plan, GPU, "11.1", {"tf32": False}) == keys[0]
    # Where the GPU is in the machine is of no matter to what runs on it.
    moved = DriverFacts("NVIDIA A40", "0000:02:00.0", "ab", "8.6", 1, "13.0")
    assert key_of_gpu(moved, "11.1") == key_of_gpu(GPU, "11.1")


def test_of_a_model_with_weights_beside_it_all_files_count(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    plan = Plan("trt", artifact=str(tmp_path / "model.onnx"))
    (tmp_path / "model.onnx.data").write_bytes(b"one")
    first = key_of_engine(plan, GPU, "11.1", {})
    (tmp_path / "model.onnx.data").write_bytes(b"two")
    assert key_of_engine(plan, GPU, "11.1", {}) != first
