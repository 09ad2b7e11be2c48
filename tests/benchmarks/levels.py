"""What gate says night after night: of a model that stays as it is, and of one that becomes 20 % faster.

    python -m tests.benchmarks.levels

Runs are numbers here: each knows its ratio to a standard error of 0.5 %, and is moved by a mood of its own that lasts
for the whole run. What is slower or undecided is measured once more in the same mood. Beside what the rule of
`gating.levels` says stands what would be said without it.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

from vitprof.analysis.gate import is_sharp, judged
from vitprof.gates import GateVerdict
from vitprof.gating.levels import of_this_level, usable
from vitprof.store.results import StoredRow
from vitprof.store.runs import Origin

_LIMIT_SHARE = 0.03
_STANDARD_ERROR = 0.005
_LAST = 5
_SEQUENCES = 60
# Nights by which there are as many runs as are asked for.
_FIRST = 6
_EQUAL = (1.0,) * 25
_FASTER = (1.0,) * 8 + (0.8,) * 8


def nights(levels: Sequence[float], mood: float, chance: random.Random, *, has_levels: bool) -> list[GateVerdict]:
    """The word on each night's run, judged by the last five; what is rejected is left out as in a store."""
    rows: list[StoredRow] = []
    accepted: set[str] = set()
    said = []
    for number, level in enumerate(levels):
        moved = level * math.exp(chance.gauss(0, mood))
        runs = [_row(number, moved * math.exp(chance.gauss(0, _STANDARD_ERROR))) for _ in range(2)]
        serving = of_this_level(rows, accepted, _LAST, _LIMIT_SHARE) if has_levels else rows[:_LAST]
        verdict = _verdict(runs, serving)
        said.append(verdict)
        if verdict is GateVerdict.FINE:
            accepted.add(runs[0].run)
        if verdict is not GateVerdict.SLOWER:
            rows.insert(0, runs[0])
    return said


def _verdict(runs: Sequence[StoredRow], serving: Sequence[StoredRow]) -> GateVerdict:
    baseline = [ratio for one in serving for ratio in usable(one.document)]
    if not baseline:
        return GateVerdict.NEW
    if len(baseline) == 1 and not is_sharp(baseline, _LIMIT_SHARE):
        return GateVerdict.UNDECIDED
    first = judged(usable(runs[0].document), baseline, _LIMIT_SHARE).verdict
    if first is GateVerdict.FINE:
        return first
    return judged([ratio for one in runs for ratio in usable(one.document)], baseline, _LIMIT_SHARE).verdict


def _row(number: int, ratio: float) -> StoredRow:
    borders = [ratio * math.exp(sign * 1.96 * _STANDARD_ERROR) for sign in (-1, 1)]
    relative = {"ratio": ratio, "ci95": borders, "grade": "A"}
    document = {"outcome": "ok", "parity": None, "relative": relative, "latency_ns": {"p50": 10_000_000}}
    return StoredRow(number, str(number), Origin.MEASURED, document)


def _shares(levels: Sequence[float], first: int, mood: float, *, has_levels: bool) -> str:
    chance = random.Random(1)
    found = Counter(
        verdict for _ in range(_SEQUENCES) for verdict in nights(levels, mood, chance, has_levels=has_levels)[first:]
    )
    return ", ".join(f"{verdict} {found[verdict] / found.total():.1%}" for verdict in sorted(found))


if __name__ == "__main__":
    for one_mood in (0.0, 0.01, 0.02, 0.045):
        # Of the faster one, the nights that have a faster run before them.
        for name, nightly, since in (("equal", _EQUAL, _FIRST), ("20 % faster", _FASTER, _FASTER.index(0.8) + 1)):
            for with_levels in (False, True):
                told = _shares(nightly, since, one_mood, has_levels=with_levels)
                print(f"moods of {one_mood:.1%}, {name}, {'with' if with_levels else 'without'} levels: {told}")
