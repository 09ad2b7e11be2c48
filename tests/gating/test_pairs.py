"""Two models beside each other: measured in one group, or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.report import samples
from vitprof.devices.profiles import reference_model
from vitprof.errors import ExitCode, UsageError
from vitprof.gates import GateVerdict
from vitprof.gating.pairs import PairRequest, gate_pair, sides_of
from vitprof.gating.stored import GateRun
from vitprof.measurements import Grade
from vitprof.pipeline import Request
from vitprof.places import Places
from vitprof.protocols import Effort, protocol
from vitprof.records import Metric, ModelSpec, Source
from vitprof.report.progress import NoProgress
from vitprof.store.results import open_store
from vitprof.units import Amount

TINY = reference_model("cpu-ref-1")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The reference model once more, as another file."""
    import onnx

    model = onnx.load(TINY)
    model.producer_name = "another"
    onnx.save(model, tmp_path / "other.onnx")
    return tmp_path / "other.onnx"


def paired(place: Places, candidate: Path, baseline: Path, **asked: object) -> GateRun:
    rules = protocol(Effort.QUICK, measure=Amount(calls=30))
    request = Request((str(candidate), str(baseline)), rules, ModelSpec("", Source.TIMM), threads=1)
    return gate_pair(PairRequest(request, 0.5, **asked), place, NoProgress())  # type: ignore[arg-type]


@pytest.fixture
def place(here: Places, tmp_path: Path) -> Places:
    return dataclasses.replace(here, named_store=str(tmp_path / "results.sqlite"))


def test_two_files_are_measured_in_one_group_and_both_are_kept(place: Places, other: Path) -> None:
    found = paired(place, other, TINY)
    [one] = found.gated.cells
    with open_store(place.store) as store:
        rows = store.rows(is_all=True)
        [run] = store.runs()
        assert run.command == "gate pair" and run.gate is None
    assert {row.document["model"] for row in rows} == {str(other), str(TINY)}
    is_sound = all(row.document["relative"]["grade"] != Grade.C for row in rows)
    if is_sound:
        # Rounds of both pair up: half as fast again is nothing that a machine's mood does to one of two equal models.
        assert one.verdict is GateVerdict.FINE and one.judgement.ratio is not None and len(rows) == 2
    # A busy machine: measured once more, and nothing is said on unsound numbers alone.
    assert one.verdict in (GateVerdict.FINE, GateVerdict.UNDECIDED)
    assert (found.gated.candidate, found.gated.baseline) == (str(other), str(TINY))


def test_the_same_file_is_not_measured(place: Places) -> None:
    [one] = paired(place, TINY, TINY).gated.cells
    assert one.verdict is GateVerdict.FINE and "same file" in one.judgement.reason
    assert not Path(place.store).exists()


def test_a_model_that_cannot_be_prepared_fails_and_which_one_is_told(place: Places, tmp_path: Path) -> None:
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"no model")
    for candidate, baseline, told in ((empty, TINY, "failed at"), (TINY, empty, "the baseline: failed at")):
        found = paired(place, candidate, baseline)
        [one] = found.gated.cells
        assert one.verdict is GateVerdict.FAILED and one.judgement.reason.startswith(told)
        # With what the failure itself says to do.
        assert one.remedy
        assert ExitCode.FAILED in found.exit_codes


def test_instructions_are_counted_on_an_emulated_device_only(place: Places, other: Path) -> None:
    with pytest.raises(UsageError, match="nothing counts the instructions"):
        paired(place, other, TINY, metric=Metric.INSTRUCTIONS)


def test_counts_are_compared_backend_by_backend_whatever_was_interrupted() -> None:
    rows = [dataclasses.replace(samples.ok(), device=model, backend=on) for model in "ab" for on in ("ort", "litert")]
    told = [
        [(mine.device + mine.backend, other.device + other.backend) for mine, other in sides]
        for sides in (
            sides_of(rows, 2, is_one=False),
            # A row of the baseline is missing, and all of them.
            sides_of(rows[:3], 2, is_one=False),
            sides_of(rows[:2], 2, is_one=False),
            # A model against itself is counted once, and is fine: not nothing.
            sides_of(rows[:2], 2, is_one=True),
        )
    ]
    both = [("aort", "bort"), ("alitert", "blitert")]
    assert told == [both, both[:1], [], [("aort", "aort"), ("alitert", "alitert")]]
