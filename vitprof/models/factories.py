"""`path.py:factory` to a module: the user's own code, run in the preparing process.

Its own file because everything here is about living with foreign code in a process that goes on: what it changes is
put back, what it raises is told with the line it stands on, and what it read is noted so that a stale artifact shows.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import random
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitprof.errors import UsageError, VitprofError, first_line
from vitprof.models.built import Built, Size, is_out_of_memory, unnamed_size
from vitprof.models.dependencies import is_users, watched
from vitprof.records import ModelSpec
from vitprof.runner.torchvision_compat import import_timm

if TYPE_CHECKING:
    import torch

_USAGE = "a factory takes no arguments and returns a torch.nn.Module, or (module, image) with an image (1, C, H, W)"
# Modules of the user's that the last factory imported: another folder may have other files of the same names.
_imported: set[str] = set()


def from_factory(spec: ModelSpec) -> Built:
    """What the factory builds, and the files that it took. `VitprofError` for whatever the user's code raises."""
    import numpy

    path = Path(spec.path or "")
    # First: what most of these files import comes up short by itself where torchvision's binary does not fit torch.
    import_timm()
    _forget_imported()
    random.seed(spec.seed)
    numpy.random.seed(spec.seed)
    with watched() as files, _as_a_program(path), _contained(spec, path):
        made = _made(path, spec.factory or "")
    module, image = _parts(made, spec)
    with _contained(spec, path):
        # Here, where a line of the user's can be told: modules override these.
        module.eval()
    own, fixups = _own_size(module, image, spec)
    module, converted = _on_cpu(module)
    recipe = {"library": "python", "path": str(path), "factory": spec.factory}
    return Built(module, own, (*fixups, *converted), recipe=recipe, source_files=(path, *sorted(files - {path})))


def named_size(module: Any) -> Size | None:
    """(C, H, W) as timm's modules name it, where this one does."""
    for holder in (module, getattr(module, "default_cfg", None), getattr(module, "pretrained_cfg", None)):
        size = holder.get("input_size") if isinstance(holder, dict) else getattr(holder, "input_size", None)
        if isinstance(size, Sequence) and len(size) == 3 and all(isinstance(side, int) and side > 0 for side in size):
            return (size[0], size[1], size[2])
    return None


def _made(path: Path, factory: str) -> Any:
    """Runs the file and calls its factory; a module that the file itself has made is taken as it is."""
    import torch

    importlib.invalidate_caches()
    # A name that no file of the user's has, and that a class of the file can be found by.
    module = types.ModuleType(f"_vitprof_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    _imported.add(module.__name__)
    before = set(sys.modules)
    try:
        # Not inherited: this file's own __future__ would change what annotations mean in theirs.
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
        if factory not in module.__dict__:
            raise UsageError(
                f"{path} has no '{factory}' when it is run", remedy=f"give {path.name}:NAME", stage="model"
            )
        found = module.__dict__[factory]
        return found if isinstance(found, torch.nn.Module) else found()
    finally:
        _imported.update(name for name in set(sys.modules) - before if _is_users_module(name))


def _is_users_module(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__dict__", {}).get("__file__")
    return isinstance(file, str) and is_users(Path(file))


def _forget_imported() -> None:
    for name in _imported:
        sys.modules.pop(name, None)
    _imported.clear()


@contextlib.contextmanager
def _as_a_program(path: Path) -> Iterator[None]:
    """As `python path` would find things; put back afterwards, with what torch takes for granted for all modules."""
    import torch

    # A list of its own in each place: code may change the list or replace it.
    kept = (sys.path[:], sys.argv[:], sys.dont_write_bytecode, Path.cwd(), torch.get_default_dtype())
    device, has_gradients = torch.get_default_device(), torch.is_grad_enabled()
    sys.path[:], sys.argv[:] = [str(path.parent), *sys.path], [str(path)]
    # A compiled file that is as old as its source to the second is taken for it.
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.path[:], sys.argv[:], sys.dont_write_bytecode = kept[:3]
        os.chdir(kept[3])
        torch.set_default_dtype(kept[4])
        torch.set_grad_enabled(has_gradients)
        if torch.get_default_device() != device:
            # Not set to what it was: any device but None slows every call of torch.
            torch.set_default_device(None)


@contextlib.contextmanager
def _contained(spec: ModelSpec, path: Path) -> Iterator[None]:
    """Every error of the user's code as a `VitprofError` that names the line."""
    try:
        yield
    except (KeyboardInterrupt, VitprofError):
        raise
    except BaseException as error:  # sys.exit() in the user's file must not end the preparing process.
        if is_out_of_memory(error):
            raise
        file, line = _place(error, path)
        place = f"{file}, line {line}" if line else str(file)
        raise VitprofError(
            f"{spec.name} fails: {type(error).__name__}: {first_line(error)} ({place})",
            remedy=_remedy(error, path, place, spec.factory or ""),
            stage="model",
        ) from error


def _place(error: BaseException, path: Path) -> tuple[Path, int | None]:
    """The innermost line of the user's own code, where one was running."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return Path(error.filename), error.lineno
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    return next((frame for frame in reversed(frames) if is_users(frame[0])), (path, None))


def _remedy(error: BaseException, path: Path, place: str, factory: str) -> str:
    text = str(error)
    if isinstance(error, SystemExit):
        return f"put what {path.name} does as a program under: if __name__ == '__main__':"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"install {error.name} in vitprof's environment ({sys.prefix}), or put {error.name}.py beside {path.name}"
        )
    if isinstance(error, ImportError) and "relative import" in text:
        return f"give a .py file outside of {path.parent.name}/ that imports from it, instead of {path.name}"
    if isinstance(error, TypeError) and text.startswith((f"{factory}()", f"{factory}.__init__()")):
        return _USAGE
    return f"mend {place}, or give another factory"


def _parts(made: Any, spec: ModelSpec) -> tuple[torch.nn.Module, torch.Tensor | None]:
    import torch

    module, image = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise VitprofError(f"{spec.name} returned {_told(made)}", remedy=_USAGE, stage="model")
    if image is None:
        return module, None
    if not isinstance(image, torch.Tensor) or image.ndim != 4 or not image.is_floating_point():
        raise VitprofError(
            f"{spec.name} returned a module with {_told(image)} for its image", remedy=_USAGE, stage="model"
        )
    return module, image


def _told(value: Any) -> str:
    import torch

    if isinstance(value, torch.Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of the shape {tuple(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(one).__name__ for one in value) or 'nothing'}"
    return f"a {type(value).__name__}" if value is not None else "None"


def _own_size(module: torch.nn.Module, image: torch.Tensor | None, spec: ModelSpec) -> tuple[Size, tuple[str, ...]]:
    if image is not None:
        return (image.shape[1], image.shape[2], image.shape[3]), ()
    named = named_size(module)
    return (named, ()) if named else unnamed_size(spec, "the factory")


def _on_cpu(module: torch.nn.Module) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Where and in what precision every module is held before it is exported."""
    import torch

    tensors = [*module.parameters(), *module.buffers()]
    if any(tensor.is_floating_point() and tensor.dtype is not torch.float32 for tensor in tensors):
        return module.cpu().float(), ("converted its weights to float32",)
    return module.cpu() if any(tensor.device.type != "cpu" for tensor in tensors) else module, ()
