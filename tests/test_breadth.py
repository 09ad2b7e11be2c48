"""One model on every CPU runtime, from every kind of source, in every precision, by the pipeline's own functions."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from vitprof import exporting, pipeline
from vitprof.devices import reach
from vitprof.devices.profiles import device, reference_model
from vitprof.errors import ExitCode, UnreachableError
from vitprof.pipeline import Request
from vitprof.places import Places
from vitprof.protocols import Effort, protocol
from vitprof.records import Exporter, ModelSpec, ParityVerdict, Precision, Source
from vitprof.report.progress import NoProgress
from vitprof.units import Amount

# On a busy machine an export with a compilation takes minutes.
pytestmark = pytest.mark.timeout(900)
LIKE = ModelSpec("", Source.TIMM, size=(64, 64))
QUICK = protocol(Effort.QUICK, measure=Amount(calls=30))
SMALL = "mobilenetv3_small_050"
CPU = ("ort", "torch", "compile", "openvino")
FACTORY = """
import torch

def net():
    return torch.nn.Sequential(torch.nn.Conv2d(3, {width}, 8, 8), torch.nn.Flatten()), torch.zeros(1, 3, 32, 32)
"""


def _request(*models: str, **changes: object) -> Request:
    return dataclasses.replace(Request(models, QUICK, LIKE, threads=1), **changes)  # type: ignore[arg-type]


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_every_cpu_runtime_gives_a_row_with_parity_on_itself(here: Places) -> None:
    run = pipeline.measure(_request(SMALL, backends=CPU), here)
    assert run.exit_codes == {ExitCode.OK}
    assert [row.backend for row in run.results] == list(CPU)
    assert {row.parity.verdict for row in run.results if row.parity} == {ParityVerdict.MATCH}
    assert [row.artifact.format for row in run.results if row.artifact] == ["onnx", "module", "module", "onnx"]
    builds = {row.backend: row.summary.cold_build_ns for row in run.results if row.summary}
    assert builds["ort"] is None and builds["torch"] is None
    assert (builds["compile"] or 0) > 0 and (builds["openvino"] or 0) > 0


def test_cells_of_one_model_are_told_apart_in_the_journal(here: Places, tmp_path: Path) -> None:
    pipeline.measure(_request(SMALL, backends=("ort", "torch")), Places(here.cache_root, tmp_path))
    [journal] = (tmp_path / "runs").glob("*.jsonl")
    assert f'"cell":"{SMALL} ort"' in journal.read_text() and f'"cell":"{SMALL} torch"' in journal.read_text()


def test_a_factory_is_measured_and_measured_anew_when_its_code_changes(here: Places, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    request = _request(f"{file}:net", backends=("ort", "torch"), like=dataclasses.replace(LIKE, size=None))
    params = []
    for width in (4, 6):
        file.write_text(FACTORY.format(width=width))
        run = pipeline.measure(request, here)
        assert run.exit_codes == {ExitCode.OK}, [row.failure for row in run.results]
        assert run.results[0].artifact and run.results[0].artifact.input_shape == (1, 3, 32, 32)
        params.append(run.results[0].artifact.cost.params)
    assert params == [4 * 3 * 64 + 4, 6 * 3 * 64 + 6]


def test_a_program_of_torch_is_measured_on_every_runtime(here: Places, tmp_path: Path) -> None:
    [exported] = exporting.export((SMALL,), ("pt2",), tmp_path, LIKE, here, progress=NoProgress())
    assert exported.path == tmp_path / f"{SMALL}.pt2"
    assert exported.parity and exported.parity.verdict is ParityVerdict.MATCH
    request = _request(str(exported.path), backends=("ort", "torch"), like=dataclasses.replace(LIKE, size=None))
    run = pipeline.measure(request, here)
    assert run.exit_codes == {ExitCode.OK}, [row.failure for row in run.results]
    assert [row.spec.source for row in run.results] == [Source.PT2] * 2
    assert {row.parity.verdict for row in run.results if row.parity} == {ParityVerdict.MATCH}


def test_batches_above_one_run_from_the_file_for_every_batch(here: Places) -> None:
    for batch in (2, 5):
        [row] = pipeline.measure(_request(SMALL, like=dataclasses.replace(LIKE, batch=batch)), here).results
        assert row.parity and row.parity.verdict is ParityVerdict.MATCH
        assert row.artifact and row.artifact.symbolic_batch == "batch" and row.spec.batch == batch


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8])
@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_lower_precisions_are_measured_with_their_parity_figures(
    precision: Precision, backend: str, here: Places
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    # At 64 pixels the last feature maps are 2x2, and statistics over so few values magnify every rounding.
    like = dataclasses.replace(LIKE, precision=precision, size=None)
    [row] = pipeline.measure(_request(SMALL, backends=(backend,), like=like), here).results
    assert row.failure is None and row.summary and row.parity
    assert row.spec.precision is precision
    assert row.parity.cosine is not None and row.parity.cosine > 0.8
    wanted = ParityVerdict.NOT_CHECKED if precision is Precision.INT8 else ParityVerdict.MATCH
    assert row.parity.verdict is wanted, row.parity


def test_a_backend_that_cannot_take_a_source_is_a_failed_row_beside_the_others(here: Places) -> None:
    like = dataclasses.replace(LIKE, size=None)
    run = pipeline.measure(_request(str(reference_model("cpu-ref-1")), backends=("ort", "torch"), like=like), here)
    assert [row.failure is None for row in run.results] == [True, False]
    failure = run.results[1].failure
    assert failure and "no torch module behind it" in failure.error and "--backend ort" in failure.remedy
    assert ExitCode.USAGE in run.exit_codes


def test_a_runtime_that_is_not_installed_names_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UnreachableError, match="needs the package openvino") as caught:
        reach.check_installed("openvino", device("local"))
    assert caught.value.remedy == "pip install 'vitprof[openvino]'"


def test_the_exporter_that_was_asked_for_is_the_one_in_the_record(here: Places) -> None:
    for exporter, title in ((Exporter.DYNAMO, "dynamo"), (Exporter.TORCHSCRIPT, "TorchScript")):
        like = dataclasses.replace(LIKE, exporter=exporter)
        [exported] = exporting.export((SMALL,), ("onnx",), None, like, here, progress=NoProgress())
        assert exported.artifact and title in exported.artifact.exporter
        assert exported.path is None


def test_weights_beside_an_exported_file_travel_under_its_name(
    here: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of 2 GB is lowered, so that a small model has its weights beside it; exported in this process."""
    import onnx
    import onnxruntime

    from vitprof.export import onnx_export
    from vitprof.export.copies import copy_artifact
    from vitprof.prepare import prepare

    monkeypatch.setattr(onnx_export, "MAX_WEIGHT_BYTES", 1000)
    artifact = prepare(dataclasses.replace(LIKE, name=SMALL, seed=5), "onnx", tmp_path / "cache")
    path = copy_artifact(artifact, tmp_path / "out")
    assert sorted(file.name for file in path.parent.iterdir()) == [f"{SMALL}.onnx", f"{SMALL}.onnx.data"]
    assert artifact.bytes == sum(file.stat().st_size for file in artifact.path.parent.iterdir()) > 5_000_000
    tensors = onnx.load(str(path), load_external_data=False).graph.initializer
    places = {entry.value for tensor in tensors for entry in tensor.external_data}
    assert f"{SMALL}.onnx.data" in places and "model.onnx.data" not in places
    assert onnxruntime.InferenceSession(str(path)).get_inputs()[0].shape == [1, 3, 64, 64]


def test_torchscript_is_measured(here: Places, tmp_path: Path) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8, 8), torch.nn.ReLU(), torch.nn.Flatten()).eval()
    file = tmp_path / "net.pt"
    torch.jit.trace(module, torch.zeros(1, 3, 32, 32)).save(str(file))
    for batch in (1, 3):
        like = dataclasses.replace(LIKE, size=(32, 32), batch=batch)
        [row] = pipeline.measure(_request(str(file), like=like), here).results
        assert row.failure is None, row.failure
        assert row.parity and row.parity.verdict is ParityVerdict.MATCH
        assert row.artifact and row.artifact.cost.macs == 8 * 3 * 64 * 16


def test_a_program_for_one_batch_is_measured_at_that_batch_only(here: Places, tmp_path: Path) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8, 8), torch.nn.Flatten()).eval()
    file = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(module, (torch.zeros(4, 3, 32, 32),)), file)
    like = dataclasses.replace(LIKE, size=None, batch=4)
    [row] = pipeline.measure(_request(str(file), like=like), here).results
    assert row.failure is None and row.artifact and row.artifact.cost.macs == 8 * 3 * 64 * 16
    [other] = pipeline.measure(_request(str(file), like=dataclasses.replace(like, batch=8)), here).results
    assert other.failure and "--batch 4" in other.failure.remedy


@pytest.mark.parametrize(
    ("name", "size", "precision"),
    [
        (SMALL, 64, Precision.FP32),
        (SMALL, 64, Precision.FP16),
        # Fused for inference, a size that its builder must be told, a builder that would fetch a backbone's weights.
        ("mobileone_s0", 64, Precision.FP32),
        ("vit_tiny_patch16_224", 64, Precision.FP32),
        ("torchvision:lraspp_mobilenet_v3_large", 64, Precision.FP32),
    ],
)
def test_torch_runs_the_module_itself_built_again_from_its_recipe(
    name: str, size: int, precision: Precision, here: Places
) -> None:
    like = dataclasses.replace(LIKE, size=(size, size), precision=precision)
    [row] = pipeline.measure(_request(name, backends=("torch",), like=like), here).results
    assert row.failure is None, row.failure
    assert row.artifact and row.artifact.exporter.endswith("the module itself")
    assert row.parity and row.parity.verdict is ParityVerdict.MATCH, row.parity
    assert row.parity.max_rel_error == 0 or precision is Precision.FP16


@pytest.mark.slow
def test_weights_over_two_gigabytes_are_exported_and_measured(tmp_path: Path) -> None:
    file = tmp_path / "huge.py"
    file.write_text(
        "import torch\n"
        "def net():\n"
        "    layers = torch.nn.Flatten(), torch.nn.Linear(3072, 200_000)\n"
        "    return torch.nn.Sequential(*layers), torch.zeros(1, 3, 32, 32)\n"
    )
    request = _request(f"{file}:net", like=dataclasses.replace(LIKE, size=None))
    [row] = pipeline.measure(request, Places(tmp_path / "cache", tmp_path / "data")).results
    assert row.failure is None, row.failure
    assert row.parity and row.parity.verdict is ParityVerdict.MATCH
    assert row.artifact and row.artifact.bytes > 2**31
    assert "dynamo" in row.artifact.exporter
    assert row.artifact.path.with_name("model.onnx.data").stat().st_size > 2**31
