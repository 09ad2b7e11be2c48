"""`vitprof gate --baseline`: the cells of a run against earlier runs of the same cells.

    candidate's rows ─┬─ failed, parity broken ─────────────────────► said
                      └─ baseline's rows that serve ─ judged ─┬─ fine ► said
                                                              └─ measured once more ─ judged ─► said

One level above what measures, because it asks for that. The rule itself is `analysis.gate`; what may not be compared is
decided as for reports, by `analysis.changes`.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vitprof.analysis import gate
from vitprof.analysis.changes import Pair, cell_of, environment_changes, trouble_of, why_not_compared
from vitprof.errors import ExitCode, UsageError, VitprofError
from vitprof.gates import Gated, GatedCell, GateVerdict, Judgement
from vitprof.gating.again import Again, Means, MeasureAgain, ProtocolOf, measured_again
from vitprof.gating.baselines import Baselines, candidate_of, warned_text
from vitprof.gating.levels import count_of, usable
from vitprof.measurements import Protocol
from vitprof.places import Places
from vitprof.records import AS_BUILT
from vitprof.report.document import dicts_from_results
from vitprof.report.progress import Progress
from vitprof.store.runs import Gate, Origin, StoredRun
from vitprof.units import text_from_share

if TYPE_CHECKING:
    from vitprof.store.results import Store, StoredRow

_Row = Mapping[str, Any]
_COUNTS = "counts of instructions repeat themselves"
# What to do where counts lie at the limit.
OF_A_TIE = "allow a little more, or less: --max-slowdown"


@dataclass(frozen=True)
class GateRequest:
    """What is asked. `baseline`: a run, or `last:N`; `candidate`: a run, None: the newest that measured something."""

    baseline: str
    limit_share: float
    candidate: str | None = None
    # Slower ones are so on purpose.
    is_accepting: bool = False
    # What is slower or undecided is measured once more.
    is_verifying: bool = True
    means: Means = field(default_factory=Means)


@dataclass(frozen=True)
class GateRun:
    """What the gate says, and what a script should be told."""

    gated: Gated
    exit_codes: frozenset[ExitCode]
    troubles: tuple[VitprofError, ...] = ()


def gate_stored(
    request: GateRequest, places: Places, progress: Progress, again: MeasureAgain = measured_again
) -> GateRun:
    """A verdict on every cell of the candidate, which is judged in the store.

    `again`: what measures rows once more; the gate's self-test has runs in virtual time instead.
    `UsageError` where there is no such run, or `--baseline` is neither a run nor `last:N`.
    """
    from vitprof.store.results import open_store

    with open_store(places.ready_store()) as store:
        candidate = candidate_of(store, request.candidate)
        rows = store.rows(run=candidate.id)
        baselines = Baselines(store, request.baseline, candidate, rows, request.limit_share)
        found = [_judged(row, baselines, store, request.limit_share) for row in rows]
        if not found:
            what = f"run {candidate.id} has no results to judge"
            raise UsageError(what, remedy="list what there is with: vitprof results list --all")
        codes: frozenset[ExitCode] = frozenset()
        troubles: tuple[VitprofError, ...] = ()
        doubtful = [one for one in found if one.is_doubtful]
        if doubtful and request.is_verifying and not request.is_accepting:
            here = _measured_here(doubtful)
            second = again([one.row.document for one in here], _protocols(store), request.means, places, progress)
            _verify(here, second, request.limit_share)
            codes, troubles = second.exit_codes, second.troubles
        is_rejected = candidate.gate == Gate.REJECTED
        told = (_told(one.gated, request, is_rejected=is_rejected) for one in found)
        cells = tuple(sorted(told, key=lambda one: one.cell))
        judged = None if ExitCode.INTERRUPTED in codes else _judge(store, candidate, cells)
    shown, gone = baselines.shown, baselines.gone
    gated = Gated(candidate.id, shown, request.limit_share, cells, candidate.started_at, judged, gone)
    return GateRun(gated, gated.exit_codes | codes, troubles)


@dataclass
class _Judged:
    """A cell of the candidate while it is judged."""

    row: StoredRow
    gated: GatedCell
    baseline: tuple[gate.RunRatio, ...] = ()

    @property
    def is_doubtful(self) -> bool:
        """Measuring once more may tell more."""
        return bool(self.baseline) and self.gated.verdict in (GateVerdict.SLOWER, GateVerdict.UNDECIDED)


def _judged(row: StoredRow, baselines: Baselines, store: Store, limit_share: float) -> _Judged:
    """What is said of a row before anything is measured again."""
    document = row.document
    cell, told = cell_of(document), trouble_of(document)
    if told:
        is_failed = document["outcome"] != "ok"
        verdict = GateVerdict.FAILED if is_failed else GateVerdict.BROKEN
        return _Judged(row, GatedCell(cell, Judgement(verdict, told), remedy=remedy_of(document)))
    serving, why_not = baselines.of(document)
    if not serving:
        verdict = GateVerdict.REFUSED if why_not else GateVerdict.NEW
        return _Judged(row, GatedCell(cell, Judgement(verdict, why_not or "no earlier result of this cell")))
    gated = GatedCell(
        cell,
        Judgement(GateVerdict.FINE, ""),
        tuple(one.run for one in serving),
        confounders=_confounders(document, serving[0].document),
    )
    if document.get("instructions_per_inference"):
        judgement = gate.judged_counts(count_of(document), [count_of(one.document) for one in serving], limit_share)
        return _Judged(row, dataclasses.replace(gated, judgement=judgement, not_verified=_COUNTS))
    ratios = tuple(_run_ratio(one, store if len(serving) == 1 else None) for one in serving)
    if len(ratios) == 1 and not gate.is_sharp(ratios, limit_share):
        # One run that is named stays as it is; a series grows until it serves.
        verdict = GateVerdict.REFUSED if baselines.last is None else GateVerdict.UNDECIDED
        return _Judged(row, dataclasses.replace(gated, judgement=Judgement(verdict, _blunt(ratios, limit_share))))
    ours = usable(document)
    judgement = gate.judged(ours, ratios, limit_share) if ours else _of_grade_c(document)
    return _Judged(row, dataclasses.replace(gated, judgement=judgement), ratios)


def remedy_of(row: _Row) -> str:
    """What to do about a row that failed, or whose outputs are not the model's."""
    return (row.get("failure") or {}).get("remedy") or "see what differs: vitprof latency MODEL --json -"


def _measured_here(doubtful: Sequence[_Judged]) -> list[_Judged]:
    """Those that can be measured once more; of the others it is noted why not."""
    for one in doubtful:
        if one.row.origin is not Origin.MEASURED:
            one.gated = dataclasses.replace(one.gated, not_verified="it was imported, not measured here")
    return [one for one in doubtful if one.row.origin is Origin.MEASURED]


def _verify(judged: Sequence[_Judged], again: Again, limit_share: float) -> None:
    """Judges them by both of their runs together."""
    for place, one in enumerate(judged):
        if place not in again.rows:
            reason = again.reasons.get(place, "it was interrupted")
            one.gated = dataclasses.replace(one.gated, not_verified=reason)
            continue
        [second] = dicts_from_results([again.rows[place]])
        apart = "" if trouble_of(second) else why_not_compared(second, one.row.document)
        if apart:
            # A store may be shared: what another machine measured cannot be made sure of here.
            one.gated = dataclasses.replace(one.gated, not_verified=apart)
            continue
        one.gated = dataclasses.replace(_twice(one, second, limit_share), verified_in=again.run.id)


def _protocols(store: Store) -> ProtocolOf:
    """How the rows of a hash were measured, where the store knows."""

    def protocol_of(hash: str) -> Protocol | None:
        from vitprof.store.raw_samples import protocol_from_document

        fields = store.protocol_of(hash)
        return protocol_from_document(fields) if fields else None

    return protocol_of


def _twice(one: _Judged, second: _Row, limit_share: float) -> GatedCell:
    """What is said of both measurements together; one that is not sound is left out."""
    both = (one.row.document, second)
    runs = [run for row in both for run in usable(row)]
    unfit = [trouble_of(row) or _of_grade_c(row).reason for row in both if not usable(row)]
    return dataclasses.replace(
        one.gated,
        judgement=gate.judged(runs, one.baseline, limit_share) if runs else one.gated.judgement,
        not_verified=(f"one is left out, {unfit[0]}" if runs else "that is no better") if unfit else "",
    )


def _told(gated: GatedCell, request: GateRequest, *, is_rejected: bool) -> GatedCell:
    """With what to do next; slower on purpose is accepted."""
    # What rejected the run may have been shown by both of its measurements only, and the second is not asked for now.
    unwanted = (GateVerdict.SLOWER, GateVerdict.UNDECIDED) if is_rejected else (GateVerdict.SLOWER,)
    if gated.verdict in unwanted and request.is_accepting:
        return dataclasses.replace(gated, judgement=dataclasses.replace(gated.judgement, verdict=GateVerdict.ACCEPTED))
    name = gated.cell.model.removesuffix(AS_BUILT)
    names = {"model": shlex.quote(name), "as_built": gated.cell.model.removeprefix(name)}
    remedies = _REMEDIES_OF_COUNTS if gated.not_verified == _COUNTS else _REMEDIES
    remedy = gated.remedy or remedies.get(gated.verdict, "").format(**names)
    return dataclasses.replace(gated, remedy=remedy)


_REMEDIES = {
    GateVerdict.SLOWER: "find what changed (vitprof history {model}), or keep it as it is: vitprof gate … --accept",
    # Measured for longer it would be of another protocol, which no earlier run is of.
    GateVerdict.UNDECIDED: "measure it beside the other, for longer (vitprof gate {model}{as_built} --against OTHER "
    "--effort strict), or allow more: --max-slowdown",
    GateVerdict.REFUSED: "name another --baseline, measure it anew by the same protocol, or both now: "
    "vitprof gate {model}{as_built} --against OTHER",
    GateVerdict.NEW: "nothing: it is a baseline from now on",
}
_REMEDIES_OF_COUNTS = {**_REMEDIES, GateVerdict.UNDECIDED: OF_A_TIE}


def _judge(store: Store, candidate: StoredRun, cells: Sequence[GatedCell]) -> str | None:
    """Tells the store of the candidate; a run of which nothing could be compared stays without a judgement."""
    verdicts = {one.verdict for one in cells}
    if GateVerdict.SLOWER in verdicts:
        judged = Gate.REJECTED
    elif verdicts & {GateVerdict.FINE, GateVerdict.ACCEPTED}:
        judged = Gate.ACCEPTED
    else:
        return None
    store.judge(candidate.id, judged)
    return judged.value


def _run_ratio(row: StoredRow, store: Store | None) -> gate.RunRatio:
    """Of a row that serves; with what its sets differ by, where `store` is given and holds its samples."""
    [ratio] = usable(row.document)
    samples = store.samples_of(row.id) if store else None
    if samples is None:
        return ratio
    from vitprof.store.raw_samples import samples_from_document

    return dataclasses.replace(ratio, between_sets=gate.between_sets_of(samples_from_document(samples)))


def _of_grade_c(row: _Row) -> Judgement:
    return Judgement(GateVerdict.UNDECIDED, f"relative.grade is C ({warned_text(row)}): the number is not to be judged")


def _blunt(baseline: Sequence[gate.RunRatio], limit_share: float) -> str:
    width = gate.half_width_share(baseline)
    known = "without an interval" if width is None else f"to ±{text_from_share(width)}"
    needed = text_from_share(gate.sharpness(limit_share))
    return f"relative.ratio of the only run to compare with is known {known}; for this limit it must be ±{needed}"


def _confounders(candidate: _Row, baseline: _Row) -> tuple[str, ...]:
    """What else differs from the newest row of the baseline."""
    found = environment_changes([Pair(candidate, baseline)])
    return tuple(f"{one.name} {one.before} before, {one.now} now" for one in found)
