"""A `.pt`, `.pth` or `.torchscript` file to a module: TorchScript, or with the user's leave whatever was pickled.

Its own file because the same suffixes stand for both, and only the first can be read safely. torch.jit.load unpickles
in C++, which knows tensors and TorchScript's own classes and nothing of Python. What is left is TorchScript itself: a
`__setstate__` runs while it is loaded, and two operators write files.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitprof.errors import VitprofError, first_line
from vitprof.models.built import Built, is_out_of_memory, unnamed_size, without_gradients
from vitprof.models.factories import named_size
from vitprof.models.pickles import called_by, foreign
from vitprof.models.program_text import FILE_OPERATORS
from vitprof.models.trust import listed, shown, unreadable, untrusted
from vitprof.records import ModelSpec
from vitprof.runner.torchvision_compat import import_timm

if TYPE_CHECKING:
    import torch

# Namespaces whose operators compute; others reach networks, libraries or other processes.
_NAMESPACES = ("aten", "prim", "prims", "quantized", "torchvision", "mkldnn", "_quantized")
# What is left of these after inlining goes through an interface, or runs beside the rest (torch.jit.fork).
_UNKNOWN_TARGET = ("prim::CallMethod", "prim::CallFunction")
_RUNS_WHILE_LOADED = b"__setstate__"


def from_script(spec: ModelSpec, trust: bool) -> Built:
    """The module of a TorchScript file, or with `trust` of a pickled one.

    `UsageError` where it is a pickle, or writes files, and `trust` is not given; `VitprofError` where no module
    comes of it.
    """
    path = Path(spec.path or "")
    members = _members(path)
    if members and any(name.startswith("models/") for name in members):
        raise VitprofError(f"{path} is an exported program", remedy="give it a name that ends in .pt2", stage="model")
    is_script = members is not None and "constants.pkl" in members and any(n.startswith("code/") for n in members)
    module = _script(path, trust) if is_script else _pickled(path, trust)
    named = named_size(module)
    own, fixups = (named, ()) if named else unnamed_size(spec, "the file")
    return Built(without_gradients(module.eval()), own, fixups, is_finished=True)


def _members(path: Path) -> set[str] | None:
    """Names in the archive, without its own folder; None for a file that is no zip archive."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise unreadable(path, "it is cut off") from error


def _script(path: Path, trust: bool) -> torch.nn.Module:
    import torch

    try:
        if not trust:
            _check_loading(path)
        module: torch.nn.Module = torch.jit.load(str(path), map_location="cpu")
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise unreadable(path, f"torch.jit.load says: {first_line(error)}") from error
    if not trust:
        _check_operators(module, path)
    return module


def _check_loading(path: Path) -> None:
    """Read by torch's own reader, which torch.jit.load uses too: what is looked at is what is run."""
    import torch

    reader = torch._C.PyTorchFileReader(str(path))
    for name in reader.get_all_records():
        if name.startswith("code/") and _RUNS_WHILE_LOADED in reader.get_record(name):
            raise untrusted(path, f"{shown(name)} has a __setstate__, which runs while it is loaded")


def _check_operators(module: Any, path: Path) -> None:
    """Of every method, compiled by now and not yet run."""
    for part in module.modules():
        if part._c._get_forward_hooks() or part._c._get_forward_pre_hooks():
            raise untrusted(path, f"{shown(part.original_name)} has hooks that run around its forward")
        for name in part._c._method_names():
            for node in _nodes(part._c._get_method(name).inlined_graph):
                _check_operator(node.kind(), path)


def _check_operator(kind: str, path: Path) -> None:
    namespace, _, operator = kind.partition("::")
    if namespace not in _NAMESPACES or operator in FILE_OPERATORS:
        raise untrusted(path, f"it calls {shown(kind)}")
    if kind in _UNKNOWN_TARGET:
        raise untrusted(path, f"it makes calls that cannot be followed beforehand ({kind})")


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)
        # Some bodies are graphs among a node's attributes.
        for name in node.attributeNames():
            if node.kindOf(name) == "g":
                yield from _nodes(node.g(name))


def _pickled(path: Path, trust: bool) -> torch.nn.Module:
    import torch

    found = _what_is_pickled(path)
    if not trust:
        raise untrusted(path, found)
    # What a pickled module most likely is of.
    import_timm()
    try:
        value = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # A pickle runs what it likes.
        if is_out_of_memory(error):
            raise
        raise VitprofError(
            f"{path} cannot be unpickled: {type(error).__name__}: {first_line(error)}",
            remedy="give path.py:factory with code that builds the module and loads the file",
            stage="model",
        ) from error
    if isinstance(value, torch.nn.Module):
        return value
    if isinstance(value, dict):
        raise _weights_only(path)
    raise VitprofError(
        f"{path} holds a {type(value).__name__}, no module",
        remedy="give path.py:factory with code that builds the module",
        stage="model",
    )


def _what_is_pickled(path: Path) -> str:
    """What a pickle would call, in words; `VitprofError` where the file is none, or holds weights alone."""
    try:
        with path.open("rb") as file:
            names = called_by(file)
    except (OSError, ValueError) as error:
        raise unreadable(path, "it is cut off, or neither TorchScript nor a file of torch.save") from error
    theirs = foreign(names)
    if not theirs:
        raise _weights_only(path)
    return f"it is a pickle that calls {listed(theirs)}"


def _weights_only(path: Path) -> VitprofError:
    return VitprofError(
        f"{path} holds weights only, not the module that they belong to",
        remedy="give path.py:factory: def factory(): model = …; "
        f"model.load_state_dict(torch.load({path.name!r}, weights_only=True)); return model",
        stage="model",
    )
