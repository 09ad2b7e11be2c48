"""What long work shows while it goes on: the stage, the time, the live ratio of each model.

Its own file because it stands beside a running measurement and must not disturb it: nothing here has a thread or a
timer. The display changes only when the pipeline calls, which it does between blocks, never inside one; so the
elapsed time stands still while one step lasts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TextIO

from vitprof.report.outside import plain
from vitprof.units import significant

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# Drawing costs about a millisecond of the core that measures; four times a second is as fast as one reads.
MIN_INTERVAL_S = 0.25
# Who reads a log learns why nothing happens; a wait of a moment is none of that.
_FIRST_WAIT_S, _NEXT_WAIT_S = 5.0, 60.0


class Progress(Protocol):
    """Called by the pipeline between steps; no method may raise or take longer than a few milliseconds."""

    def stage(self, name: str, detail: str) -> None:
        """A new step begins: `("export", "lowformer_b1")`, `("measure", "set 2 of 3")`."""

    def live(self, values: Mapping[str, tuple[float, float | None, float | None]]) -> None:
        """The ratios so far: model to (ratio, low, high)."""

    def close(self) -> None:
        """The work is over, or has failed; may be called twice."""


class NoProgress:
    """For whoever calls from Python: says nothing."""

    def stage(self, name: str, detail: str) -> None:
        pass

    def live(self, values: Mapping[str, tuple[float, float | None, float | None]]) -> None:
        pass

    def close(self) -> None:
        pass


class WaitProgress:
    """For logs and pipes: says nothing but what is being waited for, after some seconds and then every minute."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        # When the next line is due; None where nothing is waited for.
        self._due_s: float | None = None

    def stage(self, name: str, detail: str) -> None:
        now_s = self._clock()
        if name != "wait":
            self._due_s = None
        elif self._due_s is None:
            self._due_s = now_s + _FIRST_WAIT_S
        elif now_s >= self._due_s:
            self._due_s = now_s + _NEXT_WAIT_S
            self._stream.write(f"vitprof: waiting: {plain(detail)}\n")
            self._stream.flush()

    def live(self, values: Mapping[str, tuple[float, float | None, float | None]]) -> None:
        pass

    def close(self) -> None:
        pass


class TerminalProgress:
    """A few lines at the end of a terminal that are drawn over and vanish when the work is over."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.live import Live

        self._clock = clock
        self._begun_s = clock()
        self._stage = ("start", "")
        self._values: dict[str, tuple[float, float | None, float | None]] = {}
        self._drawn_s = float("-inf")
        # auto_refresh would start a thread that wakes up inside timed blocks. Streams are left as they are: stdout
        # carries the data.
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def stage(self, name: str, detail: str) -> None:
        if name != self._stage[0]:
            self._values = {}
        self._stage = (name, detail)
        self._draw()

    def live(self, values: Mapping[str, tuple[float, float | None, float | None]]) -> None:
        self._values = dict(values)
        if self._clock() - self._drawn_s >= MIN_INTERVAL_S:
            self._draw()

    def close(self) -> None:
        self._live.stop()

    def _draw(self) -> None:
        from rich.text import Text

        self._drawn_s = self._clock()
        name, detail = self._stage
        elapsed = f"{self._drawn_s - self._begun_s:.0f} s"
        head = Text.assemble((plain(name), "bold"), f"  {plain(detail)}  ", (elapsed, "dim"), no_wrap=True)
        self._live.update(Text("\n", no_wrap=True, overflow="ellipsis").join([head, *self._ratios()]), refresh=True)

    def _ratios(self) -> list[Text]:
        from rich.text import Text

        names = [plain(model) for model in self._values]
        width = max(map(len, names), default=0)
        return [
            Text(f"  {name.ljust(width)}  {ratio_text(*value)}", no_wrap=True)
            for name, value in zip(names, self._values.values(), strict=True)
        ]


def progress_for(stream: TextIO) -> Progress:
    """A display on `stream` where that is a terminal that can be drawn over, else one that only says long waits."""
    if not stream.isatty() or os.environ.get("TERM", "") in ("dumb", "unknown"):
        return WaitProgress(stream)
    from rich.console import Console

    return TerminalProgress(Console(file=stream))


def ratio_text(value: float, low: float | None, high: float | None) -> str:
    """`1.234 × reference  [1.22, 1.25]`, without the interval where there is none yet."""
    interval = "" if low is None or high is None else f"  [{significant(low)}, {significant(high)}]"
    return f"{significant(value)} × reference{interval}"
