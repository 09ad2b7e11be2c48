"""What a sweep says while it runs: counts and the end by the clock, a line a group on a log, a line a machine else."""

from __future__ import annotations

import io
from datetime import datetime

from rich.console import Console

from vitprof.report.sweep_progress import Share, SweepLog, SweepTerminal, Tally, clock_text, sweep_progress_for

_NOON = datetime(2026, 1, 2, 12, 0)


def _tally() -> Tally:
    return Tally(lambda: _NOON)


def test_the_end_is_that_of_the_slowest_machine() -> None:
    tally = _tally()
    tally.begin({"here": Share(20, 600.0), "board": Share(10, 1_800.0)}, 4)
    assert tally.text == "4 of 34 cells, ends about 12:30"
    tally.group_done("board", 5, 1, 300.0)
    assert tally.text == "9 of 34 cells, 1 failed, ends about 12:10"
    tally.group_done("board", 5, 0, 0.0)
    tally.group_done("here", 10, 0, 1_200.0)
    assert tally.text == "24 of 34 cells, 1 failed, ends about 12:20"
    tally.group_done("here", 10, 0, 0.0)
    assert tally.text == "34 of 34 cells, 1 failed"


def test_what_a_lost_machine_leaves_no_longer_counts_for_the_end() -> None:
    stream = io.StringIO()
    progress = SweepLog(stream, _tally())
    progress.begin({"here": Share(2, 600.0), "board": Share(10, 7_200.0)}, 0)
    progress.group_done("board", 4, 0, 2_880.0, 4_320.0)
    progress.machine_done("board")
    progress.group_done("here", 2, 0, 60.0, 0.0)
    progress.machine_done("here")
    assert stream.getvalue().splitlines() == [
        "vitprof: 0 of 12 cells, ends about 14:00",
        "vitprof: board: 4 cells in 2880 s; 4 of 12 cells, ends about 13:12",
        "vitprof: board: no more; 4 of 12 cells, 6 left for later, ends about 12:10",
        "vitprof: here: 2 cells in 60 s; 6 of 12 cells, 6 left for later",
    ]


def test_an_end_on_another_day_has_its_date() -> None:
    assert clock_text(_NOON, 11 * 3600) == "23:00"
    assert clock_text(_NOON, 13 * 3600) == "2026-01-03 01:00"


def test_a_log_has_a_line_a_group_and_none_for_steps() -> None:
    stream = io.StringIO()
    progress = sweep_progress_for(stream)
    assert isinstance(progress, SweepLog)
    progress = SweepLog(stream, _tally())
    progress.begin({"here": Share(16, 120.0)}, 0)
    here = progress.of("here")
    here.stage("measure", "group 1 of 2: set 1 of 5")
    here.live({"m": (1.0, None, None)})
    progress.group_done("here", 8, 2, 61.4, 61.4)
    progress.close()
    assert stream.getvalue().splitlines() == [
        "vitprof: 0 of 16 cells, ends about 12:02",
        "vitprof: here: 8 cells in 61 s; 8 of 16 cells, 2 failed, ends about 12:01",
    ]


def test_a_terminal_shows_a_line_a_machine_while_it_is_at_work() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None, legacy_windows=False)
    progress = SweepTerminal(console, _tally(), clock=lambda: 0.0)
    progress.begin({"here": Share(8, 60.0), "board": Share(8, 60.0)}, 0)
    here, board = progress.of("here"), progress.of("board")
    here.stage("measure", "group 1 of 1: set 1 of 1")
    board.stage("export", "lowformer_b1\x1b[31m to onnx")
    text = stream.getvalue()
    assert "sweep  0 of 16 cells, ends about 12:01  0 s" in text
    assert "  here   measure  group 1 of 1: set 1 of 1" in text and "  board  export  lowformer_b1 to onnx" in text
    assert "\x1b[31m" not in text
    stream.truncate(0)
    board.close()
    here.live({"lowformer_b1": (3.085, 3.066, 3.104)})
    here.stage("measure", "group 1 of 1: set 2 of 2")
    shown = stream.getvalue()
    # One machine alone has room for its ratios.
    assert "board" not in shown and "lowformer_b1  3.085 × reference  [3.066, 3.104]" in shown
    progress.close()
