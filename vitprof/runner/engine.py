"""A TensorRT engine ready to be called: TensorRT's own and TensorRT for RTX's, which share these interfaces.

Its own file because the two backends differ in where an engine comes from and in nothing after that. What the session
needs of the library and of the GPU is written down as protocols, the few members that are used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Protocol, Tuple

from vitprof.runner.backends import Accelerator, BackendError, is_out_of_memory, out_of_memory
from vitprof.runner.cuda import Memory, Stream
from vitprof.runner.images import bytes_of
from vitprof.runner.profiles import tensorrt as profiles
from vitprof.runner.wire import Plan, Profile, ProfileRequest

# TensorRT's name of a type (`DataType.FLOAT`): numpy's name, bytes of a value.
_TYPES = {
    "FLOAT": ("float32", 4),
    "HALF": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "INT32": ("int32", 4),
    "INT64": ("int64", 8),
    "INT8": ("int8", 1),
    "UINT8": ("uint8", 1),
    "BOOL": ("bool", 1),
}
_EXPORT_AGAIN = "export the model again for this --batch, --size and --precision"


class Engine(Protocol):
    """The part of `ICudaEngine` that is used. A mode's and a type's `name` are those of TensorRT's enums."""

    num_io_tensors: int

    def get_tensor_name(self, index: int) -> str: ...

    def get_tensor_mode(self, name: str) -> Any: ...

    def get_tensor_dtype(self, name: str) -> Any: ...


class Context(Protocol):
    """The part of `IExecutionContext` that is used."""

    def set_input_shape(self, name: str, shape: Tuple[int, ...]) -> bool: ...

    def get_tensor_shape(self, name: str) -> Any: ...

    def set_tensor_address(self, name: str, memory: int) -> bool: ...

    def execute_async_v3(self, stream_handle: int) -> bool: ...


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: str
    shape: Tuple[int, ...]
    address: int
    size_bytes: int


class EngineSession:
    """An execution context with memory for input 0 and every output, and a stream of its own."""

    def __init__(self, library: Any, plan: Plan, engine: Engine, context: Context, gpu: Any) -> None:
        """`gpu`: a `Memory` and a `Stream`; `library` is asked for its profiler only."""
        self.build_ns: Optional[int] = None
        # An engine runs on the GPU as a whole or is not built.
        self.placement_ops_share: Optional[float] = 1.0
        self.accelerator: Optional[Accelerator] = None
        # What must live as long as the engine: its runtime, and their logger.
        self.runtime: Any = None
        self.logger: Any = None
        self._library, self._plan, self._engine, self._context = library, plan, engine, context
        self._memory: Memory = gpu
        self._stream: Stream = gpu
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name).name == "INPUT"]
        if len(inputs) != 1:
            raise BackendError("load", f"the engine has {len(inputs)} inputs, not one", _EXPORT_AGAIN)
        if not context.set_input_shape(inputs[0], plan.input_shape):
            message = f"the engine takes {tuple(context.get_tensor_shape(inputs[0]))} and not {plan.input_shape}"
            raise BackendError("load", message, _EXPORT_AGAIN)
        self._input = self._bound(inputs[0])
        if self._input.dtype != plan.input_dtype:
            message = f"the engine takes {self._input.dtype} images and not {plan.input_dtype}"
            raise BackendError("load", message, _EXPORT_AGAIN)
        self._outputs = [self._bound(name) for name in names if name != inputs[0]]
        # The image and the outputs in the host's memory, pageable as most programs have theirs.
        self._host_image = bytes_of(plan, 0)
        self._host_outputs = [bytearray(one.size_bytes) for one in self._outputs]
        self._memory.write(self._input.address, self._host_image)
        self._execute, self._handle = context.execute_async_v3, self._stream.handle
        self._submit: Callable[[], None] = self._enqueue
        self._wait = self._stream.wait
        self._wait()

    def use_graph(self) -> None:
        """From now on a call launches one CUDA graph instead of every kernel for itself."""
        self._submit = self._stream.captured(self._enqueue)

    def graph_timer(self) -> Optional[Callable[[], int]]:
        """One more call as one graph, by CUDA events around it; None where every call is one already."""
        if self._submit != self._enqueue:
            return None
        launch = self._stream.captured(self._enqueue)
        return lambda: self._stream.elapsed_ns(launch)

    def call(self) -> None:
        self._submit()
        self._wait()

    def host_call(self) -> None:
        self._run_on(self._host_image)

    def device_ns(self) -> int:
        """One more call, by CUDA events around it."""
        return self._stream.elapsed_ns(self._submit)

    def outputs(self, index: int) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
        self._run_on(bytes_of(self._plan, index))
        pairs = zip(self._outputs, self._host_outputs)
        found = [(one.name, one.dtype, one.shape, bytes(data)) for one, data in pairs]
        self._memory.write(self._input.address, self._host_image)
        self._wait()
        return found

    def profile(self, request: ProfileRequest, clock: Callable[[], int]) -> Profile:
        times, runs_ns = profiles.recorded(self._library, self._context, self.call, request, clock)
        return profiles.profile(times, runs_ns, profiles.layers_of(self._library, self._engine, self._context))

    def _run_on(self, image: bytearray) -> None:
        """The whole way, in the order of one stream: the image to the device, the inference, the outputs back."""
        self._memory.write(self._input.address, image)
        self._submit()
        for one, data in zip(self._outputs, self._host_outputs):
            self._memory.read(one.address, data)
        self._wait()

    def _enqueue(self) -> None:
        if not self._execute(self._handle):
            what, remedy = "TensorRT could not submit the inference", "see its own words with --debug"
            raise refusal("run", what, self.logger, remedy) if self.logger else BackendError("run", what, remedy)

    def _bound(self, name: str) -> _Tensor:
        """The tensor, with memory of the device that the context is told of."""
        kind = self._engine.get_tensor_dtype(name).name
        shape = tuple(int(side) for side in self._context.get_tensor_shape(name))
        if kind not in _TYPES or min(shape, default=0) < 0:
            raise BackendError("load", f"tensor '{name}' is {kind} of shape {shape}", "measure it with --backend ort")
        dtype, value_bytes = _TYPES[kind]
        size_bytes = math.prod(shape) * value_bytes
        address = self._memory.allocate(size_bytes)
        if not self._context.set_tensor_address(name, address):
            raise BackendError("load", f"TensorRT refuses memory for tensor '{name}'", "see its own words with --debug")
        return _Tensor(name, dtype, shape, address, size_bytes)


def logger_of(library: Any) -> Any:
    """A logger that keeps what went wrong: `errors`, in order. TensorRT takes one in a process."""

    class Logger(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: List[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity.name in ("ERROR", "INTERNAL_ERROR"):
                self.errors.append(msg)

    return Logger()


def refusal(stage: str, what: str, logger: Any, remedy: str) -> BackendError:
    """TensorRT's refusal with what it said first, on one line: later errors follow from it.

    Where memory ran out that is the reason, whatever else it said.
    """
    short = next((text for text in logger.errors if is_out_of_memory(text)), None)
    text = short or (logger.errors[0] if logger.errors else "it does not say why")
    said = f"{what}: {str(text).strip().splitlines()[0]}"
    return out_of_memory(stage, said) if short else BackendError(stage, said, remedy)
