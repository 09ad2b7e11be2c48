"""Core ML's backend over real coremltools and a real package; Apple's native library is a stand-in, as documented."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("coremltools")

from tests.runner import native_core_ml
from tests.test_prepare_coreml import FACTORY
from vitprof.devices.transports.fake import VirtualClock
from vitprof.export.coreml_operators import macs_share_without, read_operators
from vitprof.export.parity import read_tensors
from vitprof.placing import plan_of
from vitprof.prepare import prepare
from vitprof.records import Artifact, ModelSpec, Precision, Source
from vitprof.runner.__main__ import _check_artifact
from vitprof.runner.backends import BackendError, backend_module, coreml, timed_call
from vitprof.runner.profiles import coreml as plans
from vitprof.runner.serve import Server
from vitprof.runner.wire import Plan, ProfileRequest

NO_MAC = "needs macOS: Core ML itself is there only"


class _Here:
    """As the local transport places files."""

    def place(self, path: str) -> str:
        return path


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    path = tmp_path_factory.mktemp("source") / "net.py"
    path.write_text(FACTORY)
    spec = ModelSpec("net.py:net", Source.PYTHON, precision=Precision.FP16, path=str(path), factory="net")
    return prepare(spec, "coreml", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def plan(artifact: Artifact) -> Plan:
    return plan_of(artifact, "coreml", 1, _Here(), {})  # type: ignore[arg-type]


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    native_core_ml.install(monkeypatch)
    # Compiled models are left to later processes: here they are the test's own.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield


def _session(plan: Plan) -> Any:
    return coreml._CoremlSession(plan, coreml.options_of(plan))


@pytest.mark.usefixtures("native")
def test_its_outputs_are_the_modules_for_every_input(plan: Plan, artifact: Artifact) -> None:
    session = _session(plan)
    assert artifact.expected is not None
    expected = read_tensors(artifact.folder / artifact.expected, artifact.expected_outputs * artifact.input_count)
    for index, wanted in enumerate(expected):
        [(_, dtype, shape, data)] = session.outputs(index)
        np.testing.assert_allclose(np.frombuffer(data, dtype).reshape(shape), wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.usefixtures("native")
def test_every_timed_call_gets_the_same_fp32_array_so_that_nothing_is_converted_inside_it(plan: Plan) -> None:
    session = _session(plan)
    for _ in range(3):
        timed_call(session, "call")()
        timed_call(session, "e2e")()
    given = [one[plan.input_name] for one in session._model._proxy.seen]
    assert plan.input_dtype == "float16" and given[0].dtype == np.float32
    assert all(one is given[0] for one in given)


@pytest.mark.usefixtures("native")
def test_compiling_is_timed_apart_and_a_compiled_model_is_loaded_as_it_is(plan: Plan) -> None:
    session = _session(plan)
    assert session.build_ns > 0 and Path(session._path).is_dir()
    again = _session(replace(plan, artifact=session._path))
    assert again.build_ns is None and again._path == session._path


@pytest.mark.usefixtures("native")
def test_a_process_tells_where_operators_run_and_core_ml_s_own_part_of_a_call(plan: Plan, artifact: Artifact) -> None:
    rows = read_operators(artifact.folder)
    assert rows is not None
    products = {row.name for row in rows if row.macs}
    server = Server(plan, _session, "9.0", VirtualClock())
    ready = server.ready
    assert set(ready.misplaced_ops or ()) == {row.name for row in rows} - products
    assert ready.placement_ops_share == pytest.approx(len(products) / len(rows))
    facts = ready.environment
    assert facts["placed_ops"] == {"ane": len(products), "cpu": len(rows) - len(products)}
    # The stand-in's plan gives the operators half of the whole, in equal parts.
    assert facts["estimated_cost_shares"]["ane"] == pytest.approx(len(products) / len(rows) / 2)
    assert (facts["compute_units"], facts["compute_devices"]) == ("all", ["ane", "cpu"])
    assert facts["coreml_predict_ns"] == native_core_ml.PREDICT_NS
    # All products are where they were asked for.
    assert macs_share_without(artifact.folder, frozenset(ready.misplaced_ops or ())) == 1.0
    assert server.end().call_energy_j is None


@pytest.mark.usefixtures("native")
def test_compute_units_reach_core_ml_and_say_what_is_misplaced(plan: Plan) -> None:
    session = _session(replace(plan, options={"compute_units": "cpu"}))
    assert session._model._proxy.units == "CPU_ONLY"
    assert (session.placement_ops_share, session.misplaced_ops) == (1.0, ())
    session = _session(replace(plan, options={"compute_units": "cpu+gpu"}))
    assert session._model._proxy.units == "CPU_AND_GPU"
    assert session.placement_ops_share == 0.0


@pytest.mark.usefixtures("native")
def test_a_profile_is_the_measured_whole_shared_by_core_ml_s_estimate(plan: Plan, artifact: Artifact) -> None:
    clock = VirtualClock()
    session = _session(plan)
    call = session.call

    def two_milliseconds() -> None:
        call()
        clock.wait(2_000_000)

    session.call = two_milliseconds
    profile = session.profile(ProfileRequest(runs=8), clock)
    assert profile.is_estimate and profile.total_ns == 2_000_000
    assert sum(op.ns for op in profile.ops) == pytest.approx(1_000_000)
    rows = read_operators(artifact.folder)
    assert [op.name for op in profile.ops] == [row.name for row in rows or ()]
    assert {op.placed for op in profile.ops} == {"ane", "cpu"} and "conv" in {op.op for op in profile.ops}


@pytest.mark.usefixtures("native")
def test_without_estimates_there_is_no_profile_but_a_remedy() -> None:
    with pytest.raises(BackendError, match=r"macOS 14\.4") as caught:
        coreml.estimated((plans.PlannedOp("x", "conv", "cpu", None),), lambda: None, ProfileRequest(), VirtualClock())
    assert "--backend ort" in caught.value.remedy


@pytest.mark.usefixtures("native")
def test_what_core_ml_refuses_is_an_error_of_one_line(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "broken.mlmodelc").mkdir()
    with pytest.raises(BackendError, match="cannot load the model") as caught:
        _session(replace(plan, artifact=str(tmp_path / "broken.mlmodelc")))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "darwin", reason="this is a Mac")
def test_on_another_system_the_runner_names_a_mac(plan: Plan) -> None:
    with pytest.raises(BackendError, match="runs on macOS only") as caught:
        backend_module("coreml").load(plan)
    assert "--device macbook-m2" in caught.value.remedy


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compute_units": "ane"}, r"compute_units = 'ane'; allowed: all, cpu, cpu\+gpu, cpu\+ane"),
        ({"compute_unit": "all"}, "unknown option 'compute_unit'"),
        ({"iphone": 13}, "iphone = 13; allowed: a text"),
        # coremltools would put it into a command of a shell.
        ({"development_team": "A1B2; rm -rf ~"}, "development_team = 'A1B2; rm"),
        ({"bundle_identifier": "$(id)"}, "bundle_identifier"),
        ({"provisioning_profile_uuid": ""}, "provisioning_profile_uuid"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BackendError, match=said) as caught:
        coreml.options_of(Plan(backend="coreml", options=options))
    assert "[options.coreml]" in caught.value.remedy


def test_outputs_are_in_the_program_s_order_and_others_after_them() -> None:
    found = {"b": np.zeros(2, np.float32), "a": np.ones((1, 1), np.float32), "z": np.zeros(1, np.float32)}
    assert [name for name, *_ in coreml.tensors(found, ("z", "b"))] == ["z", "b", "a"]


def test_a_compiled_model_s_outputs_are_those_of_its_metadata(tmp_path: Path) -> None:
    folder = tmp_path / "net.mlmodelc"
    folder.mkdir()
    assert coreml.output_names(str(folder)) == ()
    # As Apple's compiler writes it, shortened.
    (folder / "metadata.json").write_text('[{"outputSchema": [{"name": "logits"}, {"name": "aux"}]}]')
    assert coreml.output_names(str(folder)) == ("logits", "aux")


def test_compiled_models_of_processes_long_gone_are_removed_and_no_others(tmp_path: Path) -> None:
    now_s = time.time()
    for name in ("vitprof-coreml-old", "vitprof-coreml-new", "other-old"):
        (tmp_path / name / "model.mlmodelc").mkdir(parents=True)
    for name in ("vitprof-coreml-old", "other-old"):
        os.utime(tmp_path / name, (now_s - 25 * 3600, now_s - 25 * 3600))
    coreml.remove_stale(str(tmp_path), now_s)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other-old", "vitprof-coreml-new"]


def test_a_folder_that_is_not_the_exported_one_is_not_timed(plan: Plan, tmp_path: Path) -> None:
    assert plan.artifact_sha256
    _check_artifact(plan)
    copy = shutil.copytree(plan.artifact, tmp_path / "copy.mlpackage")
    _check_artifact(replace(plan, artifact=str(copy)))
    weights = next(copy.rglob("weight.bin"))
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BackendError, match="has sha256"):
        _check_artifact(replace(plan, artifact=str(copy)))
    weights.unlink()
    with pytest.raises(BackendError, match="has sha256"):
        _check_artifact(replace(plan, artifact=str(copy)))


def test_coremltools_has_what_is_used_of_it() -> None:
    from coremltools import ComputeUnit
    from coremltools.models import CompiledMLModel, compute_plan, utils
    from coremltools.models.compute_device import MLComputeDevice

    def names(function: Any) -> set[str]:
        return set(inspect.signature(function).parameters)

    assert {"path", "compute_units"} <= names(CompiledMLModel)
    assert {"data"} <= names(CompiledMLModel.predict)
    assert {"model", "destination_path"} <= names(utils.compile_model)
    assert {"path", "compute_units"} <= names(compute_plan.MLComputePlan.load_from_path)
    assert {"operator_name", "outputs", "blocks"} <= names(compute_plan.MLModelStructureProgramOperation)
    assert {"preferred_compute_device"} <= names(compute_plan.MLComputePlanDeviceUsage)
    assert {"weight"} <= names(compute_plan.MLComputePlanCost)
    assert set(coreml.NAMES.values()) == set(ComputeUnit.__members__)
    assert set(coreml.NAMES) == set(plans.COMPUTE_UNITS)
    assert set(plans._UNITS) == {one.__name__ for one in MLComputeDevice.__subclasses__()}


@pytest.mark.skipif(sys.platform != "darwin", reason=NO_MAC)
def test_on_a_mac_core_ml_gives_the_modules_outputs(plan: Plan, artifact: Artifact) -> None:
    session = coreml.load(plan)
    session.call()
    assert artifact.expected is not None
    expected = read_tensors(artifact.folder / artifact.expected, artifact.expected_outputs * artifact.input_count)
    [(_, dtype, shape, data)] = session.outputs(0)
    np.testing.assert_allclose(np.frombuffer(data, dtype).reshape(shape), expected[0], rtol=1e-2, atol=1e-2)
    assert session.planned and session.predict_ns()
