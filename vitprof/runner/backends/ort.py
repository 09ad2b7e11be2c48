"""ONNX Runtime on the processor, or on an NVIDIA GPU where the option `device` says so.

Input and outputs are bound once, before any timing and in the device's own memory: a timed call is
`run_with_iobinding`, on a GPU with the wait for its end, and nothing else.
Two session settings matter for honest times: no thread may spin between calls (a spinning thread of one model steals
the core from the next one), and graph optimisation is named, not left to the default of a version.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, List, Optional, Tuple

from vitprof.runner import ort_devices
from vitprof.runner.backends import Accelerator, BackendError, is_out_of_memory, out_of_memory
from vitprof.runner.images import array_of
from vitprof.runner.options import RunOptions, run_options
from vitprof.runner.profiles import ort as profiles
from vitprof.runner.wire import Plan, Profile, ProfileRequest


def version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def load(plan: Plan) -> _OrtSession:
    return _OrtSession(plan)


class _OrtSession:
    """One `InferenceSession` with input 0 bound; every output stays in memory that ONNX Runtime re-uses."""

    def __init__(self, plan: Plan) -> None:
        import onnxruntime

        self._plan = plan
        self._options = run_options(plan)
        self.build_ns: Optional[int] = None
        self.accelerator: Optional[Accelerator] = None
        self._session = _session(onnxruntime, plan, self._options)
        # Where only the processor's provider is asked for, every operator runs there or the session does not load.
        self.placement_ops_share = ort_devices.placement_share(self._session) if self._is_on_gpu else 1.0
        self._input_name = plan.input_name or self._session.get_inputs()[0].name
        self._output_names = [output.name for output in self._session.get_outputs()]
        place = (self._options.device, self._options.index)
        self._host_image = array_of(plan, 0)
        self._image = onnxruntime.OrtValue.ortvalue_from_numpy(self._host_image, *place)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input(self._input_name, self._image)
        for name in self._output_names:
            self._binding.bind_output(name, *place)
        self._run = self._session.run_with_iobinding
        if self._is_on_gpu:
            self._bind_outputs(onnxruntime)
            self._wait = self._binding.synchronize_outputs
            self.call = self._waited_call  # type: ignore[method-assign]
            self.accelerator = ort_devices.accelerator(self._options)

    @property
    def _is_on_gpu(self) -> bool:
        return self._options.device == "cuda"

    def _bind_outputs(self, onnxruntime: Any) -> None:
        """Memory of the GPU for each output: a graph writes to where it wrote when it was captured."""
        for output in self._session.get_outputs():
            kind = ort_devices.NUMPY_TYPES.get(output.type)
            if kind is None or not all(isinstance(side, int) for side in output.shape):
                message = f"output '{output.name}' is {output.type} of shape {output.shape}"
                raise BackendError("load", message, "measure it on the processor: --device local")
            place = (self._options.device, self._options.index)
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(output.shape, kind, *place)
            self._binding.bind_ortvalue_output(output.name, value)

    def _waited_call(self) -> None:
        self._run(self._binding)
        self._wait()

    def call(self) -> None:
        """The first call finds the output shapes; binding its results keeps the later ones from allocating."""
        self._run(self._binding)
        for name, value in zip(self._output_names, self._binding.get_outputs()):
            self._binding.bind_ortvalue_output(name, value)
        self.call = self._bound_call  # type: ignore[method-assign]

    def _bound_call(self) -> None:
        self._run(self._binding)

    def host_call(self) -> None:
        self._arrays_for(self._host_image)

    def _arrays_for(self, image: Any) -> List[Any]:
        """The outputs for a numpy array, as numpy arrays: through the bound memory on a GPU, else as `run` gives them.

        A graph reads and writes where it did when it was captured, which `run` would not.
        """
        if not self._is_on_gpu:
            return self._session.run(self._output_names, {self._input_name: image})  # type: ignore[no-any-return]
        self._image.update_inplace(image)
        self._waited_call()
        return [value.numpy() for value in self._binding.get_outputs()]

    def outputs(self, index: int) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
        import numpy

        arrays = self._arrays_for(array_of(self._plan, index))
        if self._is_on_gpu:
            self._image.update_inplace(self._host_image)
        return [
            (name, str(array.dtype), tuple(array.shape), numpy.ascontiguousarray(array).tobytes())
            for name, array in zip(self._output_names, arrays)
        ]

    def profile(self, request: ProfileRequest, clock: Callable[[], int]) -> Profile:
        path = self._plan.profile_path or ""
        return profiles.profile(self._session, self.call, path, request, clock, is_on_gpu=self._is_on_gpu)


def _session(onnxruntime: Any, plan: Plan, run: RunOptions) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = plan.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if plan.symbolic_batch:
        # Before the graph is optimised: what follows from the batch is then constant, as in a file for it alone.
        options.add_free_dimension_override_by_name(plan.symbolic_batch, plan.input_shape[0])
    if plan.precision == "int8":
        # Without VNNI, products of signed weights may overflow 16 bits unless ONNX Runtime is asked to mind that.
        options.add_session_config_entry("session.x64quantprecision", "1")
    if plan.profile_path:
        profiles.enable(options, plan.profile_path)
    for name, value in plan.options.items():
        if "." in name:
            options.add_session_config_entry(name, str(value))
    if run.device == "cpu":
        return _created(onnxruntime, plan, options, ["CPUExecutionProvider"])
    if run.device != "cuda":
        message = f"no provider of ONNX Runtime here runs on {run.device}"
        raise BackendError("load", message, "use --backend torch, or --device local")
    if plan.profile_path and run.provider != "cuda":
        message = "ONNX Runtime sees what TensorRT runs as one node: it has no profile by layer"
        raise BackendError("load", message, "profile it with --backend trt, or leave out the option provider")
    if plan.profile_path and run.cuda_graph:
        # A graph is launched as a whole: no node of it is seen.
        run = dataclasses.replace(run, cuda_graph=False)
    ort_devices.prepare(onnxruntime, run)
    options.add_session_config_entry(ort_devices.ASSIGNMENT_ENTRY, "1")
    session = _created(onnxruntime, plan, options, ort_devices.providers_of(plan, run))
    ort_devices.check_provider(session, run)
    return session


def _created(onnxruntime: Any, plan: Plan, options: Any, providers: List[Any]) -> Any:
    try:
        return onnxruntime.InferenceSession(plan.artifact, options, providers=providers, enable_fallback=0)
    except Exception as error:
        # ONNX Runtime raises a class of its own per status code; their common base is Exception.
        raise load_error(error) from error


def load_error(error: Exception) -> BackendError:
    """What ONNX Runtime said when it refused a file, with a remedy by kind."""
    text = str(error)
    if is_out_of_memory(text):
        return out_of_memory("load", text)
    if "not implemented" in text.lower() or "NOT_IMPLEMENTED" in text:
        return BackendError("load", f"ONNX Runtime lacks an operator: {text}", "upgrade it: pip install -U onnxruntime")
    return BackendError(
        "load", f"ONNX Runtime cannot load the file: {text}", "check it with onnx.checker, or export it again"
    )
