"""OpenVINO on the CPU, from an ONNX file.

The precision is forced to what was asked for: on processors with AMX, OpenVINO's own choice for an fp32 file is bf16,
which is another model. One stream, so that all threads work on the one image; input and outputs stay in the request.
"""

from __future__ import annotations

import time
from typing import Any, Callable, List, Optional, Tuple

from vitprof.runner.backends import BackendError
from vitprof.runner.images import array_of
from vitprof.runner.profiles import openvino as profiles
from vitprof.runner.wire import Plan, Profile, ProfileRequest

# int8: the quantised operators of the file run in int8 by themselves, the rest in fp32.
_HINTS = {"fp32": "f32", "fp16": "f16", "int8": "f32"}


def version() -> str:
    import openvino

    return str(openvino.__version__).split("-", maxsplit=1)[0]


def load(plan: Plan) -> _OpenvinoSession:
    return _OpenvinoSession(plan)


class _OpenvinoSession:
    """One compiled model and one request of it, with input 0 in the request's own input."""

    def __init__(self, plan: Plan) -> None:
        import openvino

        self._plan = plan
        # The CPU plugin runs everything or does not compile.
        self.placement_ops_share: Optional[float] = 1.0
        try:
            core = openvino.Core()
            model = core.read_model(plan.artifact)
            if model.inputs[0].partial_shape.is_dynamic:
                model.reshape(list(plan.input_shape))
            start_ns = time.perf_counter_ns()
            compiled = core.compile_model(model, "CPU", _config(plan))
            self.build_ns: Optional[int] = time.perf_counter_ns() - start_ns
        except RuntimeError as error:
            raise BackendError("load", _load_error(error), "measure it with --backend ort") from error
        self._names = [name_of(output, index) for index, output in enumerate(compiled.outputs)]
        self._image = openvino.Tensor(array_of(plan, 0))
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

    def _counted_call(self) -> None:
        self._calls += 1
        self._start()
        self._wait()

    def outputs(self, index: int) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
        import numpy
        import openvino

        self._request.set_input_tensor(openvino.Tensor(array_of(self._plan, index)))
        self.call()
        arrays = [numpy.array(tensor.data) for tensor in self._request.output_tensors]
        self._request.set_input_tensor(self._image)
        return [
            (name, str(array.dtype), tuple(array.shape), array.tobytes()) for name, array in zip(self._names, arrays)
        ]

    def profile(self, request: ProfileRequest, clock: Callable[[], int]) -> Profile:
        return profiles.profile(self._request, self.call, self._calls, request, clock)


def name_of(output: Any, index: int) -> str:
    names = sorted(output.get_names())
    return str(names[0]) if names else f"output{index}"


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
