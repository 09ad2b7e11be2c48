"""LiteRT on the GPU and on nothing else, from a `.tflite` file: its ML Drift engine, by Vulkan, Metal or Direct3D.

Three things that it says of itself are not so (seen with 2.3.0). A run returns before it is done, 1,000 times too
early, unless benchmark mode is on: it is, and whether it helps is tried. "Fully accelerated" is claimed of a
model most of which runs on the CPU: so the GPU alone is allowed, and what is refused is a failure. And a renderer in
software passes for a GPU: which one it took stands only in what it writes.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import sys
import tempfile
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from vitprof.runner.backends import Accelerator, BackendError, is_out_of_memory, out_of_memory
from vitprof.runner.backends import litert as on_cpu
from vitprof.runner.images import array_of
from vitprof.runner.wire import Plan

# Whoever waits for the result after a run that has waited waits for a copy of it, not for another run.
_READ_SHARE = 0.5
# By these Vulkan's loader is pointed to a driver.
_ICD_VARIABLES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
# Where Linux shows GPUs: most of them, NVIDIA's own driver, Arm's, Qualcomm's, Imagination's.
_DEVICE_FILES = ("/dev/dri/renderD*", "/dev/nvidia[0-9]*", "/dev/mali*", "/dev/kgsl-3d*", "/dev/pvr*")
_ADAPTER = re.compile(r"Selected adapter: ([^,\n]+),.*adapterType=([^,\n]+)")
_REFUSED = re.compile(r"operations are not supported by GPU delegate:\s*\n((?:.*\n?)*)", re.IGNORECASE)
_PLACED = re.compile(r"(\d+) operations will run on the GPU, and the remaining (\d+) operations will run on the CPU")
_NO_GPU = ("webgpu environment", "no adapter", "no supported adapter", "failed to register", "accelerator not found")
_RANK = re.compile(r"dimensions must be less than|rank|\b[5-9]d\b|dims", re.IGNORECASE)


def version() -> str:
    return on_cpu.version()


def load(plan: Plan) -> _LitertGpuSession:
    on_cpu.check_no_profile(plan)
    return _LitertGpuSession(plan)


class _LitertGpuSession:
    """One compiled model with input 0 in its input buffer."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.build_ns: Optional[int] = None
        self._model, said = _compiled(plan)
        self.accelerator: Optional[Accelerator] = _Gpu(said)
        self.placement_ops_share: Optional[float] = _gpu_share(said)
        self._inputs = self._model.create_input_buffers(0)
        self._outputs = self._model.create_output_buffers(0)
        self._details = [(one, *_size_of(one)) for one in self._outputs]
        self._inputs[0].write(array_of(plan, 0))
        self._run = self._model.run_by_index

    def call(self) -> None:
        """The first call is over when its outputs are there; the second finds out whether a run is so by itself."""
        self._call_and_read()
        self.call = self._call_and_find_out  # type: ignore[method-assign]

    def outputs(self, index: int) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
        self._inputs[0].write(array_of(self._plan, index))
        self._run(0, self._inputs, self._outputs)
        arrays = [(buffer.read(count, "float32"), shape) for buffer, shape, count in self._details]
        self._inputs[0].write(array_of(self._plan, 0))
        return [(f"output{place}", "float32", shape, array.tobytes()) for place, (array, shape) in enumerate(arrays)]

    def _call_and_find_out(self) -> None:
        start_ns = time.perf_counter_ns()
        self._call_alone()
        done_ns = time.perf_counter_ns()
        self._read()
        has_waited = time.perf_counter_ns() - done_ns < _READ_SHARE * (done_ns - start_ns)
        self.call = self._call_alone if has_waited else self._call_and_read  # type: ignore[method-assign]

    def _call_alone(self) -> None:
        self._run(0, self._inputs, self._outputs)

    def _call_and_read(self) -> None:
        self._run(0, self._inputs, self._outputs)
        self._read()

    def _read(self) -> None:
        for buffer, _, count in self._details:
            buffer.read(count, "float32")


class _Gpu:
    """What is known of the GPU: LiteRT tells of its clock, memory and time nothing."""

    def __init__(self, said: str) -> None:
        self._facts = gpu_facts(said)

    def environment(self) -> Dict[str, Any]:
        return self._facts

    def sensors(self) -> Dict[str, Any]:
        return {}

    def peak_bytes(self) -> Optional[int]:
        return None

    def call_ns(self) -> Optional[int]:
        return None

    def driver_peak_bytes(self) -> Optional[int]:
        return None


def gpu_facts(said: str, find: Callable[[str], List[str]] = glob.glob) -> Dict[str, Any]:
    """Which GPU LiteRT took, and whether it is one: by what it writes, else by what this machine has."""
    found = _ADAPTER.search(said)
    if found is None:
        return {"gpu": None, "gpu_is_software": _has_no_device(find)}
    return {"gpu": found.group(1).strip(), "gpu_is_software": "cpu" in found.group(2).lower()}


def may_have_gpu(variables: Mapping[str, str] = os.environ, find: Callable[[str], List[str]] = glob.glob) -> bool:
    """False where LiteRT would look for a GPU in vain: none is there, and no renderer is named instead."""
    return any(variables.get(name) for name in _ICD_VARIABLES) or not _has_no_device(find)


def _has_no_device(find: Callable[[str], List[str]]) -> bool:
    return sys.platform == "linux" and not any(find(pattern) for pattern in _DEVICE_FILES)


def load_error(error: str, said: str) -> BackendError:
    """Why the GPU did not take the model, from the exception and from what was written to standard error."""
    lowered = f"{error}\n{said}".lower()
    refused = refused_operators(said)
    if refused:
        message = f"LiteRT's GPU refuses {'; '.join(refused[:3])}{', …' if len(refused) > 3 else ''}"
        if any(_RANK.search(one) for one in refused):
            remedy = "it takes tensors of at most four axes: write these operators with four (the artifact's fix-ups "
            remedy += "say what vitprof rewrote by itself), or measure the model with --backend litert"
            return BackendError("load", message, remedy)
        return BackendError("load", message, "measure the model with --backend litert, on the CPU")
    if is_out_of_memory(lowered):
        return out_of_memory("load", error)
    if any(sign in lowered for sign in _NO_GPU):
        return BackendError("load", f"LiteRT finds no GPU here: {error}", NO_GPU_REMEDY)
    return BackendError("load", f"LiteRT's GPU cannot take the file: {error}", "measure it with --backend litert")


NO_GPU_REMEDY = (
    "install the GPU's Vulkan driver and libvulkan1, or measure with --backend litert, on the CPU; to try it without a "
    "GPU, set VK_ICD_FILENAMES to a renderer in software (Debian's chromium has one: "
    "/usr/lib/chromium/vk_swiftshader_icd.json)"
)


def refused_operators(said: str) -> List[str]:
    """`4 x RESHAPE: Tensor dimensions must be less than 5`, …, out of what the GPU delegate writes."""
    found = _REFUSED.search(said)
    reasons: List[str] = []
    for line in found.group(1).splitlines() if found else []:
        if not re.match(r"[A-Z][A-Z0-9_]+: ", line):
            break
        # Without the names of tensors, which differ where the reason is the same.
        reasons.append(re.sub(r' "[^"]*"', "", line).partition(". ")[0].rstrip("."))
    return [f"{reasons.count(one)} x {one}" for one in dict.fromkeys(reasons)]


def _gpu_share(said: str) -> float:
    """Of the operators. All of them where nothing else is said, since the CPU is not allowed."""
    found = _PLACED.search(said)
    if found is None:
        return 1.0
    on_gpu, elsewhere = int(found.group(1)), int(found.group(2))
    return on_gpu / (on_gpu + elsewhere)


def _compiled(plan: Plan) -> Tuple[Any, str]:
    """The model, and what LiteRT wrote while it was compiled."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.environment import Environment
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import GpuOptions, Options

    # Without benchmark mode a run returns before it is done; without enforce_f32 the GPU may compute in fp16.
    gpu = GpuOptions(benchmark_mode=True, enforce_f32=plan.precision == "fp32")
    options = Options(hardware_accelerators=HardwareAccelerator.GPU, gpu_options=gpu)
    error: Optional[Exception] = None
    with tempfile.TemporaryFile() as file:
        with _written_to(file.fileno()):
            try:
                model = CompiledModel.from_file(plan.artifact, environment=Environment.create(), options=options)
            except Exception as caught:  # The bindings raise what pybind makes of a status.
                error = caught
        file.seek(0)
        said = file.read().decode(errors="replace")
    # It stays in the runner's own words as well, for --debug.
    sys.stderr.write(said)
    if error is not None:
        raise load_error(str(error), said) from error
    return model, said


@contextlib.contextmanager
def _written_to(descriptor: int) -> Iterator[None]:
    """Standard error of native code goes there meanwhile."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _size_of(buffer: Any) -> Tuple[Tuple[int, ...], int]:
    """(shape, number of values) of an output buffer."""
    shape = tuple(int(size) for size in buffer.get_tensor_details()["shape"])
    count = 1
    for size in shape:
        count *= size
    return shape, count
