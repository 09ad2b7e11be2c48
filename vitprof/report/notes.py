"""What a reader must know beside the numbers: broken parity, failures and warnings, each with what to do about it.

Its own file because the terminal and markdown say the same, and because ten models with one cause must read as one
note that names ten models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vitprof.records import Calibration, Parity, Result
from vitprof.report.cell import BROKEN, failure_of, is_broken, labels_of
from vitprof.report.outside import plain
from vitprof.units import text_from_share


@dataclass(frozen=True)
class Note:
    """`facts` are one line where all models share it, else one line a model."""

    title: str
    models: tuple[str, ...]
    facts: tuple[str, ...]
    remedy: str


def broken_notes(results: Sequence[Result]) -> tuple[Note, ...]:
    """One note for all results whose outputs are not the model's; none where parity holds."""
    found = [
        (BROKEN, label, text_from_parity(result.parity), "")
        for label, result in zip(labels_of(results), results, strict=True)
        if result.parity is not None and is_broken(result)
    ]
    return _grouped(found)


def failure_notes(results: Sequence[Result]) -> tuple[Note, ...]:
    """One note a cause; models that failed alike share it."""
    found = [
        (f"failed at {plain(failure.stage)}", label, plain(failure.error), plain(failure.remedy))
        for label, result in zip(labels_of(results), results, strict=True)
        if (failure := failure_of(result)) is not None
    ]
    return _grouped(found)


def warning_notes(results: Sequence[Result]) -> tuple[Note, ...]:
    """One note for each code with the same remedy; the models that it concerns stand in it."""
    found = [
        (plain(warning.code), label, plain(warning.detail), plain(warning.remedy))
        for label, result in zip(labels_of(results), results, strict=True)
        for warning in (result.summary.warnings if result.summary else ())
    ]
    return _grouped(found)


def calibration_failure_notes(calibrations: Sequence[Calibration]) -> tuple[Note, ...]:
    """One note a cause; backends that could not be calibrated for the same reason share it."""
    failed = [(one.backend, one.failure) for one in calibrations if one.failure is not None]
    return _grouped(
        (f"failed at {plain(failure.stage)}", plain(backend), plain(failure.error), plain(failure.remedy))
        for backend, failure in failed
    )


def calibration_warning_notes(calibrations: Sequence[Calibration]) -> tuple[Note, ...]:
    """One note for each code with the same remedy; the backends that it concerns stand in it."""
    return _grouped(
        (plain(warning.code), plain(one.backend), plain(warning.detail), plain(warning.remedy))
        for one in calibrations
        for warning in one.warnings
    )


def text_from_parity(parity: Parity) -> str:
    """The figures that the verdict stands on, and where they were taken."""
    return ", ".join(parity_phrases(parity))


def parity_phrases(parity: Parity) -> list[str]:
    """The same, each figure a phrase of its own."""
    phrases = []
    if parity.max_rel_error is not None:
        phrases.append(f"max relative error {parity.max_rel_error:.2g}")
    if parity.cosine is not None:
        # Six decimals: a cosine of 0.9994 is a drift and must not read as 1.
        phrases.append(f"cosine {parity.cosine:.6f}")
    if parity.top1_agreement is not None:
        phrases.append(f"top-1 agreement {text_from_share(parity.top1_agreement, 0)}")
    if parity.where:
        phrases.append(f"checked on {plain(parity.where)}")
    if parity.reason:
        phrases.append(plain(parity.reason))
    return phrases


def _grouped(found: Iterable[tuple[str, str, str, str]]) -> tuple[Note, ...]:
    """(title, model, fact, remedy) with the same title and remedy as one note, in order of first appearance."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for title, model, fact, remedy in found:
        groups.setdefault((title, remedy), []).append((model, fact))
    return tuple(
        Note(title, tuple(dict.fromkeys(model for model, _ in said)), _facts(said), remedy)
        for (title, remedy), said in groups.items()
    )


def _facts(said: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    facts = tuple(dict.fromkeys(fact for _, fact in said if fact))
    models = {model for model, _ in said}
    if len(facts) <= 1 or len(models) == 1:
        return facts
    return tuple(f"{model}: {fact}" for model, fact in said if fact)
