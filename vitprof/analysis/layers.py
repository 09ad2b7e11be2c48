"""A runtime's profile beside the counted operators: shares of time against shares of MACs and bytes.

Its own file because it is arithmetic on values alone: which operator of the runtime does the work of which counted
operators is decided here, from names, and everything that is shown follows from it.

    claim   each counted operator goes to one profiled operator: by its node's name where the profile is of a graph,
            by module and operator where it is of a program of torch
    share   time, MACs and bytes of an operator ÷ those of all operators; overhead between operators is no share
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vitprof.comparisons import LayerOp, LayerProfile, LayerSum, TimedWork
from vitprof.counts import Kind, OpRow
from vitprof.runner.wire import Profile, ProfiledOp
from vitprof.units import text_from_count, text_from_share

# What a runtime calls operators without MACs, in lower case: their kind can be told from that alone.
_KINDS: Mapping[str, Kind] = {
    name: kind
    for kind, names in {
        Kind.NORM: "layernormalization skiplayernormalization instancenormalization batchnormalization groupnorm mvn"
        " simplifiedlayernormalization skipsimplifiedlayernormalization lpnormalization normalizel2 rms"
        " layer_norm batch_norm group_norm instance_norm rms_norm",
        Kind.SOFTMAX: "softmax log_softmax logsoftmax",
        Kind.ACTIVATION: "gelu fastgelu biasgelu quickgelu relu relu6 hardswish hardsigmoid sigmoid tanh elu leakyrelu"
        " prelu selu mish silu hardtanh hardswish_ relu_ silu_ leaky_relu",
        Kind.ELEMENTWISE: "subgraph eltwise add sub mul div",
        Kind.POOL: "globalaveragepool averagepool maxpool globalmaxpool reducemean reducesum pooling reduce"
        " mean sum amax adaptive_avg_pool2d adaptive_max_pool2d avg_pool2d max_pool2d",
        Kind.RESAMPLE: "resize upsample interpolate",
        Kind.DATA_MOVEMENT: "reorderinput reorderoutput reorder transpose reshape squeeze unsqueeze flatten cast"
        " convert identity split variadicsplit slice stridedslice concat concatenation gather expand tile pad"
        " quantizelinear dequantizelinear constant const shape shapeof view permute t expand_as contiguous clone copy_"
        " to chunk unbind select narrow unflatten detach alias dropout empty resolve_conj",
    }.items()
    for name in names.split()
}
# Kinds without MACs, what a fused operator is called by first.
_PRECEDENCE = (
    *(Kind.NORM, Kind.SOFTMAX, Kind.FFT, Kind.RESAMPLE, Kind.POOL, Kind.ACTIVATION),
    *(Kind.ELEMENTWISE, Kind.UNKNOWN, Kind.DATA_MOVEMENT),
)
# The counter takes fused attention apart; these of its parts are given back to whatever fuses them.
_ATTENTION_PARTS = frozenset({Kind.ATTENTION, Kind.OTHER_MATMUL, Kind.SOFTMAX, Kind.ELEMENTWISE, Kind.DATA_MOVEMENT})
_ATTENTION_OPS = ("attention", "encoder_layer")
_CONVOLUTIONS = frozenset({Kind.CONV, Kind.DEPTHWISE_CONV, Kind.POINTWISE_CONV})
DISAGREEMENTS = 10


@dataclass(frozen=True)
class _Claimed:
    """A profiled operator with its counted operators; `known`: those that tell its kind, work or not."""

    op: ProfiledOp
    rows: tuple[OpRow, ...]
    known: tuple[OpRow, ...]


def layer_profile(profile: Profile, rows: Iterable[OpRow], *, batch: int, depth: int) -> LayerProfile:
    """`profile`, whose inference has `batch` images, beside the counted `rows` of one image.

    Modules are cut to `depth` parts of their path for `by_module`. Nodes of a graph that do not depend on the image
    have no share: they are computed once, before. An eager program computes them each time.
    """
    counted = tuple(row for row in rows if row.depends_on_input or not row.name)
    claim = _by_name if any(row.name for row in counted) else _by_module
    ops_ns = sum(op.ns for op in profile.ops)
    share = _Shares(ops_ns, sum(row.macs for row in counted), sum(_bytes(row, batch) for row in counted), batch)
    claimed = claim(profile.ops, counted)
    modules = _modules(claimed)
    ops = tuple(_layer_op(one, module, share) for one, module in zip(claimed, modules, strict=True))
    seen = sum(row.macs for one in claimed for row in one.rows)
    by_kind = _sums(ops, lambda op: None if op.kind is None else op.kind.value, share)
    return LayerProfile(
        total_ns=profile.total_ns,
        overhead_ns=max(0.0, profile.total_ns - ops_ns),
        runs=profile.runs,
        unattributed_share=_ratio(sum(op.work.ns for op in ops if op.kind is None), ops_ns),
        unseen_macs_share=_ratio(share.macs - seen, share.macs),
        ops=ops,
        by_kind=by_kind,
        by_module=_sums(ops, lambda op: None if op.kind is None else ".".join(op.module.split(".")[:depth]), share),
        disagreements=_disagreements(ops, share),
        is_estimate=profile.is_estimate,
    )


def _by_name(ops: Sequence[ProfiledOp], rows: Sequence[OpRow]) -> tuple[_Claimed, ...]:
    """A member that several operators name is known to all of them and the work of the first."""
    named = {row.name: row for row in rows}
    free = dict(named)
    claimed = []
    for op in ops:
        known = tuple(named[name] for name in op.members if name in named)
        claimed.append(_Claimed(op, tuple(free.pop(row.name) for row in known if row.name in free), known))
    return tuple(claimed)


def _by_module(ops: Sequence[ProfiledOp], rows: Sequence[OpRow]) -> tuple[_Claimed, ...]:
    """By module and operator; by operator alone where the runtime knows no modules (TorchScript)."""
    has_modules = any(op.module for op in ops)
    found: list[list[OpRow]] = [[] for _ in ops]
    places: dict[str, list[int]] = {}
    for place, op in enumerate(ops):
        places.setdefault(op.module or "", []).append(place)
    for row in rows:
        claimer = _claimer(row, ops, places.get(row.module if has_modules else "", []))
        if claimer is not None:
            found[claimer].append(row)
    return tuple(_Claimed(op, tuple(own), tuple(own)) for op, own in zip(ops, found, strict=True))


def _claimer(row: OpRow, ops: Sequence[ProfiledOp], places: Sequence[int]) -> int | None:
    """The operator of that name, else the one that calls it, else an attention that was counted in parts."""
    outer = (place for place in places if _bare(ops[place].op) == row.op)
    inner = (place for place in places if row.op in map(_bare, ops[place].members))
    fused = (
        place
        for place in places
        if row.kind in _ATTENTION_PARTS and any(word in ops[place].op for word in _ATTENTION_OPS)
    )
    return next((place for candidates in (outer, inner, fused) for place in candidates), None)


def _bare(name: str) -> str:
    """As the counter names operators: an operator that writes in place is the same work."""
    return name.removesuffix("_")


def _modules(claimed: Sequence[_Claimed]) -> tuple[str, ...]:
    """The module of each operator: its own, else that of most of its work, else that of the operator it feeds."""
    own = [one.op.module if one.op.module is not None else _weightiest(one).module for one in claimed]
    place_of = {one.op.name: place for place, one in enumerate(claimed)}
    return tuple(_fed_module(place, claimed, own, place_of) for place in range(len(claimed)))


def _fed_module(place: int, claimed: Sequence[_Claimed], own: Sequence[str], place_of: Mapping[str, int]) -> str:
    seen = set()
    while not own[place] and not claimed[place].known and place not in seen:
        seen.add(place)
        place = next((place_of[name] for name in claimed[place].op.feeds if name in place_of), place)
    return own[place]


_NOTHING = OpRow("", Kind.UNKNOWN, "", 0, 0, 0, 0, ())


def _weightiest(one: _Claimed) -> OpRow:
    return max(one.known, key=lambda row: (row.macs, row.bytes_moved), default=_NOTHING)


def _kind(one: _Claimed) -> Kind | None:
    """That of most of its MACs; without any what the runtime calls it, else the most telling of its rows."""
    products = {row.kind for row in one.known if row.macs}
    if len(products) > 1 and products <= _CONVOLUTIONS:
        return Kind.CONV
    if products:
        return _weightiest(one).kind
    by_type = _KINDS.get(one.op.op.lower())
    kinds = {row.kind for row in one.known}
    if by_type is not None and (not kinds or by_type not in (Kind.ELEMENTWISE, Kind.DATA_MOVEMENT)):
        return by_type
    return next((kind for kind in (*_PRECEDENCE, *kinds) if kind in kinds), by_type)


@dataclass(frozen=True)
class _Shares:
    """The totals that shares are of."""

    ns: float
    macs: int
    bytes_moved: int
    batch: int

    def work(self, ns: float, macs: int | None, bytes_moved: int | None) -> TimedWork:
        return TimedWork(
            ns=ns,
            time_share=_ratio(ns, self.ns),
            macs=macs,
            macs_share=None if macs is None else _ratio(macs, self.macs),
            bytes_moved=bytes_moved,
            bytes_share=None if bytes_moved is None else _ratio(bytes_moved, self.bytes_moved),
            macs_per_s=macs * self.batch / (ns / 1e9) if macs and ns else None,
        )


def _layer_op(one: _Claimed, module: str, share: _Shares) -> LayerOp:
    kind = _kind(one)
    macs = sum(row.macs for row in one.rows)
    moved = sum(_bytes(row, share.batch) for row in one.rows)
    return LayerOp(
        name=one.op.name,
        op=one.op.op,
        kind=kind,
        module=module,
        calls=one.op.calls,
        work=share.work(one.op.ns, None if kind is None else macs, None if kind is None else moved),
        members=tuple(dict.fromkeys(row.name or row.op for row in one.known)),
        placed=one.op.placed,
    )


def _sums(ops: Sequence[LayerOp], key: Callable[[LayerOp], str | None], share: _Shares) -> tuple[LayerSum, ...]:
    """The operators added up by `key`, those that take longest first."""
    groups: dict[str | None, list[LayerOp]] = {}
    for op in ops:
        groups.setdefault(key(op), []).append(op)
    sums = (LayerSum(name, sum(op.calls for op in group), _added(group, share)) for name, group in groups.items())
    return tuple(sorted(sums, key=lambda one: -one.work.ns))


def _added(ops: Iterable[LayerOp], share: _Shares) -> TimedWork:
    works = [op.work for op in ops]
    macs = [work.macs for work in works if work.macs is not None]
    moved = [work.bytes_moved for work in works if work.bytes_moved is not None]
    return share.work(sum(work.ns for work in works), sum(macs) if macs else None, sum(moved) if moved else None)


def _disagreements(ops: Sequence[LayerOp], share: _Shares) -> tuple[str, ...]:
    """What takes a larger share of the time than it has of the MACs, the widest gap first.

    A line for each kind of operator of a module; modules that do the same work under the same name but for the numbers
    in it stand in one, because what tells them apart is the noise of the machine.
    """
    groups: dict[tuple[str, Kind], list[LayerOp]] = {}
    for op in ops:
        if op.kind is not None:
            groups.setdefault((op.module, op.kind), []).append(op)
    alike: dict[tuple[str, Kind, int | None, int | None], list[str]] = {}
    for (module, kind), group in groups.items():
        work = _added(group, share)
        alike.setdefault((_unnumbered(module), kind, work.macs, work.bytes_moved), []).append(module)
    found = []
    for (_, kind, _, _), modules in alike.items():
        found.append((_name(modules), kind, _added((op for one in modules for op in groups[one, kind]), share)))
    worst = sorted((one for one in found if _gap(one[2]) > 0), key=lambda one: -_gap(one[2]))
    average = share.work(share.ns, share.macs, None).macs_per_s
    return tuple(_in_words(*one, average) for one in worst[:DISAGREEMENTS])


def _unnumbered(module: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in module.split("."))


def _name(modules: Sequence[str]) -> str:
    """One path, or how many there are of a pattern: the parts in which they differ are stars."""
    if len(modules) == 1:
        return modules[0] or "the model itself"
    parts = zip(*(module.split(".") for module in modules), strict=True)
    return f"{len(modules)} x {'.'.join(part[0] if len(set(part)) == 1 else '*' for part in parts)}"


def _gap(work: TimedWork) -> float:
    return (work.time_share or 0.0) - (work.macs_share or 0.0)


def _in_words(name: str, kind: Kind, work: TimedWork, average: float | None) -> str:
    macs = f"{text_from_share(work.macs_share)} of the MACs" if work.macs else "none of the MACs"
    moved = f"{text_from_share(work.bytes_share)} of the bytes" if work.bytes_moved else "none of the counted bytes"
    speed = f"; {text_from_count(work.macs_per_s, 'MAC/s')} against {text_from_count(average, 'MAC/s')} on average"
    return (
        f"{name} ({kind.value}): {text_from_share(work.time_share)} of the time, {macs}, {moved}"
        f"{speed if work.macs_per_s and average else ''}"
    )


def _bytes(row: OpRow, batch: int) -> int:
    """Weights are read once, however many images there are."""
    return row.weight_bytes + (row.bytes_moved - row.weight_bytes) * batch


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
