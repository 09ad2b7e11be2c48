"""NVIDIA GPUs: what the driver says of them (libcuda through ctypes), and one of them to run on (cuda-python).

Its own file because every runtime on a GPU asks the driver first: `import torch` takes seconds, and TensorRT ends a
process that has no driver in ways of its own. Only what has no runtime of its own for memory, streams and graphs
(TensorRT) needs cuda-python, so the driver's facts come without it. All error codes become words in `checked`.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Protocol

from vitprof.runner.backends import BackendError, is_out_of_memory, out_of_memory

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NO_GPU_REMEDY = "run it where nvidia-smi lists a GPU, or measure the processor: --device local --backend ort"
_INSTALL = "pip install cuda-python"
_BUS_ID_BYTES = 32
# CUdevice_attribute: compute capability, major and minor.
_MAJOR, _MINOR = 75, 76

Submit = Callable[[], None]


@dataclass(frozen=True)
class DriverFacts:
    """One GPU as its driver describes it; `cuda_version` is the newest that the driver can run."""

    name: str
    pci_bus_id: str
    uuid: str
    compute_capability: str
    # None where the driver does not tell.
    total_bytes: Optional[int]
    cuda_version: str

    def facts(self) -> Dict[str, Any]:
        facts = {
            "gpu": self.name,
            "gpu_compute_capability": self.compute_capability,
            "gpu_total_bytes": self.total_bytes,
            "cuda_driver_version": self.cuda_version,
        }
        return {name: value for name, value in facts.items() if value is not None}


def driver_facts(index: int) -> DriverFacts:
    """What the driver says of GPU `index`; `BackendError` where there is no driver or no such GPU."""
    library = _driver()
    count = ctypes.c_int()
    _driver_ok(library, library.cuDeviceGetCount(ctypes.byref(count)), "count the GPUs")
    if index >= count.value:
        message = f"there is no GPU {index}: the driver lists {count.value}"
        raise BackendError("load", message, "see them with nvidia-smi; CUDA_VISIBLE_DEVICES may hide some")
    device, version, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name, bus_id, uuid = (ctypes.create_string_buffer(length) for length in (256, _BUS_ID_BYTES, 16))
    major, minor = ctypes.c_int(), ctypes.c_int()
    for code in (
        library.cuDeviceGet(ctypes.byref(device), index),
        library.cuDeviceGetName(name, len(name), device),
        library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
        library.cuDriverGetVersion(ctypes.byref(version)),
    ):
        _driver_ok(library, code, f"describe GPU {index}")
    # A Jetson's GPU sits on no bus, and its driver need not know all of these: what stays empty is not known.
    for function, arguments in (
        ("cuDeviceGetPCIBusId", (bus_id, len(bus_id), device)),
        ("cuDeviceGetUuid", (uuid, device)),
        ("cuDeviceTotalMem_v2", (ctypes.byref(size), device)),
    ):
        ask = getattr(library, function, None)
        if ask is not None:
            ask(*arguments)
    return DriverFacts(
        name=name.value.decode(errors="replace"),
        pci_bus_id=bus_id.value.decode(errors="replace"),
        uuid=uuid.raw.hex(),
        compute_capability=f"{major.value}.{minor.value}",
        total_bytes=size.value or None,
        cuda_version=text_from_version(version.value),
    )


def _driver() -> Any:
    # As nvidia-smi numbers them, which is where the host has the number from.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        message = f"no NVIDIA GPU here: its driver ({_LIBRARY}) cannot be loaded"
        raise BackendError("load", message, _NO_GPU_REMEDY) from error
    _driver_ok(library, library.cuInit(0), "start")
    return library


def _driver_ok(library: Any, code: int, what: str) -> None:
    if code:
        text = ctypes.c_char_p()
        library.cuGetErrorString(code, ctypes.byref(text))
        said = (text.value or b"unknown error").decode(errors="replace")
        raise BackendError("load", f"NVIDIA's driver cannot {what}: {said} (error {code})", _NO_GPU_REMEDY)


def text_from_version(number: int) -> str:
    """`13000` as `13.0`: a thousand times the major number, ten times the minor one."""
    return f"{number // 1000}.{number % 1000 // 10}"


class Memory(Protocol):
    """Memory of the device, as an engine's session needs it before and after timed calls."""

    def allocate(self, size_bytes: int) -> int:
        """The address of new memory; it is freed with the process."""

    def write(self, address: int, data: bytearray) -> None:
        """Submits a copy to the device, before the work that is submitted later; `data` stays until it is done."""

    def read(self, address: int, data: bytearray) -> None:
        """Submits a copy from the device into `data`, after the work that was submitted before."""

    def used_bytes(self) -> Optional[int]:
        """How much less of the device's memory is free than when this process came to it."""


class Stream(Protocol):
    """The queue that work is submitted to. `wait` is inside the timed region, nothing else of it."""

    handle: int

    def wait(self) -> None:
        """Returns when all work that was submitted is complete."""

    def captured(self, submit: Submit) -> Submit:
        """What launches the work of `submit` as one graph."""

    def elapsed_ns(self, submit: Submit) -> int:
        """The time that the device itself takes from the begin to the end of the work of `submit`."""


class Gpu:
    """One GPU through `cuda.bindings.runtime`: a `Memory` and a `Stream`. `api` is that module."""

    def __init__(self, api: Any, index: int, spin: bool) -> None:
        self._api = api
        self._success = api.cudaError_t.cudaSuccess
        self._do("cudaSetDevice", index)
        self._do("cudaSetDeviceFlags", api.cudaDeviceScheduleSpin if spin else api.cudaDeviceScheduleBlockingSync)
        self._free_at_start_bytes = self._do("cudaMemGetInfo")[0]
        [self._stream] = self._do("cudaStreamCreateWithFlags", api.cudaStreamNonBlocking)
        self.handle = int(self._stream)
        self._synchronize = api.cudaStreamSynchronize
        [self._begin], [self._end] = self._do("cudaEventCreate"), self._do("cudaEventCreate")

    def allocate(self, size_bytes: int) -> int:
        return int(self._do("cudaMalloc", max(1, size_bytes))[0])

    def write(self, address: int, data: bytearray) -> None:
        # In the stream: `cudaMemcpy` may return before the copy has arrived, and this stream waits for no other.
        source = (ctypes.c_char * len(data)).from_buffer(data)
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._do("cudaMemcpyAsync", address, ctypes.addressof(source), len(data), kind, self._stream)

    def read(self, address: int, data: bytearray) -> None:
        target = (ctypes.c_char * len(data)).from_buffer(data)
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._do("cudaMemcpyAsync", ctypes.addressof(target), address, len(data), kind, self._stream)

    def used_bytes(self) -> Optional[int]:
        return max(0, int(self._free_at_start_bytes - self._do("cudaMemGetInfo")[0]))

    def wait(self) -> None:
        [error] = self._synchronize(self._stream)
        if error != self._success:
            raise self._error("cudaStreamSynchronize", error)

    def captured(self, submit: Submit) -> Submit:
        # What a first call allocates cannot be captured.
        submit()
        self.wait()
        self._do(
            "cudaStreamBeginCapture", self._stream, self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        submit()
        [graph] = self._do("cudaStreamEndCapture", self._stream)
        [executable] = self._do("cudaGraphInstantiate", graph, 0)
        launch, stream, success = self._api.cudaGraphLaunch, self._stream, self._success

        def launched() -> None:
            [error] = launch(executable, stream)
            if error != success:
                raise self._error("cudaGraphLaunch", error)

        return launched

    def elapsed_ns(self, submit: Submit) -> int:
        self._do("cudaEventRecord", self._begin, self._stream)
        submit()
        self._do("cudaEventRecord", self._end, self._stream)
        self._do("cudaEventSynchronize", self._end)
        [milliseconds] = self._do("cudaEventElapsedTime", self._begin, self._end)
        return round(float(milliseconds) * 1e6)

    def _do(self, name: str, *arguments: object) -> List[Any]:
        """What the function gives beside its error code; every function of cuda-python returns a tuple with both."""
        error, *values = getattr(self._api, name)(*arguments)
        if error != self._success:
            raise self._error(name, error)
        return list(values)

    def _error(self, name: str, error: Any) -> BackendError:
        _, text = self._api.cudaGetErrorString(error)
        said = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        return error_from_text(f"{name}: {said} ({error.name})")


def error_from_text(text: str) -> BackendError:
    """A failed call of CUDA with what to do about it."""
    if is_out_of_memory(text):
        return out_of_memory("run", text, " on the GPU")
    remedy = "see NVIDIA's driver log (sudo dmesg | grep NVRM), and run again with --debug"
    return BackendError("run", f"CUDA failed: {text}", remedy)


def gpu(index: int, spin: bool) -> Gpu:
    """GPU `index`, ready to run on; `BackendError` where cuda-python is not installed."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendError("load", f"TensorRT needs the package cuda-python: {error}", _INSTALL) from error
    return Gpu(runtime, index, spin)
