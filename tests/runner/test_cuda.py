from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runner.gpu_fakes import CudaError, FakeRuntime
from vitprof.runner import cuda
from vitprof.runner.backends import BackendError, is_out_of_memory


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(_has_driver(), reason="this machine has NVIDIA's driver")
def test_without_a_driver_one_line_says_so_and_what_to_do() -> None:
    with pytest.raises(BackendError, match=r"no NVIDIA GPU here: its driver \(libcuda") as caught:
        cuda.driver_facts(0)
    assert "--device local" in caught.value.remedy


# The driver of a Jetson as its headers declare it: a GPU that is on no bus, and no function that tells its UUID.
_JETSON = """
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Orin", size); return 0; }
int cuDeviceGetPCIBusId(char *id, int size, int device) { return 801; }
int cuDeviceTotalMem_v2(size_t *size, int device) { *size = 64; return 0; }
int cuDeviceGetAttribute(int *value, int kind, int device) { *value = kind == 75 ? 8 : 7; return 0; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "not supported"; return 0; }
"""


@pytest.mark.skipif(_has_driver(), reason="this machine has NVIDIA's driver")
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_what_a_jetson_s_driver_does_not_know_is_unknown_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "driver.c").write_text(_JETSON)
    command = ["cc", "-shared", "-fPIC", "-o", str(tmp_path / "libcuda.so.1"), str(tmp_path / "driver.c")]
    subprocess.run(command, check=True, capture_output=True)
    code = (
        "from vitprof.runner import accelerator, options\n"
        "import json\n"
        "told = accelerator.nvidia(options.RunOptions('cuda'), lambda: None, lambda: 5, {})\n"
        "print(json.dumps([told.environment(), told.sensors(), told.driver_peak_bytes(), told.peak_bytes()]))"
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    facts, sensors, driver_bytes, peak_bytes = json.loads(done.stdout)
    assert (facts["gpu"], facts["gpu_compute_capability"], facts["gpu_total_bytes"]) == ("Orin", "8.7", 64)
    assert facts["cuda_driver_version"] == "12.6" and facts["nvml"]
    # NVML knows nothing of it: nothing is made up, and the runtime's own count of memory is its own.
    assert (sensors, driver_bytes, peak_bytes) == ({}, None, 5)


def test_cuda_s_version_is_read_as_people_write_it() -> None:
    # 13 * 1000 + 0 * 10 and 12 * 1000 + 9 * 10.
    assert [cuda.text_from_version(number) for number in (13000, 12090)] == ["13.0", "12.9"]


def test_what_is_written_to_the_gpu_is_read_back_after_all_work() -> None:
    api = FakeRuntime()
    gpu = cuda.Gpu(api, 1, spin=True)
    address = gpu.allocate(4)
    gpu.write(address, bytearray(b"abcd"))
    found = bytearray(4)
    gpu.read(address, found)
    gpu.wait()
    assert found == b"abcd"
    # In the stream that the work is submitted to, whose order holds: no other would wait for it.
    copies = [arguments for name, arguments in api.calls if name == "cudaMemcpyAsync"]
    assert [(one[2:4], one[4]) for one in copies] == [((4, 1), 77), ((4, 2), 77)]
    assert api.calls[-1] == ("cudaStreamSynchronize", (77,))
    assert gpu.used_bytes() == 4


@pytest.mark.parametrize(("spin", "flags"), [(True, 1), (False, 4)])
def test_the_way_of_waiting_is_set_before_the_context_is_made(spin: bool, flags: int) -> None:
    api = FakeRuntime()
    cuda.Gpu(api, 1, spin)
    assert api.calls[:2] == [("cudaSetDevice", (1,)), ("cudaSetDeviceFlags", (flags,))]


def test_a_graph_is_captured_after_a_first_call_and_then_launched_alone() -> None:
    api = FakeRuntime()
    gpu = cuda.Gpu(api, 0, spin=True)
    submitted: list[str] = []
    launch = gpu.captured(lambda: submitted.append("call"))
    begin = len(api.calls)
    launch()
    launch()
    assert submitted == ["call", "call"]
    assert api.calls[begin:] == [("cudaGraphLaunch", ("executable", 77))] * 2
    order = [name for name, _ in api.calls[:begin]]
    assert order[-4:] == [
        "cudaStreamSynchronize",
        "cudaStreamBeginCapture",
        "cudaStreamEndCapture",
        "cudaGraphInstantiate",
    ]


def test_the_device_s_own_time_is_that_between_two_events() -> None:
    # The fake's events are 1.25 ms apart.
    assert cuda.Gpu(FakeRuntime(), 0, spin=True).elapsed_ns(lambda: None) == 1_250_000


@pytest.mark.parametrize(
    ("function", "error", "said", "remedy"),
    [
        ("cudaMalloc", CudaError.cudaErrorMemoryAllocation, "out of memory on the GPU", "smaller model"),
        ("cudaStreamSynchronize", CudaError.cudaErrorIllegalAddress, "illegal memory access", "--debug"),
    ],
)
def test_every_error_code_becomes_words_and_a_remedy(function: str, error: CudaError, said: str, remedy: str) -> None:
    gpu = cuda.Gpu(FakeRuntime({function: error}), 0, spin=True)
    with pytest.raises(BackendError, match=said) as caught:
        gpu.allocate(8)
        gpu.wait()
    assert function in str(caught.value) and error.name in str(caught.value)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    "said",
    [
        MemoryError("std::bad_alloc"),
        # As torch and TensorRT write them.
        "CUDA out of memory. Tried to allocate 20.00 GiB.",
        "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
        "Requested amount of GPU memory could not be allocated. (cudaErrorMemoryAllocation)",
        "Requested amount of GPU memory (8589934592 bytes) could not be allocated. There may not be enough free memory",
        "CUDNN_STATUS_ALLOC_FAILED",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
        # ONNX Runtime's arena and its limit.
        "bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 1073741824",
        # OpenVINO 2026, recorded.
        "Check 'ptr' failed at src/plugins/intel_cpu/src/cpu_memory.cpp:257:\nFailed to allocate 8 bytes of memory",
        "Available memory of 5 is smaller than requested bytes of 9",
        # torch on the processor, of two systems; the system itself.
        "[enforce fail at alloc_cpu.cpp:115] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 B",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
        OSError(12, "Cannot allocate memory"),
        # OpenCL and Vulkan beneath LiteRT.
        "Failed to allocate device memory (clCreateBuffer): Memory object allocation failure",
        "VK_ERROR_OUT_OF_DEVICE_MEMORY",
    ],
)
def test_every_runtime_s_way_to_say_that_memory_ran_out_is_known(said: str | Exception) -> None:
    assert is_out_of_memory(said)


@pytest.mark.parametrize(
    "said",
    [
        "Unsupported operator Foo",
        # The linker's table is full, not the memory; an operator of LiteRT refuses its shapes.
        ImportError("libgomp.so.1: cannot allocate memory in static TLS block"),
        "Failed to allocate tensors!",
        # LiteRT says no more where memory is short, and the same where something else is wrong (recorded).
        "failed to create XNNPACK runtimeNode number 649 (TfLiteXNNPackDelegate) failed to prepare.",
        "CUDA error: an illegal memory access was encountered",
    ],
)
def test_what_only_sounds_like_it_is_not_want_of_memory(said: str | Exception) -> None:
    assert not is_out_of_memory(said)


def test_the_fake_has_no_name_that_cuda_python_lacks() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    api = FakeRuntime()
    gpu = cuda.Gpu(api, 0, spin=False)
    gpu.write(gpu.allocate(1), bytearray(1))
    gpu.captured(lambda: None)()
    gpu.elapsed_ns(lambda: None)
    used = {name for name, _ in api.calls} | {name for name in vars(FakeRuntime) if name.startswith("cuda")}
    assert len(used) > 15 and [name for name in used if not hasattr(runtime, name)] == []
    for kind in ("cudaMemcpyKind", "cudaStreamCaptureMode"):
        names = vars(getattr(FakeRuntime, kind))
        assert all(int(getattr(getattr(runtime, kind), name)) == value for name, value in names.items())
    for name in ("cudaDeviceScheduleSpin", "cudaDeviceScheduleBlockingSync", "cudaStreamNonBlocking"):
        assert getattr(runtime, name) == getattr(FakeRuntime, name)


def test_cuda_python_takes_every_call_as_it_is_made() -> None:
    """With the real functions: without a driver each one answers with an error, and none with a TypeError."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    if _has_driver():
        pytest.skip("with NVIDIA's driver these calls would do something")
    stream, event = runtime.cudaStream_t(0), runtime.cudaEvent_t(0)
    # The fake copies memory for real, so that its source and its target are the same here.
    image = ctypes.create_string_buffer(4)
    calls: list[tuple[str, tuple[object, ...]]] = [
        ("cudaSetDevice", (0,)),
        ("cudaSetDeviceFlags", (runtime.cudaDeviceScheduleSpin,)),
        ("cudaMemGetInfo", ()),
        ("cudaStreamCreateWithFlags", (runtime.cudaStreamNonBlocking,)),
        ("cudaStreamSynchronize", (stream,)),
        ("cudaEventCreate", ()),
        ("cudaMalloc", (16,)),
        (
            "cudaMemcpyAsync",
            (
                ctypes.addressof(image),
                ctypes.addressof(image),
                4,
                runtime.cudaMemcpyKind.cudaMemcpyHostToDevice,
                stream,
            ),
        ),
        ("cudaStreamBeginCapture", (stream, runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)),
        ("cudaStreamEndCapture", (stream,)),
        ("cudaGraphInstantiate", (runtime.cudaGraph_t(0), 0)),
        ("cudaGraphLaunch", (runtime.cudaGraphExec_t(0), stream)),
        ("cudaEventRecord", (event, stream)),
        ("cudaEventSynchronize", (event,)),
        ("cudaEventElapsedTime", (event, event)),
    ]
    for name, arguments in calls:
        error, *values = getattr(runtime, name)(*arguments)
        assert error == runtime.cudaError_t.cudaErrorInsufficientDriver
        # As many values as the fake gives.
        assert len(values) == len(getattr(FakeRuntime(), name)(*arguments)) - 1


def test_cuda_python_itself_answers_in_tuples_whose_first_is_an_error() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    error, *_ = runtime.cudaGetDeviceCount()
    assert isinstance(error, runtime.cudaError_t)
    if error != runtime.cudaError_t.cudaSuccess:
        with pytest.raises(BackendError, match=r"CUDA failed: cudaSetDevice: .+ \(cudaError"):
            cuda.Gpu(runtime, 0, spin=True)
