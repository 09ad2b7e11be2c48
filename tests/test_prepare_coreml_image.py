"""A Core ML package that takes an image, from a module to its parity and its place on a Mac, without one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("coremltools")

from coremltools.models.utils import load_spec  # noqa: E402

from tests.runner import native_core_ml  # noqa: E402
from vitprof.errors import UsageError  # noqa: E402
from vitprof.export.copies import file_name  # noqa: E402
from vitprof.export.coreml_image import Normalisation, normalisation_of, normalising  # noqa: E402
from vitprof.export.coreml_operators import read_operators  # noqa: E402
from vitprof.export.coreml_parity import WHERE, reference_parity  # noqa: E402
from vitprof.export.inputs import write_tensors  # noqa: E402
from vitprof.export.parity import read_tensors  # noqa: E402
from vitprof.models.load import load  # noqa: E402
from vitprof.placing import plan_of  # noqa: E402
from vitprof.prepare import cached, key, prepare  # noqa: E402
from vitprof.records import Artifact, ModelSpec, ParityVerdict, Precision, Source  # noqa: E402
from vitprof.runner.backends import coreml  # noqa: E402

# Another deviation for each channel: what one scale for all could not do.
MEAN, STD = (0.485, 0.456, 0.2), (0.1, 0.3, 0.9)
FACTORY = f"""
import torch

class Net(torch.nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        self.stem = torch.nn.Conv2d(channels, 8, 3, stride=2, padding=1)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, image):
        return self.head(self.stem(image).relu().mean((2, 3)))

def net():
    made = Net()
    made.default_cfg = {{"mean": {MEAN}, "std": {STD}}}
    return made, torch.zeros(1, 3, 16, 12)

def nameless():
    return Net(), torch.zeros(1, 3, 16, 12)

def grey():
    return Net(1), torch.zeros(1, 1, 16, 12)
"""


class _Here:
    """As the local transport places files."""

    def place(self, path: str) -> str:
        return path


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    path = tmp_path_factory.mktemp("source") / "net.py"
    path.write_text(FACTORY)
    return ModelSpec(
        "net.py:net", Source.PYTHON, precision=Precision.FP16, path=str(path), factory="net", image_input=True
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", params=[Precision.FP32, Precision.FP16])
def artifact(request: pytest.FixtureRequest, spec: ModelSpec, root: Path) -> Artifact:
    return prepare(replace(spec, precision=request.param), "coreml", root)


def _pixels(artifact: Artifact) -> list[Any]:
    return read_tensors(artifact.folder / artifact.inputs, [("uint8", artifact.input_shape)] * artifact.input_count)


def test_the_package_takes_an_image_of_8_bit_rgb_and_says_so(artifact: Artifact) -> None:
    [given] = load_spec(str(artifact.path)).description.input
    image = given.type.imageType
    assert (given.name, image.width, image.height) == ("image", 12, 16)
    assert image.colorSpace == image.ColorSpace.Value("RGB")
    assert artifact.program is not None and artifact.program.takes_image
    assert artifact.fixups[-1].endswith("itself: mean 0.485, 0.456, 0.2, std 0.1, 0.3, 0.9")
    assert (artifact.input_dtype, artifact.input_shape) == ("uint8", (1, 3, 16, 12))


def test_its_parity_is_that_of_the_original_module_on_the_same_pixels(artifact: Artifact) -> None:
    parity = reference_parity(artifact)
    assert (parity.verdict, parity.where) == (ParityVerdict.MATCH, WHERE)
    assert all(pixels.max() > 250 and pixels.min() < 5 for pixels in _pixels(artifact))


def test_one_deviation_for_all_channels_would_not_pass(spec: ModelSpec, root: Path, tmp_path: Path) -> None:
    artifact = prepare(spec, "coreml", root)
    wrong = Normalisation(MEAN, (sum(STD) / 3,) * 3)
    module = load(spec).module
    outputs = [module(torch.from_numpy(wrong.applied(pixels))).numpy() for pixels in _pixels(artifact)]
    shutil.copytree(artifact.folder, tmp_path, dirs_exist_ok=True)
    write_tensors(tmp_path / str(artifact.expected), outputs)
    assert reference_parity(replace(artifact, folder=tmp_path)).verdict is ParityVerdict.BROKEN


def test_normalising_adds_one_operator_and_no_macs(artifact: Artifact) -> None:
    # Of one image: 8 x 8 x 6 outputs of 3 x 3 x 3, and 8 by 5.
    macs = 8 * 48 * 27 + 40
    program = artifact.program
    assert program is not None
    assert (program.macs, artifact.cost.macs, artifact.count_doubt) == (macs, macs, None)
    # A factor and an offset for each channel.
    assert program.params == (artifact.cost.params or 0) + 6
    tensor_ops = {"conv": 1, "relu": 1, "reduce_mean": 1, "linear": 1}
    casts = {"cast": 1} if artifact.spec.precision is Precision.FP16 else {}
    assert program.ops == {**tensor_ops, "batch_norm": 1, **casts}


def test_modules_are_named_as_without_an_image(artifact: Artifact) -> None:
    modules = {row.op: row.module for row in read_operators(artifact.folder) or ()}
    assert (modules["conv"], modules["linear"], modules["batch_norm"]) == ("stem", "head", "")


def test_nothing_else_of_it_leaves_the_neural_engine(spec: ModelSpec, root: Path) -> None:
    assert prepare(spec, "coreml", root).lint == ()


def test_it_is_another_artifact_and_another_file_than_with_a_tensor(spec: ModelSpec, root: Path) -> None:
    image = prepare(spec, "coreml", root)
    tensor = prepare(replace(spec, image_input=False), "coreml", root)
    assert (file_name(image), file_name(tensor)) == ("net-net-image-fp16.mlpackage", "net-net-fp16.mlpackage")
    assert tensor.program is not None and not tensor.program.takes_image
    assert cached(spec, "coreml", root) == image
    # Of other formats it is no matter.
    assert key(spec, "onnx", root) == key(replace(spec, image_input=False), "onnx", root)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    native_core_ml.install(monkeypatch)
    # Compiled models are left to later processes: here they are the test's own.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield


@pytest.mark.usefixtures("native")
def test_on_a_mac_core_ml_is_given_a_picture_with_the_pixels(artifact: Artifact) -> None:
    plan = plan_of(artifact, "coreml", 1, _Here(), {})  # type: ignore[arg-type]
    session = coreml._CoremlSession(plan, coreml.options_of(plan))
    assert artifact.expected is not None
    expected = read_tensors(artifact.folder / artifact.expected, artifact.expected_outputs * artifact.input_count)
    for index, wanted in enumerate(expected):
        [(_, dtype, shape, data)] = session.outputs(index)
        np.testing.assert_allclose(np.frombuffer(data, dtype).reshape(shape), wanted, rtol=2e-2, atol=2e-2)
    given = session._model._proxy.seen[1][plan.input_name]
    assert (given.mode, given.size) == ("RGB", (12, 16))
    assert given.getpixel((5, 7)) == tuple(_pixels(artifact)[1][0, :, 7, 5])


@pytest.mark.parametrize(
    ("factory", "batch", "said"),
    [
        ("net", 2, "one image, not a batch of 2"),
        ("nameless", 1, "does not say how its images are normalised"),
        ("grey", 1, "takes 1 channels, and an image of Core ML has 3"),
    ],
)
def test_what_cannot_take_an_image_is_refused_with_a_remedy(
    spec: ModelSpec, root: Path, factory: str, batch: int, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        prepare(replace(spec, name=f"net.py:{factory}", factory=factory, batch=batch), "coreml", root)
    assert "--image-input" in caught.value.remedy


@pytest.mark.parametrize(
    "config",
    [
        {"mean": MEAN},
        {"mean": MEAN, "std": (0.1, 0.0, 0.1)},
        {"mean": (0.5,), "std": (0.5,)},
        {"mean": "abc", "std": STD},
    ],
)
def test_half_a_normalisation_is_none(config: dict[str, Any]) -> None:
    module = torch.nn.Identity()
    module.default_cfg = config
    with pytest.raises(UsageError, match="does not say"):
        normalisation_of(ModelSpec("net", Source.PYTHON), module, 3)


@pytest.mark.parametrize(
    ("source", "name", "mean"),
    [
        (Source.TIMM, "vit_tiny_patch16_224", (0.5, 0.5, 0.5)),
        (Source.TORCHVISION, "resnet18", (0.485, 0.456, 0.406)),
        (Source.TORCHVISION, "efficientnet_v2_l", (0.5, 0.5, 0.5)),
    ],
)
def test_mean_and_std_are_the_models_own(source: Source, name: str, mean: tuple[float, ...]) -> None:
    from vitprof.runner.torchvision_compat import import_timm

    module: Any = torch.nn.Identity()
    if source is Source.TIMM:
        module.default_cfg = import_timm().get_pretrained_cfg(name).to_dict()
    assert normalisation_of(ModelSpec(name, source), module, 3).mean == mean


def test_the_program_s_factor_and_offset_are_the_normalisation() -> None:
    normalisation = Normalisation(MEAN, STD)
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    (made,) = normalising(torch.nn.Identity(), normalisation)(torch.from_numpy(pixels).float())
    by_hand = (200 / 255 - MEAN[2]) / STD[2]
    assert normalisation.applied(pixels)[0, 2, 12, 8] == pytest.approx(by_hand, rel=1e-6)
    np.testing.assert_allclose(made.numpy(), normalisation.applied(pixels), rtol=1e-4, atol=1e-5)
