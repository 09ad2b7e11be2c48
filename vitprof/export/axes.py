"""Where the values of a tensor go in a chain of operators that only move them, without a tensor or a graph.

Its own file because it is arithmetic on shapes alone. Every axis of the beginning is a row of factors: a `reshape`
splits and joins rows, a `permute` orders them, an `unbind` fixes one factor to a number. Factors that are neighbours
before and after may be one axis all the way.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

Shape = tuple[int, ...]


@dataclass(eq=False)
class Factor:
    """A part of an axis; equal sizes are not the same factor."""

    size: int


@dataclass
class Moves:
    """Where the factors of a tensor have gone: `rows` are the axes now, `source` their order in the beginning."""

    source: list[Factor]
    rows: list[list[Factor]]
    fixed: dict[Factor, int] = field(default_factory=dict)

    @classmethod
    def of(cls, shape: Shape) -> Moves:
        rows = [[Factor(size)] if size > 1 else [] for size in shape]
        return cls([factor for row in rows for factor in row], rows)

    def permute(self, order: Sequence[int]) -> None:
        self.rows = [self.rows[axis] for axis in order]

    def select(self, axis: int, index: int) -> None:
        for factor in reversed(self.rows.pop(axis)):
            self.fixed[factor] = index % factor.size
            index //= factor.size

    @property
    def place(self) -> dict[Factor, int]:
        """Where each factor that is not fixed stands in the end."""
        return {factor: index for index, factor in enumerate(factor for row in self.rows for factor in row)}

    def regroup(self, shape: Shape) -> bool:
        """False where an axis would begin or end inside a factor that cannot be split there."""
        waiting = deque(factor for row in self.rows for factor in row)
        self.rows = []
        for size in shape:
            row: list[Factor] = []
            missing = size
            while missing > 1 and waiting:
                factor = waiting.popleft()
                if factor.size > missing:
                    if factor.size % missing:
                        return False
                    factor, rest = self._split(factor, missing)
                    waiting.appendleft(rest)
                if missing % factor.size:
                    return False
                row.append(factor)
                missing //= factor.size
            if missing > 1:
                return False
            self.rows.append(row)
        return not waiting

    def _split(self, factor: Factor, size: int) -> tuple[Factor, Factor]:
        parts = (Factor(size), Factor(factor.size // size))
        place = self.source.index(factor)
        self.source[place : place + 1] = parts
        return parts


def neighbours(kept: Sequence[Factor], place: dict[Factor, int]) -> list[list[Factor]]:
    """Factors that follow each other before and after, together."""
    groups: list[list[Factor]] = []
    for factor in kept:
        if groups and place[factor] == place[groups[-1][-1]] + 1:
            groups[-1].append(factor)
        else:
            groups.append([factor])
    return groups


def span_of(factors: Sequence[Factor], factor: Factor) -> Shape:
    """Three axes: one, what is before `factor`, and `factor` with all that is behind it."""
    where = factors.index(factor)
    return (
        1,
        math.prod(one.size for one in factors[:where]),
        math.prod(one.size for one in factors[where:]),
    )
