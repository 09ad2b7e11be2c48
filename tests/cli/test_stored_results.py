"""`vitprof results show`, `diff`, `export` and `prune` as a user types them."""

from __future__ import annotations

import csv
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from tests.report import samples
from vitprof.cli import main
from vitprof.records import ModelSpec, Source
from vitprof.report.document import dicts_from_results
from vitprof.store import sweeps
from vitprof.store.raw_samples import document_from_samples
from vitprof.store.results import open_store
from vitprof.store.runs import StoredRun, new_run
from vitprof.sweeps import SweepCell


class Said(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Vitprof(Protocol):
    def __call__(self, data: Path, *words: str) -> Said: ...


@pytest.fixture
def vitprof(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Vitprof:
    """The command line in this process: none of these commands measures anything."""

    def run(data: Path, *words: str) -> Said:
        monkeypatch.setenv("VITPROF_DATA_DIR", str(data))
        with pytest.raises(SystemExit) as end:
            main(list(words))
        return Said(int(end.value.code or 0), *capsys.readouterr())

    return run


def rows_of(vitprof: Vitprof, data: Path, *words: str) -> list[dict[str, Any]]:
    done = vitprof(data, "results", "list", "--json", "-", *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    return rows


def _row(model: str, ratio: float, **changes: Any) -> dict[str, Any]:
    [row] = dicts_from_results([samples.ok()])
    relative = {**row["relative"], "ratio": ratio, "ci95": [ratio * 0.995, ratio * 1.005]}
    return {**row, "model": model, "relative": relative, **changes}


def _failed(model: str) -> dict[str, Any]:
    failure = {"stage": "run", "error": "it \x1b[31mbroke", "remedy": "mend it"}
    nothing = dict.fromkeys(("latency_ns", "relative", "throughput_images_per_s", "grade", "cold_ns", "memory"))
    return {**_row(model, 1.0), **nothing, "outcome": "failed", "failure": failure}


@pytest.fixture
def two_runs(tmp_path: Path) -> Path:
    """`first` and `second`, a month apart: of five cells one is slower, one faster, one the same, one broke."""
    raw = document_from_samples(samples.samples(), samples.PROTOCOL)
    first = [_row("slow", 2.0), _row("quick", 2.0), _row("like", 2.0), _row("broke", 2.0), _row("else", 2.0)]
    second = [
        *(_row("slow", 2.4), _row("quick", 1.5), _row("like", 2.001), _failed("broke")),
        _row("else", 2.0, protocol_hash="another"),
    ]
    with open_store(tmp_path / "results.sqlite") as store:
        for month, name, rows in ((4, "first", first), (5, "second", second)):
            at = f"2026-0{month}-01T12:00:00+00:00"
            run = StoredRun(f"{name}-{'ab' * 4}", at, "0.1.0", "latency")
            store.add(run, [{**row, "started_at": at} for row in rows], samples=[raw, *[None] * 4])
    return tmp_path


def test_diff_tells_what_became_of_every_cell_and_fails_where_something_is_worse(
    vitprof: Vitprof, two_runs: Path
) -> None:
    done = vitprof(two_runs, "results", "diff", "first", "latest")
    head, *lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (1, "")
    assert head.startswith("second-abababab against first-abababab: 1 broke, 1 slower, ")
    assert "1 faster" in head and "1 same" in head
    words = {line.split()[1]: line for line in lines if line.split()[0].endswith(":")}
    assert words["slow"].startswith("slower: slow 224x224, batch 1, fp32 on local, ort: 1.2 ×")
    assert words["quick"].startswith("faster: ") and "like" not in words
    assert words["broke"].startswith("broke: ") and "it broke" in words["broke"] and "\x1b" not in done.stdout
    # The other way round nothing is worse.
    told = vitprof(two_runs, "results", "diff", "second", "first", "--json", "-")
    read = json.loads(told.stdout)
    assert told.returncode == 1
    assert {one["model"]: one["kind"] for one in read["changes"]}["quick"] == "slower"


def test_diff_of_two_rows_and_of_one_run_with_itself(vitprof: Vitprof, two_runs: Path) -> None:
    with open_store(two_runs / "results.sqlite") as store:
        slow = sorted(one.id for one in store.rows("slow", is_all=True))
    done = vitprof(two_runs, "results", "diff", *map(str, slow), "--json", "-")
    [change] = json.loads(done.stdout)["changes"]
    assert done.returncode == 1 and change["kind"] == "slower" and change["ratio"] == pytest.approx(1.2)
    assert change["ci95"][0] < 1.2 < change["ci95"][1]
    same = vitprof(two_runs, "results", "diff", "first", "first")
    assert same.returncode == 0 and same.stdout.endswith("against first-abababab: 5 same\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "99"), "has no row 99"),
        (("show", "third"), "no run 'third'"),
        (("show", ""), "several runs begin with ''"),
        (("diff", "first", "third"), "no run 'third'"),
        (("list", "--run", "frist"), "nearest to that: first-abababab, second-abababab"),
        (("prune", "--run", "frist", "--keep", "0"), "nearest to that: first-abababab"),
        (("export", "--run", "frist", "--csv", "-"), "nearest to that: first-abababab"),
        (("export", "quik", "--csv", "-"), "no model 'quik' (nearest: quick, "),
        (("export", "slow", "--device", "loacl", "--jsonl", "-"), "no device 'loacl' (nearest: local)"),
        # What a variable of the shell that is not set leaves.
        (("prune", "--device", "", "--keep", "0"), "--device '' names nothing"),
        (("prune", "--backend", ", ", "--keep", "0"), "--backend ', ' names nothing"),
        (("prune", "--run", "", "--keep", "0"), "--run '' names nothing"),
        (("prune",), "needs a rule"),
        (("prune", "--keep", "-1"), "--keep -1 is below 0"),
        (("prune", "--older-than", "soon"), "--older-than 'soon' is no age"),
        (("prune", "--older-than", "99999999999y"), "is no age"),
        (("export",), "--jsonl FILE or --csv FILE"),
        (("export", "--csv", "no/x.csv"), "does not exist"),
        (("list", "--limit", "0"), "--limit 0 is below 1"),
        (("list", "--store", ""), "that is no name"),
        (("list", "--store", "x" * 300), "too long"),
        (("list", "--store", "sqlite:///nosuch.sqlite"), "there is no results store nosuch.sqlite"),
        (("import", "x" * 300), "too long"),
        (("import", "/dev/null/x"), "Not a directory"),
    ],
)
def test_what_cannot_be_meant_is_told(vitprof: Vitprof, two_runs: Path, words: tuple[str, ...], said: str) -> None:
    done = vitprof(two_runs, "results", *words)
    assert done.returncode == 2 and said in done.stderr and "→" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("words", ["show 1", "diff 1 2", "export --csv -", "prune --keep 1"])
def test_a_store_that_is_not_there_is_not_made(vitprof: Vitprof, tmp_path: Path, words: str) -> None:
    done = vitprof(tmp_path / "data", "results", *words.split())
    assert done.returncode == 2 and "there is no results store" in done.stderr
    assert not (tmp_path / "data").exists()


def test_show_has_everything_of_a_row(vitprof: Vitprof, two_runs: Path) -> None:
    [slow] = [row for row in rows_of(vitprof, two_runs) if row["model"] == "slow"]
    with open_store(two_runs / "results.sqlite") as store:
        [stored] = store.rows("slow")
    text = vitprof(two_runs, "results", "show", str(stored.id)).stdout
    assert text.startswith("run second-abababab: latency, vitprof 0.1.0\n")
    for said in (
        f"row {stored.id}: slow on local, ort (measured)",
        "relative.ratio: 2.4",
        "protocol\n",
        "effort: standard",
    ):
        assert said in text
    assert "set 1: 1 rounds after 1 of warm-up, 2 calls" in text
    read = json.loads(vitprof(two_runs, "results", "show", str(stored.id), "--json", "-").stdout)
    [shown] = read["rows"]
    assert shown["result"] == slow and shown["protocol"]["sets"] == 2
    # Two sets of 11 and 12, and of 111 and 112 ns, beside a reference of 5.
    assert [(one["p50"], one["min"], one["reference_p50"]) for one in shown["samples_ns"]["sets"]] == [
        (12, 11, 5),
        (112, 111, 5),
    ]
    run = json.loads(vitprof(two_runs, "results", "show", "first", "--json", "-").stdout)
    assert [one["id"] for one in run["runs"]] == ["first-abababab"] and len(run["rows"]) == 5


def test_list_takes_a_run_by_its_beginning_and_a_limit(vitprof: Vitprof, two_runs: Path) -> None:
    assert len(rows_of(vitprof, two_runs, "--run", "fir")) == len(rows_of(vitprof, two_runs, "--run", "latest")) == 5
    assert [row["model"] for row in rows_of(vitprof, two_runs, "--all", "--limit", "1")] == ["else"]


def test_of_rows_that_are_not_there_it_is_told_which_name_the_store_lacks(vitprof: Vitprof, two_runs: Path) -> None:
    done = vitprof(two_runs, "results", "list", "slwo*", "--backend", "ort,trt", "--json", "-")
    assert done.returncode == 0 and json.loads(done.stdout)["results"] == []
    assert "has no model 'slwo*' (nearest: slow, " in done.stderr and "no backend 'trt' (nearest: ort)" in done.stderr
    pruned = vitprof(two_runs, "results", "prune", "--device", "loacl", "--keep", "0")
    assert pruned.returncode == 0 and pruned.stdout.startswith("nothing to remove: ")
    assert pruned.stdout.endswith("has no device 'loacl' (nearest: local)\n")
    assert len(rows_of(vitprof, two_runs, "--all")) == 10


def test_an_export_of_nothing_leaves_the_file_of_before(vitprof: Vitprof, two_runs: Path) -> None:
    file = two_runs / "out.jsonl"
    file.write_text("of before")
    assert vitprof(two_runs, "results", "export", "slwo", "--jsonl", str(file)).returncode == 2
    assert file.read_text() == "of before"


def test_names_of_a_store_are_no_commands_to_the_terminal(vitprof: Vitprof, two_runs: Path) -> None:
    hostile = "evil\x1b]0;title\x07\x1b[31m\x9b2J\u202e"
    with open_store(two_runs / "results.sqlite") as store:
        for end in "12":
            store.add(StoredRun(f"{hostile}{end}", "2026-04-01T12:00:00", "0.1.0", hostile), [_row(hostile, 1.0)])
    for words in ("show evil", "show evli", "list evli", "prune evli --keep 0", "list --run evil"):
        done = vitprof(two_runs, "results", *words.split())
        assert "evil" in done.stdout + done.stderr
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(done.stdout + done.stderr), words


def test_a_terminal_gets_the_newest_and_a_pipe_all(two_runs: Path) -> None:
    with open_store(two_runs / "results.sqlite") as store:
        run = StoredRun("many", "2026-06-01T12:00:00+00:00", "0.1.0", "latency")
        store.add(run, [_row(f"m{number}", 1.0, started_at=None) for number in range(120)])
    words = [sys.executable, "-m", "vitprof", "results", "list"]
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    shown = bytearray()
    environment = {**os.environ, "VITPROF_DATA_DIR": str(two_runs), "COLUMNS": "80"}
    with subprocess.Popen(words, stdout=theirs, stderr=subprocess.PIPE, text=True, env=environment) as asked:
        os.close(theirs)
        while select.select([ours], [], [], 60)[0]:
            try:
                shown += os.read(ours, 10_000)
            except OSError:
                # Linux's word for the end of a terminal.
                break
        said = asked.communicate()[1]
    os.close(ours)
    head, *lines = shown.decode().splitlines()
    assert len(lines) == 100 and all(line.startswith("m") for line in lines)
    # Also on a narrow one: it is what `show` and `diff` take.
    assert head.split()[-1].startswith("id") and re.fullmatch(r"\d+", lines[0].split()[-1])
    assert said == "these are the 100 newest; for more add --limit N, or | less -S for all\n"
    piped = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    assert len(piped.stdout.splitlines()) == 1 + 126 and piped.stderr == ""


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_what_is_exported_is_imported_into_another_store(vitprof: Vitprof, two_runs: Path, form: str) -> None:
    file, other = two_runs / f"out.{form}", two_runs / "other.sqlite"
    done = vitprof(two_runs, "results", "export", f"--{form}", str(file))
    assert done.returncode == 0 and done.stdout == ""
    told = vitprof(two_runs, "results", "import", str(file), "--store", str(other))
    assert (told.returncode, told.stdout) == (0, f"{file}: 10 results imported as 2 runs\n"), told.stderr
    assert rows_of(vitprof, two_runs, "--all", "--store", str(other)) == rows_of(vitprof, two_runs, "--all")
    again = vitprof(two_runs, "results", "import", str(file), str(file))
    assert again.stdout.splitlines() == [f"{file}: 10 of 10 were in the store already"] * 2
    refused = vitprof(two_runs, "results", "import", str(file), "--backend", "ort")
    assert refused.returncode == 2 and "says itself what --backend would say" in refused.stderr
    itself = vitprof(two_runs, "results", "export", f"--{form}", str(two_runs / "results.sqlite"))
    assert itself.returncode == 2 and "is the store itself" in itself.stderr
    assert [path.name for path in two_runs.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("words", ["list --json", "list --csv", "show latest --json", "diff first second --json"])
@pytest.mark.parametrize("named", ["{}", "sqlite:///{}"])
def test_nothing_is_written_over_the_store(vitprof: Vitprof, two_runs: Path, words: str, named: str) -> None:
    file = two_runs / "results.sqlite"
    before = file.read_bytes()
    done = vitprof(two_runs, "results", *words.split(), str(file), "--store", named.format(file))
    assert done.returncode == 2 and "is the store itself" in done.stderr
    assert file.read_bytes() == before


def test_an_export_goes_where_a_link_leads_and_into_a_pipe(vitprof: Vitprof, two_runs: Path) -> None:
    link, pipe, elsewhere = two_runs / "link.jsonl", two_runs / "pipe", two_runs / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "out.jsonl").write_text("of before")
    link.symlink_to(elsewhere / "out.jsonl")
    os.mkfifo(pipe)
    # Open for reading as well: nobody then waits for the other end.
    ends = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        for file in (link, pipe):
            done = vitprof(two_runs, "results", "export", "slow", "--no-samples", "--jsonl", str(file))
            assert done.returncode == 0, done.stderr
        assert os.read(ends, 100_000) == (elsewhere / "out.jsonl").read_bytes()
    finally:
        os.close(ends)
    assert link.is_symlink() and pipe.is_fifo()
    assert {path.name for path in elsewhere.iterdir()} == {"out.jsonl"}


def test_a_row_is_called_as_one_types_its_model_and_told_the_time_of_the_store(
    vitprof: Vitprof, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nine hours ahead, in the form that needs no time zones of the system.
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        file = two_runs / "a.json"
        rows = [
            _row("resnet50", 2.0, source="torchvision", started_at="2026-06-01T12:00:00"),
            _row("mobileone_s0", 2.0, as_built=True, started_at="2026-06-01T12:00:00Z"),
        ]
        file.write_text(json.dumps({"schema_version": 1, "results": rows}))
        assert vitprof(two_runs, "results", "import", str(file)).returncode == 0
        lines = vitprof(two_runs, "results", "list", "--limit", "2").stdout.splitlines()[1:]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert {tuple(line.split("  ")[0].split()) for line in lines} == {
        ("torchvision:resnet50",),
        ("mobileone_s0", "--no-reparam"),
    }
    assert all("2026-06-01 21:00" in line for line in lines)
    shown = vitprof(two_runs, "results", "show", "11").stdout
    assert "row 11: torchvision:resnet50 on local" in shown


def test_export_writes_to_standard_output_and_chooses_rows(vitprof: Vitprof, two_runs: Path) -> None:
    done = vitprof(two_runs, "results", "export", "s*", "--run", "second", "--csv", "-", "--no-samples")
    [row] = csv.DictReader(done.stdout.splitlines())
    assert row["model"] == "slow" and row["run"] == "second-abababab" and row["vitprof_samples"] == ""
    assert json.loads(row["vitprof_row"])["relative"]["ratio"] == 2.4


def test_an_export_that_does_not_fit_leaves_nothing_half_done(
    vitprof: Vitprof, two_runs: Path, disk: Callable[[str], Path]
) -> None:
    folder = disk("4k")
    done = vitprof(two_runs, "results", "export", "--jsonl", str(folder / "out.jsonl"))
    assert done.returncode == 3 and "cannot write" in done.stderr and "free space" in done.stderr
    assert list(folder.iterdir()) == []


def test_prune_tells_which_rows_stay_for_a_sweep_that_goes_on(vitprof: Vitprof, two_runs: Path) -> None:
    with open_store(two_runs / "results.sqlite") as store:
        run = new_run("sweep a.toml", plan="models = []", plan_hash="abc")
        sweeps.begin(store, run, [SweepCell(0, 0, ModelSpec("m", Source.TIMM), "ort", "local", None)])
        store.add(run, [_row("m", 1.0)])
    done = vitprof(two_runs, "results", "prune", "m", "--keep", "0")
    assert done.stdout == (
        "nothing to remove\n"
        "1 result stays for a sweep that is not finished: end it first with vitprof sweep PLAN.toml --resume\n"
    )


def test_prune_says_what_goes_before_it_goes(vitprof: Vitprof, two_runs: Path) -> None:
    dry = vitprof(two_runs, "results", "prune", "--keep", "1", "--dry-run")
    # The cell of another protocol is one of its own.
    assert dry.stdout == (
        "would remove 4 results of 4 cells, 1 of them with raw samples, measured 2026-04-01; 6 results would stay\n"
    )
    assert len(rows_of(vitprof, two_runs, "--all")) == 10
    done = vitprof(two_runs, "results", "prune", "--keep", "1")
    said, sizes = done.stdout.splitlines()
    assert said == "removed 4 results of 4 cells, 1 of them with raw samples, measured 2026-04-01; 6 results stay"
    assert sizes.startswith("the store takes ") and len(rows_of(vitprof, two_runs, "--all")) == 6
    assert vitprof(two_runs, "results", "prune", "--keep", "1").stdout == "nothing to remove\n"
    only = vitprof(two_runs, "results", "prune", "--older-than", "1d", "--samples")
    assert "removed the raw samples of 1 result of 1 cell" in only.stdout and "6 results stay" in only.stdout
