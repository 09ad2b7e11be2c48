"""The right to use a device alone, taken before anything is timed there: waited for, kept, given back.

Its own file because every command that times does it in the same way, whatever the device. Two things are waited for,
with one cap (`Readiness.wait_s`): that nobody else uses the device, then that it stands as its profile asks (cool,
idle, charged). Who still has it after that is an error; one that is still warm is measured all the same, with a
warning, because a doubtful number says more than none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from vitprof.devices import reach
from vitprof.devices.transports import Link, RunnerFailed, Transport
from vitprof.errors import UnreachableError, VitprofError
from vitprof.measurements import Doubt
from vitprof.records import Device, Readiness
from vitprof.runner.hold import IN_USE_STAGE, who_am_i
from vitprof.runner.processor import core_numbers
from vitprof.runner.sensors import cores
from vitprof.runner.wire import Facts, FactsRequest, Failure, Hold

NOT_READY = "not ready"
# What `uname -m` calls the processors of a kind.
_MACHINES = {
    "arm-cpu": ("aarch64", "arm64", "armv7l", "armv8l"),
    "x86-cpu": ("x86_64", "amd64", "i686"),
}
# Who holds a device and is cut off from it without the device noticing keeps others out for at most so long; asked
# before each group, which takes minutes.
_DEADLINE_S = 4 * 3600.0
_ANSWER_S = 60.0
_POLL_S = 2.0
# Asking for one elsewhere that is in use starts a process there, and must not disturb whoever measures.
_LONGEST_POLL_S = 16.0


class Lease:
    """A held device. `wait_until_ready` is called before each group that is timed."""

    def __init__(
        self,
        device: Device,
        transport: Transport,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._device = device
        self._transport = transport
        self._tell = say
        self._clock = clock
        self._pause = pause
        self._link: Link | None = None
        self._was_ready = False
        # Why it cannot be had any more: what comes after need not wait for it again.
        self._lost: VitprofError | None = None

    def take(self, *, is_patient: bool = False) -> None:
        """Waits until the device is free, and holds it; `UnreachableError` where it is not free in time.

        What else is wrong is an error at once; `is_patient`: it may pass, as a reboot does, and is waited for.
        """
        end_s, pause_s = self._clock() + self._device.ready.wait_s, _POLL_S
        while True:
            try:
                self._link = self._transport.start(Hold(who_am_i(), _DEADLINE_S))
                self._link.receive(_ANSWER_S)
                return
            except RunnerFailed as failed:
                self.close()
                may_pass = is_patient or failed.failure.stage == IN_USE_STAGE
                if not may_pass or self._clock() >= end_s:
                    raise self._refusal(failed.failure) from failed
                self._say(failed.failure.error)
            except VitprofError as error:
                self.close()
                if not is_patient or self._clock() >= end_s:
                    raise
                self._say(error.message)
            self._pause(pause_s)
            pause_s = _POLL_S if reach.is_here(self._device) else min(2 * pause_s, _LONGEST_POLL_S)

    def wait_until_ready(self) -> tuple[Doubt, ...]:
        """Waits until the device stands as its profile asks; what is still wrong after that, as warnings.

        Another processor than the profile's is among them: waiting changes nothing of it.
        A device that was lost meanwhile is waited for and held again; `VitprofError` where it does not come back.
        """
        wanted = self._device.ready
        if self._was_ready:
            # The load of the last minute is this run's own by now.
            wanted = dataclasses.replace(wanted, max_load=None)
        self._was_ready = True
        end_s = self._clock() + wanted.wait_s
        while lacking := unready(wanted, facts := self._facts()):
            if self._clock() >= end_s:
                waited = f"after {wanted.wait_s:.0f} s of waiting" if wanted.wait_s else "and was not waited for"
                doubts = not_ready(self._device, (f"{one}, {waited}" for one in lacking))
                return (*doubts, *of_processor(self._device, facts))
            self._say("; ".join(lacking))
            self._pause(_POLL_S)
        return of_processor(self._device, facts)

    def free_bytes(self) -> float:
        """Of the device's main memory what is free, else what there is of it; infinite where it does not tell."""
        facts = self._facts()
        told = (_number(facts, name) for name in ("memory_available_bytes", "memory_bytes"))
        return next((value for value in told if value is not None), math.inf)

    def close(self) -> None:
        """Gives the device back; may be called twice."""
        if self._link is not None:
            self._link.close()
        self._link = None

    def _facts(self) -> Mapping[str, Any]:
        if self._lost is not None:
            raise self._lost
        with contextlib.suppress(RunnerFailed):
            return _environment(self._link)
        self.close()
        try:
            self.take(is_patient=True)
            return _environment(self._link)
        except RunnerFailed as failed:
            self._lost = self._refusal(failed.failure)
            raise self._lost from failed
        except VitprofError as error:
            self._lost = error
            raise

    def _say(self, what: str) -> None:
        self._tell(f"{self._device.name}: {what}")

    def _refusal(self, failure: Failure) -> UnreachableError:
        waited = f"; waited {self._device.ready.wait_s:.0f} s for it" if failure.stage == IN_USE_STAGE else ""
        said = f"device '{self._device.name}': {failure.error}{waited}"
        return UnreachableError(said, remedy=failure.remedy, stage="device")


@contextlib.contextmanager
def held(device: Device, transport: Transport, say: Callable[[str], None]) -> Iterator[Lease]:
    """The device for this process alone; `UnreachableError` where somebody else does not give it back in time.

    `say` is told what is waited for.
    """
    lease = Lease(device, transport, say)
    try:
        lease.take()
        yield lease
    finally:
        lease.close()


def look(device: Device, transport: Transport, *, with_runtimes: bool = False) -> Mapping[str, Any]:
    """How the device stands, by the names of `sensors.environment`, without holding it.

    `held_by`: who does, where that is somebody; `runtimes`: by backend. `VitprofError` where it does not answer.
    """
    link = None
    try:
        link = transport.start(Hold(who_am_i(), _ANSWER_S, only_look=True))
        first = link.receive(_ANSWER_S)
        if with_runtimes:
            link.send(FactsRequest(with_runtimes=True))
            first = link.receive(_ANSWER_S)
    except RunnerFailed as failed:
        failure = failed.failure
        raise UnreachableError(
            f"device '{device.name}': {failure.error}", remedy=failure.remedy, stage=failure.stage
        ) from failed
    finally:
        if link is not None:
            link.close()
    return first.environment if isinstance(first, Facts) else {}


def threads_of(device: Device, transport: Transport) -> int:
    """Threads of a session where nobody names any: the profile's, else one for each core that runners may use."""
    known = known_threads(device)
    if known is not None:
        return known
    told = _number(look(device, transport), "cores")
    return max(1, int(told)) if told is not None else 1


def known_threads(device: Device) -> int | None:
    """As `threads_of`, where the device need not be asked for it; else None."""
    if device.threads is not None:
        return device.threads
    if device.cores is not None:
        return len(core_numbers(device.cores))
    return cores() if reach.is_here(device) else None


def unready(wanted: Readiness, environment: Mapping[str, Any]) -> tuple[str, ...]:
    """What is not as the profile asks, as `72 °C, waiting for 60 °C`; what the device does not tell is no reason."""
    load, heat = _number(environment, "load_1min"), _number(environment, "temperature_c")
    charge = _number(environment, "battery_share")
    lacking = []
    if wanted.max_load is not None and load is not None and load > wanted.max_load:
        lacking.append(f"load {load:g}, waiting for {wanted.max_load:g}")
    if wanted.max_temperature_c is not None and heat is not None and heat > wanted.max_temperature_c:
        lacking.append(f"{heat:.0f} °C, waiting for {wanted.max_temperature_c:.0f} °C")
    if wanted.min_battery_share is not None and charge is not None and charge < wanted.min_battery_share:
        lacking.append(f"battery at {charge:.0%}, waiting for {wanted.min_battery_share:.0%}")
    if wanted.on_mains and environment.get("power") == "battery":
        lacking.append("on battery, waiting for mains")
    return tuple(lacking)


def not_ready(device: Device, lacking: Iterable[str]) -> tuple[Doubt, ...]:
    """A warning for each of what `unready` says."""
    remedy = f"let it rest, cool or charge as that asks, or change [ready] in the profile of {device.name}"
    return tuple(Doubt(NOT_READY, one, remedy) for one in lacking)


def of_processor(device: Device, told: Mapping[str, Any]) -> tuple[Doubt, ...]:
    """A warning where the device has a processor of another kind than its profile says."""
    machine, wanted = str(told.get("machine", "")).lower(), _MACHINES.get(device.kind)
    if not machine or wanted is None or machine in wanted:
        return ()
    remedy = "mend 'kind' or 'host' in its profile: numbers of one processor must not stand for another"
    return (Doubt("another processor", f"the profile says {device.kind}, the device is {machine}", remedy),)


def _environment(link: Link | None) -> Mapping[str, Any]:
    if link is None:
        return {}
    link.send(FactsRequest())
    answer = link.receive(_ANSWER_S)
    return answer.environment if isinstance(answer, Facts) else {}


def _number(environment: Mapping[str, Any], name: str) -> float | None:
    """A device's word is taken for what it is."""
    value = environment.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
