from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from vitprof.errors import VitprofError  # noqa: E402
from vitprof.export.derive import check_any_batch  # noqa: E402
from vitprof.export.onnx_export import export_onnx  # noqa: E402
from vitprof.export.parity import compare, read_tensors  # noqa: E402
from vitprof.prepare import cached, prepare  # noqa: E402
from vitprof.records import Artifact, ModelSpec, Parity, ParityVerdict, Precision, Source  # noqa: E402

SPEC = ModelSpec(name="mobilenetv3_small_050", source=Source.TIMM, size=(64, 64))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def outputs_of(artifact: Artifact) -> list[np.ndarray]:
    options = ort.SessionOptions()
    if artifact.symbolic_batch:
        options.add_free_dimension_override_by_name(artifact.symbolic_batch, artifact.input_shape[0])
    session = ort.InferenceSession(str(artifact.path), options)
    inputs = read_tensors(
        artifact.folder / artifact.inputs, [(artifact.input_dtype, artifact.input_shape)] * artifact.input_count
    )
    return [output for image in inputs for output in session.run(None, {artifact.input_name: image})]


def parity_of(artifact: Artifact) -> Parity:
    expected = read_tensors(artifact.folder / str(artifact.expected), artifact.expected_outputs * artifact.input_count)
    return compare(expected, outputs_of(artifact), artifact.spec.precision, "host")


def test_batches_above_one_share_one_file_and_give_the_originals_outputs(root: Path) -> None:
    three, seven = (prepare(replace(SPEC, batch=batch), "onnx", root) for batch in (3, 7))
    assert three.sha256 == seven.sha256
    assert three.path.samefile(seven.path) or three.path.read_bytes() == seven.path.read_bytes()
    assert (three.symbolic_batch, three.input_shape, three.input_count) == ("batch", (3, 3, 64, 64), 2)
    assert parity_of(three).verdict is ParityVerdict.MATCH
    assert parity_of(seven).verdict is ParityVerdict.MATCH
    assert cached(replace(SPEC, batch=3), "onnx", root) == three


def test_a_single_image_has_a_file_of_its_own(root: Path) -> None:
    assert prepare(SPEC, "onnx", root).symbolic_batch is None


class FixedBatch(torch.nn.Module):
    """A reshape to the number of images that was traced."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.reshape(int(image.shape[0]), -1)[:, :5] if torch.jit.is_tracing() else image.flatten(1)[:, :5]


class Summed(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.sum()


def exported_for_any_batch(module: torch.nn.Module, path: Path) -> Path:
    export_onnx(module.eval(), (1, 3, 4, 4), path, any_batch=True)
    return path


def test_a_file_that_fixed_its_batch_when_traced_is_found_out(tmp_path: Path) -> None:
    path = exported_for_any_batch(FixedBatch(), tmp_path / "m.onnx")
    images = [np.random.default_rng(i).standard_normal((1, 3, 4, 4), dtype=np.float32) for i in range(4)]
    with pytest.raises(VitprofError, match="does not take 3 images") as caught:
        check_any_batch(path, images, [[image.reshape(1, -1)[:, 5:10]] for image in images])
    assert caught.value.stage == "export"


def test_outputs_without_an_axis_for_the_images_need_a_file_for_each_batch(tmp_path: Path) -> None:
    path = exported_for_any_batch(Summed(), tmp_path / "m.onnx")
    images = [np.ones((1, 3, 4, 4), np.float32)] * 4
    with pytest.raises(VitprofError, match="no axis for the images"):
        check_any_batch(path, images, [[np.float32(48).reshape(())]] * 4)


def test_fp16_halves_the_file_takes_fp16_images_and_matches(root: Path) -> None:
    full, half = (prepare(replace(SPEC, precision=one), "onnx", root) for one in (Precision.FP32, Precision.FP16))
    assert half.bytes < 0.6 * full.bytes
    assert half.input_dtype == "float16"
    assert parity_of(half).verdict is ParityVerdict.MATCH
    assert any("fp16" in fixup for fixup in half.fixups)
    kinds = {tensor.data_type for tensor in onnx.load(str(half.path)).graph.initializer if np.prod(tensor.dims) > 64}
    assert onnx.TensorProto.FLOAT16 in kinds and onnx.TensorProto.FLOAT not in kinds


def test_fp16_programs_of_torch_take_fp16_images(root: Path) -> None:
    half = prepare(replace(SPEC, precision=Precision.FP16), "pt2", root)
    assert half.input_dtype == "float16"
    assert {str(w.dtype) for w in torch.export.load(half.path).parameters()} == {"torch.float16"}


def test_int8_quantises_the_products_and_says_so(root: Path) -> None:
    full, small = (prepare(replace(SPEC, precision=one), "onnx", root) for one in (Precision.FP32, Precision.INT8))
    assert small.bytes < 0.5 * full.bytes
    model = onnx.load(str(small.path))
    kinds = {tensor.data_type for tensor in model.graph.initializer if np.prod(tensor.dims) > 2000}
    assert kinds == {onnx.TensorProto.INT8}
    assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    assert any("int8" in fixup for fixup in small.fixups)
    parity = parity_of(small)
    assert parity.verdict is ParityVerdict.NOT_CHECKED
    assert "no accuracy is claimed" in str(parity.reason)
    assert parity.cosine is not None and parity.cosine > 0.9


def test_int8_for_torch_is_refused_with_what_to_use(root: Path) -> None:
    with pytest.raises(VitprofError, match=r"int8 is made for ONNX only") as caught:
        prepare(replace(SPEC, precision=Precision.INT8), "pt2", root)
    assert "--backend ort" in caught.value.remedy


def test_a_given_file_is_quantised_too_with_nothing_to_compare_to(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "given.onnx"
    path.write_bytes(prepare(SPEC, "onnx", root).path.read_bytes())
    given = ModelSpec(name="given.onnx", source=Source.ONNX, path=str(path), precision=Precision.INT8)
    artifact = prepare(given, "onnx", root)
    assert artifact.spec.precision is Precision.INT8
    assert artifact.expected is None


def test_a_given_fp16_file_is_called_fp16(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(prepare(replace(SPEC, precision=Precision.FP16), "onnx", root).path.read_bytes())
    given = ModelSpec(name="half.onnx", source=Source.ONNX, path=str(path))
    assert prepare(given, "onnx", root).spec.precision is Precision.FP16
    assert cached(given, "onnx", root).spec.precision is Precision.FP16  # type: ignore[union-attr]


def test_a_given_file_of_a_lower_precision_is_not_converted_again(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(prepare(replace(SPEC, precision=Precision.FP16), "onnx", root).path.read_bytes())
    given = ModelSpec(name="half.onnx", source=Source.ONNX, path=str(path), precision=Precision.FP16)
    assert prepare(given, "onnx", root).path.read_bytes() == path.read_bytes()
    with pytest.raises(VitprofError, match="is in fp16 already and cannot become int8"):
        prepare(replace(given, precision=Precision.INT8), "onnx", root)


def test_a_given_file_cannot_become_a_program(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "given.onnx"
    path.write_bytes(prepare(SPEC, "onnx", root).path.read_bytes())
    with pytest.raises(VitprofError, match="no torch module behind it"):
        prepare(ModelSpec(name="given.onnx", source=Source.ONNX, path=str(path)), "pt2", root)
