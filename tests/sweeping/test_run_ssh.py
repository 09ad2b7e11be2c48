"""A sweep over this machine and one behind a real sshd: both at once, and a link that is cut loses no cell."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.devices.sshd import HOST, Sshd, running
from vitprof.devices.profiles import reference_model
from vitprof.errors import ExitCode
from vitprof.places import Places
from vitprof.records import ModelSpec, Source
from vitprof.report.progress import NoProgress, Progress
from vitprof.report.sweep_progress import NoSweepProgress
from vitprof.sweeping.run import SweepRequest, Swept, begun_sweep, planned_sweep, sweep
from vitprof.units import Amount


@pytest.fixture
def board(tmp_path: Path, folders: None) -> Iterator[Sshd]:
    profiles = Path(os.environ["VITPROF_CONFIG_DIR"]) / "devices"
    profiles.mkdir(parents=True, exist_ok=True)
    profile = profiles / "board.toml"
    profile.write_text(
        f'kind = "x86-cpu"\nchip = "x"\ntransport = "ssh"\nhost = "{HOST}"\npython = "{sys.executable}"\n'
        'backends = ["ort"]\n[ready]\nwait_s = 20\n'
    )
    with running(tmp_path / "sshd") as server:
        yield server
    profile.unlink()


class _Watching(NoSweepProgress):
    """Counts the rounds of each place, and cuts the board's link after some of its own."""

    def __init__(self, board: Sshd, cut_after: int | None = None) -> None:
        self.rounds: list[str] = []
        self._board = board
        self._cut_after = cut_after

    def of(self, place: str) -> Progress:
        return _Place(place, self)

    def round_of(self, place: str) -> None:
        self.rounds.append(place)
        if place == HOST and self.rounds.count(HOST) == self._cut_after:
            self._board.cut()


class _Place(NoProgress):
    def __init__(self, name: str, watching: _Watching) -> None:
        self._name = name
        self._watching = watching

    def live(self, values: Mapping[str, tuple[float, float | None, float | None]]) -> None:
        self._watching.round_of(self._name)


def _swept(
    tmp_path: Path,
    here: Places,
    progress: _Watching,
    *,
    devices: str = '["local", "board"]',
    resume: bool = False,
) -> Swept:
    shutil.copy(reference_model("cpu-ref-1"), tmp_path / "tiny.onnx")
    file = tmp_path / "plan.toml"
    file.write_text(f'models = ["tiny.onnx"]\ndevices = {devices}\nthreads = [1, 2]\neffort = "quick"\n')
    places = Places(here.cache_root, tmp_path / "data")
    request = SweepRequest(file, ModelSpec("", Source.TIMM), measure=Amount(calls=300), resume=resume)
    planned = planned_sweep(request, places)
    return sweep(planned, begun_sweep(planned, request, places), request, places, progress)


@pytest.mark.slow
def test_two_machines_are_measured_at_the_same_time(board: Sshd, here: Places, tmp_path: Path) -> None:
    progress = _Watching(board)
    swept = _swept(tmp_path, here, progress)
    assert swept.exit_codes == {ExitCode.OK} and swept.left == 0
    assert [row.document["device"] for row in swept.rows] == ["local", "local", "board", "board"]
    first, last = progress.rounds.index(HOST), len(progress.rounds) - 1 - progress.rounds[::-1].index(HOST)
    assert set(progress.rounds[first:last]) == {HOST, "this machine"}
    assert board.is_quiet()


@pytest.mark.slow
def test_cells_whose_link_was_cut_are_left_for_later(board: Sshd, here: Places, tmp_path: Path) -> None:
    swept = _swept(tmp_path, here, _Watching(board, cut_after=4))
    assert swept.left == 2 and ExitCode.UNREACHABLE in swept.exit_codes
    assert any("connection to device 'board' was lost" in trouble.message for trouble in swept.troubles)
    assert [row.document["device"] for row in swept.rows] == ["local", "local"]
    again = _swept(tmp_path, here, _Watching(board), resume=True)
    assert again.exit_codes == {ExitCode.OK} and again.left == 0 and len(again.rows) == 4


@pytest.mark.slow
def test_cells_that_found_the_disk_of_their_device_full_are_left_for_later(
    board: Sshd, disk: Callable[[str], Path], here: Places, tmp_path: Path
) -> None:
    cache = tmp_path / "which-cache"
    cache.write_text(str(disk("1m")))
    command = f'export XDG_CACHE_HOME="$(cat \'{cache}\')"; eval "$SSH_ORIGINAL_COMMAND"'
    with running(tmp_path / "small", force_command=command) as small:
        swept = _swept(tmp_path, here, _Watching(small), devices='["board"]')
        assert swept.left == 2 and swept.rows == () and swept.exit_codes == {ExitCode.UNREACHABLE}
        [trouble] = swept.troubles
        assert "its disk is full" in trouble.message and "vitprof devices clean board --all" in trouble.remedy
        cache.write_text(str(tmp_path / "roomy"))
        again = _swept(tmp_path, here, _Watching(small), devices='["board"]', resume=True)
        assert again.exit_codes == {ExitCode.OK} and again.left == 0 and len(again.rows) == 2
