"""An Android device behind `adb`: files by content hash, and the messages of the wire answered by a native program.

There is no Python on Android, so no runner is sent: each block is one whole run of LiteRT's `benchmark_model`
(`devices/native`), started when it is asked for. Between blocks nothing runs there. A run lives no longer than its
standard input is open: a guard beside it on the device kills it when the link is cut or its time is over.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitprof.devices.adb_client import Adb, connected_serial, own_error
from vitprof.devices.android_facts import SENSORS_SCRIPT, environment_from_text
from vitprof.devices.native import benchmark_model as tool
from vitprof.devices.profiles import user_folder
from vitprof.devices.transports import RunnerFailed
from vitprof.devices.transports.adb_files import AdbFiles
from vitprof.devices.transports.adb_hold import AdbHold, facts
from vitprof.errors import UnreachableError, VitprofError
from vitprof.records import Device
from vitprof.runner.processor import core_numbers
from vitprof.runner.wire import (
    LINK_LOST,
    Block,
    BlockRequest,
    End,
    EndRequest,
    Failure,
    Hold,
    Message,
    Outputs,
    OutputsRequest,
    Plan,
    Ready,
    Task,
    Tensor,
)

TOOL_VARIABLE = "VITPROF_BENCHMARK_MODEL"
_TOOL_OPTION = "benchmark_model"
_OPTIONS = (_TOOL_OPTION, "gpu_backend")
# What the profile says of itself goes with the options as well; the program is started on those cores.
_PROFILE_OPTIONS = ("cores",)
# Enough to know how many runs make a block.
_FIRST_RUNS, _FIRST_S = 3, 0.2
_MICROSECOND_NS = 1_000
# $1 seconds, then the command. The guard is a process beside the program that sleeps in a read: it kills it when
# standard input ends, or (Android's shell can that) when the time is over. It has no child that would outlive it and
# keep the link open (KILL: a TERM right after its start was lost), and no HUP, which adbd sends when the link is cut,
# ends it before it has done its work.
_SCRIPT = r"""
limit=$1; shift
exec 3<&0 </dev/null
"$@" 2>&1 3<&- &
program=$!
{
  trap '' HUP
  if [ -n "$KSH_VERSION" ]; then read -t "$limit" -r line <&3; else read -r line <&3; fi
  kill -9 "$program"
} >/dev/null 2>&1 &
guard=$!
wait "$program"
status=$?
kill -9 "$guard" 2>/dev/null
exit "$status"
"""


class AdbTransport:
    """One Android device, open until `close`."""

    def __init__(self, device: Device) -> None:
        profile = user_folder() / f"{device.name}.toml"
        self._device = device
        self._adb = Adb(connected_serial(device.host, device.name, profile))
        self._files = AdbFiles(self._adb)
        self._flags: dict[str, frozenset[str]] = {}

    def place(self, path: str) -> str:
        return self._files.place(Path(path), is_program=False)

    def scratch(self, name: str, folder: Path) -> str:
        return self._files.scratch(name)

    def fetch(self, path: str, folder: Path) -> Path:
        return self._files.fetch(path, folder)

    def start(self, task: Task) -> AdbHold | ToolLink:
        if isinstance(task, Hold):
            return AdbHold(self._adb, task, self._files.lock, runtimes(self._device))
        try:
            program = self._files.place(tool_path(task.options), is_program=True)
            return ToolLink(self._adb, self._files, task, self._command(program), self._flags_of(program))
        except VitprofError as error:
            raise RunnerFailed(Failure(error.stage, error.message, error.remedy)) from error

    def close(self) -> None:
        self._files.close()

    @property
    def adb(self) -> Adb:
        """The device itself, for what is neither measured nor sent."""
        return self._adb

    def _command(self, program: str) -> tuple[str, ...]:
        if self._device.cores is None:
            return (program,)
        mask = sum(1 << core for core in core_numbers(self._device.cores))
        return ("taskset", f"{mask:x}", program)

    def _flags_of(self, program: str) -> frozenset[str]:
        """The flags of the program, asked once."""
        if program not in self._flags:
            done = self._adb.shell('"$1" --help 2>&1', program)
            flags = tool.flags_from_help(done.stdout)
            if not flags:
                raise RunnerFailed(tool.failure_from_output(done.stdout, done.status))
            self._flags[program] = flags
        return self._flags[program]


@dataclass(frozen=True)
class _Said:
    """What one invocation gave, and when it began by this machine's clock."""

    readings: tool.Readings
    started_ns: int


class ToolLink:
    """Answers as a runner does, by one invocation after the other; each `receive` does what was asked for last."""

    def __init__(self, adb: Adb, files: AdbFiles, plan: Plan, command: tuple[str, ...], flags: frozenset[str]) -> None:
        unknown = sorted(set(plan.options) - {*_OPTIONS, *_PROFILE_OPTIONS})
        if unknown:
            known = ", ".join(_OPTIONS)
            what = f"a device behind adb has no option {', '.join(unknown)}; it has: {known}"
            raise RunnerFailed(Failure("load", what, f"mend [options.{plan.backend}] of its profile"))
        refused = tool.refusal(plan, flags)
        if refused:
            raise RunnerFailed(refused)
        self._adb = adb
        self._files = files
        self._plan = plan
        self._command = command
        self._flags = flags
        self._asked: Message = plan
        self._runs = 1
        self._images: dict[int, str] = {}
        self._deadline_s = time.monotonic() + plan.deadline_s

    def send(self, message: Message) -> None:
        self._asked = message

    def receive(self, timeout_s: float) -> Message:
        asked = self._asked
        try:
            if isinstance(asked, Plan):
                return self._ready(timeout_s)
            if isinstance(asked, BlockRequest):
                return self._block(asked.index, timeout_s)
            if isinstance(asked, OutputsRequest):
                return self._outputs(asked.path, timeout_s)
            if isinstance(asked, EndRequest):
                return self._end(timeout_s)
        except VitprofError as error:
            kind = LINK_LOST if isinstance(error, UnreachableError) else None
            raise RunnerFailed(Failure("device", error.message, error.remedy, kind=kind)) from error
        what = f"a {type(asked).__name__} is nothing that benchmark_model can be asked"
        raise RunnerFailed(Failure("run", what, "profile the model on another --device"))

    def close(self) -> None:
        """Nothing to end: an invocation ends before `receive` does, by whatever way that is left."""

    def _ready(self, timeout_s: float) -> Ready:
        plan = self._plan
        environment = facts(self._adb)
        first = self._said(tool.Asked(_FIRST_RUNS, _FIRST_S, image=self._image(0)), timeout_s).readings
        call_ns = first.counted.mean_ns
        is_slow = call_ns >= plan.slow_call_ns
        self._runs = 1 if is_slow else max(plan.min_calls, math.ceil(plan.block_ns / max(call_ns, 1.0)))
        gpu_share = 1.0 if first.gpu_share is None else first.gpu_share
        return Ready(
            load_ns=round(first.load_ns),
            build_ns=None,
            first_call_ns=round(first.warm_up.first_ns),
            clock="host",
            clock_step_ns=_MICROSECOND_NS,
            clock_cost_ns=None,
            loop_overhead_ns=None,
            calls_per_sample=self._runs,
            backend_version=version(self._command[-1]),
            # The processor takes everything; and where the program may use the GPU alone, what is not said is whole.
            placement_ops_share=gpu_share if plan.backend == "litert-gpu" else 1.0,
            environment={**environment, **self._own_facts()},
        )

    def _own_facts(self) -> dict[str, Any]:
        return {
            "tool": "benchmark_model",
            "samples": "single calls" if self._runs == 1 else f"means of {self._runs} calls, as the tool tells them",
            "images": "seeded" if tool.takes_images(self._flags) else "random numbers of the tool's own",
            "pinned_to_cores": None if len(self._command) == 1 else f"mask {self._command[1]}",
        }

    def _block(self, index: int, timeout_s: float) -> Block:
        # The phone's clocks have fallen since the last invocation. A slow call warms by itself.
        warm_up_s = 0.0 if self._runs == 1 else self._plan.rewarm_ns / 1e9
        said = self._said(tool.Asked(self._runs, warm_up_s=warm_up_s, image=self._image(0)), timeout_s)
        counted, warm_up = said.readings.counted, said.readings.warm_up
        if counted.runs != self._runs:
            what = f"benchmark_model made {counted.runs} runs where {self._runs} were asked"
            raise RunnerFailed(Failure("run", what, "use a smaller model, --batch or --size"))
        told = {f"tool_{name}_ns": round(value) for name, value in counted.others_ns.items()}
        warmed = {"warm_up_calls": warm_up.runs, "warm_up_mean_ns": round(warm_up.mean_ns)}
        return Block(
            index=index,
            start_ns=said.started_ns,
            set_aside_ns=(),
            samples_ns=(round(counted.mean_ns * counted.runs),),
            sensors={**environment_from_text(self._adb.shell(SENSORS_SCRIPT).stdout), **told, **warmed},
        )

    def _outputs(self, path: str, timeout_s: float) -> Outputs:
        if not tool.tells_outputs(self._flags):
            return Outputs("", (), "this benchmark_model neither takes an image nor writes outputs")
        plan = self._plan
        if not plan.expected_outputs:
            return Outputs("", (), "benchmark_model writes outputs without their shapes, and nobody told them")
        end_s = time.monotonic() + timeout_s
        tensors: list[Tensor] = []
        size = 0
        for index in range(plan.input_count):
            asked = tool.Asked(1, image=self._image(index), outputs=f"{path}.{index}")
            self._said(asked, max(1.0, end_s - time.monotonic()))
            for place, (dtype, shape) in enumerate(plan.expected_outputs):
                tensors.append(Tensor(f"output{place}", dtype, shape, size))
                size += _bytes_of(dtype) * math.prod(shape)
        parts = [f"{path}.{index}" for index in range(plan.input_count)]
        done = self._adb.shell('out=$1; shift; cat "$@" >"$out" && rm -f "$@" && stat -c %s "$out"', path, *parts)
        if done.stdout.strip() != str(size):
            found = done.stdout.strip() or "no"
            return Outputs("", (), f"benchmark_model wrote {found} bytes of outputs where {size} were expected")
        return Outputs(path, tuple(tensors))

    def _end(self, timeout_s: float) -> End:
        """Memory is asked in a run of its own: the program says that asking costs time."""
        peak = None
        if "report_peak_memory_footprint" in self._flags:
            peak = self._said(tool.Asked(1, image=self._image(0), with_memory=True), timeout_s).readings.peak_rss_bytes
        return End(peak, {**facts(self._adb), **self._own_facts()})

    def _image(self, index: int) -> str | None:
        """The device's file with image `index` alone, as a run takes one; None where the program takes none."""
        plan = self._plan
        if not tool.takes_images(self._flags) or not plan.inputs:
            return None
        if index not in self._images:
            size = _bytes_of(plan.input_dtype) * math.prod(plan.input_shape)
            self._images[index] = self._files.place_part(plan.inputs, index * size, size)
        return self._images[index]

    def _said(self, asked: tool.Asked, timeout_s: float) -> _Said:
        """One invocation; `RunnerFailed` where it fails, hangs, or says what is not understood."""
        limit_s = min(timeout_s, self._deadline_s - time.monotonic())
        if limit_s <= 0:
            raise RunnerFailed(Failure("run", "the runner reached its deadline", "allow more time with --timeout"))
        arguments = tool.arguments(self._plan, self._flags, asked)
        started_ns = time.monotonic_ns()
        running = self._adb.start(_SCRIPT, str(math.ceil(limit_s)), *self._command, *arguments)
        try:
            is_over = running.wait(limit_s)
        finally:
            running.close()
        text, status = running.text, running.status
        if not is_over:
            what = f"no answer within {limit_s:.0f} s; benchmark_model was ended"
            remedy = "allow more time with --timeout, or use a smaller model, --batch or --size"
            raise RunnerFailed(Failure("run", what, remedy, text[-4_000:]))
        if status is None:
            what = f"Android device {self._adb.serial}: {own_error(text) or 'the link was cut'}"
            remedy = "plug it in again, and look with: adb devices"
            raise RunnerFailed(Failure("device", what, remedy, text[-4_000:], LINK_LOST))
        if status != 0:
            raise RunnerFailed(tool.failure_from_output(text, status))
        try:
            readings = tool.readings_from_output(text)
        except tool.NotUnderstood as error:
            what = f"the output of benchmark_model is not as documented: {error}"
            raise RunnerFailed(
                Failure("run", what, "report this with the text that --debug shows", text[-4_000:])
            ) from error
        if readings.ignored:
            what = f"benchmark_model ignored {' '.join(readings.ignored)}"
            raise RunnerFailed(Failure("run", what, f"take a newer: {tool.WHERE_TO_GET_IT}", text[-4_000:]))
        return _Said(readings, started_ns)


def tool_path(options: Mapping[str, Any]) -> Path:
    """The user's `benchmark_model` for the device; `UnreachableError` with where to get it and where to write it."""
    given = options.get(_TOOL_OPTION) or os.environ.get(TOOL_VARIABLE)
    if not given:
        raise UnreachableError(
            "LiteRT's program benchmark_model, which measures on Android, is not given",
            remedy=f"get it ({tool.WHERE_TO_GET_IT}), then: export {TOOL_VARIABLE}=/path/to/benchmark_model",
            stage="device",
        )
    path = Path(str(given)).expanduser()
    if not path.is_file():
        raise UnreachableError(
            f"there is no file {path}, which is to be LiteRT's benchmark_model",
            remedy=f"mend {TOOL_VARIABLE}, or benchmark_model in the profile of the device",
            stage="device",
        )
    return path


def check(device: Device) -> None:
    """`UnreachableError` where something is missing on this side: the program adb, or benchmark_model."""
    from vitprof.devices.adb_client import program

    try:
        program()
        for backend in device.backends:
            tool_path(device.options.get(backend, {}))
    except UnreachableError as error:
        message = f"device '{device.name}': {error.message}"
        raise UnreachableError(message, remedy=error.remedy, stage=error.stage) from error


def runtimes(device: Device) -> dict[str, str | None]:
    """By backend the version of the program that measures it; None where it is not given."""
    found: dict[str, str | None] = {}
    for backend in device.backends:
        try:
            path = tool_path(device.options.get(backend, {}))
            found[backend] = version(hashlib.sha256(path.read_bytes()).hexdigest())
        except (UnreachableError, OSError):
            found[backend] = None
    return found


def version(placed: str) -> str:
    """The program tells no version of itself: its content's hash is what stands for it."""
    return f"benchmark_model {placed.rpartition('/')[2][:12]}"


def _bytes_of(dtype: str) -> int:
    """Bytes of one value, by the number of bits that its name ends with."""
    digits = "".join(letter for letter in dtype if letter.isdigit())
    return int(digits) // 8 if digits else 1
