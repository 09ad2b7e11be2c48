"""From a results store to a report: which rows, compared with which, and nothing of this machine in it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import reported
from tests.reported import BEFORE, NOW, failed, row
from vitprof.errors import UsageError
from vitprof.gating.again import VERIFICATION
from vitprof.places import Places
from vitprof.report.comparison import group_title
from vitprof.reporting import Question, report_of
from vitprof.reports import ChangeKind, Report
from vitprof.store.results import open_store
from vitprof.store.runs import StoredRun
from vitprof.store.tables import read_accuracies

_Rows = Sequence[dict[str, Any]]


def at(store: Path) -> Places:
    return Places(store.parent, store.parent, named_store=str(store))


def report(folder: Path, now: _Rows, before: _Rows = (), question: Question = Question()) -> Report:  # noqa: B008
    return report_of(question, at(reported.store_of(folder / "a.sqlite", now, before)))


def kinds(found: Report) -> dict[str, str]:
    return {f"{one.cell.model}/{one.cell.backend}": one.kind.value for one in found.changes}


def test_each_cell_is_compared_with_its_last_result_before(tmp_path: Path) -> None:
    found = report(tmp_path, reported.now_rows(), reported.before_rows())
    assert (found.subject, len(found.rows)) == (NOW.id, 14)
    assert kinds(found) == {
        **{"breaks_s/ort": "broke", "mid_m/ort": "slower", "ghostnetv2_100/ort": "slower", "leaves_s/ort": "gone"},
        **{"wide_s/ort": "undecided", "fails_s/ort": "still broken", "heavy_l/ort": "faster", "mends_s/ort": "mended"},
        **{"new_s/ort": "new", "throughput_s/ort": "new", "light_b0/ort": "same", "giant/ort": "same"},
        **{f"{model}/openvino": "same" for model in ("light_b0", "ghostnetv2_100", "mid_m")},
    }
    assert {one.baseline_run for one in found.changes} == {BEFORE.id, None}
    assert [(one.id, one.rows) for one in found.runs] == [(NOW.id, 14)]
    # 12 that are compared, and the one that is gone.
    assert [(one.id, one.rows) for one in found.baseline_runs] == [(BEFORE.id, 13)]
    assert all(row.change is not None and row.change.cell == row.cell for row in found.rows)


def test_the_last_result_of_a_cell_may_be_of_another_run_than_that_of_its_neighbour(tmp_path: Path) -> None:
    store = reported.store_of(tmp_path / "a.sqlite", [row("a", 1, 3.0, started_at=NOW.started_at)], [row("a", 1, 1.0)])
    between = StoredRun("20260110T200000Z-cccccccc", "2026-01-10T20:00:00+00:00", "0.1.0", "latency")
    with open_store(store) as opened:
        opened.add(between, [row("a", 1, 2.0, started_at=between.started_at)])
        opened.add(NOW, [row("b", 1, 2.0, started_at=NOW.started_at)])
        opened.add(BEFORE, [row("b", 1, 2.0)])
    found = report_of(Question(), at(store))
    assert {one.cell.model: one.baseline_run for one in found.changes} == {"a": between.id, "b": BEFORE.id}
    ratio = next(one.ratio for one in found.changes if one.cell.model == "a")
    assert ratio is not None and ratio.value == pytest.approx(1.5)


def test_a_result_by_another_protocol_is_no_baseline(tmp_path: Path) -> None:
    found = report(tmp_path, [row("a", 1, 3.0, protocol_hash="ffff")], [row("a", 1, 1.0)])
    assert kinds(found) == {"a/ort": "new"} and found.baseline_runs == ()


def test_what_fails_before_its_size_is_known_is_the_same_cell(tmp_path: Path) -> None:
    early = failed("breaks", size=None, started_at=NOW.started_at)
    was = [failed("mends", size=None), row("breaks", 1, 1.0), row("breaks", 1, 2.0, batch=8), row("other", 1, 1.0)]
    now = [early, row("mends", 1, 1.0, started_at=NOW.started_at), row("other", 1, 1.0, started_at=NOW.started_at)]
    found = report(tmp_path, [*now, row("breaks", 1, 2.0, batch=8, started_at=NOW.started_at)], was)
    told = {(one.cell.model, one.cell.batch): one.kind.value for one in found.changes}
    assert told == {("breaks", 1): "broke", ("mends", 1): "mended", ("breaks", 8): "same", ("other", 1): "same"}


def test_a_model_as_built_is_another_than_the_fused_one_of_its_name(tmp_path: Path) -> None:
    was = [row("a", 1, 1.0), failed("early", size=None)]
    now = [row("a", 1, 2.0, as_built=True), row("early", 1, 2.0, as_built=True)]
    found = report(tmp_path, [{**one, "started_at": NOW.started_at} for one in now], was)
    assert {one.cell.model: one.kind.value for one in found.changes if one.kind is not ChangeKind.GONE} == {
        "a --no-reparam": "new",
        "early --no-reparam": "new",
    }


def test_a_model_that_alone_is_measured_and_fails_broke(tmp_path: Path) -> None:
    found = report(tmp_path, [failed("a", size=None, started_at=NOW.started_at)], [row("a", 1, 1.0)])
    assert kinds(found) == {"a/ort": "broke"} and [one.id for one in found.baseline_runs] == [BEFORE.id]


def test_a_sound_row_of_unknown_size_is_no_baseline_of_another_size(tmp_path: Path) -> None:
    found = report(tmp_path, [row("a", 1, 1.0, started_at=NOW.started_at)], [row("a", 1, 1.0, size=None)])
    assert kinds(found) == {"a/ort": "new"}


def test_one_model_after_a_run_of_many_does_not_mean_that_the_others_are_gone(tmp_path: Path) -> None:
    before = [row(name, 1, 1.0) for name in "abcd"]
    now = [row(name, 1, 1.0, started_at=NOW.started_at) for name in "abcd"]
    for count, gone in ((1, []), (2, ["c", "d"]), (3, ["d"])):
        folder = tmp_path / str(count)
        folder.mkdir()
        found = report(folder, now[:count], before)
        assert [one.cell.model for one in found.changes_of(ChangeKind.GONE)] == gone


def test_files_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    def files(names: str, **changes: Any) -> list[dict[str, Any]]:
        return [row(f"/home/me/{name}/net.onnx", 1, ord(name), source="onnx", **changes) for name in names]

    found = report(tmp_path, files("ab", started_at=NOW.started_at), files("abcd"))
    assert [one.kind.value for one in found.changes] == ["gone", "gone", "same", "same"]


def test_a_run_without_results_is_not_the_latest(tmp_path: Path) -> None:
    store = reported.store_of(tmp_path / "a.sqlite", [row("a", 1, 1.0)])
    with open_store(store) as opened:
        opened.start(StoredRun("20270101T000000Z-dddddddd", "2027-01-01T00:00:00+00:00", "0.2.0", "sweep"))
    assert report_of(Question(), at(store)).subject == NOW.id


def test_a_run_is_named_by_the_beginning_of_its_id_and_the_newest_is_the_default(tmp_path: Path) -> None:
    store = reported.store_of(tmp_path / "a.sqlite", reported.now_rows(), reported.before_rows())
    assert report_of(Question("20260110"), at(store)).subject == BEFORE.id
    assert report_of(Question(), at(store)).subject == NOW.id
    with pytest.raises(UsageError):
        report_of(Question("20270101"), at(store))


def test_without_a_store_there_is_no_report_and_no_store_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no results store") as caught:
        report_of(Question(), at(tmp_path / "a.sqlite"))
    assert "vitprof latency" in caught.value.remedy and not (tmp_path / "a.sqlite").exists()


def test_all_takes_the_latest_of_every_cell_and_nothing_is_gone(tmp_path: Path) -> None:
    found = report(tmp_path, reported.now_rows(), reported.before_rows(), Question(is_all=True))
    assert (found.subject, len(found.rows), len(found.runs)) == ("", 15, 2)
    assert not found.changes_of(ChangeKind.GONE) and kinds(found)["leaves_s/ort"] == "new"


def test_groups_hold_what_may_be_ranked_together_and_nothing_that_is_void(tmp_path: Path) -> None:
    found = report(tmp_path, [*reported.now_rows(), row("b1", 10, 1.0, threads=4), row("b2", 20, 2.0, threads=4)])
    told = {
        (one.disagreement.backend, one.disagreement.batch, one.threads): sorted(
            point.model for point in one.disagreement.points
        )
        for one in found.groups
    }
    assert told == {
        ("openvino", 1, 1): ["ghostnetv2_100", "light_b0", "mid_m"],
        ("ort", 1, 1): ["ghostnetv2_100", "giant", "heavy_l", "light_b0", "mends_s", "mid_m", "new_s", "wide_s"],
        ("ort", 8, 1): ["throughput_s"],
        ("ort", 1, 4): ["b1", "b2"],
    }


def test_fronts_are_of_accuracies_where_there_are_some_else_of_macs(tmp_path: Path) -> None:
    (tmp_path / "top1.csv").write_text("model,top1\nlight_b0,70\nmid_m,80\nheavy_l,85\ngiant,84\n")
    store = reported.store_of(tmp_path / "a.sqlite", reported.now_rows())
    by_macs = report_of(Question(), at(store)).fronts
    assert [(one.gain, one.where, len(one.points)) for one in by_macs] == [
        ("macs", "local, openvino, fp32, batch 1, 1 thread", 3),
        ("macs", "local, ort, fp32, batch 1, 1 thread", 8),
    ]
    [one] = report_of(Question(accuracies=read_accuracies(tmp_path / "top1.csv")), at(store)).fronts
    assert one.gain == "accuracy"
    assert {point.model for point in one.points if point.is_on_front} == {"light_b0", "heavy_l"}


def test_accuracies_are_known_where_there_is_no_front_of_them(tmp_path: Path) -> None:
    (tmp_path / "top1.csv").write_text("model,top1\na,70\nb,80\nc,90\n")
    unknown = dict.fromkeys(("latency_ns", "relative", "protocol_hash", "region", "grade"))
    rows = [row("a", 1, 1.0, batch=64, **unknown), row("b", 1, 1.0, batch=64, size=None, **unknown)]
    store = reported.store_of(tmp_path / "a.sqlite", rows)
    found = report_of(Question(accuracies=read_accuracies(tmp_path / "top1.csv")), at(store))
    assert found.fronts == () and found.accuracies == {("a", (224, 224)): 70, ("b", (0, 0)): 80}


def test_times_of_a_front_are_free_of_the_machines_moods(tmp_path: Path) -> None:
    # As fast as `b` by its ratio; the clock was down to half when it was measured.
    unlucky = row("c", 300, 5.0)
    unlucky["latency_ns"] = {**unlucky["latency_ns"], "p50": 10_000_000}
    found = report(tmp_path, [row("a", 100, 1.0), row("b", 200, 5.0), unlucky])
    costs = {point.model: point.cost.value for point in found.fronts[0].points}
    assert costs["c"] == costs["b"] == 5e6


def test_no_folder_of_this_machine_is_in_a_report(tmp_path: Path) -> None:
    folder = "/home/somebody/secret"
    warning = {"code": "odd", "detail": f"{folder}/a.log is large", "remedy": f"rm '{folder}/with blank/a.log'"}
    parity = {**row("", 1, 1.0)["parity"], "reason": f"{folder}/ref.bin is missing"}
    rows = [
        row(f"{folder}/net.onnx", 1, 1.0, source="onnx", warnings=[warning], parity=parity),
        failed(f"{folder}/net.py:make", f"FileNotFoundError: {folder}/weights.pt", source="python"),
    ]
    store = tmp_path / "a.sqlite"
    with open_store(store) as opened:
        opened.add(replace(NOW, command=f"import {folder}/rows.json"), rows)
    found = report_of(Question(), at(store))
    assert "secret" not in repr(found) and "somebody" not in repr(found)
    assert [row.cell.model for row in found.rows] == ["…/net.onnx", "…/net.py:make"]
    assert found.runs[0].command == "import …/rows.json"


def test_no_folder_with_a_blank_is_in_a_report(tmp_path: Path) -> None:
    folder = "/home/somebody/my secret nets"
    rows = [row(f"{folder}/net.onnx", 1, 1.0, source="onnx"), failed(f"{folder}/b.onnx", f"{folder}/b.onnx: no")]
    found = report(tmp_path, rows, [row(f"{folder}/net.onnx", 1, 1.0, source="onnx"), row("lost", 1, 1.0)])
    assert "secret" not in repr(found)
    assert {row.cell.model for row in found.rows} == {"…/net.onnx", "…/b.onnx"}
    # Both renderers know a point by the name that its row has.
    assert {point.model for group in found.groups for point in group.disagreement.points} == {"…/net.onnx"}


def test_a_row_of_an_older_version_has_every_field_of_today(tmp_path: Path) -> None:
    old = row("a", 1, 1.0)
    for name in ("launch_share", "instructions_per_inference", "utilisation", "bound"):
        del old[name]
    old["cost"] = {name: value for name, value in old["cost"].items() if name not in ("kinds", "activations")}
    found = report(tmp_path, [old])
    document = found.rows[0].document
    assert document["launch_share"] is None and document["cost"]["kinds"] is None


def test_failures_that_share_a_remedy_are_one_with_all_their_cells(tmp_path: Path) -> None:
    found = report(tmp_path, [failed("a"), failed("b"), failed("c", "another reason"), row("d", 1, 1.0)])
    [one] = found.failures
    assert [cell.model for cell in one.cells] == ["a", "b", "c"]
    # Of which of them each is true.
    assert one.facts == ("a and 1 more: Conv: unsupported", "c: another reason")


def test_what_is_true_of_one_cell_of_a_model_is_told_with_what_tells_it_from_the_others(tmp_path: Path) -> None:
    odd = {"code": "odd", "detail": "load 5", "remedy": ""}
    rows = [
        *(row("a", 1, 1.0, backend=name, warnings=[{**odd, "detail": f"load {name}"}]) for name in ("ort", "torch")),
        *(row("b", 1, 1.0, batch=batch, warnings=[odd]) for batch in (1, 8)),
    ]
    [one] = report(tmp_path, rows).warnings
    assert one.facts == ("a on local, ort, batch 1: load ort", "a on local, torch, batch 1: load torch", "b: load 5")


def test_what_a_sweep_has_yet_to_measure_is_not_gone(tmp_path: Path) -> None:
    before, now = ([row(name, 1, 1.0, started_at=run.started_at) for name in "abcd"] for run in (BEFORE, NOW))
    sweep = replace(NOW, command="sweep", plan_hash="ab", plan="models = []")
    for finished_at, gone in ((None, []), ("2026-01-11T09:00:00+00:00", ["d"])):
        store = reported.store_of(tmp_path / f"{len(gone)}.sqlite", (), before)
        with open_store(store) as opened:
            opened.add(replace(sweep, finished_at=finished_at), now[:3])
        found = report_of(Question(), at(store))
        assert [one.cell.model for one in found.changes_of(ChangeKind.GONE)] == gone
        assert found.is_unfinished is (finished_at is None)


def test_the_latest_run_is_not_what_gate_measured_once_more(tmp_path: Path) -> None:
    store = reported.store_of(tmp_path / "a.sqlite", reported.now_rows(), reported.before_rows())
    again = StoredRun("20260112T080000Z-cccccccc", "2026-01-12T08:00:00+00:00", "0.2.0", VERIFICATION)
    with open_store(store) as opened:
        opened.add(again, [row("mid_m", 1_000, 13.0, started_at=again.started_at)])
    assert report_of(Question(), at(store)).subject == NOW.id
    assert report_of(Question(again.id), at(store)).subject == again.id


def test_no_two_groups_have_one_title(tmp_path: Path) -> None:
    rows = [row(name, 10 * at, 1.0 * at) for at, name in enumerate("abc", 1)]
    others = [{**one, "threads": 4} for one in rows] + [{**one, "protocol_hash": "ff", "threads": 4} for one in rows]
    alone = [row(name, 10, 1.0, backend="openvino", threads=2) for name in "ab"]
    found = report(tmp_path, [*rows, *others, *alone])
    told = [group_title(one.disagreement) for one in found.groups]
    assert told == [
        "local × openvino × fp32, batch 1: 2 models",
        f"local × ort × fp32, batch 1, 1 thread, protocol {reported.PROTOCOL}: 3 models",
        f"local × ort × fp32, batch 1, 4 threads, protocol {reported.PROTOCOL}: 3 models",
        "local × ort × fp32, batch 1, 4 threads, protocol ff: 3 models",
    ]
    assert [one.where for one in found.fronts] == [
        f"local, ort, fp32, batch 1, {rest}"
        for rest in (
            f"1 thread, protocol {reported.PROTOCOL}",
            f"4 threads, protocol {reported.PROTOCOL}",
            "4 threads, protocol ff",
        )
    ]


def test_a_front_says_who_has_no_place_and_what_its_times_are(tmp_path: Path) -> None:
    (tmp_path / "top1.csv").write_text("model,top1\na,70\nb,80\nc,85\n")
    rows = [row(name, 100, 1.0, relative=None) for name in "abcde"]
    store = reported.store_of(tmp_path / "a.sqlite", rows)
    [one] = report_of(Question(accuracies=read_accuracies(tmp_path / "top1.csv")), at(store)).fronts
    assert (len(one.points), one.left_out, one.is_relative) == (3, 2, False)


def test_two_files_of_one_name_do_not_stand_in_the_order_of_the_store(tmp_path: Path) -> None:
    rows = [row(f"/home/me/{name}/net.onnx", 1, ms, source="onnx") for name, ms in (("a", 1.0), ("b", 2.0))]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert report(tmp_path / "one", rows) == report(tmp_path / "two", rows[::-1])


def test_the_order_in_which_rows_were_added_makes_no_difference(tmp_path: Path) -> None:
    reports = []
    for seed in range(3):
        now, before = reported.now_rows(), reported.before_rows()
        drawn = random.Random(seed)
        drawn.shuffle(now)
        drawn.shuffle(before)
        (tmp_path / str(seed)).mkdir()
        reports.append(report(tmp_path / str(seed), now, before))
    assert reports[0] == reports[1] == reports[2]
