"""Two models beside each other: measured in one group, or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import small_device
from tests.report import samples
from vitprof.analysis.changes import cell_of
from vitprof.bench import Hold, Job, Measured
from vitprof.devices.profiles import reference_model
from vitprof.errors import ExitCode, UsageError
from vitprof.gates import GatedCell, GateVerdict, Judgement
from vitprof.gating.pairs import Pair, PairRequest, gate_pair, sides_of, with_remedy
from vitprof.gating.stored import GateRun
from vitprof.measurements import Doubt, Grade
from vitprof.pipeline import Request
from vitprof.places import Places
from vitprof.protocols import Effort, protocol
from vitprof.records import Metric, ModelSpec, Result, Source
from vitprof.report.document import dicts_from_results
from vitprof.report.progress import NoProgress
from vitprof.store.results import open_store
from vitprof.store.runs import new_run
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
    # Twenty times slower: the few rounds of a busy machine may tell less from nothing.
    return gate_pair(PairRequest(request, 20.0, **asked), place, NoProgress())  # type: ignore[arg-type]


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
        # Rounds of both pair up, and a machine's mood does not do that to one of two equal models.
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


def beside(tmp_path: Path, room: int, *, reference: str | None = None) -> tuple[Pair, Hold]:
    """A model of 5 ms against one of 4 ms on a device with that room."""
    rules = protocol(Effort.QUICK)
    rules = rules if reference is None else dataclasses.replace(rules, reference=reference)
    run = new_run("gate pair")
    head, base = (small_device.job(tmp_path, *one) for one in (("head", rules, 5_000_000), ("base", rules, 4_000_000)))
    return Pair(head, base, 0.03, run.id), small_device.held(tmp_path, rules, run, room)


def test_who_runs_out_of_memory_beside_the_other_is_measured_again_alone(tmp_path: Path) -> None:
    pair, hold = beside(tmp_path, room=1)
    kept: list[list[Result]] = []
    assert pair.measure(hold, lambda rows: kept.append(list(rows))) == frozenset()
    # One of the two found room, the other had the device to itself then, and each has it the next time.
    pair.measure(hold, lambda rows: kept.append(list(rows)))
    assert [len(rows) for rows in kept] == [1, 1, 1, 1] and all(row.summary for rows in kept for row in rows)
    found = pair.gated
    assert found.verdict is GateVerdict.SLOWER and found.verified_in is not None
    assert found.judgement.ratio is not None and found.judgement.ratio.value == pytest.approx(1.25, rel=0.01)
    # It is not from the same rounds, and says so.
    assert found.confounders == ("one was measured after the other, for want of memory",)
    together, roomy = beside(tmp_path, room=2)
    together.measure(roomy, lambda rows: kept.append(list(rows)))
    assert len(kept[-1]) == 2 and together.gated.verdict is GateVerdict.SLOWER and not together.gated.confounders


def test_who_has_no_room_alone_has_failed(tmp_path: Path) -> None:
    pair, hold = beside(tmp_path, room=0)
    pair.measure(hold, lambda _: None)
    assert pair.gated.verdict is GateVerdict.FAILED and "out of memory" in pair.gated.judgement.reason


def test_without_a_reference_two_that_do_not_fit_beside_each_other_are_not_compared(tmp_path: Path) -> None:
    pair, hold = beside(tmp_path, room=1, reference="")
    pair.measure(hold, lambda _: None)
    assert pair.gated.verdict is GateVerdict.UNDECIDED
    assert "no memory for both at once, and no reference" in pair.gated.judgement.reason


class Given(Hold):
    """Whatever is measured, these are the rows."""

    def __init__(self, *rows: Result) -> None:
        self._given = rows

    def measured(self, jobs: Sequence[Job]) -> Measured:
        return Measured(self._given, frozenset())


def test_whose_number_is_not_to_be_judged_is_told(tmp_path: Path) -> None:
    pair, _ = beside(tmp_path, room=2)
    busy, slowed = (Doubt(code, "", "") for code in ("queued", "throttled"))
    summary = samples.summary(12.0, warnings=(busy,))
    assert summary.relative is not None
    unsound = dataclasses.replace(summary.relative, grade=Grade.C)
    sound = dataclasses.replace(samples.ok(), samples=samples.samples(), summary=summary)
    cold = dataclasses.replace(sound, summary=samples.summary(12.0, relative=unsound, warnings=(slowed,)))
    pair.measure(Given(sound, cold), lambda _: None)
    assert pair.gated.judgement.reason == "the baseline: grade C (throttled): the numbers are not to be judged"


def test_what_is_to_be_typed_next_can_be_typed() -> None:
    request = Request(("my net.onnx", "base.onnx"), protocol(Effort.QUICK), ModelSpec("", Source.TIMM))
    document = dicts_from_results([samples.ok()])[0]
    slower = GatedCell(cell_of(document), Judgement(GateVerdict.SLOWER, ""))
    assert with_remedy(slower, PairRequest(request, 0.03)).remedy.endswith("layers 'my net.onnx', and of base.onnx")
