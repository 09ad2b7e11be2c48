"""Stored rows measured once more: each as it was, from what its row says of it.

    row ─ spec, protocol ─► the same file? ─► group ─► row of a run of its own

Its own file beside `stored`, which asks for it: here is what a row must still lead to (a model by its name, the very
file that was measured, the same protocol) and why one cannot be measured again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitprof import prepare
from vitprof.bench import Ask, Bench, Job, Refused, Terms, opened
from vitprof.devices import profiles
from vitprof.errors import ExitCode, VitprofError
from vitprof.group import Timeouts
from vitprof.keeping import keep_rows
from vitprof.measurements import Protocol, Region
from vitprof.places import Places
from vitprof.placing import format_of
from vitprof.protocols import Effort, protocol, protocol_on
from vitprof.records import ModelSpec, Precision, Result, Source, typed_name
from vitprof.report.progress import Progress
from vitprof.store.runs import StoredRun, new_run
from vitprof.workshop import Workshop

VERIFICATION = "gate verification"
_Row = Mapping[str, Any]
ProtocolOf = Callable[[str], Protocol | None]


@dataclass(frozen=True)
class Again:
    """By the place of a row among those asked for: what it gave this time, or why it was not measured again."""

    run: StoredRun
    rows: Mapping[int, Result]
    reasons: Mapping[int, str]
    exit_codes: frozenset[ExitCode] = frozenset()
    troubles: tuple[VitprofError, ...] = ()


@dataclass(frozen=True)
class Means:
    """What a row does not keep of how it is measured."""

    device_file: Path | None = None
    trust: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)


MeasureAgain = Callable[[Sequence[_Row], ProtocolOf, Means, Places, Progress], Again]


def measured_again(
    rows: Sequence[_Row], protocol_of: ProtocolOf, means: Means, places: Places, progress: Progress
) -> Again:
    """Every row once more, those of one backend and protocol interleaved; kept in the store as a run of their own.

    `protocol_of`: how the rows of a hash were measured, where that is known.
    """
    found = _Remeasuring(means, places, progress)
    # Backend by backend: one that is gone from here must not keep the others from being measured.
    for key in dict.fromkeys(map(_key, rows)):
        wanted = {place: row for place, row in enumerate(rows) if _key(row) == key}
        try:
            found.measure(wanted, _protocol(next(iter(wanted.values())), protocol_of, means))
        except VitprofError as error:
            found.reasons.update((place, error.message) for place in wanted if place not in found.rows)
        if ExitCode.INTERRUPTED in found.codes:
            break
    return Again(found.run, found.rows, found.reasons, frozenset(found.codes), tuple(found.troubles))


def _key(row: _Row) -> tuple[str, str, str]:
    return row["device"], row["backend"], row["protocol_hash"]


class _Remeasuring:
    """One run that grows backend by backend."""

    def __init__(self, means: Means, places: Places, progress: Progress) -> None:
        self.run = new_run(VERIFICATION)
        self.rows: dict[int, Result] = {}
        self.reasons: dict[int, str] = {}
        self.codes: set[ExitCode] = set()
        self.troubles: list[VitprofError] = []
        self._means, self._places, self._progress = means, places, progress

    def measure(self, wanted: Mapping[int, _Row], rules: Protocol) -> None:
        """The rows of one device, backend and protocol."""
        means = self._means
        device, backend, _ = _key(next(iter(wanted.values())))
        terms = Terms(rules, device, means.device_file, trust=means.trust, timeouts=means.timeouts)
        with opened(terms, (backend,), self._places, self._progress) as bench:
            jobs = self._jobs(wanted, bench)
            if jobs:
                with bench.held(self.run) as hold:
                    for rows, codes in hold.each_group(jobs):
                        keep_rows(tuple(rows.values()), self._places, self.run, bench.troubles)
                        self.rows.update(rows)
                        if ExitCode.INTERRUPTED in codes:
                            self.codes.add(ExitCode.INTERRUPTED)
                            break
            self.troubles += bench.troubles

    def _jobs(self, wanted: Mapping[int, _Row], bench: Bench) -> dict[int, Job]:
        """What can be measured of `wanted`; why the rest cannot is kept."""

        asked: dict[int, Ask] = {}

        def asks(workshop: Workshop) -> list[Ask]:
            for place, row in wanted.items():
                try:
                    asked[place] = Ask(_spec(row, workshop, self._places), row["backend"], row["threads"])
                except VitprofError as error:
                    # A name that is gone is that row's own trouble.
                    self.reasons[place] = error.message
            return list(asked.values())

        jobs: dict[int, Job] = {}
        prepared = bench.prepared(asks)
        for place, one in zip(asked, prepared, strict=True):
            reason = _why_another(wanted[place], one)
            if reason:
                self.reasons[place] = reason
            elif isinstance(one, Job):
                jobs[place] = one
        return jobs


def _why_another(row: _Row, one: Job | Refused) -> str:
    """Why what was prepared is not what was measured; "" where it is."""
    if isinstance(one, Refused):
        failure = one.row.failure
        return failure.error if failure else "it cannot be prepared"
    kept = (row["artifact"] or {}).get("sha256")
    if one.artifact.sha256 == kept:
        return ""
    now, then = one.artifact.sha256[:12], str(kept)[:12]
    changed = "it changed, or was measured with options that a row does not keep (--seed, --pretrained, --exporter)"
    return f"the file that {row['model']} gives now ({now}) is not the one that was measured ({then}): {changed}"


def _spec(row: _Row, workshop: Workshop, places: Places) -> ModelSpec:
    """The model of a row. A row does not say whether its size was asked for or is the model's own."""
    like = ModelSpec("", Source.TIMM, batch=row["batch"], precision=Precision(row["precision"]))
    like = dataclasses.replace(like, reparam=not row.get("as_built"))
    sized = dataclasses.replace(like, size=tuple(row["size"]) if row["size"] else None)
    name = typed_name(row["model"], row["source"])
    candidates = [spec for one in (like, sized) for spec in workshop.specs((name,), one)]
    kept = (row["artifact"] or {}).get("sha256")
    return next((spec for spec in candidates if _cached_sha256(spec, row["backend"], places) == kept), candidates[-1])


def _cached_sha256(spec: ModelSpec, backend: str, places: Places) -> str | None:
    try:
        artifact = prepare.cached(spec, format_of(backend, spec.precision), places.cache_root)
    except VitprofError:
        # Said where it is prepared.
        return None
    return artifact.sha256 if artifact else None


def _protocol(row: _Row, protocol_of: ProtocolOf, means: Means) -> Protocol:
    """The protocol of a row; `VitprofError` where it is none of this version's."""
    hash = row["protocol_hash"]
    profile = profiles.device(row["device"], means.device_file)
    efforts = [protocol(effort, region=Region(row["region"] or Region.CALL)) for effort in Effort]
    for one in (protocol_of(hash) if hash else None, *efforts):
        if one is not None and protocol_on(profile, one).hash == hash:
            return one
    raise VitprofError(
        f"protocol {hash} is none that this version can follow", remedy="measure with this version: vitprof latency …"
    )
