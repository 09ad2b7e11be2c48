"""LiteRT on the CPU, by XNNPACK, from a `.tflite` file.

The input lies in the interpreter's own memory, which keeps it from call to call; a timed call is `invoke` alone.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any, List, Optional, Tuple

from vitprof.runner.backends import BackendError, is_out_of_memory, out_of_memory
from vitprof.runner.images import array_of
from vitprof.runner.wire import Plan


def version() -> str:
    return metadata.version("ai-edge-litert")


def load(plan: Plan) -> _LitertSession:
    check_no_profile(plan)
    return _LitertSession(plan)


class _LitertSession:
    """One interpreter with input 0 in its input tensor."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.build_ns: Optional[int] = None
        # What XNNPACK does not take, LiteRT's own kernels run on the CPU as well.
        self.placement_ops_share: Optional[float] = 1.0
        self._interpreter = interpreter_of(plan)
        [image] = self._interpreter.get_input_details()
        self._input = image["index"]
        self._output_details = self._interpreter.get_output_details()
        self._host_image = array_of(plan, 0)
        self._interpreter.set_tensor(self._input, self._host_image)
        self._invoke = self._interpreter.invoke

    def call(self) -> None:
        self._invoke()

    def host_call(self) -> None:
        """The interpreter copies the image into its own memory and the outputs out of it."""
        self._interpreter.set_tensor(self._input, self._host_image)
        self._invoke()
        for one in self._output_details:
            self._interpreter.get_tensor(one["index"])

    def outputs(self, index: int) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
        self._interpreter.set_tensor(self._input, array_of(self._plan, index))
        self._invoke()
        arrays = [self._interpreter.get_tensor(one["index"]) for one in self._output_details]
        self._interpreter.set_tensor(self._input, array_of(self._plan, 0))
        return [
            (f"output{place}", str(array.dtype), tuple(array.shape), array.tobytes())
            for place, array in enumerate(arrays)
        ]


def interpreter_of(plan: Plan) -> Any:
    """LiteRT's interpreter with its tensors allocated."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=plan.artifact, num_threads=plan.threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise out_of_memory("load", _first_line(error)) from error
        message = f"LiteRT {version()} cannot load the file: {_first_line(error)}"
        raise BackendError("load", message, "export it again, or measure the model with --backend ort") from error
    return interpreter


def check_no_profile(plan: Plan) -> None:
    """`BackendError` for a plan that asks for what this runtime does not tell from Python."""
    if plan.profile_path:
        message = "LiteRT's Python package has no profile by layer"
        raise BackendError("load", message, "profile the model with --backend ort, torch or openvino")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
