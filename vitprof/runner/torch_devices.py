"""Where torch computes: the processor, an NVIDIA GPU, a Mac's GPU. How a model gets there, and when a call is complete.

Its own file because eager torch and torch.compile share it, and on the processor none of it may cost a timed call
anything. A GPU works on while `model(x)` has returned: every timed call ends with a wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Protocol

from vitprof.runner.accelerator import nvidia
from vitprof.runner.backends import Accelerator, BackendError
from vitprof.runner.options import RunOptions

if TYPE_CHECKING:
    import torch

_NO_CUDA = "install torch for CUDA: https://pytorch.org/get-started/locally, and see that nvidia-smi works"
_NO_MPS = "measure the processor: leave the option device out of the device's profile"


class Place(Protocol):
    """A device of torch, as a session needs it."""

    name: str

    def wait(self) -> None:
        """Returns when all that was submitted is complete; inside the timed region."""

    def captured(self, forward: Callable[[Any], Any], image: Any) -> Graph:
        """`forward(image)` as one graph."""

    def accelerator(self, call: Callable[[], Any]) -> Optional[Accelerator]:
        """What the device tells of itself; `call` submits one inference."""


class Graph(Protocol):
    """One recorded inference."""

    def replay(self) -> None:
        """Submits it, on whatever its image holds now."""

    def run(self, image: Any) -> Any:
        """What it answers for `image`, to keep."""

    def feed(self, image: Any) -> Any:
        """What it answers for `image`, which may lie in the host's memory; the next replay writes over it."""


def place_of(options: RunOptions) -> Optional[Place]:
    """The place that `options` name, prepared as they say; None for the processor, which needs nothing."""
    if options.device == "cuda":
        return _Cuda(options)
    return _Mps() if options.device == "mps" else None


def moved(module: torch.nn.Module, options: RunOptions, place: Optional[Place]) -> torch.nn.Module:
    """`module` on its place, in the memory format asked for."""
    import torch

    if options.channels_last:
        module = module.to(memory_format=torch.channels_last)
    return module.to(place.name) if place else module


class _Cuda:
    """An NVIDIA GPU. What would change numbers without a word is set here, one way or the other."""

    def __init__(self, options: RunOptions) -> None:
        import torch

        if not torch.cuda.is_available():
            raise BackendError("load", f"torch {torch.__version__} sees no CUDA", _NO_CUDA)
        self._options = options
        self.name = f"cuda:{options.index}"
        torch.cuda.set_device(options.index)
        # torch leaves TF32 on for convolutions and off for products.
        torch.set_float32_matmul_precision("high" if options.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = options.tf32
        torch.backends.cudnn.benchmark = options.cudnn_benchmark
        self._done = torch.cuda.Event(blocking=True)
        if options.spin:
            self.wait = torch.cuda.current_stream().synchronize  # type: ignore[method-assign]

    def wait(self) -> None:
        self._done.record()
        self._done.synchronize()

    def captured(self, forward: Callable[[Any], Any], image: Any) -> Graph:
        return _CudaGraph(forward, image)

    def accelerator(self, call: Callable[[], Any]) -> Accelerator:
        import torch

        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

        def call_ns() -> int:
            begin.record()
            call()
            end.record()
            end.synchronize()
            return round(float(begin.elapsed_time(end)) * 1e6)

        stated: Dict[str, Any] = {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "cudnn_benchmark": self._options.cudnn_benchmark,
            "channels_last": self._options.channels_last,
            "cuda_graph": self._options.cuda_graph,
            "wait": "spin" if self._options.spin else "block",
        }
        return nvidia(self._options, call_ns, lambda: int(torch.cuda.max_memory_reserved()), stated)


class _CudaGraph:
    """As torch's notes on CUDA graphs have it: some calls on a stream of their own, then the capture."""

    _WARM_UP_CALLS = 3

    def __init__(self, forward: Callable[[Any], Any], image: Any) -> None:
        import torch

        self._image = image
        own = torch.cuda.Stream()
        own.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(own), torch.inference_mode():
            for _ in range(self._WARM_UP_CALLS):
                forward(image)
        torch.cuda.current_stream().wait_stream(own)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph), torch.inference_mode():
            self._outputs = forward(image)
        self.replay = self._graph.replay

    def run(self, image: Any) -> Any:
        import torch

        with torch.inference_mode():
            held = self._image.clone()
            outputs = _cloned(self.feed(image))
            torch.cuda.synchronize()
            self._image.copy_(held)
        return outputs

    def feed(self, image: Any) -> Any:
        self._image.copy_(image)
        self.replay()
        return self._outputs


def _cloned(outputs: Any) -> Any:
    """The next replay writes over what a graph answers."""
    from vitprof.runner.tensors import flat_tensors

    return tuple(tensor.clone() for tensor in flat_tensors(outputs))


class _Mps:
    """A Mac's GPU through Metal."""

    name = "mps"

    def __init__(self) -> None:
        import torch

        if not torch.backends.mps.is_available():
            raise BackendError("load", f"torch {torch.__version__} sees no Metal GPU", _NO_MPS)
        self.wait = torch.mps.synchronize

    def captured(self, forward: Callable[[Any], Any], image: Any) -> Graph:
        raise BackendError("load", "there are no CUDA graphs on a Mac's GPU", "leave out the option cuda_graph")

    def accelerator(self, call: Callable[[], Any]) -> Optional[Accelerator]:
        return None
