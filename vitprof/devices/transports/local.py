"""This machine: the runner as a subprocess in a session of its own, so that Ctrl-C reaches only the host.

The host then ends every runner by closing its standard input (the lease) and, where that does not help, by SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from vitprof.devices.memory_kills import memory_kills
from vitprof.devices.runner_zip import runner_zip
from vitprof.devices.transports import RunnerFailed
from vitprof.devices.transports.hold_here import HoldHere
from vitprof.runner.lease import EXIT_DEADLINE, EXIT_LEASE_ENDED
from vitprof.runner.wire import (
    OUT_OF_MEMORY,
    Failure,
    Hold,
    Message,
    Task,
    WireError,
    line_from_message,
    message_from_line,
)

# How long a process may take to notice that its lease has ended; it calls os._exit at once.
_GRACE_S = 2.0
_STDERR_TAIL_BYTES = 4_000
_READ_BYTES = 1 << 16
# A block of a million samples has half of that.
_LONGEST_LINE_BYTES = 1 << 24
# Python's own status where the program that it is to run is not there.
_PYTHON_FOUND_NO_FILE = 2
_FREE = "close other programs, or use a smaller model, --batch or --size; then run again"


class Death(NamedTuple):
    """What happened to a runner that ended without a word, what to type, and `Failure.kind`."""

    error: str
    remedy: str
    kind: str | None = None


class LocalTransport:
    """Starts runners with this interpreter: its environment has the runtimes that vitprof was installed with."""

    def __init__(self, cache_root: Path) -> None:
        self._zip = runner_zip(cache_root)

    def place(self, path: str) -> str:
        return path

    def scratch(self, name: str, folder: Path) -> str:
        return str(folder / name)

    def fetch(self, path: str, folder: Path) -> Path:
        return Path(path)

    def start(self, task: Task) -> LocalLink | HoldHere:
        return HoldHere(task) if isinstance(task, Hold) else LocalLink([sys.executable, str(self._zip)], task)

    def close(self) -> None:
        pass


class LocalLink:
    """A subprocess: requests on its standard input, messages on its standard output.

    It may be a client through which the runner is reached. `death` then says what its exit status and its last words
    mean, and `retold` how the failure of a runner is mended there.
    """

    def __init__(
        self,
        command: list[str],
        task: Task,
        *,
        death: Callable[[int, str], Death] | None = None,
        retold: Callable[[Failure], Failure] = lambda failure: failure,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._death_from = death or _DeathHere()
        self._retold = retold
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process has died
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,
                bufsize=0,
                env=environment,
            )
        except OSError as error:
            # No such program, one for another processor, no memory or no process number left.
            self._stderr.close()
            remedy = "close other programs, or install vitprof anew in this environment; then run again"
            what = f"cannot start {command[0]}: {error.strerror or error}"
            raise RunnerFailed(Failure("start", what, remedy)) from error
        self._buffer = bytearray()
        self._stage = "load"
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)
        self.send(task)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Message) -> None:
        try:
            self._stdin.write(line_from_message(message))
        except BrokenPipeError:
            # The process is over: what it said last, or how it died, is the reason.
            raise RunnerFailed(self._last_words()) from None

    def receive(self, timeout_s: float) -> Message:
        line = self._line(time.monotonic() + timeout_s, timeout_s)
        try:
            message = message_from_line(line)
        except WireError as error:
            self.close()
            raise RunnerFailed(
                Failure(self._stage, str(error), "report this with the output of: vitprof doctor", self._stderr_tail())
            ) from error
        if isinstance(message, Failure):
            self.close()
            raise RunnerFailed(self._retold(message))
        self._stage = "run"
        return message

    def close(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                self._stdin.close()
            try:
                self._process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                self._kill()
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None  # noqa: S101 - opened with PIPE
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None  # noqa: S101 - opened with PIPE
        return self._process.stdout

    def _line(self, deadline: float, timeout_s: float) -> bytes:
        while b"\n" not in self._buffer:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                self._kill()
                raise RunnerFailed(
                    Failure(
                        self._stage,
                        f"no answer within {timeout_s:g} s; the runner was ended",
                        "allow more time with --timeout, or use a smaller model, --batch or --size",
                        self._stderr_tail(),
                    )
                )
            data = os.read(self._stdout.fileno(), _READ_BYTES)
            if not data:
                raise RunnerFailed(self._death())
            self._buffer += data
            if len(self._buffer) > _LONGEST_LINE_BYTES and b"\n" not in data:
                self._kill()
                what = f"the runner sends what is no message: {bytes(self._buffer[:60])!r}…"
                remedy = "report this with the output of: vitprof doctor"
                raise RunnerFailed(Failure(self._stage, what, remedy, self._stderr_tail()))
        line, _, self._buffer = self._buffer.partition(b"\n")
        return bytes(line)

    def _last_words(self) -> Failure:
        try:
            while True:
                message = message_from_line(self._line(time.monotonic() + _GRACE_S, _GRACE_S))
                if isinstance(message, Failure):
                    return self._retold(message)
        except RunnerFailed as failed:
            return failed.failure
        except WireError as error:
            return Failure(self._stage, str(error), "report this with the output of: vitprof doctor")

    def _death(self) -> Failure:
        """Why a process ended without a word, from its exit status."""
        try:
            status = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._kill()
            status = self._process.returncode
        said = self._stderr_tail()
        error, remedy, kind = self._death_from(status, said)
        return Failure(self._stage, error, remedy, said, kind)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _stderr_tail(self) -> str:
        end = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, end - _STDERR_TAIL_BYTES))
        return self._stderr.read().decode(errors="replace").strip()


class _DeathHere:
    """Of a process that is started on this machine after this was made."""

    def __init__(self) -> None:
        self._kills = memory_kills()

    def __call__(self, status: int, said: str) -> Death:
        kills = memory_kills()
        return death_from_status(status, said, for_memory=kills is not None and kills != self._kills)


def death_from_status(status: int, said: str = "", *, for_memory: bool = False) -> Death:
    """How a runner ended with `status` (negative: the signal that killed it).

    `said`: the end of its standard error. `for_memory`: the kernel has killed for want of memory meanwhile.
    """
    if status < 0:
        return _death_by_signal(-status, said, for_memory)
    if status == _PYTHON_FOUND_NO_FILE and "can't open file" in said:
        return Death("the runner is gone from the device", "run again: it is put there anew")
    if status == EXIT_DEADLINE:
        return Death("the runner reached its deadline", "allow more time with --timeout")
    if status == EXIT_LEASE_ENDED:
        return Death("the runner lost its connection to vitprof", "run again")
    return Death(f"the runner ended with status {status} without a word", "see the detail with --debug")


def _death_by_signal(number: int, said: str, for_memory: bool) -> Death:
    if number == signal.SIGKILL and for_memory:
        return Death("out of memory: the kernel killed the runner (SIGKILL), by its own count", _FREE, OUT_OF_MEMORY)
    if number == signal.SIGKILL:
        return Death("the runner was killed (SIGKILL), nobody says by whom", f"if memory was short, {_FREE}")
    if number == signal.SIGABRT and "std::bad_alloc" in said:
        return Death("out of memory: the runtime ended the runner (std::bad_alloc)", _FREE, OUT_OF_MEMORY)
    name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
    remedy = "upgrade the runtime, or try another --backend; detail with --debug"
    return Death(f"the runner crashed ({name})", remedy)
