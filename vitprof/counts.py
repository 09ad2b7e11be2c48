"""Counted work: what both counters return, and what rooflines, profiles and comparisons read.

Its own file beside `records` because most of the program needs nothing else of it. All bytes are those of fp32 and of
one image, whatever is measured: a count describes the model. 1 MAC is one multiply-add, 2 FLOP.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What an operator is, to a model designer."""

    CONV = "conv"
    DEPTHWISE_CONV = "depthwise_conv"
    POINTWISE_CONV = "pointwise_conv"
    # A product with a parameter.
    LINEAR = "linear"
    # A product of two tensors that both depend on the image, or an operator that fuses such products.
    ATTENTION = "attention"
    # Any other matrix product.
    OTHER_MATMUL = "other_matmul"
    NORM = "norm"
    ACTIVATION = "activation"
    SOFTMAX = "softmax"
    ELEMENTWISE = "elementwise"
    # Pooling and every other reduction.
    POOL = "pool"
    RESAMPLE = "resample"
    FFT = "fft"
    # Copies, layout changes, gathers: bytes without arithmetic.
    DATA_MOVEMENT = "data_movement"
    # No rule knows it.
    UNKNOWN = "unknown"


class CostName(StrEnum):
    """What accuracy is paid with."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"
    MACS = "macs"
    PARAMS = "params"
    MEMORY = "memory"


# The kinds whose work is MACs, in the order in which they are shown.
MAC_KINDS = (
    Kind.CONV,
    Kind.DEPTHWISE_CONV,
    Kind.POINTWISE_CONV,
    Kind.LINEAR,
    Kind.ATTENTION,
    Kind.OTHER_MATMUL,
)


@dataclass(frozen=True)
class Ledgers:
    """Work that is not MACs, each kind in a book of its own; none is ever added to the MACs.

    elementwise: values written by arithmetic on single values. norm: values normalised. pool: values read by windows
    and reductions. resample: source values weighted (4 for each bilinear output, 16 for each bicubic one). fft:
    5 N log2 N flops for each complex transform of N values, half for a real one. transcendental: exponentials,
    logarithms, error functions, roots and the like, one for each value.
    """

    elementwise: int = 0
    norm: int = 0
    pool: int = 0
    resample: int = 0
    fft: int = 0
    transcendental: int = 0

    def __add__(self, other: Ledgers) -> Ledgers:
        return Ledgers(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    def of_one(self, images: int) -> Ledgers:
        """The share of one image, where `images` ran together."""
        return Ledgers(*(amount // images for amount in vars(self).values()))


@dataclass(frozen=True)
class OpRow:
    """One operator of one module, its equal calls added up."""

    # As its framework calls it: `convolution`, `Conv`.
    op: str
    kind: Kind
    # Dotted path of the module that called it; empty: the model itself, or not known.
    module: str
    calls: int
    macs: int
    # All that is read: activations and weights. A value that is broadcast is read once.
    bytes_in: int
    bytes_out: int
    # Of one call.
    shape_out: tuple[int, ...]
    # Of `bytes_in`: parameters, which do not grow with the batch.
    weight_bytes: int = 0
    # The node's name, where the row is a node of a graph.
    name: str = ""
    # False: computed from weights and constants alone, so that an exporter may fold it.
    depends_on_input: bool = True

    @property
    def bytes_moved(self) -> int:
        return self.bytes_in + self.bytes_out


@dataclass(frozen=True)
class KindSum:
    """All operators of one kind together."""

    kind: Kind
    calls: int
    macs: int
    bytes_in: int
    bytes_out: int
    weight_bytes: int

    @property
    def bytes_moved(self) -> int:
        return self.bytes_in + self.bytes_out


@dataclass(frozen=True)
class Cost:
    """Counted work of one image. `macs` is `None` where nothing could count it."""

    params: int | None
    macs: int | None
    weight_bytes: int | None
    activation_bytes: int | None
    # Operators that do work: views are none.
    ops: int | None
    # Calls of each operator that no rule knows.
    uncounted_ops: dict[str, int] = field(default_factory=dict)
    # Share of all bytes moved that operators with a rule move.
    coverage: float | None = None
    rows: tuple[OpRow, ...] = ()
    ledgers: Ledgers = Ledgers()
    # One of the unknown operators multiplies and adds by its nature: the MACs are at least these.
    is_lower_bound: bool = False


@dataclass(frozen=True)
class OtherCount:
    """What another counter says of the same model: in its own words, in MACs, and why that differs."""

    name: str
    version: str
    printed: str | None = None
    macs: int | None = None
    reasons: tuple[str, ...] = ()
    # Why there is no count.
    error: str | None = None


def kind_sums(rows: Iterable[OpRow]) -> tuple[KindSum, ...]:
    """The rows added up by kind, in the order of `Kind`."""
    by_kind: dict[Kind, list[OpRow]] = {}
    for row in rows:
        by_kind.setdefault(row.kind, []).append(row)
    return tuple(_sum(kind, by_kind[kind]) for kind in Kind if kind in by_kind)


def _sum(kind: Kind, rows: list[OpRow]) -> KindSum:
    return KindSum(
        kind,
        calls=sum(row.calls for row in rows),
        macs=sum(row.macs for row in rows),
        bytes_in=sum(row.bytes_in for row in rows),
        bytes_out=sum(row.bytes_out for row in rows),
        weight_bytes=sum(row.weight_bytes for row in rows),
    )
