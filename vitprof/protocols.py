"""The measuring protocol as the command line asks for it: three efforts, and what overrides them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from vitprof.records import Protocol
from vitprof.units import Amount

REFERENCE = "cpu-ref-1"


class Effort(StrEnum):
    QUICK = "quick"
    STANDARD = "standard"
    STRICT = "strict"


# (sets, goal for half the ratio's interval, seconds of wall clock a cell). Five sets and not three: with the same time
# for both, pairs with a 5 % delay are found in 97 % instead of 89 % of cases (docs/decisions/0004). The time holds for
# the whole group divided by its cells, so that three cells in `standard` end within a minute.
_EFFORTS: Mapping[Effort, tuple[int, float, float]] = {
    Effort.QUICK: (1, 0.03, 6.0),
    Effort.STANDARD: (5, 0.01, 19.0),
    Effort.STRICT: (10, 0.005, 60.0),
}


def protocol(
    effort: Effort = Effort.STANDARD, *, measure: Amount | None = None, precision_goal_share: float | None = None
) -> Protocol:
    """The protocol of `effort`, with `--measure` and `--precision-goal` in place of its own limits where given."""
    sets, goal, cap_s = _EFFORTS[effort]
    return Protocol(
        effort=effort.value,
        sets=sets,
        precision_goal_share=precision_goal_share or goal,
        cap_s_per_cell=cap_s,
        measure_ns=measure.duration_ns if measure else None,
        measure_calls=measure.calls if measure else None,
        reference=REFERENCE,
    )
