from __future__ import annotations

import contextlib
import logging
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.models import hostile  # noqa: E402
from vitprof.errors import UsageError, VitprofError  # noqa: E402
from vitprof.models.load import load  # noqa: E402
from vitprof.records import ModelSpec, Source  # noqa: E402
from vitprof.runner.torchvision_compat import import_timm  # noqa: E402

Hostile = Callable[[Path, Path, Path], Path]


class Net(torch.nn.Module):  # type: ignore[misc]
    """Parameters, buffers, a constant, sizes that are computed, outputs in containers."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, 8, 3, stride=2)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.ModuleDict({"out-1": torch.nn.Linear(8, 10)})
        self.offsets = torch.arange(10.0)

    def forward(self, images: torch.Tensor) -> dict[str, object]:
        features = torch.nn.functional.interpolate(self.norm(self.conv(images)), scale_factor=2.0)
        batch, channels, height, width = features.shape
        pooled = features.reshape(batch, channels, height * width).mean(-1)
        return {"logits": self.head["out-1"](pooled) + self.offsets, "levels": [pooled, features]}


def program(spec_path: Path, **options: object) -> ModelSpec:
    return replace(ModelSpec(name=spec_path.name, source=Source.PT2, path=str(spec_path)), **options)  # type: ignore[arg-type]


def saved(module: torch.nn.Module, path: Path, shape: tuple[int, ...], **options: object) -> Path:
    torch.export.save(torch.export.export(module.eval(), (torch.randn(shape),), **options), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def fixed(folder: Path) -> Path:
    return saved(Net(), folder / "fixed.pt2", (1, 3, 32, 48))


@pytest.fixture(scope="module")
def any_batch(folder: Path) -> Path:
    batch = torch.export.Dim("batch", max=64)
    return saved(Net(), folder / "any_batch.pt2", (2, 3, 32, 32), dynamic_shapes=({0: batch},))


@pytest.fixture(scope="module")
def any_size(folder: Path) -> Path:
    free = torch.export.Dim.AUTO
    shapes = ({0: torch.export.Dim("batch"), 2: free, 3: free},)
    return saved(Net(), folder / "any_size.pt2", (2, 3, 32, 48), dynamic_shapes=shapes)


@pytest.mark.parametrize("trust", [False, True])
def test_a_program_computes_what_its_module_computed(folder: Path, trust: bool) -> None:
    module = Net().eval()
    path = saved(module, folder / f"same-{trust}.pt2", (1, 3, 32, 32))
    loaded = load(program(path), trust)
    images = torch.randn(loaded.input_shape)
    ours, theirs = loaded.module(images), module(images)
    assert torch.equal(ours["logits"], theirs["logits"])
    assert torch.equal(ours["levels"][1], theirs["levels"][1])


def test_a_program_stays_as_it_is(fixed: Path) -> None:
    loaded = load(program(fixed))
    assert loaded.input_shape == (1, 3, 32, 48)
    # The batch norm's scale is all ones: not drawn anew, unlike that of a model by name.
    assert (loaded.fixups, set(loaded.versions)) == ((), {"torch"})
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())
    assert loaded.content_sha256 is not None


def test_a_program_can_be_wrapped_and_set_to_inference(fixed: Path) -> None:
    # torch makes train() and eval() of a loaded program raise; exporters call them on what they wrap.
    torch.nn.Sequential(load(program(fixed)).module).eval()


@pytest.mark.parametrize("batch", [1, 5])
def test_a_free_batch_takes_any_number_of_images(any_batch: Path, batch: int) -> None:
    loaded = load(program(any_batch, batch=batch))
    assert loaded.input_shape == (batch, 3, 32, 32)
    assert loaded.module(torch.zeros(loaded.input_shape))["logits"].shape == (batch, 10)


def test_a_free_size_is_the_one_asked_for_or_that_of_the_export(any_size: Path) -> None:
    assert load(program(any_size)).input_shape == (1, 3, 32, 48)
    loaded = load(program(any_size, size=(64, 40), batch=3))
    assert loaded.module(torch.zeros(loaded.input_shape))["logits"].shape == (3, 10)


@pytest.mark.parametrize(
    ("which", "options", "said", "remedy"),
    [
        ("fixed", {"batch": 8}, "made for batches of 1, not of 8", "--batch 1"),
        ("fixed", {"size": (64, 64)}, "made for the size 32x48, not 64x64", "--size 32x48"),
        ("any_batch", {"batch": 65}, "made for batches of 1..64, not of 65", "--batch 64"),
        ("any_batch", {"size": (32, 64)}, "made for the size 32x32, not 32x64", "--size 32"),
        ("any_size", {"size": (2, 2)}, "made for the size ≥3x≥3, not 2x2", "--size 3"),
    ],
)
def test_what_contradicts_the_program_is_a_usage_error(
    request: pytest.FixtureRequest, which: str, options: dict[str, object], said: str, remedy: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(program(request.getfixturevalue(which), **options))
    assert said in caught.value.message
    assert caught.value.remedy.startswith(remedy)


def test_published_weights_of_a_file_are_a_usage_error(fixed: Path) -> None:
    with pytest.raises(UsageError, match="has its own weights") as caught:
        load(program(fixed, pretrained=True))
    assert caught.value.remedy == "leave out --pretrained"


class Two(torch.nn.Module):  # type: ignore[misc]
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


def test_a_program_that_takes_no_single_image_is_told(folder: Path) -> None:
    images = torch.zeros(1, 3, 8, 8)
    torch.export.save(torch.export.export(Two(), (images, images)), folder / "two.pt2")
    with pytest.raises(VitprofError, match=r"has 2 inputs \(a, b\) instead of one image"):
        load(program(folder / "two.pt2"))
    torch.export.save(torch.export.export(torch.nn.ReLU(), (images.long(),)), folder / "long.pt2")
    with pytest.raises(VitprofError, match="takes int64 values of the shape 1x3x8x8"):
        load(program(folder / "long.pt2"))
    with pytest.raises(VitprofError, match="takes float32 values of the shape 4x7"):
        load(program(saved(torch.nn.Linear(7, 2), folder / "flat.pt2", (4, 7)), batch=4))


def test_a_program_in_training_mode_is_told(folder: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Dropout(0.5)).train()
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3, 8, 8),)), folder / "training.pt2")
    with pytest.raises(VitprofError, match=r"exported in training mode: its aten\.dropout") as caught:
        load(program(folder / "training.pt2"))
    assert "model.eval()" in caught.value.remedy


class Branches(torch.nn.Module):  # type: ignore[misc]
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            means = images.mean((2, 3))
        return torch.cond(means.sum() > 0, lambda x: x * 2, lambda x: x - 1, (means,))


def test_branches_need_no_trust(folder: Path) -> None:
    loaded = load(program(saved(Branches(), folder / "branches.pt2", (1, 3, 8, 8))))
    assert torch.equal(loaded.module(torch.ones(1, 3, 8, 8)), torch.full((1, 3), 2.0))


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "vit_tiny_patch16_224"])
def test_a_timm_model_needs_no_trust(folder: Path, name: str) -> None:
    module = import_timm().create_model(name)
    batch = torch.export.Dim("batch")
    path = saved(module, folder / f"{name}.pt2", (2, 3, 224, 224), dynamic_shapes=({0: batch},))
    loaded = load(program(path))
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(loaded.module(images), module(images), atol=1e-4)


def test_decomposed_programs_need_no_trust(folder: Path) -> None:
    path = folder / "core.pt2"
    free = torch.export.Dim.AUTO
    shapes = ({0: free, 2: free, 3: free},)
    exported = torch.export.export(Net().eval(), (torch.randn(2, 3, 32, 48),), dynamic_shapes=shapes)
    torch.export.save(exported.run_decompositions(), path)
    assert load(program(path, batch=3)).input_shape == (3, 3, 32, 48)


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    # torch.export.load logs the whole traceback of what it then tries again.
    logging.disable(logging.CRITICAL)
    yield tmp_path / "marker"
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("make", "why"), hostile.REFUSED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_what_could_run_code_is_refused_without_trust(
    any_batch: Path, tmp_path: Path, marker: Path, make: Hostile, why: str
) -> None:
    path = make(any_batch, tmp_path / "evil.pt2", marker)
    with pytest.raises(UsageError) as caught:
        load(program(path))
    assert why in caught.value.message
    assert caught.value.remedy == "add --trust if you know who made the file"
    assert not marker.exists()


@pytest.mark.parametrize("make", hostile.RUN_UNGUARDED, ids=lambda make: make.__name__)
def test_the_hostile_files_do_run_code_where_nothing_guards(
    any_batch: Path, tmp_path: Path, marker: Path, make: Hostile
) -> None:
    path = make(any_batch, tmp_path / "evil.pt2", marker)
    # That torch fails afterwards is too late.
    with contextlib.suppress(Exception):
        torch.export.load(path).module()(torch.zeros(2, 3, 32, 32))
    assert marker.exists()


def test_a_guard_that_is_code_is_left_out(any_batch: Path, tmp_path: Path, marker: Path) -> None:
    path = hostile.guard_that_is_code(any_batch, tmp_path / "evil.pt2", marker)
    load(program(path)).module(torch.zeros(1, 3, 32, 32))
    assert not marker.exists()


def test_with_trust_a_pickled_member_is_read(any_batch: Path, tmp_path: Path, marker: Path) -> None:
    path = hostile.pickled_samples(any_batch, tmp_path / "evil.pt2", marker)
    with pytest.raises(VitprofError, match="cannot load"):
        load(program(path), trust=True)
    assert marker.exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"", "cut off or no .pt2 archive"),
        (lambda data: b"no zip at all" * 9, "cut off or no .pt2 archive"),
        (lambda data: data[: len(data) // 2], "cut off or no .pt2 archive"),
        (lambda data: data.replace(b"graph_module", b"graph_modula"), "cannot be read"),
    ],
    ids=["empty", "other", "cut", "changed"],
)
def test_a_damaged_file_is_told(fixed: Path, tmp_path: Path, damage: Callable[[bytes], bytes], said: str) -> None:
    path = tmp_path / "damaged.pt2"
    path.write_bytes(damage(fixed.read_bytes()))
    with pytest.raises(VitprofError) as caught:
        load(program(path))
    assert said in caught.value.message
    assert caught.value.exit_code == 3
    assert "again" in caught.value.remedy


def test_an_archive_without_a_program_says_what_it_holds(tmp_path: Path) -> None:
    for member, said in (
        ("data/aotinductor/model/wrapper.so", "code that AOTInductor compiled"),
        ("models/other.json", "holds the programs 'models/other.json', and none called 'model'"),
        ("data/weights/weight_0", "without an exported program"),
    ):
        with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
            archive.writestr(f"net/{member}", b"")
        for trust in (False, True):
            with pytest.raises(VitprofError, match=said):
                load(program(tmp_path / "net.pt2"), trust)


def test_a_program_of_a_torch_with_another_format_is_told(any_batch: Path, tmp_path: Path) -> None:
    path = hostile.altered(any_batch, tmp_path / "new.pt2", members={"archive_version": b"99"})
    with pytest.raises(VitprofError, match=f"torch {torch.__version__.split('+')[0]}.* cannot load .*new.pt2"):
        load(program(path))
