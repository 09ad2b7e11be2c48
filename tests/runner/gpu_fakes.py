"""A GPU without hardware: its memory is this process's, its work is done at once, its driver is a handful of functions.

The names and the shape of the answers are those of `cuda.bindings.runtime` and `pynvml`; tests hold them against the
real modules where these are installed.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class CudaError(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorIllegalAddress = 700


class FakeRuntime:
    """`cuda.bindings.runtime`, the part that is used. `fails` names the function that fails, and how."""

    cudaError_t = CudaError
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaDeviceScheduleSpin = 1
    cudaDeviceScheduleBlockingSync = 4
    cudaStreamNonBlocking = 1

    def __init__(self, fails: dict[str, CudaError] | None = None) -> None:
        self.calls: list[tuple[str, tuple[object, ...]]] = []
        self._fails = fails or {}
        self._free_bytes = 1_000_000
        self._kept: list[Any] = []

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        answers: dict[str, Callable[..., tuple[Any, ...]]] = {
            "cudaSetDevice": lambda index: (),
            "cudaSetDeviceFlags": lambda flags: (),
            "cudaMemGetInfo": lambda: (self._free_bytes, 2_000_000),
            "cudaStreamCreateWithFlags": lambda flags: (77,),
            "cudaEventCreate": lambda: (object(),),
            "cudaMalloc": self._malloc,
            "cudaMemcpyAsync": self._memcpy,
            "cudaStreamSynchronize": lambda stream: (),
            "cudaStreamBeginCapture": lambda stream, mode: (),
            "cudaStreamEndCapture": lambda stream: ("graph",),
            "cudaGraphInstantiate": lambda graph, flags: ("executable",),
            "cudaGraphLaunch": lambda executable, stream: (),
            "cudaEventRecord": lambda event, stream: (),
            "cudaEventSynchronize": lambda event: (),
            "cudaEventElapsedTime": lambda begin, end: (1.25,),
        }
        if name not in answers:
            raise AttributeError(name)

        def called(*arguments: object) -> tuple[Any, ...]:
            self.calls.append((name, arguments))
            if name in self._fails:
                return (self._fails[name],)
            return (CudaError.cudaSuccess, *answers[name](*arguments))

        return called

    @staticmethod
    def cudaGetErrorString(error: CudaError) -> tuple[CudaError, bytes]:
        return CudaError.cudaSuccess, {2: b"out of memory", 700: b"an illegal memory access"}[error]

    def _malloc(self, size: int) -> tuple[int]:
        self._kept.append(ctypes.create_string_buffer(size))
        self._free_bytes -= size
        return (ctypes.addressof(self._kept[-1]),)

    @staticmethod
    def _memcpy(target: int, source: int, size: int, kind: int, stream: object) -> tuple[()]:
        ctypes.memmove(target, source, size)
        return ()


class NVMLError(Exception):
    pass


class FakeNvml:
    """`pynvml`, the part that is used, of one GPU; `unknown` are the questions that this GPU does not answer."""

    NVMLError = NVMLError

    def __init__(self, reasons: list[int], unknown: tuple[str, ...] = ()) -> None:
        self.locked: list[tuple[int, int] | None] = []
        self._reasons = reasons
        self._unknown = unknown
        self.processes = [SimpleNamespace(pid=1, usedGpuMemory=5)]

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "_unknown"):
            raise NVMLError("Not Supported")
        return object.__getattribute__(self, name)

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.95"

    def nvmlDeviceGetClockInfo(self, handle: object, kind: int) -> int:
        return {1: 1410, 2: 1593}[kind]

    def nvmlDeviceGetMaxClockInfo(self, handle: object, kind: int) -> int:
        return 1980

    def nvmlDeviceGetTemperature(self, handle: object, kind: int) -> int:
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: object) -> int:
        return 251_500

    def nvmlDeviceGetMemoryInfo(self, handle: object) -> SimpleNamespace:
        return SimpleNamespace(total=80, free=60, used=20)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: object) -> int:
        return 400_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:
        return 7_000

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: object) -> int:
        return self._reasons.pop(0)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> list[SimpleNamespace]:
        return self.processes

    def nvmlDeviceSetGpuLockedClocks(self, handle: object, low: int, high: int) -> None:
        self.locked.append((low, high))

    def nvmlDeviceResetGpuLockedClocks(self, handle: object) -> None:
        self.locked.append(None)
