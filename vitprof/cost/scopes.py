"""Which module calls an operator: its dotted path, while the forward runs.

Its own file because torch has three kinds of programs: modules that call modules (hooks see them), programs of
torch.export (each node remembers its modules), and TorchScript (nothing is known; the path is empty).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Scope:
    """The path of the innermost module that runs now; empty: the model itself."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._stack: list[str] = []
        # A module may hang under several parents, and a parent under several of its own.
        self._paths: dict[int, list[str]] = {}
        for path, part in module.named_modules(remove_duplicate=False):
            self._paths.setdefault(id(part), []).append(path)

    @property
    def path(self) -> str:
        return self._stack[-1] if self._stack else ""

    def enter(self, module: Any) -> None:
        """Of the paths of `module`, the one below the module that called it."""
        paths = self._paths.get(id(module))
        if paths is None:
            # Made during the forward: what it does is its caller's.
            self._stack.append(self.path)
            return
        below = f"{self.path}." if self.path else ""
        self._stack.append(next((path for path in paths if path.startswith(below)), paths[0]))

    def leave(self) -> None:
        self._stack.pop()

    @contextlib.contextmanager
    def at(self, path: str) -> Iterator[None]:
        self._stack.append(path)
        try:
            yield
        finally:
            self._stack.pop()


@contextlib.contextmanager
def followed(scope: Scope) -> Iterator[None]:
    """Keeps `scope` up to date within the block, for every module that runs in it."""
    from torch.nn.modules import module as hooks

    entering = hooks.register_module_forward_pre_hook(lambda module, _: scope.enter(module))
    leaving = hooks.register_module_forward_hook(lambda module, _, __: scope.leave(), always_call=True)
    try:
        yield
    finally:
        entering.remove()
        leaving.remove()


def run(module: torch.nn.Module, image: torch.Tensor, scope: Scope) -> None:
    """One forward; of a program of torch.export node by node, each in the scope that it remembers."""
    import torch

    if not isinstance(module, torch.fx.GraphModule) or not _remembers_modules(module):
        module(image)
        return

    class Following(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, node: Any) -> Any:
            with scope.at(_path_of(node)):
                return super().run_node(node)

    Following(module).run(image)


def _remembers_modules(module: torch.fx.GraphModule) -> bool:
    return any(node.meta.get("nn_module_stack") for node in module.graph.nodes)


def _path_of(node: Any) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path: str = [path for path, _ in stack.values()][-1] if stack else ""
    # `L['self'].stem.conv`, or the path alone.
    return path.removeprefix("L['self']").lstrip(".")
