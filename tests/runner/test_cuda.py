from __future__ import annotations

import ctypes

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


def test_cuda_s_version_is_read_as_people_write_it() -> None:
    # 13 * 1000 + 0 * 10 and 12 * 1000 + 9 * 10.
    assert [cuda.text_from_version(number) for number in (13000, 12090)] == ["13.0", "12.9"]


def test_what_is_written_to_the_gpu_is_read_back_after_all_work() -> None:
    api = FakeRuntime()
    gpu = cuda.Gpu(api, 1, spin=True)
    address = gpu.allocate(4)
    gpu.write(address, bytearray(b"abcd"))
    assert gpu.read(address, 4) == b"abcd"
    names = [name for name, _ in api.calls]
    # Non-blocking streams do not wait for copies, so a read waits for the stream.
    assert names[-2:] == ["cudaStreamSynchronize", "cudaMemcpy"]
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
    ],
)
def test_every_runtime_s_way_to_say_that_memory_ran_out_is_known(said: str | Exception) -> None:
    assert is_out_of_memory(said)
    assert not is_out_of_memory("Unsupported operator Foo")


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
    image = ctypes.create_string_buffer(4)
    calls: list[tuple[str, tuple[object, ...]]] = [
        ("cudaSetDevice", (0,)),
        ("cudaSetDeviceFlags", (runtime.cudaDeviceScheduleSpin,)),
        ("cudaMemGetInfo", ()),
        ("cudaStreamCreateWithFlags", (runtime.cudaStreamNonBlocking,)),
        ("cudaStreamSynchronize", (stream,)),
        ("cudaEventCreate", ()),
        ("cudaMalloc", (16,)),
        ("cudaMemcpy", (1, ctypes.addressof(image), 4, runtime.cudaMemcpyKind.cudaMemcpyHostToDevice)),
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
        assert len(values) == len(getattr(FakeRuntime(), name)(*_as_numbers(arguments))) - 1


def _as_numbers(arguments: tuple[object, ...]) -> tuple[object, ...]:
    """The fake copies memory for real: its source and its target are the same here."""
    return (arguments[1], *arguments[1:]) if len(arguments) == 4 else arguments


def test_cuda_python_itself_answers_in_tuples_whose_first_is_an_error() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    error, *_ = runtime.cudaGetDeviceCount()
    assert isinstance(error, runtime.cudaError_t)
    if error != runtime.cudaError_t.cudaSuccess:
        with pytest.raises(BackendError, match=r"CUDA failed: cudaSetDevice: .+ \(cudaError"):
            cuda.Gpu(runtime, 0, spin=True)
