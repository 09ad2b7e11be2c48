"""`vitprof gate MODEL --against MODEL`: two models beside each other, now: what a pull request needs.

    both ─ jobs ─┬─ the same file ──────────────────────────────► fine, nothing is measured
                 └─ one group, round by round ─ judged ─┬─ fine ► said
                    (no memory: each alone)             └─ once more ─ all sets together ─ judged ─► said

Its own file beside `stored`: nothing is looked for in the store, and a ratio is taken from rounds that both were in, so
that the moods of the machine are in both; through the reference where there is no memory for both at once.
Instructions are counted instead where they are asked for.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from vitprof.analysis import gate
from vitprof.analysis.changes import cell_of, trouble_of, why_not_compared
from vitprof.analysis.comparison import paired_ratio
from vitprof.bench import Ask, Hold, Job, Refused, opened
from vitprof.errors import ExitCode, UsageError, VitprofError
from vitprof.gates import Gated, GatedCell, GateVerdict, Judgement
from vitprof.gating.baselines import PAIR, warned_text
from vitprof.gating.levels import usable
from vitprof.gating.stored import OF_A_TIE, GateRun, remedy_of
from vitprof.instructions import count_instructions
from vitprof.keeping import keep_rows
from vitprof.measurements import Grade, Samples, StopReason
from vitprof.pipeline import Request
from vitprof.places import Places
from vitprof.records import Metric, ModelSpec, Result
from vitprof.report.document import dicts_from_results
from vitprof.report.progress import Progress
from vitprof.rows import is_out_of_memory
from vitprof.store.runs import new_run
from vitprof.workshop import Workshop

_REMEDIES = {
    GateVerdict.SLOWER: "see where the time goes: vitprof layers {candidate}, and of {baseline}",
    GateVerdict.UNDECIDED: "measure longer (--effort strict), on a quieter machine, or allow more: --max-slowdown",
}
_UNSOUND = (GateVerdict.FAILED, GateVerdict.BROKEN)
# How what is said of (candidate, baseline) begins.
_SIDES = ("", "the baseline: ")


@dataclass(frozen=True)
class PairRequest:
    """`request.models` are (candidate, baseline)."""

    request: Request
    limit_share: float
    metric: Metric = Metric.LATENCY
    is_accepting: bool = False
    is_verifying: bool = True


def gate_pair(asked: PairRequest, places: Places, progress: Progress) -> GateRun:
    """The candidate against the baseline on every backend; `UsageError` where either is more than one model."""
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    if asked.metric is Metric.INSTRUCTIONS:
        cells, codes, troubles = _counted(asked, places, progress)
    else:
        cells, codes, troubles = _timed(asked, places, progress)
    candidate, baseline = asked.request.models
    told = tuple(with_remedy(cell, asked) for cell in cells)
    gated = Gated(candidate, baseline, asked.limit_share, told, started_at)
    return GateRun(gated, gated.exit_codes | codes, troubles)


_Outcome = tuple[list[GatedCell], frozenset[ExitCode], tuple[VitprofError, ...]]


def _timed(asked: PairRequest, places: Places, progress: Progress) -> _Outcome:
    """One group a backend, a second one of the same where the first does not say `fine`."""
    request = asked.request
    run = new_run(PAIR)
    codes: set[ExitCode] = set()
    with opened(request.terms, request.backends, places, progress) as bench:

        def asks(workshop: Workshop) -> list[Ask]:
            specs = [_only(name, workshop, request.like) for name in request.models]
            return [Ask(spec, backend, request.threads) for backend in bench.backends for spec in specs]

        prepared = bench.prepared(asks)
        sides = zip(prepared[::2], prepared[1::2], strict=True)
        pairs = [Pair(candidate, baseline, asked.limit_share, run.id) for candidate, baseline in sides]

        def keep(rows: Sequence[Result]) -> None:
            keep_rows(rows, places, run, bench.troubles)

        codes |= {one.exit_code for one in prepared if isinstance(one, Refused)}
        if any(pair.jobs for pair in pairs):
            with bench.held(run) as hold:
                for pair in [one for one in pairs if one.jobs]:
                    codes |= pair.measure(hold, keep)
                    if pair.is_doubtful and asked.is_verifying and ExitCode.INTERRUPTED not in codes:
                        codes |= pair.measure(hold, keep)
                    if ExitCode.INTERRUPTED in codes:
                        break
        troubles = tuple(bench.troubles)
    return [pair.gated for pair in pairs], frozenset(codes), troubles


class Pair:
    """Two models on one backend, and what measuring them in `run` gave so far."""

    def __init__(self, candidate: Job | Refused, baseline: Job | Refused, limit_share: float, run: str) -> None:
        self._candidate, self._baseline = candidate, baseline
        self._limit_share = limit_share
        self._run = run
        self._taken: list[tuple[Result, Result]] = []
        # There was no memory for both at once.
        self._is_apart = False

    @property
    def jobs(self) -> list[Job]:
        """What is to be measured: nothing where one of them cannot be, or both are one file."""
        both = [one for one in (self._candidate, self._baseline) if isinstance(one, Job)]
        return both if len({one.artifact.sha256 for one in both}) == 2 else []

    def measure(self, hold: Hold, keep: Callable[[Sequence[Result]], None]) -> frozenset[ExitCode]:
        """Measures both in one group, so that the moods of the machine are in both; `keep` is given their rows.

        Who runs out of memory there, since the other may have taken it, is measured again alone, and the next time
        both are. Returns what ended the measuring early.
        """
        jobs = self.jobs
        groups = [[0], [1]] if self._is_apart else [[0, 1]]
        rows: dict[int, Result] = {}
        codes: set[ExitCode] = set()
        while groups and ExitCode.INTERRUPTED not in codes:
            group = groups.pop(0)
            measured = hold.measured([jobs[side] for side in group])
            found = dict(zip(group, measured.rows, strict=False))
            crowded = [side for side, row in found.items() if len(group) > 1 and is_out_of_memory(row)]
            self._is_apart |= bool(crowded)
            groups += [[side] for side in crowded]
            kept = {side: row for side, row in found.items() if side not in crowded}
            keep(list(kept.values()))
            rows.update(kept)
            codes |= measured.exit_codes & {ExitCode.INTERRUPTED, ExitCode.UNREACHABLE}
        # Of what was interrupted at once there is nothing.
        if len(rows) == len(jobs):
            self._taken.append((rows[0], rows[1]))
        return frozenset(codes)

    @property
    def is_doubtful(self) -> bool:
        return self.gated.verdict in (GateVerdict.SLOWER, GateVerdict.UNDECIDED)

    @property
    def gated(self) -> GatedCell:
        """What can be said now."""
        rows = (self._usable or self._taken or [(_row_of(self._candidate), _row_of(self._baseline))])[-1]
        [document] = dicts_from_results(rows[:1])
        unfit = [rows for rows in self._taken if rows not in self._usable]
        told = ""
        verified_in = self._run if len(self._taken) > 1 else None
        if verified_in and unfit:
            told = f"one is left out, {_without_ratio(unfit[0]).reason}" if self._usable else "that is no better"
        judgement = self._judgement()
        return GatedCell(
            cell_of(document),
            judgement,
            verified_in=verified_in,
            not_verified=told,
            confounders=("one was measured after the other, for want of memory",) if self._is_apart else (),
            remedy=_remedy_of(rows) if judgement.verdict in _UNSOUND else "",
        )

    @property
    def _usable(self) -> list[tuple[Result, Result]]:
        return [rows for rows in self._taken if all(_is_usable(row) for row in rows)]

    def _judgement(self) -> Judgement:
        if not self._taken:
            for name, one in zip(_SIDES, (self._candidate, self._baseline), strict=True):
                if isinstance(one, Refused):
                    return Judgement(GateVerdict.FAILED, f"{name}{_trouble_of(one.row)}")
            if not self.jobs:
                return Judgement(GateVerdict.FINE, "both give the same file: there is nothing to measure")
            return Judgement(GateVerdict.UNDECIDED, "it was interrupted before anything was measured")
        if not self._usable:
            return _without_ratio(self._taken[-1])
        judged = _through_reference if self._is_apart else _round_by_round
        return judged(self._usable, self._limit_share)


def _counted(asked: PairRequest, places: Places, progress: Progress) -> _Outcome:
    """Counts of both; they repeat themselves, so there is no second one."""
    request = asked.request
    with Workshop(places.cache_root, progress, trust=request.trust) as workshop:
        specs = {_only(name, workshop, request.like) for name in request.models}
    run = count_instructions(request, places, progress, command=PAIR)
    cells = []
    for candidate, baseline in sides_of(run.results, max(1, len(request.backends)), is_one=len(specs) == 1):
        ours, theirs = candidate.instructions, baseline.instructions
        if ours and theirs and not any(map(_trouble_of, (candidate, baseline))):
            counts = (ours.per_inference, [theirs.per_inference])
            judgement = gate.judged_counts(*counts, asked.limit_share)
        else:
            judgement = _without_ratio((candidate, baseline))
        [document] = dicts_from_results([candidate])
        remedy = _remedy_of((candidate, baseline)) if judgement.verdict in _UNSOUND else ""
        cells.append(GatedCell(cell_of(document), judgement, remedy=remedy))
    return cells, run.exit_codes, run.troubles


def sides_of(rows: Sequence[Result], backends: int, *, is_one: bool) -> list[tuple[Result, Result]]:
    """(candidate, baseline) on each backend, from rows that come model by model; fewer where it was interrupted.

    `is_one`: both are the same model, which is counted once.
    """
    candidates = rows[:backends]
    return list(zip(candidates, candidates if is_one else rows[backends:], strict=False))


def _only(name: str, workshop: Workshop, like: ModelSpec) -> ModelSpec:
    specs = workshop.specs((name,), like)
    if len(specs) > 1:
        raise UsageError(f"'{name}' names {len(specs)} models", remedy="name one model, and one with --against")
    return specs[0]


def _row_of(one: Job | Refused) -> Result:
    return dataclasses.replace(one.blank, artifact=one.artifact) if isinstance(one, Job) else one.row


def _together(rows: Sequence[Result]) -> Samples:
    """The sets of several runs as if they were of one."""
    sets = tuple(one for row in rows if row.samples for one in row.samples.sets)
    return Samples(sets, StopReason.PRECISION)


def _round_by_round(pairs: Sequence[tuple[Result, Result]], limit_share: float) -> Judgement:
    """What (candidate, baseline) say that were measured in one group."""
    candidate, baseline = (_together([rows[side] for rows in pairs]) for side in (0, 1))
    ratio = paired_ratio(baseline, candidate)
    if ratio is None:
        return Judgement(GateVerdict.UNDECIDED, "the two shared no round")
    times = [rows[1].summary.latency.p50_ns.value for rows in pairs if rows[1].summary]
    return gate.judged_pair(ratio, min(times), limit_share)


def _through_reference(pairs: Sequence[tuple[Result, Result]], limit_share: float) -> Judgement:
    """What (candidate, baseline) say that were measured one after the other: as two runs."""
    candidate, baseline = (dicts_from_results([rows[side] for rows in pairs]) for side in (0, 1))
    reasons = [why_not_compared(*documents) for documents in zip(candidate, baseline, strict=True)]
    if any(reasons):
        what = f"there is no memory for both at once, and {next(filter(None, reasons))}"
        return Judgement(GateVerdict.UNDECIDED, what)
    ours, theirs = ([run for document in documents for run in usable(document)] for documents in (candidate, baseline))
    if len(theirs) == 1 and pairs[0][1].samples:
        theirs = [dataclasses.replace(theirs[0], between_sets=gate.between_sets_of(pairs[0][1].samples))]
    return gate.judged(ours, theirs, limit_share)


def _is_usable(row: Result) -> bool:
    return not _trouble_of(row) and row.samples is not None and _grade_of(row) in (Grade.A, Grade.B)


def _grade_of(row: Result) -> Grade | None:
    """Of the ratio; of the raw time where no reference runs."""
    if row.summary is None:
        return None
    return row.summary.relative.grade if row.summary.relative else row.summary.grade


def _trouble_of(row: Result) -> str:
    [document] = dicts_from_results([row])
    return trouble_of(document)


def _remedy_of(rows: Sequence[Result]) -> str:
    """What to do about the first row without a sound number."""
    [unsound, *_] = [document for document in dicts_from_results(rows) if trouble_of(document)]
    return remedy_of(unsound)


def _without_ratio(rows: Sequence[Result]) -> Judgement:
    """Why (candidate, baseline) give no ratio."""
    documents = dicts_from_results(rows)
    for name, document in zip(_SIDES, documents, strict=True):
        told = trouble_of(document)
        if told:
            verdict = GateVerdict.BROKEN if document["outcome"] == "ok" else GateVerdict.FAILED
            return Judgement(verdict, f"{name}{told}")
    told = ", ".join(
        f"{name}grade C ({warned_text(document)})"
        for name, row, document in zip(_SIDES, rows, documents, strict=True)
        if not _is_usable(row)
    )
    return Judgement(GateVerdict.UNDECIDED, f"{told}: the numbers are not to be judged")


def with_remedy(gated: GatedCell, asked: PairRequest) -> GatedCell:
    """With what to do next, as it can be typed; slower on purpose is accepted."""
    if gated.verdict is GateVerdict.SLOWER and asked.is_accepting:
        gated = dataclasses.replace(gated, judgement=dataclasses.replace(gated.judgement, verdict=GateVerdict.ACCEPTED))
    candidate, baseline = asked.request.models
    is_tie = gated.verdict is GateVerdict.UNDECIDED and asked.metric is Metric.INSTRUCTIONS
    names = {"candidate": shlex.quote(candidate), "baseline": shlex.quote(baseline)}
    told = OF_A_TIE if is_tie else _REMEDIES.get(gated.verdict, "").format(**names)
    return dataclasses.replace(gated, remedy=gated.remedy or told)
