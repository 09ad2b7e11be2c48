"""What `results export` writes, another store takes in as the same rows; what somebody changed in it is told."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.report import samples
from vitprof import transfers
from vitprof.comparisons import Point
from vitprof.errors import UsageError, VitprofError
from vitprof.records import ModelSpec, Source
from vitprof.report.document import dicts_from_results
from vitprof.report.reading import document_from_points
from vitprof.store import packing, sweeps
from vitprof.store.pruning import Rule, prune
from vitprof.store.raw_samples import document_from_samples
from vitprof.store.results import Incoming, Store, Wanted, open_store
from vitprof.store.runs import Gate, Origin, StoredRun, new_run
from vitprof.sweeps import SweepCell

ENDED = "2026-05-09T14:00:00+00:00"
SWEPT = StoredRun("swept", "2026-05-09T13:00:00+00:00", "0.1.0", "sweep a.toml", "abc", "models = ['m']\n", ENDED)
EVERY = Wanted()
FORMATS = pytest.mark.parametrize(
    ("ending", "lines_of"), [("jsonl", transfers.json_lines), ("csv", transfers.csv_lines)], ids=["jsonl", "csv"]
)


def _filled(file: Path) -> Store:
    """Rows of several runs: with and without samples, failed ones, imported ones, two that are equal, hostile text."""
    store = open_store(file)
    rows = dicts_from_results([*samples.several(), samples.hostile()])
    raw = document_from_samples(samples.samples(), samples.PROTOCOL)
    store.add(new_run("latency"), rows, samples=[raw, *([None] * (len(rows) - 1))])
    table = document_from_points([Point("levit_128", None, 1024, "amp", "rtx", "torch", 5e5)], "timm.csv")
    published = table.model_dump(mode="json")["results"]
    store.add_missing([[Incoming(new_run('import =cmd,"x"\n'), [*published, *published])]])
    # A second time, after those of another run.
    store.add(SWEPT, [{**rows[0], "grade": "C", "samples_ns": [1, 2]}], samples=[raw])
    store.judge("swept", Gate.ACCEPTED)
    return store


def _everything(store: Store) -> list[tuple[Any, ...]]:
    runs = {run.id: run for run in store.runs()}
    return [(row.run, runs[row.run].command, row.origin, row.document, raw) for row, raw in store.each(Wanted())]


def _export(store: Store, file: Path, lines_of: Callable[..., Any], wanted: Wanted = EVERY, **how: Any) -> Path:
    with file.open("w", encoding="utf-8", newline="") as opened:
        opened.writelines(lines_of(store, wanted, **{"with_samples": True, **how}))
    return file


@FORMATS
def test_what_is_exported_imports_to_the_same_rows(tmp_path: Path, ending: str, lines_of: Callable[..., Any]) -> None:
    with _filled(tmp_path / "a.sqlite") as store, open_store(tmp_path / "b.sqlite") as other:
        file = _export(store, tmp_path / f"a.{ending}", lines_of)
        assert transfers.is_export(file)
        rows = _everything(store)
        assert {row[2] for row in rows} == {Origin.MEASURED, Origin.IMPORTED} and sum(bool(row[4]) for row in rows) == 2
        assert other.add_missing([transfers.incoming(file)]) == (len(rows),)
        assert _everything(other) == rows and other.runs() == store.runs()
        assert other.protocol_of(samples.PROTOCOL.hash) == store.protocol_of(samples.PROTOCOL.hash)
        # Again, from where it came and from the copy: nothing is there twice but what was.
        again = _export(other, tmp_path / f"b.{ending}", lines_of)
        assert store.add_missing([transfers.incoming(again)]) == (0,) == other.add_missing([transfers.incoming(file)])
        assert again.read_bytes() == file.read_bytes()


@FORMATS
def test_an_export_can_be_a_part_and_without_samples(tmp_path: Path, ending: str, lines_of: Callable[..., Any]) -> None:
    with _filled(tmp_path / "a.sqlite") as store, open_store(tmp_path / "b.sqlite") as other:
        wanted = Wanted("lowformer*", backends=("ort",))
        file = _export(store, tmp_path / f"a.{ending}", lines_of, wanted, with_samples=False)
        other.add_missing([transfers.incoming(file)])
        found = _everything(other)
    assert {row[3]["model"] for row in found} == {"lowformer_b1"} and {row[4] for row in found} == {None}


def test_the_csv_begins_with_the_columns_that_people_know(tmp_path: Path) -> None:
    with _filled(tmp_path / "a.sqlite") as store:
        file = _export(store, tmp_path / "a.csv", transfers.csv_lines)
    csv.field_size_limit(10**6)
    head, *rows = list(csv.reader(file.open(newline="")))
    assert head[:4] == ["model", "source", "height", "width"]
    # No spreadsheet takes what came from outside for a formula.
    assert all(not cell.startswith(("=", "+", "@")) for row in rows for cell in row)


@FORMATS
def test_a_run_of_a_sweep_that_did_not_end_is_not_one_that_can_be_resumed(
    tmp_path: Path, ending: str, lines_of: Callable[..., Any]
) -> None:
    run = StoredRun("cut", "2026-05-09T13:00:00+00:00", "0.1.0", "sweep a.toml", "abc", "plan")
    file = tmp_path / f"a.{ending}"
    with open_store(tmp_path / "a.sqlite") as store, open_store(tmp_path / "b.sqlite") as other:
        store.add(run, dicts_from_results([samples.ok()]))
        other.add_missing([transfers.incoming(_export(store, file, lines_of))])
        # A report knows by that that cells without a row are not gone.
        assert other.runs() == (run,) and sweeps.unfinished(other, "abc") is None
        assert prune(other, Rule(EVERY, keep=0), is_dry=True).rows == 1
        # What became of it later comes with a later export.
        store.finish("cut")
        store.judge("cut", Gate.REJECTED)
        assert other.add_missing([transfers.incoming(_export(store, file, lines_of))]) == (0,)
        assert other.runs() == store.runs()


def test_an_import_does_not_end_a_sweep_of_this_store(tmp_path: Path) -> None:
    cells = [SweepCell(0, 0, ModelSpec("m", Source.TIMM, (224, 224)), "ort", "local", 1)]
    run = new_run("sweep a.toml", plan="models = []", plan_hash="abc")
    with open_store(tmp_path / "a.sqlite") as store, open_store(tmp_path / "b.sqlite") as other:
        sweeps.begin(store, run, cells)
        other.add(run, dicts_from_results([samples.ok()]))
        other.finish(run.id)
        file = _export(other, tmp_path / "b.jsonl", transfers.json_lines)
        assert store.add_missing([transfers.incoming(file)]) == (1,)
        assert sweeps.unfinished(store, "abc") == run


def test_a_csv_of_before_runs_were_whole_in_it_is_still_read(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    with _filled(tmp_path / "a.sqlite") as store, open_store(tmp_path / "b.sqlite") as other:
        lines = csv.reader(transfers.csv_lines(store, Wanted(run="swept"), with_samples=True))
        with file.open("w", encoding="utf-8", newline="") as opened:
            csv.writer(opened).writerows(cells[:-1] for cells in lines)
        assert other.add_missing([transfers.incoming(file)]) == (1,)
        [run] = other.runs()
        assert (run.id, run.command, run.gate) == ("swept", "sweep a.toml", None)


def test_a_run_of_any_name_is_kept(tmp_path: Path) -> None:
    run = {"id": "a\0b", "started_at": ENDED, "vitprof_version": "0.1.0", "command": "latency\0"}
    [row] = dicts_from_results([samples.ok()])
    lines = ({"vitprof": "results", "version": 1}, {"run": run}, {"row": row, "of_run": "a\0b", "origin": "measured"})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with open_store(tmp_path / "a.sqlite") as store:
        assert store.add_missing([transfers.incoming(tmp_path / "a.jsonl")]) == (1,)
        assert [one.run for one in store.rows()] == [one.id for one in store.runs()] == ["a\N{REPLACEMENT CHARACTER}b"]


def _changed(number: int, change: Callable[[dict[str, Any]], Any]) -> Callable[[list[str]], list[str]]:
    def changed(lines: list[str]) -> list[str]:
        read = json.loads(lines[number])
        change(read)
        return [*lines[:number], json.dumps(read) + "\n", *lines[number + 1 :]]

    return changed


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lines: [*lines[:3], lines[3][:40]], "line 4"),
        (lambda lines: [lines[0], lines[2]], "line 2: its run .* was not told before"),
        (_changed(1, lambda one: one["run"].update(started_at="yesterday")), "line 2: its run"),
        (_changed(1, lambda one: one["run"].update(id=3)), "line 2: its run"),
        (_changed(1, lambda one: one["run"].update(gate="perhaps")), "line 2: its run"),
        (_changed(1, lambda one: one["run"].pop("command")), "line 2: its run"),
        (_changed(2, lambda one: one["row"].pop("model")), "line 3, field model"),
        (_changed(2, lambda one: one["row"].update(batch=0)), "line 3 .*batch 0"),
        (_changed(2, lambda one: one["row"].update(batch="1")), "line 3, field batch"),
        (_changed(2, lambda one: one["row"]["relative"].update(ratio=0)), "line 3 .*relative.ratio 0 is nothing"),
        (_changed(2, lambda one: one["row"]["relative"].update(ratio=1e-320)), "line 3 .*relative.ratio"),
        (_changed(2, lambda one: one["row"]["relative"].update(ci95=[1, 1e200])), r"line 3 .*relative.ci95 1e\+200"),
        (_changed(2, lambda one: one["row"]["latency_ns"].update(p50=-1)), "line 3 .*latency_ns.p50 -1"),
        (_changed(2, lambda one: one["row"]["cost"].update(macs=-1)), "line 3 .*cost.macs -1"),
        (_changed(2, lambda one: one["row"].update(environment={"before": "x"})), "line 3 .*environment.before"),
        (_changed(2, lambda one: one.update(origin="dreamt")), "line 3: its origin"),
        (_changed(2, lambda one: one["samples"].update(sets=[3])), "line 3: the raw samples"),
        (_changed(2, lambda one: one["samples"].update(protocol={"effort": "standard"})), "line 3: its protocol"),
        (_changed(2, lambda one: one["samples"]["protocol"].update(sets=9)), "line 3: its protocol is not the one"),
        (_changed(2, lambda one: one.update(samples=[1])), "line 3: its raw samples"),
        (_changed(2, lambda one: one.update(of_run=[])), "line 3: its run"),
        (_changed(0, lambda one: one.update(version=2)), "another vitprof: version 2"),
        (lambda lines: [*lines, "[1]\n"], "neither a run nor a row"),
        (lambda lines: [*lines, '{"row": {"p50": NaN}}\n'], "NaN"),
    ],
)
def test_a_damaged_file_is_told_with_its_line_and_nothing_of_it_is_added(
    tmp_path: Path, damage: Callable[[list[str]], list[str]], said: str
) -> None:
    with _filled(tmp_path / "a.sqlite") as store, open_store(tmp_path / "b.sqlite") as other:
        lines = list(transfers.json_lines(store, Wanted(), with_samples=True))
        file = tmp_path / "a.jsonl"
        file.write_text("".join(damage(lines)), encoding="utf-8")
        with pytest.raises(VitprofError, match=said) as caught:
            other.add_missing([transfers.incoming(file)])
        assert caught.value.remedy and not isinstance(caught.value, UsageError)
        assert other.rows() == () and other.runs() == ()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("vitprof_row", "{", "line 2"),
        ("vitprof_samples", "!!", "line 2: its raw samples"),
        ("vitprof_samples", "eJw=", "line 2: its raw samples"),
        ("vitprof_run", "{}", "line 2: its run"),
        ("vitprof_run", "[", "line 2"),
        ("origin", "", "line 2: its origin"),
    ],
)
def test_a_damaged_csv_is_told_with_its_line(tmp_path: Path, column: str, value: str, said: str) -> None:
    with _filled(tmp_path / "a.sqlite") as store, open_store(tmp_path / "b.sqlite") as other:
        file = _export(store, tmp_path / "a.csv", transfers.csv_lines)
        with file.open(newline="") as opened:
            rows = list(csv.DictReader(opened))
        rows[0][column] = value
        with file.open("w", newline="") as opened:
            writer = csv.DictWriter(opened, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        with pytest.raises(VitprofError, match=said):
            other.add_missing([transfers.incoming(file)])
        assert other.rows() == ()


def test_raw_samples_that_would_fill_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _filled(tmp_path / "a.sqlite") as store, open_store(tmp_path / "b.sqlite") as other:
        file = _export(store, tmp_path / "a.csv", transfers.csv_lines)
        monkeypatch.setattr(packing, "LARGEST_VALUE_BYTES", 100)
        with pytest.raises(VitprofError, match="more than 100 bytes"):
            other.add_missing([transfers.incoming(file)])


@FORMATS
def test_a_line_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, lines_of: Callable[..., Any]
) -> None:
    with _filled(tmp_path / "a.sqlite") as store, open_store(tmp_path / "b.sqlite") as other:
        file = _export(store, tmp_path / f"a.{ending}", lines_of)
        monkeypatch.setattr(transfers, "LARGEST_VALUE_BYTES", 1_000)
        with pytest.raises(VitprofError, match=r"line [23].* longer than 1000 characters"):
            other.add_missing([transfers.incoming(file)])
        assert other.rows() == ()


def test_large_rows_are_taken_in_fewer_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_CHARACTERS_AT_A_TIME", 100)
    with _filled(tmp_path / "a.sqlite") as store:
        file = _export(store, tmp_path / "a.jsonl", transfers.json_lines)
        assert [len(part.rows) for part in transfers.incoming(file)] == [1] * len(_everything(store))


@FORMATS
def test_a_run_that_begins_while_rows_are_written_is_written_too(
    tmp_path: Path, ending: str, lines_of: Callable[..., Any]
) -> None:
    with _filled(tmp_path / "a.sqlite") as store, open_store(tmp_path / "b.sqlite") as other:
        lines = lines_of(store, EVERY, with_samples=False)
        begun = [next(lines), next(lines)]
        store.add(new_run("latency"), dicts_from_results([samples.quick()]))
        file = tmp_path / f"a.{ending}"
        file.write_text("".join([*begun, *lines]), encoding="utf-8", newline="")
        assert other.add_missing([transfers.incoming(file)]) == (len(_everything(store)),)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "[" * 100_000, '{"a":' * 20_000, "model,latency\n", '{"schema_version": 1, "results": []}', "\0\xff"],
)
def test_other_files_are_not_taken_for_an_export(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(text.encode("latin-1"))
    assert not transfers.is_export(file) and not transfers.is_export(tmp_path)
