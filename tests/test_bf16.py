"""bf16 from a module to outputs: artifacts whose values are in it, backends that compute in it, and who refuses."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from vitprof import exporting
from vitprof.errors import ExitCode, UsageError
from vitprof.export.inputs import dtype_of, write_tensors
from vitprof.export.parity import compare, read_tensors
from vitprof.places import Places
from vitprof.placing import plan_of
from vitprof.prepare import prepare
from vitprof.records import Artifact, Exporter, ModelSpec, ParityVerdict, Precision, Source
from vitprof.report.progress import NoProgress
from vitprof.rows import parity_of
from vitprof.runner.backends import BACKENDS, BackendError, backend_module
from vitprof.runner.wire import Outputs, Plan, Tensor

FACTORY = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8 * 64, 5)

    def forward(self, image):
        return self.head(self.norm(self.stem(image)).relu().flatten(1))

def net():
    return Net(), torch.zeros(1, 3, 16, 16)
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    path = tmp_path_factory.mktemp("source") / "net.py"
    path.write_text(FACTORY)
    return ModelSpec("net.py:net", Source.PYTHON, precision=Precision.BF16, path=str(path), factory="net")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


class Here:
    """Paths of this machine are its own: all that a plan asks of a transport."""

    def place(self, path: str) -> str:
        return path


def _plan(artifact: Artifact, backend: str) -> Plan:
    return plan_of(artifact, backend, 1, Here())  # type: ignore[arg-type]


def _outputs(artifact: Artifact, backend: str, folder: Path) -> tuple[Outputs, Path]:
    """As the runner writes them."""
    session = backend_module(backend).load(_plan(artifact, backend))
    file, tensors = folder / "outputs.bin", []
    with file.open("wb") as stream:
        for index in range(artifact.input_count):
            for name, dtype, shape, data in session.outputs(index):
                tensors.append(Tensor(name, dtype, shape, stream.tell()))
                stream.write(data)
    return Outputs(str(file), tuple(tensors)), file


def test_values_survive_the_way_through_a_file(tmp_path: Path) -> None:
    values = np.array([[1.0, -2.5, 3.140625]], dtype="float32").astype(dtype_of("bfloat16"))
    write_tensors(tmp_path / "x.bin", [values])
    # The upper halves of 1.0, -2.5 and 3.140625 in fp32, little-endian.
    assert (tmp_path / "x.bin").read_bytes().hex() == "803f20c04940"
    [read] = read_tensors(tmp_path / "x.bin", [("bfloat16", (1, 3))])
    assert read.astype("float64").tolist() == [[1.0, -2.5, 3.140625]]


@pytest.mark.parametrize(("error", "verdict"), [(0.02, "match"), (0.2, "drift"), (0.7, "broken")])
def test_rounding_eight_times_as_coarse_as_that_of_fp16_has_limits_of_its_own(error: float, verdict: str) -> None:
    expected = [np.array([[10.0, 1.0, -3.0]]), np.array([[-10.0, 2.0, 5.0]])]
    actual = [expected[0] + [0.0, 0.0, 10 * error], expected[1]]
    assert compare(expected, actual, Precision.BF16, where="host").verdict is ParityVerdict(verdict)


@pytest.mark.parametrize("format", ["onnx", "module", "pt2"])
def test_an_artifact_has_weights_and_images_in_bf16(spec: ModelSpec, cache: Path, format: str) -> None:
    artifact = prepare(spec, format, cache)
    assert (artifact.input_dtype, artifact.spec.precision) == ("bfloat16", Precision.BF16)
    images = (artifact.folder / artifact.inputs).stat().st_size
    assert images == artifact.input_count * 3 * 16 * 16 * 2
    # What it is held against is the original in fp32.
    assert artifact.expected_outputs == (("float32", (1, 5)),)
    if format == "onnx":
        import onnx

        graph = onnx.load(str(artifact.path)).graph
        assert {one.data_type for one in graph.initializer} == {onnx.TensorProto.BFLOAT16}
        assert artifact.folded_weights == () and artifact.count_doubt is None


@pytest.mark.parametrize(("backend", "format"), [("torch", "module"), ("torch", "pt2"), ("openvino", "onnx")], ids=str)
def test_a_backend_gives_the_original_s_outputs_within_rounding(
    spec: ModelSpec, cache: Path, tmp_path: Path, backend: str, format: str
) -> None:
    if importlib.util.find_spec(str(BACKENDS[backend].requires)) is None:
        pytest.skip(f"{backend} is not installed")
    artifact = prepare(spec, format, cache)
    try:
        parity = parity_of(artifact, *_outputs(artifact, backend, tmp_path))
    except BackendError as refused:
        pytest.skip(str(refused))
    assert parity.verdict is ParityVerdict.MATCH
    # Equal to the last bit would mean that it was computed in fp32.
    assert parity.max_rel_error and parity.max_rel_error > 1e-4


def test_a_batch_has_a_file_of_its_own(spec: ModelSpec, cache: Path) -> None:
    artifact = prepare(dataclasses.replace(spec, batch=2), "onnx", cache)
    assert artifact.input_shape == (2, 3, 16, 16) and artifact.symbolic_batch is None


def test_tensorrt_for_rtx_builds_an_engine_of_the_file(spec: ModelSpec, cache: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    engine = prepare(dataclasses.replace(spec, compute_capabilities=("8.6",)), "trt-rtx", cache)
    assert engine.bytes > 1_000 and engine.input_dtype == "bfloat16"
    kernels = engine.path.with_name(engine.path.name + ".kernels.txt").read_text()
    assert "BFloat16" in kernels and "Half" not in kernels


def test_an_exported_file_is_checked_where_something_runs_bf16_and_else_not_called_broken(
    spec: ModelSpec, here: Places, tmp_path: Path
) -> None:
    like = ModelSpec("", Source.TIMM, precision=Precision.BF16)
    name = f"{spec.path}:net"
    [one] = exporting.export((name,), ("onnx",), tmp_path, like, here, progress=NoProgress())
    assert one.failure is None and one.exit_code is ExitCode.OK and one.parity
    assert one.parity.verdict in (ParityVerdict.MATCH, ParityVerdict.NOT_CHECKED)
    assert one.path and one.path.name == "net-net-bf16.onnx"


@pytest.mark.parametrize(
    ("changes", "format", "said"),
    [
        ({"exporter": Exporter.DYNAMO}, "onnx", "the TorchScript exporter only"),
        ({}, "coreml", "Core ML has no bf16"),
        ({}, "litert", "made in fp32 only"),
    ],
)
def test_what_cannot_be_made_in_bf16_is_refused(
    spec: ModelSpec, cache: Path, changes: dict[str, object], format: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        prepare(dataclasses.replace(spec, **changes), format, cache)  # type: ignore[arg-type]
