"""Core ML on an iPhone that hangs on this Mac's cable, by coremltools' remote device service.

coremltools builds Apple's small `modelrunner` app, signs it, installs and starts it on the phone, and hands it models
and inputs as files. A call over that cable takes seconds, so it is timed by the app, around Core ML's prediction alone:
the sample is the duration that comes back with the outputs. Between two calls the phone idles, and its units may lower
their clocks: without a pause a model can be faster. Xcode's performance report (docs/iphone.md) has no pauses.

Its own file because it needs Xcode, which the Mac's own Core ML does not. Written against coremltools 9.0 as it is
documented (`coremltools.models.ml_program.experimental`); nobody who wrote it had a phone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import subprocess
from functools import cached_property
from typing import Any, Callable, Coroutine, Dict, List, Optional, Sequence, Tuple

from vitprof.runner.backends import Accelerator, BackendError
from vitprof.runner.backends import coreml as on_mac
from vitprof.runner.profiles import coreml as plans
from vitprof.runner.sensors import cpu_model
from vitprof.runner.wire import Plan, Profile, ProfileRequest

# The built app is kept there by coremltools: building takes a minute. A user's caches on a Mac lie there.
_APP_FOLDER = "~/Library/Caches/vitprof/modelrunner"
_XCODE_TIMEOUT_S = 10.0
# Calls of a profile, each over the cable: their shares are the phone's estimate, the calls give the whole alone.
_PROFILED_RUNS = 5
_CONNECT = "connect it, unlock it, trust this Mac, turn on Developer Mode; xcrun devicectl list devices must show it"


def load(plan: Plan, options: on_mac.CoremlOptions) -> Any:
    if options.development_team is None and options.provisioning_profile_uuid is None:
        message = "an app must be signed to run on an iPhone, and no identity is named for it"
        remedy = 'add development_team = "…" (Xcode, Settings, Accounts) to [options.coreml] of the device\'s profile'
        raise BackendError("load", message, remedy)
    if plan.artifact.rstrip("/").endswith(on_mac.COMPILED_SUFFIX):
        message = "coremltools sends packages to a phone and compiles them for it: this model is compiled already"
        raise BackendError("load", message, "give the .mlpackage")
    find_xcode()
    return _PhoneSession(plan, options)


class _PhoneSession:
    """A model loaded on the phone. `remote`: the phone's own times."""

    def __init__(self, plan: Plan, options: on_mac.CoremlOptions) -> None:
        from coremltools import ComputeUnit
        from coremltools.models.ml_program.experimental import async_wrapper, remote_device

        self._plan, self._options = plan, options
        self._events = asyncio.new_event_loop()
        self.build_ns: Optional[int] = None
        phone = phone_named(str(options.iphone), remote_device.Device.get_connected_devices(_iphone_type()))
        self._system = f"iOS {phone.os_version}".strip()
        credentials = remote_device.AppSigningCredentials(
            development_team=options.development_team,
            provisioning_profile_uuid=options.provisioning_profile_uuid,
            bundle_identifier=options.bundle_identifier,
        )
        folder = os.path.expanduser(_APP_FOLDER)
        os.makedirs(folder, exist_ok=True)
        try:
            ready = self._run(phone.prepare_for_model_debugging(credentials=credentials, working_directory=folder))
            self._model = async_wrapper.MLModelAsyncWrapper.from_spec_or_path(
                spec_or_path=plan.artifact,
                weights_dir="",
                compute_units=getattr(ComputeUnit, on_mac.NAMES[options.compute_units]),
                device=ready,
            )
            self._run(self._model.load())
        except Exception as error:  # devicectl, xcodebuild, JSON-RPC and Core ML have classes of their own.
            raise phone_error(error) from error
        self.remote = PhoneClock(self._told(self._model.load_duration_in_nano_seconds, "load"))
        self._names = on_mac.output_names(plan.artifact)
        self._image = {plan.input_name: on_mac.prepared(plan, 0)}
        self.accelerator: Optional[Accelerator] = on_mac.Units(self)

    def call(self) -> None:
        self._predict(self._image)

    def outputs(self, index: int) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
        found = self._predict({self._plan.input_name: on_mac.prepared(self._plan, index)})
        return on_mac.tensors(found, self._names)

    def profile(self, request: ProfileRequest, clock: Callable[[], int]) -> Profile:
        few = dataclasses.replace(request, runs=min(request.runs, _PROFILED_RUNS))
        return on_mac.estimated(self.planned, self.call, few, clock)

    @cached_property
    def planned(self) -> Tuple[plans.PlannedOp, ...]:
        """What Core ML on the phone means to run where; empty where it does not tell (before iOS 17.4)."""
        # A missing figure is no reason to fail, whatever class it comes in.
        with contextlib.suppress(Exception):
            return plans.planned_ops(self._run(self._model.retrieve_compute_plan()))
        return ()

    @property
    def placement_ops_share(self) -> Optional[float]:
        return plans.placement_ops_share(self.planned, self._options.compute_units)

    @property
    def misplaced_ops(self) -> Tuple[str, ...]:
        return plans.misplaced(self.planned, self._options.compute_units)

    def facts(self) -> Dict[str, Any]:
        """The numbers are the phone's: what else is told of a machine is told of the Mac."""
        return {
            "cpu": f"iPhone, {self._system}",
            "host_cpu": cpu_model(),
            "cores": None,
            "compute_units": self._options.compute_units,
            **plans.placement_facts(self.planned),
        }

    def predict_ns(self) -> Optional[int]:
        duration: Optional[int] = self._model.last_predict_duration_in_nano_seconds
        return duration

    def _predict(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
        found: Dict[str, Any] = self._run(self._model.predict(inputs))
        self.remote.add(self._told(self._model.last_predict_duration_in_nano_seconds, "prediction"))
        return found

    def _run(self, work: "Coroutine[Any, Any, Any]") -> Any:
        return self._events.run_until_complete(work)

    def _told(self, duration_ns: Optional[int], what: str) -> int:
        if not duration_ns:
            message = f"coremltools {on_mac.version()} does not tell how long the {what} took on the phone"
            raise BackendError("load", message, "take a performance report with Xcode instead (docs/iphone.md)")
        return int(duration_ns)


class PhoneClock:
    """Time that the phone has spent in predictions, by its own clock."""

    def __init__(self, load_ns: int) -> None:
        self.load_ns = load_ns
        self._spent_ns = 0

    def clock(self) -> int:
        return self._spent_ns

    def add(self, duration_ns: int) -> None:
        self._spent_ns += duration_ns


def phone_named(wanted: str, phones: Sequence[Any]) -> Any:
    """The connected phone of that name, UDID or identifier; `BackendError` where there is none."""
    for phone in phones:
        if wanted in (phone.name, phone.udid, phone.identifier):
            return phone
    there = ", ".join(str(phone.name) for phone in phones) or "none"
    raise BackendError("load", f"no iPhone '{wanted}' is connected to this Mac; connected: {there}", _CONNECT)


def find_xcode() -> None:
    """Puts Xcode's tools on the PATH, where coremltools looks for them; `BackendError` where there is no Xcode."""
    if shutil.which("devicectl") is None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            words = ["xcode-select", "--print-path"]
            done = subprocess.run(words, capture_output=True, text=True, timeout=_XCODE_TIMEOUT_S, check=True)
            os.environ["PATH"] += os.pathsep + os.path.join(done.stdout.strip(), "usr", "bin")
    for tool in ("devicectl", "xcodebuild"):
        if shutil.which(tool) is None:
            message = f"an iPhone is reached with Xcode 15 or newer, and there is no {tool} on this Mac"
            remedy = "install Xcode, open it once, then: sudo xcode-select -s /Applications/Xcode.app"
            raise BackendError("load", message, remedy)


def phone_error(error: Exception) -> BackendError:
    """What went wrong on the way to the phone, on one line: xcodebuild and devicectl say it in many."""
    said = getattr(error, "message", None) or str(error)
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = next((line for line in lines if "error" in line.lower()), lines[0] if lines else type(error).__name__)
    return BackendError("load", f"the iPhone could not be prepared: {telling}", f"{_CONNECT}; all of it with --debug")


def _iphone_type() -> Any:
    from coremltools.models.ml_program.experimental.remote_device import DeviceType

    return DeviceType.IPHONE
