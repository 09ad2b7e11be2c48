"""torch, eager: the module itself, called as `model(x)`, on the processor or where the option `device` says.

By the artifact's suffix: a recipe for a module (timm's, torchvision's, the user's own), a program of torch.export, or
TorchScript, each run as what it is (docs/decisions/0013).
"""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Tuple

from vitprof.runner.backends import Accelerator, BackendError, is_out_of_memory
from vitprof.runner.images import bytes_of
from vitprof.runner.modules import module_of
from vitprof.runner.options import RunOptions, run_options
from vitprof.runner.profiles import torch as profiles
from vitprof.runner.tensors import bytes_from_tensor, flat_tensors
from vitprof.runner.torch_devices import Graph, Place, moved, place_of
from vitprof.runner.wire import Plan, Profile, ProfileRequest


def version() -> str:
    import torch

    return str(torch.__version__)


def load(plan: Plan) -> TorchSession:
    options = run_options(plan)
    place = place_of(options)
    session = TorchSession(plan, model_of(plan, options, place), place)
    if options.cuda_graph and not plan.profile_path:
        session.use_graph()
    return session


def model_of(plan: Plan, options: RunOptions, place: Optional[Place]) -> Callable[[Any], Any]:
    """The model in the artifact on its place, ready for images; torch is told how many threads it has."""
    import torch

    torch.set_num_threads(plan.threads)
    try:
        if plan.artifact.endswith(".json"):
            return moved(module_of(plan.artifact), options, place)  # type: ignore[no-any-return]
        if plan.artifact.endswith(".pt2"):
            program = torch.export.load(plan.artifact)
            if place:
                from torch.export.passes import move_to_device_pass

                # Constants inside a program are on a device of their own: a module's `to` does not reach them.
                program = move_to_device_pass(program, place.name)
            return program.module()  # type: ignore[no-any-return]
        script = torch.jit.load(plan.artifact, map_location=place.name if place else "cpu").eval()
        return script  # type: ignore[no-any-return]
    except Exception as error:  # Builders and loaders raise whatever another version of a library makes them.
        if is_out_of_memory(error):
            raise
        raise BackendError(
            "load",
            f"torch {torch.__version__} cannot load the model: {type(error).__name__}: {error}",
            "have the host's versions of torch, timm and torchvision on the device",
        ) from error


class TorchSession:
    """A callable with its image, called in inference mode: no gradients, no version counters."""

    def __init__(self, plan: Plan, forward: Callable[[Any], Any], place: Optional[Place]) -> None:
        """`place` is None on the processor, where a call is complete when it returns."""
        import torch

        self.build_ns: Optional[int] = None
        self.placement_ops_share: Optional[float] = 1.0
        self.accelerator: Optional[Accelerator] = None
        self._plan = plan
        self._dtype = getattr(torch, plan.input_dtype)
        self._is_channels_last = run_options(plan).channels_last
        # Entering it costs 2 us, and whoever writes `model(x)` for speed enters it too.
        self._mode = torch.inference_mode
        self._forward = forward
        self._place = place
        self._graph: Optional[Graph] = None
        self._image = self._image_at(0)
        # In the host's memory, pageable as most programs have theirs.
        self._host_bytes = bytes_of(plan, 0)
        if place:
            self._wait = place.wait
            self.call = self._waited_call  # type: ignore[method-assign]
            self.accelerator = place.accelerator(self._submit)

    def use_graph(self) -> None:
        """From now on a call launches one recorded graph instead of every kernel for itself."""
        if self._place is None:
            message = "CUDA graphs are for GPUs, and this session runs on the processor"
            raise BackendError("load", message, "leave out the option cuda_graph")
        self._graph = self._place.captured(self._forward, self._image)
        self._submit = self._graph.replay  # type: ignore[method-assign]
        self.accelerator = self._place.accelerator(self._submit)

    def graph_timer(self) -> Optional[Callable[[], Optional[int]]]:
        """One more call as one graph, by the device's clock; None where every call is one already, or none can be."""
        if self._place is None or self._graph is not None:
            return None
        graph = self._place.captured(self._forward, self._image)
        timer = self._place.accelerator(graph.replay)
        return timer.call_ns if timer else None

    def call(self) -> None:
        with self._mode():
            self._forward(self._image)

    def host_call(self) -> None:
        """The image's bytes to a tensor where the model is, the outputs to tensors of the processor."""
        with self._mode():
            image = self._tensor_from(self._host_bytes)
            outputs = self._graph.feed(image) if self._graph else self._forward(self._placed(image))
            # The copy from a GPU waits for what it copies.
            for tensor in flat_tensors(outputs):
                tensor.cpu()

    def _submit(self) -> None:
        with self._mode():
            self._forward(self._image)

    def _waited_call(self) -> None:
        self._submit()
        self._wait()

    def outputs(self, index: int) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
        image = self._image_at(index)
        with self._mode():
            tensors = flat_tensors(self._graph.run(image) if self._graph else self._forward(image))
            tensors = tuple(tensor.cpu() for tensor in tensors)
        return [
            (f"output{place}", str(tensor.dtype).rpartition(".")[2], tuple(tensor.shape), bytes_from_tensor(tensor))
            for place, tensor in enumerate(tensors)
        ]

    def profile(self, request: ProfileRequest, clock: Callable[[], int]) -> Profile:
        if self._place and not self._place.name.startswith("cuda"):
            message = f"torch does not tell the time of each operator on {self._place.name}"
            raise BackendError("profile", message, "profile the model on the processor: --device local")
        wait = self._place.wait if self._place else None
        return profiles.profile(self._forward, self._image, request, clock, wait)

    def _image_at(self, index: int) -> Any:
        return self._placed(self._tensor_from(bytes_of(self._plan, index)))

    def _placed(self, image: Any) -> Any:
        return image.to(self._place.name) if self._place else image

    def _tensor_from(self, data: bytearray) -> Any:
        import torch

        image = torch.frombuffer(data, dtype=self._dtype).reshape(self._plan.input_shape)
        if self._is_channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        return image
