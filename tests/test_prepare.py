import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")

from vitprof.errors import UsageError, VitprofError  # noqa: E402
from vitprof.export.parity import compare, read_tensors  # noqa: E402
from vitprof.prepare import cached, prepare  # noqa: E402
from vitprof.records import Artifact, ModelSpec, ParityVerdict, Source  # noqa: E402

RESNET = ModelSpec(name="resnet18", source=Source.TIMM, size=(64, 64))


def outputs_of_ort(artifact: Artifact) -> list["np.ndarray"]:  # type: ignore[type-arg]
    session = onnxruntime.InferenceSession(str(artifact.path))
    values = np.fromfile(artifact.folder / artifact.inputs, dtype=artifact.input_dtype)
    inputs = values.reshape(artifact.input_count, *artifact.input_shape)
    return [output for image in inputs for output in session.run(None, {artifact.input_name: image})]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    "spec",
    [
        RESNET,
        replace(RESNET, batch=3),
        ModelSpec(name="mobileone_s0", source=Source.TIMM, size=(64, 64)),
        ModelSpec(name="vit_tiny_patch16_224", source=Source.TIMM, size=(64, 64)),
        ModelSpec(name="lraspp_mobilenet_v3_large", source=Source.TORCHVISION, size=(64, 64)),
    ],
    ids=lambda spec: f"{spec.name}-{spec.batch}",
)
def test_an_artifact_gives_the_originals_outputs(spec: ModelSpec, root: Path) -> None:
    artifact = prepare(spec, "onnx", root)
    assert artifact.expected is not None
    expected = read_tensors(artifact.folder / artifact.expected, artifact.expected_outputs * artifact.input_count)
    parity = compare(expected, outputs_of_ort(artifact), spec.precision, "host")
    assert parity.verdict == ParityVerdict.MATCH, parity
    assert artifact.input_count * spec.batch >= 4
    assert artifact.folded_weights == ()


def test_an_artifact_says_what_it_is_made_of_and_costs(root: Path) -> None:
    artifact = prepare(RESNET, "onnx", root)
    assert artifact.spec == RESNET
    assert artifact.bytes == artifact.path.stat().st_size
    assert {"torch", "timm", "torchvision", "onnx"} <= set(artifact.versions)
    assert artifact.cost.params == 11_689_512
    assert artifact.fixups == (
        "drew 40 constant-valued tensors (9,600 values) anew",
        "set the statistics of 20 batch norms from random images",
    )


def test_a_cached_model_is_found_without_torch(root: Path) -> None:
    prepare(RESNET, "onnx", root)
    code = (
        "import sys; from pathlib import Path; from vitprof.prepare import cached;"
        "from vitprof.records import ModelSpec, Source;"
        f"a = cached(ModelSpec(name='resnet18', source=Source.TIMM, size=(64, 64)), 'onnx', Path({str(root)!r}));"
        "heavy = [m for m in ('torch', 'timm', 'onnx', 'numpy', 'scipy') if m in sys.modules];"
        "print(a is not None, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True []"


def test_a_model_that_was_never_prepared_is_not_cached(root: Path) -> None:
    assert cached(replace(RESNET, seed=99), "onnx", root) is None


def test_a_damaged_artifact_is_made_again(tmp_path: Path) -> None:
    spec = ModelSpec(name="mobilenetv3_small_050", source=Source.TIMM, size=(32, 32))
    first = prepare(spec, "onnx", tmp_path)
    (first.folder / first.inputs).write_bytes(b"short")
    assert cached(spec, "onnx", tmp_path) is None
    assert (prepare(spec, "onnx", tmp_path).folder / first.inputs).stat().st_size == 4 * 3 * 32 * 32 * 4


def test_an_error_comes_whole_out_of_the_preparing_process(tmp_path: Path) -> None:
    spec = ModelSpec(name="efficientformer_l1", source=Source.TIMM, size=(100, 100))
    with (
        ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool,
        pytest.raises(UsageError) as caught,
    ):
        pool.submit(prepare, spec, "onnx", tmp_path).result()
    assert caught.value.remedy == "--size 224"


def test_a_cache_that_cannot_be_written_is_told_as_such(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(VitprofError, match=r"the cache .*file cannot be used"):
        prepare(RESNET, "onnx", occupied)


@pytest.fixture
def onnx_file(root: Path, tmp_path: Path) -> Path:
    path = tmp_path / "given.onnx"
    path.write_bytes(prepare(RESNET, "onnx", root).path.read_bytes())
    return path


def from_file(path: Path, **options: object) -> ModelSpec:
    return replace(ModelSpec(name=path.name, source=Source.ONNX, path=str(path)), **options)  # type: ignore[arg-type]


def test_a_given_file_is_copied_under_its_content_with_inputs_for_it(onnx_file: Path, tmp_path: Path) -> None:
    artifact = prepare(from_file(onnx_file), "onnx", tmp_path / "cache")
    assert artifact.path.read_bytes() == onnx_file.read_bytes()
    assert artifact.input_shape == (1, 3, 64, 64)
    assert (artifact.expected, artifact.expected_outputs) == (None, ())
    assert "no original" in (artifact.expected_missing or "")
    assert len(outputs_of_ort(artifact)) == 4
    moved = onnx_file.rename(tmp_path / "moved.onnx")
    found = cached(from_file(moved), "onnx", tmp_path / "cache")
    assert found is not None
    assert (found.folder, found.spec.name) == (artifact.folder, "moved.onnx")


def test_weights_beside_a_given_file_travel_with_it_and_count_in_its_key(onnx_file: Path, tmp_path: Path) -> None:
    import onnx

    folder = tmp_path / "external"
    folder.mkdir()
    path = folder / "net.onnx"
    onnx.save_model(onnx.load(onnx_file), path, save_as_external_data=True, location="weights.bin")
    artifact = prepare(from_file(path), "onnx", tmp_path / "cache")
    assert len(outputs_of_ort(artifact)) == 4
    assert cached(from_file(path), "onnx", tmp_path / "cache") == artifact
    weights = bytearray((folder / "weights.bin").read_bytes())
    weights[0] ^= 1
    (folder / "weights.bin").write_bytes(bytes(weights))
    assert cached(from_file(path), "onnx", tmp_path / "cache") is None


def test_a_cut_off_file_and_a_contradicting_batch_leave_nothing_in_the_cache(onnx_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batches of 1, not of 8"):
        prepare(from_file(onnx_file, batch=8), "onnx", tmp_path / "cache")
    onnx_file.write_bytes(onnx_file.read_bytes()[:1000])
    with pytest.raises(VitprofError, match="cut off"):
        prepare(from_file(onnx_file), "onnx", tmp_path / "cache")
    assert not (tmp_path / "cache" / "artifacts").exists()
