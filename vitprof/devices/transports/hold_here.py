"""The lock of this machine, taken by vitprof itself: a link of its own kind to a device that needs no process for it.

Its own file because it is no subprocess: a runner that does nothing but hold would cost every cached measurement the
start of a Python.
"""

from __future__ import annotations

from collections import deque

from vitprof.devices.transports import RunnerFailed
from vitprof.runner import hold
from vitprof.runner.wire import Facts, FactsRequest, Failure, Hold, Message


class HoldHere:
    """Answers as the runner does; the lock ends with `close`, or with this process."""

    def __init__(self, task: Hold) -> None:
        self._answers: deque[Facts | Failure] = deque()
        self._lock: hold.Lock | None = None
        try:
            self._lock = None if task.only_look else hold.Lock(task.who)
        except hold.InUse as error:
            self._answers.append(hold.in_use(error))
        else:
            self._answers.append(hold.seen(FactsRequest(), task.only_look))

    def send(self, message: Message) -> None:
        if isinstance(message, FactsRequest):
            self._answers.append(hold.seen(message, only_look=self._lock is None))

    def receive(self, timeout_s: float) -> Message:
        answer = self._answers.popleft()
        if isinstance(answer, Failure):
            raise RunnerFailed(answer)
        return answer

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()
