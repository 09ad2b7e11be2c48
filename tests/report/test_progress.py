"""The display is drawn by calls only, seldom, and on terminals only."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from vitprof.report.progress import NoProgress, TerminalProgress, WaitProgress, progress_for


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def display(clock: Clock) -> tuple[TerminalProgress, io.StringIO]:
    stream = Terminal()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None, legacy_windows=False)
    return TerminalProgress(console, clock), stream


def test_stage_elapsed_time_and_ratios_are_shown() -> None:
    clock = Clock()
    progress, stream = display(clock)
    clock.now_s = 34.2
    progress.stage("measure", "set 2 of 3")
    clock.now_s = 35.0
    progress.live({"lowformer_b1": (3.085, 3.066, 3.104), "resnet50": (15.25, None, None)})
    text = stream.getvalue()
    progress.close()
    assert "measure  set 2 of 3  34 s" in text
    assert "lowformer_b1  3.085 × reference  [3.066, 3.104]" in text
    assert "resnet50      15.25 × reference" in text
    assert "n/a" not in text and "None" not in text


def test_it_is_drawn_at_most_four_times_a_second() -> None:
    clock = Clock()
    progress, stream = display(clock)
    drawn = 0
    for step in range(1_000):
        clock.now_s = step / 1_000
        before = stream.tell()
        progress.live({"m": (1.0 + step, None, None)})
        drawn += stream.tell() > before
    progress.close()
    assert drawn == 4


def test_no_thread_is_started() -> None:
    before = set(threading.enumerate())
    progress, _ = display(Clock())
    progress.stage("measure", "set 1 of 3")
    assert set(threading.enumerate()) <= before
    progress.close()


def test_closing_twice_leaves_the_screen_as_it_was() -> None:
    progress, stream = display(Clock())
    progress.stage("export", "resnet50")
    progress.close()
    length = len(stream.getvalue())
    progress.close()
    assert len(stream.getvalue()) == length
    assert "\x1b[?25h" in stream.getvalue()


def test_codes_in_a_model_name_do_not_reach_the_terminal() -> None:
    progress, stream = display(Clock())
    progress.stage("export", "\x1b]0;title\x07[red]m")
    progress.close()
    assert "[red]m" in stream.getvalue() and "title" not in stream.getvalue()


def test_it_is_off_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(progress_for(io.StringIO()), WaitProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress_for(Terminal()), WaitProgress)
    monkeypatch.setenv("TERM", "xterm")
    progress = progress_for(Terminal())
    assert isinstance(progress, TerminalProgress)
    progress.close()


def test_a_log_is_told_what_is_waited_for_and_nothing_else() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = WaitProgress(stream, lambda: clock.now_s)
    progress.stage("measure", "set 1 of 5")
    progress.live({"m": (1.0, None, None)})
    for _ in range(40):
        progress.stage("wait", "pi: 72 °C,\nwaiting for 60 °C")
        clock.now_s += 2
    progress.stage("measure", "set 1 of 5")
    progress.stage("wait", "for a moment")
    progress.close()
    # After 6 s, and after 66 s.
    assert stream.getvalue().splitlines() == ["vitprof: waiting: pi: 72 °C, waiting for 60 °C"] * 2


def test_off_means_silent() -> None:
    progress = NoProgress()
    progress.stage("export", "m")
    progress.live({"m": (1.0, None, None)})
    progress.close()
