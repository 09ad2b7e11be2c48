"""OpenVINO on the CPU, from an ONNX file.

The precision is forced to what was asked for: on processors with AMX, OpenVINO's own choice for an fp32 file is bf16,
which is another model. One stream, so that all threads work on the one image; input and outputs stay in the request.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Callable, List, Optional, Tuple

from vitprof.runner.backends import BackendError, is_out_of_memory, out_of_memory
from vitprof.runner.images import array_of
from vitprof.runner.profiles import openvino as profiles
from vitprof.runner.wire import Plan, Profile, ProfileRequest

# Beside OpenVINO stands a package that tells its maker of every import. It forks this process from a thread, next to
# what is timed, and now and then the child waits for a lock for ever, when the runner is long gone. OpenVINO does
# without it where it is not installed, and so it looks here, as long as this file is imported before OpenVINO.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# int8: the quantised operators of the file run in int8 by themselves, the rest in fp32.
_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}


def version() -> str:
    import openvino

    return str(openvino.__version__).split("-", maxsplit=1)[0]


def load(plan: Plan) -> _OpenvinoSession:
    return _OpenvinoSession(plan)


class _OpenvinoSession:
    """One compiled model and one request of it, with input 0 in the request's own input."""

    def __init__(self, plan: Plan) -> None:
        import numpy
        import openvino

        self._plan = plan
        # The CPU plugin runs everything or does not compile.
        self.placement_ops_share: Optional[float] = 1.0
        try:
            core = openvino.Core()
            if plan.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
                # It would compute in fp32 and say nothing.
                message = "this processor has no bf16 (AVX-512 BF16 or AMX)"
                raise BackendError("load", message, "use --precision fp32")
            model = core.read_model(plan.artifact)
            if model.inputs[0].partial_shape.is_dynamic:
                model.reshape(list(plan.input_shape))
            start_ns = time.perf_counter_ns()
            compiled = core.compile_model(model, "CPU", _config(plan))
            self.build_ns: Optional[int] = time.perf_counter_ns() - start_ns
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise out_of_memory("load", str(error)) from error
            raise BackendError("load", _load_error(error), "measure it with --backend ort") from error
        self._names = [name_of(output, index) for index, output in enumerate(compiled.outputs)]
        self._host_image = array_of(plan, 0)
        self._kind = compiled.inputs[0].element_type
        self._library = openvino
        self._copied: Callable[[Any], Any] = numpy.array
        self._image = self._tensor_of(self._host_image)
        self._request: Any = compiled.create_infer_request()
        self._request.set_input_tensor(self._image)
        self._start, self._wait = self._request.start_async, self._request.wait
        self._calls = 0
        if plan.profile_path:
            self.call = self._counted_call  # type: ignore[method-assign]

    def call(self) -> None:
        # Not `infer`: it builds a dict of the outputs, and copies them.
        self._start()
        self._wait()

    def host_call(self) -> None:
        """The image stays where it is, in memory of the host; the outputs are copied, as the next call writes there."""
        self._request.set_input_tensor(self._tensor_of(self._host_image))
        self._start()
        self._wait()
        for tensor in self._request.output_tensors:
            self._copied(tensor.data)

    def _tensor_of(self, image: Any) -> Any:
        """`image` as a tensor, in the array's own memory and as long as that lasts."""
        return self._library.Tensor(image, self._library.Shape(image.shape), self._kind)

    def _counted_call(self) -> None:
        self._calls += 1
        self._start()
        self._wait()

    def outputs(self, index: int) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
        # Named, so that its memory lasts as long as the tensor is in use.
        image = array_of(self._plan, index)
        self._request.set_input_tensor(self._tensor_of(image))
        self.call()
        pairs = [(_dtype(tensor), self._copied(tensor.data)) for tensor in self._request.output_tensors]
        self._request.set_input_tensor(self._image)
        return [(name, dtype, tuple(array.shape), array.tobytes()) for name, (dtype, array) in zip(self._names, pairs)]

    def profile(self, request: ProfileRequest, clock: Callable[[], int]) -> Profile:
        return profiles.profile(self._request, self.call, self._calls, request, clock)


def name_of(output: Any, index: int) -> str:
    names = sorted(output.get_names())
    return str(names[0]) if names else f"output{index}"


def _dtype(tensor: Any) -> str:
    """The type of a tensor's values; numpy shows those of bf16 as if they were fp16."""
    return "bfloat16" if tensor.element_type.get_type_name() == "bf16" else str(tensor.data.dtype)


def _config(plan: Plan) -> "dict[str, Any]":
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": plan.threads,
        "INFERENCE_PRECISION_HINT": _HINTS[plan.precision],
        **(profiles.CONFIG if plan.profile_path else {}),
    }


def _load_error(error: RuntimeError) -> str:
    # The first lines name OpenVINO's own source files, the last one says what was wrong.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"OpenVINO cannot load the file: {lines[-1] if lines else type(error).__name__}"
