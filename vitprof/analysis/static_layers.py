"""A compiler's kernels beside the counted operators: which kernel does which MACs, and what was fused into one.

Its own file beside `layers` because there is no time here, and because a compiler names every node that a kernel has
something of: a convolution stands in the kernel that multiplies, in one before it that changes the layout of its
input, and in one behind it that adds its bias. Its MACs go to the one that multiplies.

    claim   each product goes to the first kernel that names its node and multiplies, else to the first that names it
    fused   an attention whose two products and softmax are all named by one kernel
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vitprof.counts import MAC_KINDS, Kind, OpRow
from vitprof.kernels import Attention, FusedKernel, Kernel, KernelList, KernelSum, KernelWork, StaticLayers

# Generated from a chain of elementwise operators, reductions and moves; its name is the chain: `__myl_MulAddTran_…`.
_GENERATED = "kgen"
_WORDS = re.compile(r"__myl_((?:[A-Z][a-z0-9]*)+)")
# Convolution, product with weights, transposed convolution.
_MULTIPLIES = frozenset({"Corr", "Fc", "Deco"})
_MOVES = frozenset({"Tran", "Move", "Conc", "Slic", "Resh", "Cast", "Repl", "Gath", "Scat"})
_SYNCHRONISATIONS = frozenset({"signal", "wait"})
_CONVOLUTIONS = frozenset({Kind.CONV, Kind.DEPTHWISE_CONV, Kind.POINTWISE_CONV})
# Kinds without MACs, what a kernel is called by first.
_PRECEDENCE = (
    *(Kind.NORM, Kind.SOFTMAX, Kind.FFT, Kind.RESAMPLE, Kind.POOL, Kind.ACTIVATION),
    *(Kind.ELEMENTWISE, Kind.UNKNOWN, Kind.DATA_MOVEMENT),
)


@dataclass(frozen=True)
class _Whole:
    """The totals that shares are of."""

    macs: int
    bytes_moved: int
    batch: int

    def part(self, macs: int | None, bytes_moved: int | None) -> KernelWork:
        return KernelWork(
            macs=macs,
            macs_share=macs / self.macs if macs is not None and self.macs else None,
            bytes_moved=bytes_moved,
            bytes_share=bytes_moved / self.bytes_moved if bytes_moved is not None and self.bytes_moved else None,
            macs_per_byte=macs * self.batch / bytes_moved if macs is not None and bytes_moved else None,
        )


def static_layers(
    listed: KernelList, rows: Iterable[OpRow], attentions: Sequence[Attention], *, batch: int, depth: int
) -> StaticLayers:
    """`listed`, of an engine for `batch` images, beside the counted `rows` of one image.

    Modules are cut to `depth` parts of their path for `by_module`.
    Nodes that do not depend on the image are work only where a kernel names them: else the compiler computed them.
    """
    launched = tuple(kernel for kernel in listed.kernels if kernel.type not in _SYNCHRONISATIONS)
    in_kernels = {name for kernel in launched for name in kernel.nodes}
    counted = tuple(row for row in rows if row.depends_on_input or row.name in in_kernels)
    named = {row.name: row for row in counted}
    claims = _claims(launched, named)
    macs = sum(row.macs for row in counted)
    whole = _Whole(macs, sum(kernel.bytes_moved or 0 for kernel in launched), batch)
    modules = _modules(launched, claims, named)
    kernels = []
    for kernel, claim, module in zip(launched, claims, modules, strict=True):
        kind = _kind(kernel, claim, named)
        done = None if kind is None else sum(row.macs for row in claim)
        fused = sum(one.nodes <= set(kernel.nodes) for one in attentions)
        kernels.append(FusedKernel(kernel, kind, module, whole.part(done, kernel.bytes_moved), fused))
    attributed = sum(row.macs for claim in claims for row in claim)
    are_fused = [any(one.nodes <= set(kernel.nodes) for kernel in launched) for one in attentions]

    def summed(key: Callable[[FusedKernel], str | None]) -> tuple[KernelSum, ...]:
        return _sums(kernels, key, whole)

    return StaticLayers(
        listed=listed,
        synchronisations=len(listed.kernels) - len(launched),
        nodes=len(counted),
        macs=macs,
        image_free_macs=sum(row.macs for row in counted if not row.depends_on_input),
        attributed_macs_share=attributed / macs if macs else None,
        attentions=len(attentions),
        fused_attentions=sum(are_fused),
        kernels=tuple(kernels),
        by_kind=summed(lambda one: None if one.kind is None else one.kind.value),
        by_module=summed(lambda one: None if one.kind is None else ".".join(one.module.split(".")[:depth])),
    )


def _claims(kernels: Sequence[Kernel], named: Mapping[str, OpRow]) -> tuple[tuple[OpRow, ...], ...]:
    """The products that each kernel does."""
    claimer: dict[str, int] = {}
    for is_second_choice in (False, True):
        for place, kernel in enumerate(kernels):
            if _multiplies(kernel) or is_second_choice:
                for name in kernel.nodes:
                    claimer.setdefault(name, place)
    claims: list[list[OpRow]] = [[] for _ in kernels]
    for name, place in claimer.items():
        if name in named and named[name].macs:
            claims[place].append(named[name])
    return tuple(map(tuple, claims))


def _multiplies(kernel: Kernel) -> bool:
    """Whether by its type or name a kernel does products: a generated one does where its chain has one.

    What is generated from a template, such as `_gemm_mha_v2`, is called after that and not after a chain.
    """
    words = set(_words(kernel))
    return kernel.type != _GENERATED or not words or bool(_MULTIPLIES & words)


def _words(kernel: Kernel) -> tuple[str, ...]:
    found = _WORDS.match(kernel.name)
    return tuple(re.findall(r"[A-Z][a-z0-9]*", found[1])) if found else ()


def _kind(kernel: Kernel, claim: Sequence[OpRow], named: Mapping[str, OpRow]) -> Kind | None:
    """That of most of its MACs; without any the most telling of its nodes, else what its name says."""
    products = {row.kind for row in claim}
    if len(products) > 1 and products <= _CONVOLUTIONS:
        return Kind.CONV
    if claim:
        return max(claim, key=lambda row: row.macs).kind
    kinds = {named[name].kind for name in kernel.nodes if name in named} - set(MAC_KINDS)
    return next((kind for kind in _PRECEDENCE if kind in kinds), _kind_by_name(kernel))


def _kind_by_name(kernel: Kernel) -> Kind | None:
    words = _words(kernel)
    if words and _MOVES.issuperset(words):
        return Kind.DATA_MOVEMENT
    # What another kernel left of a product: its bias, its scale.
    return Kind.ELEMENTWISE if words and kernel.nodes else None


def _modules(
    kernels: Sequence[Kernel], claims: Sequence[Sequence[OpRow]], named: Mapping[str, OpRow]
) -> tuple[str, ...]:
    """The module of most of a kernel's work; where it has no nodes, that of the kernel that it feeds."""
    readers: dict[str, int] = {}
    for place, kernel in enumerate(kernels):
        for tensor in kernel.reads:
            readers.setdefault(tensor, place)

    def known(place: int) -> Sequence[OpRow]:
        rows = [named[name] for name in kernels[place].nodes if name in named]
        # A product that another kernel does says less of this one than what it does itself.
        return claims[place] or [row for row in rows if not row.macs] or rows

    def module(place: int) -> str:
        seen = set()
        while not known(place) and place not in seen:
            seen.add(place)
            place = next((readers[name] for name in kernels[place].writes if name in readers), place)
        weightiest = max(known(place), key=lambda row: (row.macs, row.bytes_moved), default=None)
        return weightiest.module if weightiest else ""

    return tuple(map(module, range(len(kernels))))


def _sums(
    kernels: Sequence[FusedKernel], key: Callable[[FusedKernel], str | None], whole: _Whole
) -> tuple[KernelSum, ...]:
    """The kernels added up by `key`, those with most MACs first."""
    groups: dict[str | None, list[FusedKernel]] = {}
    for one in kernels:
        groups.setdefault(key(one), []).append(one)
    sums = []
    for name, group in groups.items():
        done = [one.work.macs for one in group if one.work.macs is not None]
        bytes_moved = sum(one.work.bytes_moved or 0 for one in group)
        sums.append(KernelSum(name, len(group), whole.part(sum(done) if done else None, bytes_moved)))
    return tuple(sorted(sums, key=lambda one: (-(one.work.macs or 0), -(one.work.bytes_moved or 0))))
