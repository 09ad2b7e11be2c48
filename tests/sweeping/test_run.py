"""Whole sweeps of a tiny model on this machine: every cell once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.devices.aarch64 import board_cache
from tests.processes import wait_for
from vitprof.devices.profiles import device, reference_model
from vitprof.errors import ExitCode
from vitprof.places import Places
from vitprof.records import Device, ModelSpec, Source
from vitprof.report.progress import NoProgress, Progress
from vitprof.report.sweep_progress import NoSweepProgress, SweepProgress
from vitprof.store import sweeps
from vitprof.store.results import open_store
from vitprof.sweeping.cells import machine_of
from vitprof.sweeping.machines import Quiet
from vitprof.sweeping.run import Begun, SweepRequest, Swept, begun_sweep, planned_sweep, sweep
from vitprof.units import Amount

_WAIT_S = 120.0
_HERE = 'transport = "local"\nbackends = ["ort"]\n'
_BEHIND_SSH = 'transport = "ssh"\nkind = "x86-cpu"\nchip = "x"\nbackends = ["ort"]\n'


def _other() -> Path:
    """The profile of a device beside `local`."""
    return Path(os.environ["VITPROF_CONFIG_DIR"]) / "devices" / "other.toml"


def _board() -> Path:
    return _other().with_name("board.toml")


@pytest.fixture
def plan(tmp_path: Path, folders: None) -> Iterator[Path]:
    """Two devices that are both this machine, so two groups, of one cell each."""
    _other().parent.mkdir(parents=True, exist_ok=True)
    _other().write_text(_HERE)
    shutil.copy(reference_model("cpu-ref-1"), tmp_path / "tiny.onnx")
    file = tmp_path / "plan.toml"
    file.write_text(
        'models = ["tiny.onnx"]\ndevices = ["local", "other"]\nbackends = ["ort"]\nthreads = [1]\neffort = "quick"\n'
    )
    yield file
    for profile in (_other(), _board()):
        profile.unlink(missing_ok=True)


@pytest.fixture
def own(here: Places, tmp_path: Path) -> Places:
    """The session's cache, a store of the test's own."""
    return Places(here.cache_root, tmp_path / "data", named_store=str(tmp_path / "results.sqlite"))


def _request(plan: Path, **changes: Any) -> SweepRequest:
    return SweepRequest(plan, ModelSpec("", Source.TIMM), **{"measure": Amount(calls=10), **changes})


def _swept(plan: Path, own: Places, progress: SweepProgress | None = None, **changes: Any) -> tuple[Swept, Begun]:
    request = _request(plan, **changes)
    planned = planned_sweep(request, own)
    begun = begun_sweep(planned, request, own)
    return sweep(planned, begun, request, own, progress), begun


def _filled(store: Path) -> dict[int, int]:
    """Of the newest run: the rows by the number of the cell that they fill."""
    if not store.exists():
        return {}
    with open_store(store) as opened:
        runs = [run for run in opened.runs() if run.command == "sweep"]
        return {number: row.id for number, row in sweeps.rows(opened, runs[0].id)} if runs else {}


def _devices_at_work(own: Places) -> int:
    """How often a device was measured on so far: each time it is held has a journal of its rounds."""
    return sum('"kind":"round"' in file.read_text() for file in (own.data_root / "runs").glob("*.jsonl"))


def _started(plan: Path, own: Places, *more: str) -> subprocess.Popen[str]:
    words = ["sweep", str(plan), "--measure", "10x", "--store", str(own.store), "--json", "-", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "vitprof", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _cells(document: str) -> list[tuple[str, str]]:
    return [(row["model"], row["device"]) for row in json.loads(document)["results"]]


_EVERY = [("tiny.onnx", device) for device in ("local", "other")]


def test_every_cell_is_a_row_in_the_order_of_the_plan_also_one_that_fails_and_is_not_tried_again(
    plan: Path, own: Places
) -> None:
    plan.write_text(
        'models = ["tiny.onnx"]\ndevices = ["local", "other"]\nbatches = [1, 3]\nthreads = [1, 2]\neffort = "quick"\n'
        '[[exclude]]\ndevices = ["other"]\nthreads = [2]\n'
    )
    swept, begun = _swept(plan, own)
    assert swept.exit_codes == {ExitCode.OK, ExitCode.USAGE} and not swept.troubles and swept.left == 0
    told = [tuple(row.document[key] for key in ("device", "batch", "threads", "outcome")) for row in swept.rows]
    assert told == [
        *(("local", 1, 1, "ok"), ("local", 1, 2, "ok"), ("local", 3, 1, "failed"), ("local", 3, 2, "failed")),
        *(("other", 1, 1, "ok"), ("other", 3, 1, "failed")),
    ]
    measured, failed = [[row for row in swept.rows if row.document["outcome"] == what] for what in ("ok", "failed")]
    assert all(row.document["latency_ns"] and row.document["relative"] for row in measured)
    assert all("batches of 1, not of 3" in row.document["failure"]["error"] for row in failed)
    with open_store(own.store) as store:
        assert store.run(begun.run.id).finished_at and store.run(begun.run.id).plan == plan.read_text()
        assert all(store.samples_of(row.id) for row in measured)
    # It is over: to resume it begins anew.
    request = _request(plan, resume=True)
    again = begun_sweep(planned_sweep(request, own), request, own)
    assert not again.is_resumed and again.run.id != begun.run.id


def test_a_group_of_which_no_cell_can_be_measured_is_rows_with_their_reasons(plan: Path, own: Places) -> None:
    plan.write_text('models = ["tiny.onnx"]\ndevices = ["local", "other"]\nbatches = [3, 5]\neffort = "quick"\n')
    swept, begun = _swept(plan, own)
    assert swept.exit_codes == {ExitCode.USAGE} and swept.left == 0 and not swept.crashes
    assert len(swept.rows) == len(begun.cells) == 4
    assert all("is made for batches of 1, not of" in row.document["failure"]["error"] for row in swept.rows)


def test_a_sweep_that_is_ended_again_and_again_goes_on_with_the_group_that_was_not_stored(
    plan: Path, own: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITPROF_DATA_DIR", str(own.data_root))
    store = Path(own.store)
    # As if killed before the first group.
    request = _request(plan)
    begun = begun_sweep(planned_sweep(request, own), request, own)
    before: dict[int, int] = {}
    for how, devices in ((signal.SIGINT, 2), (signal.SIGKILL, 3)):
        process = _started(plan, own, "--resume")
        # In the middle of the second group, both times.
        wait_for(lambda: _devices_at_work(own) == devices or process.poll() is not None)  # noqa: B023 - waited for here
        process.send_signal(how)
        out, err = process.communicate(timeout=_WAIT_S)
        assert f"goes on with run {begun.run.id}: {len(before)} of 2 cells are done" in err
        if how is signal.SIGINT:
            assert process.returncode == 130 and "Traceback" not in err
            assert f"vitprof sweep {plan} --resume --measure 10x --store {store}" in err
            assert _cells(out) == _EVERY[:1]
            before = _filled(store)
        assert len(before) == 1 and _filled(store) == before
    swept, resumed = _swept(plan, own, resume=True)
    assert resumed.is_resumed and swept.exit_codes == {ExitCode.OK}
    assert [(row.document["model"], row.document["device"]) for row in swept.rows] == _EVERY
    after = _filled(store)
    assert sorted(after) == [0, 1] and before.items() <= after.items()
    with open_store(store) as opened:
        assert len(opened.rows(is_all=True)) == 2 and len(opened.runs()) == 1


class _Interrupting(NoSweepProgress, NoProgress):
    """Ctrl-C at the first round that is shown; notes who has ended his work in order."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self._place = ""

    def of(self, place: str) -> Progress:
        self._place = place
        return self

    def live(self, values: Mapping[str, tuple[float, float | None, float | None]]) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def close(self) -> None:
        self.ended.append(self._place)


def test_ctrl_c_waits_until_the_devices_are_given_back(plan: Path, own: Places) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    progress = _Interrupting()
    try:
        swept, _ = _swept(plan, own, progress)
    finally:
        signal.signal(signal.SIGINT, before)
    assert swept.exit_codes == {ExitCode.INTERRUPTED} and swept.left == 2
    # Once by the exports, once by what measures.
    assert progress.ended == ["this machine", "this machine"]


@pytest.mark.slow
def test_two_processes_that_resume_at_once_measure_no_cell_twice(plan: Path, own: Places) -> None:
    request = _request(plan)
    begun_sweep(planned_sweep(request, own), request, own)
    both = [_started(plan, own, "--resume") for _ in range(2)]
    documents = [process.communicate(timeout=2 * _WAIT_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [_cells(document) for document in documents] == [_EVERY, _EVERY]
    with open_store(own.store) as store:
        assert len(store.rows(is_all=True)) == 2 and len(store.runs()) == 1


class _Broken(NoSweepProgress):
    """A fault of the program in the thread of one machine."""

    def of(self, place: str) -> Progress:
        if place == "board":
            raise RuntimeError("a bug")
        return super().of(place)


def test_a_device_that_is_not_there_or_a_fault_in_its_thread_leaves_its_cells_for_later(
    plan: Path, own: Places
) -> None:
    _board().write_text(_BEHIND_SSH + 'host = "board"\n')
    _other().write_text(_BEHIND_SSH)
    plan.write_text(plan.read_text().replace('"other"', '"other", "board"'))
    swept, begun = _swept(plan, own, _Broken())
    assert swept.left == 2 and ExitCode.UNREACHABLE in swept.exit_codes
    assert [trouble.message for trouble in swept.troubles] == ["device 'other': no host named for it"]
    assert [str(crash) for crash in swept.crashes] == ["a bug"]
    assert [row.document["device"] for row in swept.rows] == ["local"]
    _other().write_text(_HERE)
    again, resumed = _swept(plan, own, _Broken(), resume=True)
    assert resumed.run.id == begun.run.id and [cell.device for cell in resumed.left] == ["other", "board"]
    assert again.exit_codes == {ExitCode.OK} and again.crashes and again.left == 1
    assert [row.document["device"] for row in again.rows] == ["local", "other"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_instructions_are_counted_in_rows_of_their_own(
    plan: Path, own: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITPROF_CACHE_DIR", str(board_cache()))
    own = Places(board_cache(), own.data_root, named_store=own.named_store)
    plan.write_text(
        'models = ["tiny.onnx"]\ndevices = ["local", "emulated-a72"]\nthreads = [1]\neffort = "quick"\n'
        'metrics = ["memory", "instructions"]\n[[exclude]]\ndevices = ["local"]\n'
    )
    swept, _ = _swept(plan, own, measure=Amount(calls=3))
    timed, counted = (row.document for row in swept.rows)
    assert swept.exit_codes == {ExitCode.OK} and swept.left == 0
    assert timed["latency_ns"] and timed["memory"]["peak_rss_bytes"] and timed["instructions_per_inference"] is None
    assert (
        counted["latency_ns"] is None and counted["instructions_per_inference"]["value"] > counted["cost"]["macs"] / 4
    )
    assert counted["region"] == "instructions" and counted["protocol_hash"] != timed["protocol_hash"]


def test_a_new_run_of_an_unfinished_plan_says_that_there_is_one(plan: Path, own: Places) -> None:
    request = _request(plan)
    planned = planned_sweep(request, own)
    first = begun_sweep(planned, request, own)
    second = begun_sweep(planned, request, own)
    assert first.other is None and second.other == first.run and second.run.id != first.run.id
    assert begun_sweep(planned, _request(plan, resume=True), own).run in (first.run, second.run)
    plan.write_text(plan.read_text() + "batches = [2]\n")
    changed = _request(plan, resume=True)
    assert not begun_sweep(planned_sweep(changed, own), changed, own).is_resumed


def test_nothing_is_exported_while_this_machine_is_measured_and_who_exports_goes_first() -> None:
    measuring, may_end, waits = threading.Event(), threading.Event(), threading.Event()
    # Asked by who waits.
    quiet = Quiet(waits.set)
    said: list[str] = []

    def measure() -> None:
        with quiet.measuring():
            measuring.set()
            may_end.wait(_WAIT_S)
            said.append("measured")
        with quiet.measuring():
            said.append("measured again")

    def export() -> None:
        with quiet.exporting():
            said.append("exported")

    first = threading.Thread(target=measure)
    first.start()
    assert measuring.wait(_WAIT_S)
    second = threading.Thread(target=export)
    second.start()
    assert waits.wait(_WAIT_S)
    assert said == []
    may_end.set()
    first.join(_WAIT_S)
    second.join(_WAIT_S)
    assert said == ["measured", "exported", "measured again"]


def test_who_waits_for_this_machine_is_told_to_stop() -> None:
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise KeyboardInterrupt

    quiet = Quiet(check)
    ended = []

    def export() -> None:
        try:
            with quiet.exporting():
                ended.append("exported")
        except KeyboardInterrupt:
            ended.append("stopped")

    with quiet.measuring():
        waiting = threading.Thread(target=export)
        waiting.start()
        stopped.set()
        waiting.join(_WAIT_S)
    assert ended == ["stopped"]


def test_devices_of_one_machine_are_not_measured_at_the_same_time() -> None:
    def behind_ssh(name: str, host: str) -> Device:
        return Device(name, "x86-cpu", "x", "ssh", ("ort",), host=host)

    assert machine_of(device("local")) == machine_of(device("emulated-a72")) == machine_of(device("browser"))
    assert machine_of(behind_ssh("a", "me@localhost")) == machine_of(device("local"))
    assert machine_of(behind_ssh("a", "me@board")) == machine_of(behind_ssh("b", "you@board")) == "board"
