"""What a sweep shows while it goes on: what runs where, what is left, when it will end.

Its own file beside `progress` because several devices measure at the same time, each in a thread of its own: all of
them report here, and one display shows them all. As there, nothing has a timer; it changes when somebody reports.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol, TextIO

from vitprof.report.outside import plain
from vitprof.report.progress import MIN_INTERVAL_S, Progress, WaitProgress, ratio_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_Ratios = Mapping[str, tuple[float, float | None, float | None]]


@dataclass(frozen=True)
class Share:
    """What one machine has to do: cells, and how long they may take."""

    cells: int
    seconds: float


class SweepProgress(Protocol):
    """Called by a sweep from the threads of its machines; no method may raise or take more than a few milliseconds."""

    def begin(self, shares: Mapping[str, Share], done: int) -> None:
        """What is left on each machine, and how many cells were measured before."""

    def of(self, place: str) -> Progress:
        """Told of the steps on one machine, or of the exports made for it."""

    def group_done(self, machine: str, cells: int, failed: int, seconds: float, left_s: float) -> None:
        """So many cells of a group are stored; they took that long, and what is left there may take `left_s`."""

    def machine_done(self, machine: str) -> None:
        """Nothing more is measured there; cells that are left have to wait for another time."""

    def close(self) -> None:
        """The work is over, or has failed; may be called twice."""


class Tally:
    """The counting behind every display: cells done, failed and given up for now, and when the last one ends."""

    def __init__(self, now: Callable[[], datetime] = datetime.now) -> None:
        self.total = self.done = self.failed = self.given_up = 0
        self._now = now
        self._left: dict[str, Share] = {}

    def begin(self, shares: Mapping[str, Share], done: int) -> None:
        self._left = dict(shares)
        self.done = done
        self.total = done + sum(share.cells for share in shares.values())

    def group_done(self, machine: str, cells: int, failed: int, left_s: float) -> None:
        self.done += cells
        self.failed += failed
        self._left[machine] = Share(max(0, self._left[machine].cells - cells), left_s)

    def machine_done(self, machine: str) -> None:
        self.given_up += self._left.pop(machine).cells

    @property
    def text(self) -> str:
        """`24 of 108 cells, 1 failed, ends about 17:42`: the slowest machine's end, by the clock here."""
        parts = [f"{self.done} of {self.total} cells"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.given_up} left for later"] if self.given_up else []
        left_s = max((share.seconds for share in self._left.values()), default=0.0)
        if self.done < self.total and left_s > 0:
            parts.append(f"ends about {clock_text(self._now(), left_s)}")
        return ", ".join(parts)


class NoSweepProgress:
    """For whoever calls from Python: says nothing."""

    def begin(self, shares: Mapping[str, Share], done: int) -> None:
        pass

    def of(self, place: str) -> Progress:
        from vitprof.report.progress import NoProgress

        return NoProgress()

    def group_done(self, machine: str, cells: int, failed: int, seconds: float, left_s: float) -> None:
        pass

    def machine_done(self, machine: str) -> None:
        pass

    def close(self) -> None:
        pass


class SweepLog:
    """For logs and pipes: a line a group, and what is waited for."""

    def __init__(self, stream: TextIO, tally: Tally | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._tally = tally or Tally()
        self._clock = clock
        self._lock = threading.Lock()

    def begin(self, shares: Mapping[str, Share], done: int) -> None:
        with self._lock:
            self._tally.begin(shares, done)
            self._write(self._tally.text)

    def of(self, place: str) -> Progress:
        return WaitProgress(self._stream, self._clock)

    def group_done(self, machine: str, cells: int, failed: int, seconds: float, left_s: float) -> None:
        with self._lock:
            self._tally.group_done(machine, cells, failed, left_s)
            what = f"{cells} cell{'' if cells == 1 else 's'} in {seconds:.0f} s"
            self._write(f"{plain(machine)}: {what}; {self._tally.text}")

    def machine_done(self, machine: str) -> None:
        with self._lock:
            before = self._tally.given_up
            self._tally.machine_done(machine)
            if self._tally.given_up > before:
                self._write(f"{plain(machine)}: no more; {self._tally.text}")

    def close(self) -> None:
        pass

    def _write(self, line: str) -> None:
        self._stream.write(f"vitprof: {line}\n")
        self._stream.flush()


class SweepTerminal:
    """A few lines at the end of a terminal, one a machine, that are drawn over and vanish when the work is over."""

    def __init__(
        self, console: Console, tally: Tally | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.live import Live

        self._tally = tally or Tally()
        self._clock = clock
        self._begun_s = clock()
        self._drawn_s = float("-inf")
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()
        # No thread of its own: it would wake up inside timed blocks.
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def begin(self, shares: Mapping[str, Share], done: int) -> None:
        with self._lock:
            self._tally.begin(shares, done)
            self._draw()

    def of(self, place: str) -> Progress:
        with self._lock:
            return self._places.setdefault(place, _Place(place, self._changed))

    def group_done(self, machine: str, cells: int, failed: int, seconds: float, left_s: float) -> None:
        with self._lock:
            self._tally.group_done(machine, cells, failed, left_s)
            self._draw()

    def machine_done(self, machine: str) -> None:
        with self._lock:
            self._tally.machine_done(machine)
            self._draw()

    def close(self) -> None:
        with self._lock:
            self._live.stop()

    def _changed(self, is_urgent: bool) -> None:
        with self._lock:
            if is_urgent or self._clock() - self._drawn_s >= MIN_INTERVAL_S:
                self._draw()

    def _draw(self) -> None:
        from rich.text import Text

        self._drawn_s = self._clock()
        elapsed = f"{self._drawn_s - self._begun_s:.0f} s"
        head = Text.assemble(("sweep", "bold"), f"  {self._tally.text}  ", (elapsed, "dim"), no_wrap=True)
        shown = [place for place in self._places.values() if place.is_at_work]
        width = max((len(plain(place.name)) for place in shown), default=0)
        lines = [line for place in shown for line in place.lines(width, with_ratios=len(shown) == 1)]
        self._live.update(Text("\n", no_wrap=True, overflow="ellipsis").join([head, *lines]), refresh=True)


class _Place:
    """The steps on one machine, as `SweepTerminal` shows them."""

    def __init__(self, name: str, changed: Callable[[bool], None]) -> None:
        self.name = name
        self._stage = ("", "")
        self._values: _Ratios = {}
        self._changed = changed

    @property
    def is_at_work(self) -> bool:
        return self._stage[0] != ""

    def stage(self, name: str, detail: str) -> None:
        if name != self._stage[0]:
            self._values = {}
        self._stage = (name, detail)
        self._changed(True)

    def live(self, values: _Ratios) -> None:
        self._values = dict(values)
        self._changed(False)

    def close(self) -> None:
        self._stage = ("", "")
        self._changed(True)

    def lines(self, width: int, *, with_ratios: bool) -> list[Text]:
        from rich.text import Text

        name, detail = self._stage
        head = Text(f"  {plain(self.name).ljust(width)}  {plain(name)}  {plain(detail)}", no_wrap=True)
        names = [plain(model) for model in self._values] if with_ratios else []
        longest = max(map(len, names), default=0)
        return [
            head,
            *(
                Text(f"    {shown.ljust(longest)}  {ratio_text(*value)}", no_wrap=True)
                for shown, value in zip(names, self._values.values(), strict=False)
            ),
        ]


def sweep_progress_for(stream: TextIO) -> SweepProgress:
    """A display on `stream` where that is a terminal that can be drawn over, else a line a group."""
    if not stream.isatty() or os.environ.get("TERM", "") in ("dumb", "unknown"):
        return SweepLog(stream)
    from rich.console import Console

    return SweepTerminal(Console(file=stream))


def clock_text(now: datetime, seconds: float) -> str:
    """The time of day `seconds` from `now`, with the date where that is another day."""
    end = now + timedelta(seconds=seconds)
    return f"{end:%H:%M}" if end.date() == now.date() else f"{end:%Y-%m-%d %H:%M}"
