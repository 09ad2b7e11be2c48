"""Every operator of one forward, as torch's dispatcher sees it: what it does, reads, writes, and who called it.

Its own file because this is the whole of the first counter's mechanism; what the operators mean stands in `rules`.
Composite operators (`linear`, `matmul`, `einsum`) have been lowered by then, so that nothing slips past by another
name. Fused attention is taken apart before: its own bytes would be those of one implementation.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitprof.cost import scopes
from vitprof.cost.rules import (
    NO_LEDGERS,
    NO_WORK,
    READS_WHAT_IT_WRITES,
    RULES,
    Call,
    Role,
    Work,
    is_compute_like,
    rule_name,
)
from vitprof.counts import Kind, Ledgers, OpRow

if TYPE_CHECKING:
    import torch

# fp32, whatever the module is held in: the count describes the model, not the copy that is measured.
_BYTES_PER_VALUE = 4
_BYTES_PER_COMPLEX = 8
# The statistics that these return beside their output are for training, and empty on real tensors in inference.
_FIRST_OUTPUT_ONLY = frozenset({"native_batch_norm", "_native_batch_norm_legit_no_training"})
# They overwrite their first argument without reading it.
_WRITES_ONLY = frozenset({"fill", "zero"})
_ROLE = "_vitprof_role"
# Of attention, which is the only one of them that computes.
_NAMES_WITHOUT_SCHEMA = ("query", "key", "value")


@dataclass(frozen=True)
class _Key:
    op: str
    kind: Kind
    module: str
    shape_out: tuple[int, ...]
    depends_on_input: bool


class Tally:
    """The operators of one forward, equal ones of the same module added up, in the order of their first call."""

    def __init__(self) -> None:
        self._sums: dict[_Key, list[int]] = {}
        self.ledgers = Ledgers()
        self.unknown: dict[str, int] = {}

    def add(self, key: _Key, work: Work, bytes_in: int, bytes_out: int, weight_bytes: int) -> None:
        sums = self._sums.setdefault(key, [0] * 5)
        for place, amount in enumerate((1, work.macs, bytes_in, bytes_out, weight_bytes)):
            sums[place] += amount
        if work.ledgers is not NO_LEDGERS:
            self.ledgers += work.ledgers
        if work.kind is Kind.UNKNOWN:
            self.unknown[key.op] = self.unknown.get(key.op, 0) + 1

    @property
    def is_lower_bound(self) -> bool:
        return any(is_compute_like(name) for name in self.unknown)

    def rows(self, images: int) -> tuple[OpRow, ...]:
        """A row for each, of one image where `images` ran together; weights are read once for all of them."""
        return tuple(
            OpRow(
                op=key.op,
                kind=key.kind,
                module=key.module,
                calls=calls,
                macs=macs // images,
                bytes_in=(bytes_in - weight_bytes) // images + weight_bytes,
                bytes_out=bytes_out // images,
                shape_out=key.shape_out,
                weight_bytes=weight_bytes,
                depends_on_input=key.depends_on_input,
            )
            for key, (calls, macs, bytes_in, bytes_out, weight_bytes) in self._sums.items()
        )


_UNKNOWN = Work(Kind.UNKNOWN)


def tallied(module: torch.nn.Module, image: torch.Tensor) -> Tally:
    """The operators of the module's second forward on `image`: the first one fills caches that later ones read."""
    import torch

    tally, scope = Tally(), scopes.Scope(module)
    # Not inference_mode: there, composite operators reach a dispatch mode whole.
    with torch.no_grad(), _attention_taken_apart():
        module(image)
        setattr(image, _ROLE, Role.INPUT)
        with scopes.followed(scope), _mode(tally, scope):
            scopes.run(module, image, scope)
    return tally


@contextlib.contextmanager
def _attention_taken_apart() -> Iterator[None]:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    # Flex attention compiles itself, out of sight, unless torch is told that somebody debugs it.
    flex = sys.modules.get("torch.nn.attention.flex_attention")
    flag = "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG"
    debugged = getattr(flex, flag, None)
    if debugged is not None:
        setattr(flex, flag, True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
        if debugged is not None:
            setattr(flex, flag, debugged)


def _mode(tally: Tally, scope: scopes.Scope) -> Any:
    """A dispatch mode that fills `tally`; a function, so that torch is imported here."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):  # type: ignore[misc]
        # Operators that call functions, such as flex attention, come through here too.
        supports_higher_order_operators = True

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            _take(tally, scope.path, func, (args, kwargs or {}), result)
            return result

    return Counting()


def _take(tally: Tally, module: str, func: Any, given: tuple[Any, Any], result: Any) -> None:
    schema = getattr(func, "_schema", None)
    # An operator that calls functions has no schema, only a name.
    name = rule_name(schema.name) if schema else func.name()
    read, written = _tensors(given), _tensors(result)
    if (schema and _is_view(schema)) or name in NO_WORK:
        # Memory handed out holds nothing of the tensor that it is shaped like.
        _mark(written, _role(read[0]) if read and "empty" not in name else Role.COMPUTED)
        return
    work = _work(name, schema, given, written)
    depends = any(_role(tensor) is Role.INPUT for tensor in read)
    is_moved_weight = work.kind is Kind.DATA_MOVEMENT and read and all(_role(one) is Role.WEIGHT for one in read)
    bytes_out = sum(map(_bytes, written[:1] if name in _FIRST_OUTPUT_ONLY else written))
    weight_bytes = sum(_bytes(tensor) for tensor in read if _role(tensor) is Role.WEIGHT)
    bytes_in = 0 if name in _WRITES_ONLY else sum(map(_bytes, read))
    if name in READS_WHAT_IT_WRITES:
        bytes_in, weight_bytes = min(bytes_in, bytes_out), min(weight_bytes, bytes_in, bytes_out)
    shape = tuple(written[0].shape) if written else ()
    tally.add(_Key(name, work.kind, module, shape, depends), work, bytes_in, bytes_out, weight_bytes)
    _mark(written, Role.INPUT if depends else Role.WEIGHT if is_moved_weight else Role.COMPUTED)


def _work(name: str, schema: Any, given: tuple[Any, Any], written: list[Any]) -> Work:
    rule = RULES.get(name)
    if rule is None:
        return _UNKNOWN
    args, kwargs = given
    names = [argument.name for argument in schema.arguments] if schema else _NAMES_WITHOUT_SCHEMA
    arguments = dict(zip(names, args, strict=False))
    try:
        return rule(Call({**arguments, **kwargs}, tuple(written), _role))
    except (KeyError, IndexError, AttributeError, TypeError):
        # An overload with other arguments than the rule knows: named as uncounted, not taken for zero.
        return _UNKNOWN


def _role(tensor: Any) -> Role:
    # What no operator has made, and is not the image, is a parameter or a buffer.
    role: Role = getattr(_owner(tensor), _ROLE, Role.WEIGHT)
    return role


def _mark(tensors: Iterable[Any], role: Role) -> None:
    for tensor in tensors:
        setattr(_owner(tensor), _ROLE, role)


def _owner(tensor: Any) -> Any:
    """The tensor whose memory this one shows: what is written into a slice of it is in it."""
    return tensor._base if tensor._is_view() else tensor


def _tensors(nested: Any) -> list[Any]:
    """The tensors in arguments or results, each once: what is multiplied by itself is read once."""
    import torch
    from torch.utils._pytree import tree_leaves

    return list({id(leaf): leaf for leaf in tree_leaves(nested) if isinstance(leaf, torch.Tensor)}.values())


def _is_view(schema: Any) -> bool:
    """Whether an operator returns its input's memory unwritten (in-place operators do write)."""
    aliases = [returned.alias_info for returned in schema.returns if returned.alias_info is not None]
    return bool(aliases) and not any(alias.is_write for alias in aliases)


def _bytes(tensor: Any) -> int:
    """What there is to read or write of a tensor: a value that an expanded one repeats counts once."""
    values = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        values *= size if stride or not size else 1
    if tensor.is_floating_point():
        return values * _BYTES_PER_VALUE
    return values * (_BYTES_PER_COMPLEX if tensor.is_complex() else tensor.element_size())
