"""torch, eager: the module itself, called as `model(x)`.

By the artifact's suffix: a recipe for a module (timm's, torchvision's, the user's own), a program of torch.export, or
TorchScript, each run as what it is (docs/decisions/0013).
"""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Tuple

from vitprof.runner.backends import BackendError
from vitprof.runner.images import bytes_of
from vitprof.runner.modules import module_of
from vitprof.runner.profiles import torch as profiles
from vitprof.runner.tensors import bytes_from_tensor, flat_tensors
from vitprof.runner.wire import Plan, Profile, ProfileRequest


def version() -> str:
    import torch

    return str(torch.__version__)


def load(plan: Plan) -> TorchSession:
    return TorchSession(plan, model_of(plan))


def model_of(plan: Plan) -> Callable[[Any], Any]:
    """The model in the artifact, ready to be called with images; torch is told how many threads it has."""
    import torch

    torch.set_num_threads(plan.threads)
    try:
        if plan.artifact.endswith(".json"):
            return module_of(plan.artifact)  # type: ignore[no-any-return]
        if plan.artifact.endswith(".pt2"):
            return torch.export.load(plan.artifact).module()  # type: ignore[no-any-return]
        return torch.jit.load(plan.artifact, map_location="cpu").eval()  # type: ignore[no-any-return]
    except MemoryError:
        raise
    except Exception as error:  # Builders and loaders raise whatever another version of a library makes them.
        raise BackendError(
            "load",
            f"torch {torch.__version__} cannot load the model: {type(error).__name__}: {error}",
            "have the host's versions of torch, timm and torchvision on the device",
        ) from error


class TorchSession:
    """A callable with its image, called in inference mode: no gradients, no version counters."""

    def __init__(self, plan: Plan, forward: Callable[[Any], Any]) -> None:
        import torch

        self.build_ns: Optional[int] = None
        self.placement_ops_share: Optional[float] = 1.0
        self._plan = plan
        # Entering it costs 2 us, and whoever writes `model(x)` for speed enters it too.
        self._mode = torch.inference_mode
        self._forward = forward
        self._image = _image(plan, 0)

    def call(self) -> None:
        with self._mode():
            self._forward(self._image)

    def outputs(self, index: int) -> List[Tuple[str, str, Tuple[int, ...], bytes]]:
        with self._mode():
            tensors = flat_tensors(self._forward(_image(self._plan, index)))
        return [
            (f"output{place}", str(tensor.dtype).rpartition(".")[2], tuple(tensor.shape), bytes_from_tensor(tensor))
            for place, tensor in enumerate(tensors)
        ]

    def profile(self, request: ProfileRequest, clock: Callable[[], int]) -> Profile:
        return profiles.profile(self._forward, self._image, request, clock)


def _image(plan: Plan, index: int) -> Any:
    import torch

    return torch.frombuffer(bytes_of(plan, index), dtype=getattr(torch, plan.input_dtype)).reshape(plan.input_shape)
