"""One loaded model and the answers to the host's requests.

Its own file because two callers drive it: `__main__` in a real process with the real clock, and the fake transport
in the host's own process with a virtual one. Neither the timed loop nor the answers know which.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Callable, Dict, Optional, Union

from vitprof.runner import energy, instructions, loop, sensors
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


class Server:
    """Loads the model of `plan` (each cold time measured once, here), then answers.

    `source` tells the energy by the real clock, or why nothing does; None: it is not asked for.
    """

    def __init__(
        self,
        plan: Plan,
        load: Callable[[Plan], Session],
        version: str,
        clock: loop.Clock,
        source: Union[energy.Source, energy.Missing, None] = None,
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._source = None if isinstance(source, energy.Missing) else source
        self._peak_rss = sensors.PeakRss()
        environment = {**sensors.environment(), **energy.facts(source)}
        # Before the model is there: what the device takes at rest is not the model's.
        idle = energy.over(self._source, time.sleep) if self._source else None
        self._idle_power_w = idle.power_w if idle else None
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
            self._peak_rss.begin_measuring()
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
        # In this order: a process grows a little by being asked, and the whole must not be less than the part.
        measuring_bytes = self._peak_rss.measuring_bytes()
        end = End(self._peak_rss.life_bytes(), environment, peak_rss_measuring_bytes=measuring_bytes)
        if self._source:
            end = self._with_energy(end, self._source)
        if accelerator is None:
            return end
        return dataclasses.replace(
            end,
            peak_device_bytes=accelerator.peak_bytes(),
            peak_device_nvml_bytes=accelerator.driver_peak_bytes(),
            # Last, because a graph holds memory of its own.
            launch_share=self._launch_share(accelerator),
        )

    def _with_energy(self, end: End, source: energy.Source) -> End:
        """`end` with the energy of a call, over calls without a pause; they are no samples."""
        calls = 0

        def call_for(seconds: float) -> None:
            nonlocal calls
            until_ns = self._clock() + round(seconds * 1e9)
            calls = len(loop.timed(self._call(), self._clock, 1, minimum=1, until_ns=until_ns))

        used = energy.over(source, call_for)
        if used is None:
            return end
        return dataclasses.replace(
            end,
            call_energy_j=used.joules / calls,
            energy_source=source.name,
            power_w=used.power_w,
            idle_power_w=self._idle_power_w,
        )

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
