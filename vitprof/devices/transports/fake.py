"""A device without hardware: the runner's own loop, in this process, in virtual time.

In the product because the instrument's self-tests need it: hundreds of whole measurements, with the noise of a real
machine replayed under them, in seconds. A virtual call of `call_ns` takes `call_ns` times what `Noise` says for that
moment; all cells of a transport share one clock, as the processes of one machine share its moods.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from pathlib import Path

from vitprof.devices.transports import RunnerFailed
from vitprof.runner.backends import fake, is_out_of_memory
from vitprof.runner.serve import Server
from vitprof.runner.wire import OUT_OF_MEMORY, Block, EndRequest, Facts, Failure, Hold, Message, Plan, Task

# About the length of the calls that recorded noise is made of.
_SLICE_NS = 4_000_000

# Factor on every duration at a moment of virtual time (nanoseconds).
Noise = Callable[[int], float]


def no_noise(_: int) -> float:
    return 1.0


class VirtualClock:
    """Time that passes only while a fake model waits."""

    def __init__(self, noise: Noise = no_noise, start_ns: int = 0) -> None:
        self.now_ns = start_ns
        self._noise = noise

    def __call__(self) -> int:
        return self.now_ns

    def wait(self, duration_ns: int) -> None:
        """Work of `duration_ns` on a quiet machine: in slices, because the mood of a real one changes meanwhile."""
        while duration_ns > 0:
            work_ns = min(duration_ns, _SLICE_NS)
            self.now_ns += round(work_ns * self._noise(self.now_ns))
            duration_ns -= work_ns


class FakeTransport:
    """Runs fake models against one virtual clock."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def place(self, path: str) -> str:
        return path

    def scratch(self, name: str, folder: Path) -> str:
        return str(folder / name)

    def fetch(self, path: str, folder: Path) -> Path:
        return Path(path)

    def start(self, task: Task) -> FakeLink | HeldLink:
        return HeldLink() if isinstance(task, Hold) else FakeLink(task, self._clock)

    def close(self) -> None:
        pass


class HeldLink:
    """Nobody else is there, and nothing is to be waited for."""

    def send(self, message: Message) -> None:
        pass

    def receive(self, timeout_s: float) -> Message:
        return Facts()

    def close(self) -> None:
        pass


class FakeLink:
    """Answers at once; an exception of the fake model is the Failure that a process would have sent."""

    def __init__(self, plan: Plan, clock: VirtualClock) -> None:
        self._server: Server | None = None
        self._answers: deque[Message] = deque()
        self._plan = plan
        self._clock = clock

    def send(self, message: Message) -> None:
        if self._server and isinstance(message, EndRequest):
            self._answers.append(self._server.end())
        elif self._server:
            self._answers.append(_undisturbed(self._guarded(lambda server: server.answer(message))))

    def receive(self, timeout_s: float) -> Message:
        if self._server is None:
            return self._guarded(lambda server: server.ready)
        answer = self._answers.popleft()
        if isinstance(answer, Failure):
            raise RunnerFailed(answer)
        return answer

    def close(self) -> None:
        self._answers.clear()

    def _guarded(self, ask: Callable[[Server], Message]) -> Message:
        stage = "run" if self._server else "load"
        try:
            if self._server is None:
                self._server = Server(self._plan, self._loaded, fake.version(), self._clock)
            return ask(self._server)
        except (RuntimeError, MemoryError) as error:
            kind = OUT_OF_MEMORY if is_out_of_memory(error) else None
            remedy = "none: the fake backend was asked to fail"
            failure = Failure(stage, f"{type(error).__name__}: {error}", remedy, kind=kind)
            if stage == "load":
                raise RunnerFailed(failure) from error
            return failure

    def _loaded(self, plan: Plan) -> fake.FakeSession:
        return fake.FakeSession(plan, self._clock.wait)


def _undisturbed(answer: Message) -> Message:
    """Time is virtual here, so what other programs do to this process for real has no place in a block."""
    if isinstance(answer, Block):
        return dataclasses.replace(answer, queue_delay_ns=None, involuntary_switches=None, sensors={})
    return answer
