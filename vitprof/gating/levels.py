"""Where the present level of a cell begins among its earlier rows, so that what was accepted is what counts.

    newest ─ a ─ a ─ b ─ b ─ b      a is slower than b, and accepted: of the last five two serve

Its own file because it is about what people meant and not about noise: a step that stays between two levels would pass
for noise of the baseline, and hide every change that is smaller until the last row of the old level is gone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitprof.analysis import gate
from vitprof.analysis.changes import trouble_of
from vitprof.measurements import Grade, Interval

if TYPE_CHECKING:
    from vitprof.store.results import StoredRow

# Nobody is asked about what became faster. One run may be so by chance, and one before it tells nothing of noise.
_LEAST_FASTER = 2
_Row = Mapping[str, Any]


def of_this_level(
    rows: Sequence[StoredRow], accepted: Collection[str], last: int, limit_share: float
) -> list[StoredRow]:
    """Of the newest `last` of `rows` (sound ones of a cell, the newest first) those since it last became another.

    It did where a row of a run in `accepted` is slower than the `last` before it, as gate judges that, or where it and
    those after it are faster.
    """
    for count in range(1, min(last, len(rows))):
        newer, older = rows[:count], rows[count : count + last]
        if newer[-1].run in accepted and _is_another(newer, older, limit_share):
            return list(newer)
    return list(rows[:last])


def usable(row: _Row) -> tuple[gate.RunRatio, ...]:
    """The ratio of a sound row of grade B or better; none of another."""
    relative = row["relative"]
    if trouble_of(row) or not relative or relative["grade"] == Grade.C:
        return ()
    low, high = relative["ci95"] or (None, None)
    return (gate.RunRatio(Interval(relative["ratio"], low, high), (row["latency_ns"] or {}).get("p50")),)


def count_of(row: _Row) -> int:
    """The instructions of a row that has them."""
    return int(row["instructions_per_inference"]["value"])


def _is_another(newer: Sequence[StoredRow], older: Sequence[StoredRow], limit_share: float) -> bool:
    first = newer[-1].document
    if first.get("instructions_per_inference"):
        # Counts repeat themselves: one before it is enough.
        step = math.log(count_of(first) / count_of(older[0].document))
        return abs(step) > math.log1p(limit_share)
    now, before = ([ratio for one in rows for ratio in usable(one.document)] for rows in (newer, older))
    if gate.has_moved(now[-1:], before, limit_share) > 0:
        return True
    return min(len(now), len(before)) >= _LEAST_FASTER and gate.has_moved(now, before, limit_share) < 0
