"""A run against earlier runs of its cells: what serves as a baseline, what is said, what the store is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.gated import FACTS, counted, failed, fill, gate_of, row
from tests.report import samples
from vitprof.devices.profiles import reference_model
from vitprof.errors import ExitCode, UsageError
from vitprof.gates import GatedCell, GateVerdict
from vitprof.gating.again import Again
from vitprof.gating.stored import GateRequest, GateRun, gate_stored
from vitprof.measurements import Grade, Interval, Relative
from vitprof.pipeline import Request, measure
from vitprof.places import Places, places
from vitprof.protocols import Effort, protocol
from vitprof.records import ModelSpec, Source
from vitprof.report.document import dicts_from_results
from vitprof.report.progress import NoProgress
from vitprof.store.raw_samples import document_from_samples
from vitprof.store.results import open_store
from vitprof.store.runs import Origin, StoredRun, new_run
from vitprof.units import Amount


@pytest.fixture
def store(tmp_path: Path) -> Places:
    return places(str(tmp_path / "results.sqlite"))


def gated(store: Places, baseline: str = "last:5", candidate: str | None = None, **asked: object) -> GateRun:
    wish: dict[str, object] = {"is_verifying": False, **asked}
    return gate_stored(GateRequest(baseline, 0.03, candidate, **wish), store, NoProgress())  # type: ignore[arg-type]


def cell(found: GateRun) -> GatedCell:
    [one] = found.gated.cells
    return one


def test_a_slower_run_is_rejected_and_no_baseline_any_more(store: Places) -> None:
    fill(store.store, {"a": [row(3.0)], "b": [row(3.01)], "slow": [row(3.2)]})
    found = gated(store)
    assert cell(found).verdict is GateVerdict.SLOWER and found.exit_codes == {ExitCode.REGRESSION}
    assert found.gated.candidate == "slow" and cell(found).baseline_runs == ("b", "a")
    assert gate_of(store.store, "slow") == "rejected" == found.gated.judged
    # As slow as the rejected one: it is compared with what came before that.
    fill(store.store, {"still": [row(3.2)]})
    found = gated(store)
    assert cell(found).verdict is GateVerdict.SLOWER and cell(found).baseline_runs == ("b", "a")


def test_a_slower_run_that_is_accepted_is_the_baseline_of_the_next(store: Places) -> None:
    fill(store.store, {"a": [row(3.0)], "slow": [row(3.2)]})
    found = gated(store, "last:1", is_accepting=True)
    assert cell(found).verdict is GateVerdict.ACCEPTED and found.exit_codes == {ExitCode.OK}
    assert gate_of(store.store, "slow") == "accepted"
    fill(store.store, {"next": [row(3.21)]})
    found = gated(store, "last:1")
    assert cell(found).verdict is GateVerdict.FINE and cell(found).baseline_runs == ("slow",)


def test_what_both_measurements_rejected_can_be_accepted(store: Places) -> None:
    fill(store.store, {"a": [row()], "b": [row()], "slow": [row(3.0955)]}, origin=Origin.MEASURED)

    def once_more(*asked: object) -> Again:
        ratio = Interval(3.099, 3.093, 3.105)
        summary = samples.summary(12.0, relative=Relative("cpu-ref-1", ratio, 0.04, 4e6, Grade.A))
        measured = dataclasses.replace(samples.ok(), summary=summary, environment={"before": FACTS})
        return Again(new_run("gate verification"), {0: measured}, {})

    found = gate_stored(GateRequest("last:5", 0.03), store, NoProgress(), once_more)
    assert cell(found).verdict is GateVerdict.SLOWER and gate_of(store.store, "slow") == "rejected"
    # By its first measurement alone it is undecided.
    assert cell(gated(store)).verdict is GateVerdict.UNDECIDED and gate_of(store.store, "slow") == "rejected"
    found = gated(store, is_accepting=True)
    assert cell(found).verdict is GateVerdict.ACCEPTED and found.exit_codes == {ExitCode.OK}
    assert gate_of(store.store, "slow") == "accepted"
    # Of a run that was not rejected nothing but what is slower is accepted.
    fill(store.store, {"unclear": [row(3.19, grade="C")]})
    assert cell(gated(store, is_accepting=True)).verdict is GateVerdict.UNDECIDED


def test_a_cell_that_began_in_a_rejected_run_is_not_new_until_that_is_settled(store: Places) -> None:
    fill(store.store, {"a": [row(3.0)], "first": [row(3.3), row(model="b")]})
    assert {one.cell.model: one.verdict for one in gated(store).gated.cells}["b"] is GateVerdict.NEW
    assert gate_of(store.store, "first") == "rejected"
    for night, ratio, verdict in (("second", 3.2, GateVerdict.SLOWER), ("third", 3.21, GateVerdict.SLOWER)):
        fill(store.store, {night: [row(3.3), row(ratio, "b")]})
        found = {one.cell.model: one for one in gated(store).gated.cells}
        # What was rejected for its own sake does not serve: the first row does, which nothing was there to reject.
        assert found["b"].verdict is verdict and found["b"].baseline_runs == ("first",)
        assert found["lowformer_b1"].baseline_runs == ("a",)
    fill(store.store, {"settled": [row(3.0), row(model="b")], "next": [row(3.0), row(model="b")]})
    gated(store, candidate="settled")
    assert {one.baseline_runs[0] for one in gated(store).gated.cells} == {"settled"}


def test_a_ratio_without_a_time_is_judged_as_well(store: Places) -> None:
    # What another program wrote may have no milliseconds.
    fill(store.store, {"a": [row(latency_ns=None)], "b": [row()], "now": [row(3.2, latency_ns=None)]})
    told = cell(gated(store))
    assert told.verdict is GateVerdict.SLOWER and told.baseline_runs == ("b", "a")


def test_a_cell_that_is_new_or_failed_or_broken_is_said_so(store: Places) -> None:
    parity = {**row()["parity"], "verdict": "broken"}
    fill(store.store, {"a": [row(), row(model="b"), row(model="c")]})
    fill(store.store, {"now": [row(), failed("b"), row(model="c", parity=parity), row(model="d")]})
    found = gated(store)
    verdicts = {one.cell.model: one.verdict for one in found.gated.cells}
    assert verdicts == {
        "lowformer_b1": GateVerdict.FINE,
        "b": GateVerdict.FAILED,
        "c": GateVerdict.BROKEN,
        "d": GateVerdict.NEW,
    }
    assert found.exit_codes == {ExitCode.OK, ExitCode.FAILED, ExitCode.PARITY_BROKEN}


def test_a_baseline_that_is_another_quantity_is_refused_with_the_field_that_differs(store: Places) -> None:
    other = {**row()["relative"], "reference": "cpu-ref-2"}
    cases = {
        "another protocol: ffff": row(protocol_hash="ffff"),
        "another reference: cpu-ref-2": row(relative=other),
        "another machine: cpu Xeon": row(environment={"before": {**FACTS, "cpu": "Xeon"}}),
        "relative.grade is C": row(grade="C"),
        "failed at export": failed(),
        "relative.ratio of the only run to compare with is known to ±": row(
            relative={**row()["relative"], "ci95": [2.9, 3.1]}
        ),
    }
    fill(store.store, {f"base-{place}": [one] for place, one in enumerate(cases.values())})
    # The failed one has no artifact to know its size by.
    fill(store.store, {"now": [row(), row(size=None, artifact=None)]})
    for place, reason in enumerate(cases):
        found = gated(store, f"base-{place}", "now")
        told = [one for one in found.gated.cells if one.verdict is not GateVerdict.NEW]
        assert [one.verdict for one in told] == [GateVerdict.REFUSED], reason
        assert told[0].judgement.reason.startswith(reason)
        assert ExitCode.USAGE in found.exit_codes and found.gated.judged is None


def test_rows_that_cannot_serve_are_left_out_of_the_last_ones(store: Places) -> None:
    fill(store.store, {"a": [row()], "b": [row(grade="C")], "c": [row(protocol_hash="ffff")], "d": [row()]})
    fill(store.store, {"gates-own": [row(9.0)]}, command="gate verification")
    fill(store.store, {"now": [row()]})
    assert cell(gated(store, candidate="now")).baseline_runs == ("d", "a")
    assert cell(gated(store, "last:1", "now")).baseline_runs == ("d",)
    # What the gate measured to be sure is no candidate either.
    fill(store.store, {"later": [row(9.0)]}, command="gate verification")
    assert gated(store).gated.candidate == "now"


def test_of_a_run_that_measured_a_cell_twice_one_row_counts(store: Places) -> None:
    fill(store.store, {"a": [row(2.98)], "twice": [row(2.97), row(3.0)], "now": [row()]})
    assert cell(gated(store)).baseline_runs == ("twice", "a")


def test_models_that_gate_measured_beside_each_other_are_no_state_of_anything(store: Places) -> None:
    fill(store.store, {"a": [row()], "now": [row()]})
    fill(store.store, {"request": [row(9.0)]}, command="gate pair")
    # Neither the newest run, nor one of the last.
    assert gated(store).gated.candidate == gated(store, candidate="latest").gated.candidate == "now"
    # Nor the latest that a candidate is compared with.
    assert cell(gated(store, "latest", "a")).baseline_runs == ("now",)
    fill(store.store, {"next": [row()]})
    assert cell(gated(store)).baseline_runs == ("now", "a")


def test_a_value_that_no_time_has_is_refused(store: Places) -> None:
    for place, value in enumerate((0.0, -1.0)):
        odd = row(relative={**row()["relative"], "ratio": value})
        fill(store.store, {f"odd-{place}": [odd], f"even-{place}": [row()]})
        for baseline, candidate in ((f"odd-{place}", f"even-{place}"), (f"even-{place}", f"odd-{place}")):
            told = cell(gated(store, baseline, candidate))
            assert told.verdict is GateVerdict.REFUSED and f"a value of {value}" in told.judgement.reason


def test_a_baseline_is_found_behind_many_rows_of_other_batches(store: Places) -> None:
    fill(store.store, {"a": [row()], "many": [row(batch=batch) for batch in range(2, 600)], "now": [row()]})
    assert cell(gated(store)).baseline_runs == ("a",)


def test_only_what_came_before_the_candidate_is_its_baseline(store: Places) -> None:
    fill(store.store, {"a": [row(3.0)], "now": [row(3.0)], "later": [row(2.0)]})
    assert cell(gated(store, candidate="now")).baseline_runs == ("a",)


def test_cells_of_other_sizes_batches_and_threads_are_not_compared(store: Places) -> None:
    others = [row(2.0, batch=8), row(2.0, size=[96, 96]), row(2.0, threads=4), row(2.0, precision="fp16")]
    others += [row(2.0, as_built=True)]
    fill(store.store, {"a": others, "now": [row(3.0)]})
    found = gated(store)
    assert cell(found).verdict is GateVerdict.NEW
    # Of a run that is named, it is told what is not there any more.
    assert len(gated(store, "a").gated.gone) == 5


def test_what_else_differs_is_told_beside_the_verdict(store: Places) -> None:
    fill(store.store, {"a": [row(backend_version="1.30.0")], "now": [row(3.2)]})
    told = cell(gated(store))
    assert told.verdict is GateVerdict.SLOWER and told.confounders == ("backend version 1.30.0 before, 1.31.1 now",)
    # What ran the reference is in every ratio, whichever runtime the cell is of.
    before, now = ({"environment": {"before": {**FACTS, "reference_runtime": name}}} for name in ("1.30", "1.31"))
    fill(store.store, {"b": [row(model="b", **before)], "then": [row(3.2, "b", **now)]})
    assert cell(gated(store)).confounders == ("reference_runtime 1.30 before, 1.31 now",)


def test_a_candidate_of_grade_c_is_not_judged(store: Places) -> None:
    warnings = [{"code": "disturbed", "detail": "", "remedy": ""}]
    fill(store.store, {"a": [row()], "now": [row(3.2, grade="C", warnings=warnings)]})
    told = cell(gated(store))
    assert told.verdict is GateVerdict.UNDECIDED and "grade is C (disturbed)" in told.judgement.reason
    assert gate_of(store.store, "now") is None


def test_counts_of_instructions_are_compared_exactly(store: Places) -> None:
    fill(store.store, {"a": [counted(100_000_000)], "now": [counted(103_100_000)]})
    told = cell(gated(store, is_verifying=True))
    assert told.verdict is GateVerdict.SLOWER and told.verified_in is None
    other = {**counted(1)["instructions_per_inference"], "value": 103_100_000, "counted_by": "qemu 10"}
    fill(store.store, {"other": [counted(1, instructions_per_inference=other)]})
    told = cell(gated(store, "a", "other"))
    assert told.verdict is GateVerdict.REFUSED and "another counter" in told.judgement.reason


def test_an_imported_row_is_not_measured_once_more(store: Places) -> None:
    # Its name may be that of a file on this machine, which measuring would run.
    fill(store.store, {"a": [row()], "now": [row(3.2)]})
    told = cell(gated(store, is_verifying=True))
    assert told.verdict is GateVerdict.SLOWER and "imported" in told.not_verified


def test_what_failed_before_its_size_was_known_is_neither_new_nor_gone(store: Places) -> None:
    fill(store.store, {"base": [row(), row(model="b")], "now": [row(), failed("b")]})
    found = gated(store, "base", "now")
    assert [one.verdict for one in found.gated.cells] == [GateVerdict.FAILED, GateVerdict.FINE]
    assert not found.gated.gone
    # And the other way round: there is a baseline, and it failed.
    found = gated(store, "now", "base")
    refused, fine = found.gated.cells
    assert refused.verdict is GateVerdict.REFUSED and refused.judgement.reason.startswith("failed at export")
    assert fine.verdict is GateVerdict.FINE and not found.gated.gone


def test_a_sweep_that_has_just_begun_is_no_candidate(store: Places) -> None:
    fill(store.store, {"a": [row()], "now": [row()]})
    with open_store(store.store) as opened:
        opened.start(StoredRun("begun", "2026-06-01T12:00:00+00:00", "0.1.0", "sweep"))
    assert gated(store).gated.candidate == "now"


def test_what_is_to_be_typed_next_can_be_typed(store: Places) -> None:
    fill(store.store, {"a": [row(as_built=True), row(model="my net.onnx"), counted(100_000, "c")]})
    fill(store.store, {"now": [row(3.2, as_built=True), row(3.09, "my net.onnx"), counted(103_000, "c")]})
    found = {one.cell.model: one for one in gated(store).gated.cells}
    assert "(vitprof history lowformer_b1)" in found["lowformer_b1 --no-reparam"].remedy
    # For longer is another protocol, which the stored runs are not of.
    assert "gate 'my net.onnx' --against OTHER --effort strict" in found["my net.onnx"].remedy
    # Counts do not get any surer.
    assert found["c"].verdict is GateVerdict.UNDECIDED and found["c"].remedy.endswith("--max-slowdown")
    assert "--effort" not in found["c"].remedy


def test_a_run_that_was_interrupted_says_so(store: Places) -> None:
    cut = {**row()["latency_ns"], "stop_reason": "interrupted"}
    fill(store.store, {"a": [row()], "now": [row(grade="C", latency_ns=cut)]})
    assert "grade is C (it was interrupted)" in cell(gated(store)).judgement.reason


@pytest.mark.parametrize("asked", ["last:0", "last:", "last:x", "nowhere"])
def test_a_baseline_that_is_none_is_told(store: Places, asked: str) -> None:
    fill(store.store, {"a": [row()]})
    with pytest.raises(UsageError):
        gated(store, asked)


def test_a_run_is_not_its_own_baseline(store: Places) -> None:
    fill(store.store, {"a": [row()]})
    with pytest.raises(UsageError, match="its own baseline"):
        gated(store, "a")


def test_what_is_slower_is_measured_once_more_as_it_was(store: Places, here: Places) -> None:
    place = dataclasses.replace(here, named_store=store.store)
    tiny = str(reference_model("cpu-ref-1"))
    rules = protocol(Effort.QUICK, measure=Amount(calls=30))
    run = measure(Request((tiny,), rules, ModelSpec("", Source.TIMM), threads=1), place)
    [measured] = run.results
    assert measured.samples is not None
    [document] = dicts_from_results([measured])
    sound = {**document, "relative": {**document["relative"], "grade": "A", "ci95": [0.99, 1.01], "ratio": 1.0}}
    half = {**sound, "relative": {**sound["relative"], "ratio": 0.5, "ci95": [0.498, 0.502]}}
    kept = document_from_samples(measured.samples, measured.protocol)
    # Twice as slow as in May, however the machine is today.
    fill(store.store, {"a": [half], "b": [half]}, origin=Origin.MEASURED)
    fill(store.store, {"now": [sound]}, origin=Origin.MEASURED, samples=kept)
    told = cell(gate_stored(GateRequest("b", 0.03, "now"), place, NoProgress()))
    assert told.verdict is GateVerdict.SLOWER and told.verified_in is not None, told
    # A file that is no longer the one that was measured is not taken for it.
    changed = {**sound, "artifact": {**sound["artifact"], "sha256": "0" * 64}}
    fill(store.store, {"changed": [changed]}, origin=Origin.MEASURED)
    told = cell(gate_stored(GateRequest("b", 0.03, "changed"), place, NoProgress()))
    assert told.verified_in is None and "not the one that was measured" in told.not_verified
    # Nor is a protocol that this version cannot follow.
    odd = [{**one, "protocol_hash": "ffff"} for one in (half, sound)]
    fill(store.store, {"c": odd[:1], "d": odd[1:]}, origin=Origin.MEASURED)
    told = cell(gate_stored(GateRequest("c", 0.03, "d"), place, NoProgress()))
    assert told.verified_in is None and "protocol ffff" in told.not_verified
    # What another machine measured, into a store that both use, is not made sure of here.
    there = {"before": {**sound["environment"]["before"], "cpu": "another"}}
    fill(store.store, {"e": [{**half, "environment": there}]}, origin=Origin.MEASURED)
    fill(store.store, {"f": [{**sound, "environment": there}]}, origin=Origin.MEASURED)
    told = cell(gate_stored(GateRequest("e", 0.03, "f"), place, NoProgress()))
    assert told.verified_in is None and "another machine: cpu another before" in told.not_verified
    assert told.judgement.ratio is not None and told.judgement.ratio.value == pytest.approx(2.0)
