"""Paths on the command line to what is asked for: `net.py:make`, `net.pt2`, `net.pt`, `net.onnx`. Nothing is run.

Its own file because no path needs the catalogue of names. Whether a .py file has the factory that was named is read
from its syntax tree: running it takes torch, which this side does not import.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from vitprof.errors import UsageError
from vitprof.records import ModelSpec, Source

_SOURCES = {
    ".onnx": Source.ONNX,
    ".pt2": Source.PT2,
    ".pt": Source.PT,
    ".pth": Source.PT,
    ".torchscript": Source.PT,
}
_PYTHON = re.compile(r"(.*\.py)(?::([^:]*))?", re.IGNORECASE | re.DOTALL)
# As many candidates as fit one line of a terminal.
_LISTED = 8
# Code that may bind a name without writing it down.
_BINDS_UNSEEN = ("globals", "exec", "vars", "__getattr__")


def is_path(text: str) -> bool:
    """Whether `text` means a file, rather than a name of timm or torchvision."""
    return _PYTHON.fullmatch(text) is not None or Path(text).suffix.lower() in _SOURCES


def spec_from_path(text: str) -> ModelSpec:
    """What the file of `text` stands for; `UsageError` where there is none, or a .py file lacks the factory."""
    match = _PYTHON.fullmatch(text)
    if match is not None:
        path = _existing(match[1], text, "an existing .py file and its factory, as net.py:make")
        _check_factory(path, match[2])
        return ModelSpec(name=text, source=Source.PYTHON, path=str(path), factory=match[2])
    suffix = Path(text).suffix.lower()
    path = _existing(text, text, f"the path of an existing {suffix} file")
    return ModelSpec(name=text, source=_SOURCES[suffix], path=str(path))


def _existing(path_text: str, text: str, wanted: str) -> Path:
    try:
        path = Path(path_text).expanduser()
        what = None if path.is_file() else "is a folder, not a file" if path.is_dir() else "there is no such file"
    except RuntimeError:
        what = "there is no such home folder"
    except OSError as error:
        # Such as a name that is too long, or a folder that may not be looked into.
        what = error.strerror or str(error)
    if what is not None:
        raise UsageError(f"{text}: {what}", remedy=f"give {wanted}", stage="model")
    return path.resolve()


def _check_factory(path: Path, factory: str | None) -> None:
    tree = _parsed(path)
    # A file that does not parse is told where it is run, with its line.
    defined = _defined(tree) if tree else []
    if not factory:
        raise UsageError(
            f"{path} says how to build models, but not which: {_listed(path, tree, defined)}",
            remedy=f"give {path.name}:{defined[0] if defined else 'NAME'}",
            stage="model",
        )
    if not factory.isidentifier():
        raise UsageError(
            f"'{factory}' is not the name of a function or class: {_listed(path, tree, defined)}",
            remedy=f"give {path.name}:{_nearest(factory, defined) or 'NAME'}",
            stage="model",
        )
    if tree and not _may_bind_unseen(tree) and factory not in set(_bound(tree)):
        nearest = _nearest(factory, defined)
        raise UsageError(
            f"{path} has no '{factory}': {_listed(path, tree, defined)}",
            remedy=f"give {path.name}:{nearest or 'NAME'}",
            stage="model",
        )


def _parsed(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_bytes(), str(path))
    except (OSError, SyntaxError, ValueError):
        return None


def _listed(path: Path, tree: ast.Module | None, defined: list[str]) -> str:
    if tree is None:
        return "it is not valid Python"
    if not defined:
        return "it defines no function and no class"
    more = f" and {len(defined) - _LISTED} more" if len(defined) > _LISTED else ""
    return f"it defines {', '.join(defined[:_LISTED])}{more}"


def _nearest(name: str, defined: list[str]) -> str | None:
    close = difflib.get_close_matches(name, defined, n=1, cutoff=0.5)
    return close[0] if close else next(iter(defined), None)


def _defined(tree: ast.Module) -> list[str]:
    """Public functions and classes, in the file's order."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in _statements(tree) if isinstance(node, kinds) and not node.name.startswith("_")]


def _bound(tree: ast.Module) -> Iterator[str]:
    """Every name that the file's own level binds: an imported or assigned one builds models as well."""
    for node in _statements(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        else:
            yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def _may_bind_unseen(tree: ast.Module) -> bool:
    stars = (alias.name == "*" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names)
    names = (n.id for n in ast.walk(tree) if isinstance(n, ast.Name))
    functions = (n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))
    return any(stars) or any(name in _BINDS_UNSEEN for name in (*names, *functions))


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Statements of the file's own level, those inside `if`, `try` and `with` among them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.expr)):
            yield from _statements(child)
