"""How often the gate's rule alarms: on runs of one model, and where the candidate is 2 % or 5 % slower.

    python -m tests.benchmarks.gate [PAIRS]
    python -m tests.benchmarks.gate --moods [PAIRS]
    python -m tests.benchmarks.gate --live [PAIRS]

Every run is a whole `standard` measurement through the scheduler and the timed loop: on a fake model in virtual time,
under the recorded noise of a real machine. The runs of a pair (baseline, candidate, the one by which gate makes sure)
are of other moments of the recording. What is said of them is said by the code of `vitprof gate` from a store. A
baseline that gate refuses is measured again, as a person would, and how many were is told beside the figures.

`--moods`: the same runs, each moved by a mood of its own that lasts for the whole run, the candidate's two runs by one:
what the reference cannot cancel (docs/decisions/0009). `--live`: on this machine, in separate runs of `vitprof`: a net
of twenty layers that is measured again and again, each time judged by the last five, and one of twenty-one beside it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.benchmarks.noise import length_ns, noise_from
from tests.report.samples import ok
from vitprof import __version__
from vitprof.analysis.summary import summarise
from vitprof.cells import Cell
from vitprof.devices.transports.fake import FakeTransport, VirtualClock
from vitprof.gates import GateVerdict
from vitprof.gating.again import VERIFICATION, Again
from vitprof.gating.stored import GateRequest, gate_stored
from vitprof.group import Setting, measure_group
from vitprof.measurements import Interval
from vitprof.places import places
from vitprof.protocols import protocol
from vitprof.records import Result
from vitprof.report.document import dicts_from_results
from vitprof.report.progress import NoProgress
from vitprof.runner.wire import Plan
from vitprof.store.journal import Journal
from vitprof.store.raw_samples import document_from_samples
from vitprof.store.results import open_store
from vitprof.store.runs import StoredRun, new_run

LIMIT_SHARE = 0.03
_REFERENCE_NS = 4_000_000
# As in `pairs`: a process that starts, a small and a middling backbone.
_LOAD_NS = 450_000_000
_CALLS_NS = (4_300_000, 44_000_000)
# Moments of the recording that the runs of one pair are spread over: more than a run's twenty seconds apart.
_MOMENTS = 8
_MOODS = (0.0, 0.01, 0.02, 0.045)
_ATTEMPTS = 20
_TODAY = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass
class Counts:
    """What became of the pairs; of how many baselines that were measured gate refused how many."""

    verdicts: Counter[GateVerdict]
    baselines: int = 0
    refused: int = 0


def counts(pairs: int, delay_share: float, baseline_runs: int, *, mood: float = 0.0, seed: int = 0) -> Counts:
    """The gate's last word on `pairs` pairs whose candidate takes `1 + delay_share` times as long as the baseline."""
    chance = random.Random(seed)
    found = Counts(Counter())
    for number in range(pairs):
        with tempfile.TemporaryDirectory() as folder:
            pair = _Pair(_CALLS_NS[number % len(_CALLS_NS)], delay_share, chance, mood, Path(folder))
            found.verdicts[pair.verdict(baseline_runs)] += 1
        found.baselines += pair.baselines
        found.refused += pair.baselines - baseline_runs
    return found


class _Pair:
    """The runs of one baseline and one candidate in a store, judged by the command's own code."""

    def __init__(self, call_ns: int, delay_share: float, chance: random.Random, mood: float, folder: Path) -> None:
        self.baselines = 0
        self._call_ns, self._delay_share = call_ns, delay_share
        self._chance, self._mood, self._folder = chance, mood, folder
        self._places = places(str(folder / "results.sqlite"))
        # The candidate's two runs have the same one: the worst case.
        self._mood_now = chance.gauss(0, mood)
        self._begin_ns = chance.randrange(length_ns())
        self._moment = 0

    def verdict(self, baseline_runs: int) -> GateVerdict:
        for _ in range(baseline_runs):
            self._keep_baseline()
        self._keep("now", 0, self._now())
        while self._judged(baseline_runs, is_verifying=False) is GateVerdict.REFUSED:
            assert self.baselines < baseline_runs + _ATTEMPTS, "no run of twenty serves as a baseline"
            self._keep_baseline()
        return self._judged(baseline_runs, is_verifying=True)

    def _judged(self, baseline_runs: int, *, is_verifying: bool) -> GateVerdict:
        """What gate says; `refused` also where fewer runs than asked for serve."""
        asked = f"base-{self.baselines}" if baseline_runs == 1 else f"last:{baseline_runs}"
        request = GateRequest(asked, LIMIT_SHARE, "now", is_verifying=is_verifying)
        [cell] = gate_stored(request, self._places, NoProgress(), self._again).gated.cells
        return cell.verdict if len(cell.baseline_runs) == baseline_runs else GateVerdict.REFUSED

    def _keep_baseline(self) -> None:
        self.baselines += 1
        result = self._run(self._call_ns, self._chance.gauss(0, self._mood))
        self._keep(f"base-{self.baselines}", 30 - self.baselines, result)

    def _again(self, *_: object) -> Again:
        return Again(new_run(VERIFICATION), {0: self._now()}, {})

    def _now(self) -> Result:
        return self._run(round(self._call_ns * (1 + self._delay_share)), self._mood_now)

    def _run(self, call_ns: int, mood: float) -> Result:
        offset_ns = (self._begin_ns + self._moment * length_ns() // _MOMENTS) % length_ns()
        self._moment += 1
        return measured(call_ns, offset_ns, mood, self._chance, self._folder)

    def _keep(self, run: str, days_ago: int, result: Result) -> None:
        at = (_TODAY - timedelta(days=days_ago)).isoformat()
        [row] = dicts_from_results([result])
        assert result.samples is not None
        kept = document_from_samples(result.samples, result.protocol)
        with open_store(self._places.store) as store:
            store.add(StoredRun(run, at, __version__, "latency"), [{**row, "started_at": at}], samples=[kept])


def measured(call_ns: int, offset_ns: int, mood: float, chance: random.Random, folder: Path) -> Result:
    """One `standard` run of a lone cell, begun at that moment of the recording; its ratio moved by `mood`."""
    clock = VirtualClock(noise_from(offset_ns))
    rules, journal = protocol(), Journal(folder)
    setting = Setting(
        FakeTransport(clock),
        rules,
        journal,
        NoProgress(),
        seed=chance.randrange(2**31),
        clock=lambda: clock.now_ns / 1e9,
    )
    cell, reference = (Plan("fake", {"load_ns": _LOAD_NS, "call_ns": ns}) for ns in (call_ns, _REFERENCE_NS))
    samples = measure_group([Cell("a", cell)], reference, setting).cells[0].samples
    journal.close()
    summary = summarise(samples, rules, batch=1, macs_per_image=None, reference_long_run_ns=None)
    assert summary is not None and summary.relative is not None
    ratio = Interval(*(value * math.exp(mood) for value in _parts(summary.relative.ratio)))
    summary = dataclasses.replace(summary, relative=dataclasses.replace(summary.relative, ratio=ratio))
    return dataclasses.replace(ok(), samples=samples, summary=summary, protocol=rules)


def _parts(ratio: Interval) -> tuple[float, float, float]:
    assert ratio.low is not None and ratio.high is not None
    return ratio.value, ratio.low, ratio.high


# Live: separate runs of the program itself.

_NET = """
import torch

def _net(layers):
    block = [torch.nn.Sequential(torch.nn.Conv2d(48, 48, 3, padding=1), torch.nn.ReLU()) for _ in range(layers)]
    head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(48, 10)]
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 48, 8, stride=8), *block, *head)
    net.input_size = (3, 224, 224)
    return net

def twenty():
    return _net(20)

def twenty_one():
    return _net(21)
"""
# `--baseline` compares cells of one name: the factory that a run takes is chosen by this file's content.
_CHOSEN = "from nets import {factory} as net\n"
_STORES = {"twenty": "results.sqlite", "twenty_one": "slower.sqlite"}
_BASELINES = 5


def live(pairs: int) -> dict[str, Counter[GateVerdict]]:
    """By factory the gate's word on `pairs` candidates of it, each against the last five runs of twenty layers."""
    said: dict[str, Counter[GateVerdict]] = {factory: Counter() for factory in _STORES}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "nets.py").write_text(_NET)
        for _ in range(_BASELINES):
            _measure(folder, "twenty")
        for number in range(pairs):
            # The slower one is no baseline of those that come.
            shutil.copy(Path(folder) / _STORES["twenty"], Path(folder) / _STORES["twenty_one"])
            # Neither is always the one that is further from the baseline.
            for factory in _STORES if number % 2 else reversed(_STORES):
                _measure(folder, factory)
                told = _vitprof(folder, "gate", "--baseline", f"last:{_BASELINES}", "--store", _STORES[factory])
                [cell] = told["cells"]
                said[factory][GateVerdict(cell["verdict"])] += 1
                print(factory, cell["verdict"], cell["ratio"], cell["ci90"], len(cell["baseline_runs"]), flush=True)
    return said


def _measure(folder: str, factory: str) -> None:
    (Path(folder) / "net.py").write_text(_CHOSEN.format(factory=factory))
    _vitprof(folder, "latency", "net.py:net", "--threads", "1", "--store", _STORES[factory])


def _vitprof(folder: str, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "vitprof", *words, "--json", "-"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout))


def _text(verdicts: Counter[GateVerdict]) -> str:
    return ", ".join(f"{name} {verdicts[name]}" for name in GateVerdict if verdicts[name])


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdecimal()]
    if "--live" in sys.argv:
        for name, verdicts in live(*numbers[:1] or [20]).items():
            print(f"{name}: {_text(verdicts)}", flush=True)
        sys.exit()
    for one_mood in _MOODS if "--moods" in sys.argv else (0.0,):
        for runs in (1, 5):
            for share in (0.0, 0.02, 0.05):
                one = counts(*numbers[:1] or [200], share, runs, mood=one_mood)
                told = f"moods of {one_mood:.1%}, " if one_mood else ""
                print(
                    f"{told}baseline of {runs}, {share:.0%} slower: {_text(one.verdicts)} "
                    f"({one.refused} of {one.baselines} baselines refused and measured again)",
                    flush=True,
                )
