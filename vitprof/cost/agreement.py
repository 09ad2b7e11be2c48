"""Whether the two counters agree on a model: the one that runs it in torch, the one that reads its ONNX graph.

Its own file because neither counter knows the other. An exporter computes what depends on weights alone once and keeps
the result, so only operators that depend on the image are compared; those that the graph no longer has are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from vitprof.counts import Cost, Kind, OpRow
from vitprof.units import text_from_count

# Both count the same products by the same formulas; a share is left for files that are rounded to whole images.
MAX_DIFFERENCE_SHARE = 0.001
# More would hide the first, and one wrong module is often many.
_MOST_CAUSES = 5
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Cause:
    """One kind of operator in one module of which the counters have different sums."""

    # Empty: the model itself, or all of it where the graph names no modules.
    module: str
    kind: Kind
    torch_macs: int
    onnx_macs: int

    @property
    def difference_macs(self) -> int:
        return self.onnx_macs - self.torch_macs


@dataclass(frozen=True)
class Agreement:
    """Both totals, and why they differ."""

    torch_macs: int | None
    onnx_macs: int | None
    # Rows of the torch count that need no image and that the graph no longer has.
    folded: tuple[OpRow, ...]
    # (onnx - torch) / torch over what depends on the image; None where a counter has no total.
    difference_share: float | None
    # The worst first; none where they agree.
    causes: tuple[Cause, ...]

    @property
    def agrees(self) -> bool:
        return self.difference_share is not None and abs(self.difference_share) <= MAX_DIFFERENCE_SHARE

    @property
    def folded_macs(self) -> int:
        return sum(row.macs for row in self.folded)


def agreement(torch_cost: Cost, onnx_cost: Cost) -> Agreement:
    """The two counts of one model compared, each of one image."""
    folded = _folded(torch_cost.rows, onnx_cost.rows)
    if torch_cost.macs is None or onnx_cost.macs is None:
        return Agreement(torch_cost.macs, onnx_cost.macs, folded, None, ())
    mine, theirs = _of_image(torch_cost.rows), _of_image(onnx_cost.rows)
    before, after = sum(row.macs for row in mine), sum(row.macs for row in theirs)
    share = (after - before) / before if before else (0.0 if after == 0 else float("inf"))
    compared = Agreement(torch_cost.macs, onnx_cost.macs, folded, share, ())
    if compared.agrees:
        return compared
    return Agreement(torch_cost.macs, onnx_cost.macs, folded, share, _causes(mine, theirs))


def text_from_agreement(found: Agreement) -> tuple[str, ...]:
    """Why the two counts differ: what the exporter folded, then what is left."""
    told = [
        f"the exporter folded {row.module or 'the model itself'} ({row.op}, {text_from_count(row.macs)}), "
        "which needs no image"
        for row in found.folded
    ]
    if not found.agrees:
        told += [
            f"{cause.module or 'the model itself'} ({cause.kind}): {text_from_count(cause.onnx_macs)} in the file, "
            f"{text_from_count(cause.torch_macs)} in the module"
            for cause in found.causes[:_MOST_CAUSES]
        ]
    return tuple(told)


def _folded(mine: tuple[OpRow, ...], theirs: tuple[OpRow, ...]) -> tuple[OpRow, ...]:
    """The input-independent rows of `mine` that have no equal in `theirs`; paths may be missing there, MACs are not."""
    kept = Counter(row.macs for row in theirs if not row.depends_on_input)
    folded = []
    for row in mine:
        if row.depends_on_input or not row.macs:
            continue
        # A row may stand for several calls, which are so many nodes.
        one_macs = row.macs // row.calls
        if kept[one_macs] >= row.calls:
            kept[one_macs] -= row.calls
        else:
            folded.append(row)
    return tuple(folded)


def _of_image(rows: tuple[OpRow, ...]) -> tuple[OpRow, ...]:
    return tuple(row for row in rows if row.depends_on_input and row.macs)


def _causes(mine: tuple[OpRow, ...], theirs: tuple[OpRow, ...]) -> tuple[Cause, ...]:
    has_paths = bool({row.module for row in mine if row.module} & {row.module for row in theirs})

    def place(row: OpRow) -> tuple[str, Kind]:
        return (row.module if has_paths else "", row.kind)

    # A module whose sum is right is no cause, though one counter may call its product by another kind.
    modules_before, modules_after = _sums(mine, lambda row: place(row)[0]), _sums(theirs, lambda row: place(row)[0])
    before, after = _sums(mine, place), _sums(theirs, place)
    causes = [
        Cause(module, kind, before[module, kind], after[module, kind])
        for module, kind in before.keys() | after.keys()
        if modules_before[module] != modules_after[module] and before[module, kind] != after[module, kind]
    ]
    return tuple(sorted(causes, key=lambda cause: (-abs(cause.difference_macs), cause.module, cause.kind)))


def _sums(rows: tuple[OpRow, ...], key: Callable[[OpRow], Key]) -> Counter[Key]:
    sums: Counter[Key] = Counter()
    for row in rows:
        sums[key(row)] += row.macs
    return sums
