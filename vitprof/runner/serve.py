"""One loaded model and the answers to the host's requests.

Its own file because two callers drive it: `__main__` in a real process with the real clock, and the fake transport
in the host's own process with a virtual one. Neither the timed loop nor the answers know which.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

from vitprof.runner import instructions, loop, sensors
from vitprof.runner.backends import Accelerator, Session, accelerator_of, graph_timer_of, remote_of, timed_call
from vitprof.runner.wire import (
    Block,
    BlockRequest,
    CountRequest,
    End,
    Message,
    Outputs,
    OutputsRequest,
    Plan,
    ProfileRequest,
    Ready,
    Tensor,
    WireError,
)

# NVML's counter moves in steps of tens of milliseconds: over this long a step is an error of a few per cent.
_ENERGY_NS = 2_000_000_000


def call_energy_j(call: Callable[[], None], accelerator: Accelerator, clock: loop.Clock) -> Optional[float]:
    """The energy of one call, over two seconds of calls; None where the device does not count it."""
    before_j = accelerator.energy_j()
    if before_j is None:
        return None
    calls = len(loop.timed(call, clock, 1, minimum=1, until_ns=clock() + _ENERGY_NS))
    after_j = accelerator.energy_j()
    return None if after_j is None else (after_j - before_j) / calls


class Server:
    """Loads the model of `plan` (each cold time measured once, here), then answers."""

    def __init__(self, plan: Plan, load: Callable[[Plan], Session], version: str, clock: loop.Clock) -> None:
        self._plan = plan
        self._clock = clock
        environment = sensors.environment()
        start = clock()
        self._session = load(plan)
        load_ns = clock() - start
        remote = remote_of(self._session)
        if remote is not None:
            self._clock = clock = remote.clock
            load_ns = remote.load_ns + (self._session.build_ns or 0)
        # Not one for the whole process: a first call may put another in its place.
        first_call_ns = loop.timed(self._call(), clock, 1, minimum=1, until_ns=0)[0]
        step_ns, cost_ns = loop.clock_facts(clock)
        self.ready = Ready(
            load_ns=load_ns - (self._session.build_ns or 0),
            build_ns=self._session.build_ns,
            first_call_ns=first_call_ns,
            clock="host" if remote is None else "device",
            clock_step_ns=step_ns,
            clock_cost_ns=cost_ns,
            loop_overhead_ns=loop.loop_overhead_ns(clock),
            calls_per_sample=loop.calls_per_sample(self._call(), clock, step_ns),
            backend_version=version,
            placement_ops_share=self._session.placement_ops_share,
            environment={**environment, **self._device_environment()},
            misplaced_ops=getattr(self._session, "misplaced_ops", None),
        )

    def answer(self, request: Message) -> Message:
        """The answer to one request; `WireError` for a message that is none."""
        if isinstance(request, BlockRequest):
            return self._block(request.index)
        if isinstance(request, OutputsRequest):
            return self._outputs(request.path)
        if isinstance(request, ProfileRequest):
            return self._session.profile(request, self._clock)
        if isinstance(request, CountRequest):
            return instructions.counted(self._call(), request)
        raise WireError(f"a {type(request).__name__} is not a request")

    def end(self) -> End:
        accelerator = accelerator_of(self._session)
        environment = {**sensors.environment(), **self._device_environment()}
        if accelerator is None:
            return End(sensors.peak_rss_bytes(), environment)
        energy_j = call_energy_j(self._call(), accelerator, self._clock)
        peak_bytes = accelerator.peak_bytes()
        # Last, because a graph holds memory of its own.
        return End(sensors.peak_rss_bytes(), environment, peak_bytes, energy_j, self._launch_share(accelerator))

    def _call(self) -> Callable[[], None]:
        return timed_call(self._session, self._plan.region)

    def _launch_share(self, accelerator: Accelerator) -> Optional[float]:
        try:
            graph_ns = graph_timer_of(self._session)
            return loop.launch_share(accelerator.call_ns, graph_ns) if graph_ns else None
        except Exception:  # Not every model can be recorded, and each runtime says so in its own way: no figure then.
            return None

    def _device_environment(self) -> Dict[str, Any]:
        accelerator = accelerator_of(self._session)
        return {**accelerator.environment(), **accelerator.sensors()} if accelerator else {}

    def _block(self, index: int) -> Block:
        return loop.run_block(self._plan, self._session, self._clock, self.ready.calls_per_sample, index)

    def _outputs(self, path: str) -> Outputs:
        tensors = []
        with open(path, "wb") as file:
            for index in range(self._plan.input_count):
                for name, dtype, shape, data in self._session.outputs(index):
                    tensors.append(Tensor(name, dtype, shape, file.tell()))
                    file.write(data)
        return Outputs(path, tuple(tensors))
