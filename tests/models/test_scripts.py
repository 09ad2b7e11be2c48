import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.models.hostile import Evil, altered  # noqa: E402
from vitprof.errors import UsageError, VitprofError  # noqa: E402
from vitprof.models.load import load  # noqa: E402
from vitprof.records import ModelSpec, Source  # noqa: E402


def net() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())


def file(path: Path, **options: object) -> ModelSpec:
    return replace(ModelSpec(name=path.name, source=Source.PT, path=str(path), size=(16, 16)), **options)  # type: ignore[arg-type]


def scripted(module: torch.nn.Module, path: Path) -> Path:
    torch.jit.save(torch.jit.script(module), path)
    return path


@pytest.mark.parametrize("suffix", ["pt", "pth", "torchscript"])
def test_a_script_computes_what_its_module_computed(tmp_path: Path, suffix: str) -> None:
    module = net()
    # Saved in training mode, as many are: it is brought into inference form.
    loaded = load(file(scripted(module, tmp_path / f"net.{suffix}"), batch=2))
    images = torch.randn(loaded.input_shape)
    assert torch.equal(loaded.module(images), module.eval()(images))
    assert loaded.fixups == ()
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())


def test_traced_and_frozen_scripts_need_no_trust(tmp_path: Path) -> None:
    images = torch.zeros(1, 3, 16, 16)
    traced = torch.jit.trace(net().eval(), images)
    frozen = torch.jit.freeze(torch.jit.script(net().eval()))
    for module in (traced, frozen):
        torch.jit.save(module, tmp_path / "net.pt")
        assert torch.equal(load(file(tmp_path / "net.pt")).module(images), module(images))


def test_a_script_names_no_size_so_the_usual_one_is_taken_and_told(tmp_path: Path) -> None:
    loaded = load(file(scripted(net(), tmp_path / "net.pt"), size=None))
    assert loaded.input_shape == (1, 3, 224, 224)
    assert loaded.fixups == ("input size not named by the file: 3x224x224 taken",)


class Writes(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        torch.save(images, self.path)
        return images


class MakesAFile(Writes):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + torch.from_file(self.path, True, 4)[0]


class WritesWhenLoaded(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return (self.path, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]
        torch.save(state, state[0])


@torch.jit.interface
class Part(torch.nn.Module):  # type: ignore[misc]
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pass


class WritesBehindAnInterface(torch.nn.Module):  # type: ignore[misc]
    part: Part

    def __init__(self, path: str) -> None:
        super().__init__()
        self.part = Writes(path)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.part.forward(images)


class WritesFromAnotherMethod(Writes):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images

    @torch.jit.export
    def input_size(self) -> int:
        torch.save(0, self.path)
        return 224


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Writes, "it calls 'aten::save'"),
        (MakesAFile, "it calls 'aten::from_file'"),
        (WritesWhenLoaded, "has a __setstate__, which runs while it is loaded"),
        (WritesBehindAnInterface, "it makes calls that cannot be followed beforehand"),
        (WritesFromAnotherMethod, "it calls 'aten::save'"),
    ],
)
def test_a_script_that_writes_files_is_refused_without_trust(
    tmp_path: Path, kind: type[torch.nn.Module], said: str
) -> None:
    marker = tmp_path / "marker"
    path = scripted(kind(str(marker)), tmp_path / "net.pt")
    with pytest.raises(UsageError) as caught:
        load(file(path))
    assert said in caught.value.message
    assert caught.value.remedy == "add --trust if you know who made the file"
    assert not marker.exists()
    module = load(file(path), trust=True).module
    module.input_size() if kind is WritesFromAnotherMethod else module(torch.zeros(1, 3, 16, 16))
    assert marker.exists(), "the file does what it is refused for"


@pytest.mark.parametrize("member", ["data.pkl", "constants.pkl"])
def test_a_pickle_inside_a_script_runs_no_python_even_in_torchs_own_loader(tmp_path: Path, member: str) -> None:
    marker = tmp_path / "marker"
    code = pickle.dumps((Evil(marker),), protocol=2)
    path = altered(scripted(net(), tmp_path / "good.pt"), tmp_path / "evil.pt", members={member: code})
    with pytest.raises(RuntimeError, match=r"posix\.system"):
        torch.jit.load(path)
    with pytest.raises(VitprofError, match=r"posix\.system"):
        load(file(path))
    assert not marker.exists()


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickle_is_refused_without_trust_and_runs_with_it(tmp_path: Path, is_zip: bool) -> None:
    path, marker = tmp_path / "evil.pth", tmp_path / "marker"
    torch.save({"weights": torch.zeros(2), "evil": Evil(marker)}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(UsageError, match=r"it is a pickle that calls 'posix\.system'") as caught:
        load(file(path))
    assert caught.value.remedy == "add --trust if you know who made the file"
    assert not marker.exists()
    with pytest.raises(VitprofError):
        load(file(path), trust=True)
    assert marker.exists()


def test_a_pickled_module_is_measured_with_trust(tmp_path: Path) -> None:
    module = net()
    torch.save(module, tmp_path / "net.pt")
    with pytest.raises(UsageError, match=r"'torch\.nn\.modules\.activation\.ReLU'"):
        load(file(tmp_path / "net.pt"))
    loaded = load(file(tmp_path / "net.pt"), trust=True)
    images = torch.randn(loaded.input_shape)
    assert torch.equal(loaded.module(images), module.eval()(images))
    assert loaded.fixups == ()


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("is_zip", [True, False])
def test_weights_alone_are_told_as_such(tmp_path: Path, is_zip: bool, trust: bool) -> None:
    saved = {"model": net().half().state_dict(), "epoch": 3}
    torch.save(saved, tmp_path / "net.pth", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(VitprofError, match="holds weights only") as caught:
        load(file(tmp_path / "net.pth"), trust)
    assert "give path.py:factory" in caught.value.remedy
    assert caught.value.exit_code == 3


def test_what_is_unpickled_but_no_module_is_told(tmp_path: Path) -> None:
    torch.save(Path("a"), tmp_path / "path.pt")
    with pytest.raises(VitprofError, match="holds a PosixPath, no module"):
        load(file(tmp_path / "path.pt"), trust=True)
    (tmp_path / "gone.pt").write_bytes(pickle.dumps(Evil(tmp_path)).replace(b"posix", b"absen"))
    with pytest.raises(VitprofError, match=r"cannot be unpickled: .*absen"):
        load(file(tmp_path / "gone.pt"), trust=True)


@pytest.mark.parametrize("trust", [False, True])
def test_a_damaged_file_is_told(tmp_path: Path, trust: bool) -> None:
    good = scripted(net(), tmp_path / "good.pt").read_bytes()
    for data in (b"", b"neither this nor that" * 9, good[: len(good) // 2]):
        (tmp_path / "net.pt").write_bytes(data)
        with pytest.raises(VitprofError, match="cannot be read") as caught:
            load(file(tmp_path / "net.pt"), trust)
        assert caught.value.exit_code == 3


def test_a_program_under_another_name_says_which_to_give_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("net/models/model.json", "{}")
    with pytest.raises(VitprofError, match="is an exported program") as caught:
        load(file(tmp_path / "net.pt"))
    assert "ends in .pt2" in caught.value.remedy
