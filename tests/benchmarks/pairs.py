"""How often the instrument calls two cells different: A against A, and against an A that is 5 % slower.

    python -m tests.benchmarks.pairs [PAIRS]

Each pair is a whole `standard` measurement through the scheduler and the timed loop, on fake models in virtual time,
under the noise of a real machine from a random moment of the recording on.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.benchmarks.noise import length_ns, noise_from
from vitprof.analysis.comparison import paired_ratio, verdict
from vitprof.cells import Cell
from vitprof.devices.transports.fake import FakeTransport, VirtualClock
from vitprof.group import Setting, measure_group
from vitprof.protocols import protocol
from vitprof.records import Verdict
from vitprof.report.progress import NoProgress
from vitprof.runner.wire import Plan
from vitprof.store.journal import Journal

_REFERENCE_NS = 4_000_000
# From starting a process to its Ready, files cached: 0.27 s (mobilenetv3_small_100), 0.42 s (vit_tiny), 0.6 s
# (lowformer_b1) on two cores of an AMD EPYC guest.
_LOAD_NS = 450_000_000
# Cells of the recording: a small and a middling backbone.
_CALLS_NS = (4_300_000, 44_000_000)


def verdicts(pairs: int, delay_share: float, seed: int = 0) -> Counter[Verdict]:
    """What is said of `pairs` pairs whose second cell takes `1 + delay_share` times as long as the first."""
    moments = random.Random(seed)
    said: Counter[Verdict] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(pairs):
            call_ns = _CALLS_NS[number % len(_CALLS_NS)]
            said[_verdict(call_ns, delay_share, moments.randrange(length_ns()), number, Path(folder))] += 1
    return said


def _verdict(call_ns: int, delay_share: float, offset_ns: int, seed: int, folder: Path) -> Verdict:
    clock = VirtualClock(noise_from(offset_ns))
    rules = protocol()
    journal = Journal(folder)
    setting = Setting(FakeTransport(clock), rules, journal, NoProgress(), seed=seed, clock=lambda: clock.now_ns / 1e9)
    durations = (call_ns, round(call_ns * (1 + delay_share)))
    cells = [
        Cell(name, Plan("fake", {"load_ns": _LOAD_NS, "call_ns": ns})) for name, ns in zip("ab", durations, strict=True)
    ]
    group = measure_group(cells, Plan("fake", {"load_ns": _LOAD_NS, "call_ns": _REFERENCE_NS}), setting)
    journal.close()
    ratio = paired_ratio(group.cells[0].samples, group.cells[1].samples)
    assert ratio is not None
    return verdict(ratio)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for share in (0.0, 0.05):
        found = verdicts(count, share)
        listed = ", ".join(f"{name.value} {found[name]}" for name in Verdict)
        print(f"{count} pairs with a delay of {share:.0%}: {listed}")
