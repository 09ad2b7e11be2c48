"""Real builds of TensorRT-RTX on the processor: no GPU, small files, the first cause of each failure."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="the extra trt-rtx is not installed")

from tests.cost.graphs import graph, node, saved, weight
from vitprof.devices.profiles import reference_model
from vitprof.errors import ExitCode, UsageError, VitprofError
from vitprof.export import cache
from vitprof.export.copies import copy_artifact
from vitprof.export.trt_rtx_export import DEFAULT_COMPUTE_CAPABILITIES, kernels_file
from vitprof.export.trt_rtx_layers import kernel_list
from vitprof.prepare import built_from, cached, key, prepare
from vitprof.records import Artifact, ModelSpec, Precision, Source

TINY = ModelSpec("cpu-ref-1.onnx", Source.ONNX, path=str(reference_model("cpu-ref-1")), compute_capabilities=("8.6",))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def engine(root: Path) -> Artifact:
    return prepare(TINY, "trt-rtx", root)


def _given(path: Path, **changes: object) -> ModelSpec:
    return dataclasses.replace(TINY, name=path.name, path=str(path), **changes)  # type: ignore[arg-type]


def test_an_engine_is_built_with_its_list_of_kernels_beside_it(engine: Artifact, root: Path) -> None:
    assert engine.path.name == "model.trt-rtx" and engine.bytes == engine.path.stat().st_size > 500_000
    assert engine.sha256 == cache.files_sha256([engine.path])
    listed = kernel_list(kernels_file(engine.path).read_text())
    assert len(listed.kernels) > 10 and any(kernel.nodes for kernel in listed.kernels)
    assert None not in (listed.weight_bytes, listed.activation_bytes, listed.scratch_bytes)
    assert engine.exporter.startswith("TensorRT-RTX 1.") and "for 8.6" in engine.exporter
    assert cached(TINY, "trt-rtx", root) == engine


def test_what_it_is_fed_and_checked_by_is_that_of_the_onnx_file(engine: Artifact, root: Path) -> None:
    source = prepare(*built_from(TINY), root)
    assert source.format == "onnx" and source.spec.compute_capabilities == ()
    assert (engine.folder / engine.inputs).read_bytes() == (source.folder / source.inputs).read_bytes()
    assert (engine.input_shape, engine.expected_missing) == (source.input_shape, source.expected_missing)


def test_a_key_tells_capabilities_and_versions_apart(root: Path) -> None:
    default = dataclasses.replace(TINY, compute_capabilities=())
    spelled = dataclasses.replace(TINY, compute_capabilities=DEFAULT_COMPUTE_CAPABILITIES)
    assert key(default, "trt-rtx", root) == key(spelled, "trt-rtx", root) != key(TINY, "trt-rtx", root)
    # Of no other file does it matter for what GPU an engine is built.
    assert key(TINY, "onnx", root) == key(default, "onnx", root)


def test_the_copy_is_called_after_the_model(engine: Artifact, tmp_path: Path) -> None:
    path = copy_artifact(engine, tmp_path)
    assert path.name == "cpu-ref-1.trt-rtx" and path.read_bytes() == engine.path.read_bytes()
    assert kernels_file(path).read_text() == kernels_file(engine.path).read_text()


def test_several_capabilities_make_one_engine_that_is_larger(engine: Artifact, root: Path) -> None:
    both = prepare(dataclasses.replace(TINY, compute_capabilities=("8.6", "12.0")), "trt-rtx", root)
    assert both.bytes > engine.bytes and "for 8.6, 12.0" in both.exporter


def test_an_unknown_capability_names_those_that_are_known(root: Path) -> None:
    with pytest.raises(UsageError, match=r"no compute capability 3.5; it knows .*8.6") as caught:
        prepare(dataclasses.replace(TINY, compute_capabilities=("3.5",)), "trt-rtx", root)
    assert "--compute-capability" in caught.value.remedy


@pytest.mark.parametrize(("precision", "type"), [(Precision.FP16, "Half"), (Precision.INT8, "Int8")])
def test_the_precision_is_that_of_the_onnx_file(precision: Precision, type: str, engine: Artifact, root: Path) -> None:
    lower = prepare(dataclasses.replace(TINY, precision=precision), "trt-rtx", root)
    assert lower.spec.precision is precision and any(precision.value in fixup for fixup in lower.fixups)
    full, low = (kernels_file(one.path).read_text() for one in (engine, lower))
    assert f"Datatype: {type}" in low and f"Datatype: {type}" not in full


def test_a_free_batch_is_built_for_the_one_asked_for(root: Path, tmp_path: Path) -> None:
    made = graph([node("Conv", "image w", name="c")], [weight("w", (4, 3, 1, 1))], ("n", 3, 8, 8))
    artifact = prepare(_given(saved(tmp_path / "free.onnx", made), batch=5), "trt-rtx", root)
    assert artifact.input_shape == (5, 3, 8, 8) and artifact.symbolic_batch is None
    listed = kernel_list(kernels_file(artifact.path).read_text())
    # At least the images in and the answers out: 5 x 64 pixels of 3 and 4 floats.
    assert sum(kernel.bytes_moved or 0 for kernel in listed.kernels) >= 5 * 64 * (3 + 4) * 4


def test_an_operator_that_the_parser_does_not_know_is_named(root: Path, tmp_path: Path) -> None:
    made = graph([node("NoSuchOperator", "image", name="odd one", domain="com.microsoft")], [], (1, 3, 8, 8))
    with pytest.raises(VitprofError, match="NoSuchOperator") as caught:
        prepare(_given(saved(tmp_path / "odd.onnx", made)), "trt-rtx", root)
    assert caught.value.exit_code is ExitCode.FAILED and caught.value.stage == "export"
    assert "TensorRT-RTX does not take the ONNX file" in caught.value.message


def test_a_build_works_after_one_that_failed(root: Path, tmp_path: Path) -> None:
    made = graph([node("Relu", "image", name="r")], [], (1, 3, 8, 8))
    artifact = prepare(_given(saved(tmp_path / "fine.onnx", made)), "trt-rtx", root)
    assert [kernel.nodes for kernel in kernel_list(kernels_file(artifact.path).read_text()).kernels] == [("r",)]
