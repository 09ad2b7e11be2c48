"""Standard input as a lease: when it ends, or the Plan's deadline passes, this process ends at once.

Its own file because a cut link must leave nothing running on a device: closing an SSH channel does not kill the
remote process (tried), so the process has to notice by itself, even while native code computes or hangs.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import Optional

# Exit statuses that the host can tell apart from those of a crash.
EXIT_LEASE_ENDED = 75
EXIT_DEADLINE = 76
WIRE_FD_VARIABLE = "VITPROF_WIRE_FD"


class Wire:
    """The private pipe to the host: stray prints of Python and of native code go to standard error instead."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._fd = os.dup(1)
        os.dup2(2, 1)
        os.environ[WIRE_FD_VARIABLE] = str(self._fd)

    def write(self, line: bytes) -> None:
        view = memoryview(line)
        while view:
            view = view[os.write(self._fd, view) :]


class Lease:
    """Reads lines in a thread that sleeps in `read`, so that the end of standard input is seen during a call too."""

    def __init__(self) -> None:
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._deadline: Optional[threading.Timer] = None
        threading.Thread(target=self._read, name="lease", daemon=True).start()

    def next_line(self) -> bytes:
        """The next line from the host; sleeps until there is one."""
        return self._lines.get()

    def end_after(self, deadline_s: float) -> None:
        """Ends the process `deadline_s` from now, whatever it is doing then; an earlier deadline is forgotten."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = threading.Timer(deadline_s, os._exit, args=(EXIT_DEADLINE,))
        self._deadline.daemon = True
        self._deadline.start()

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            self._lines.put(line)
        os._exit(EXIT_LEASE_ENDED)
