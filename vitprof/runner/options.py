"""Where and how a session runs, as a Plan's options say it: read once, checked, with every default named here.

Its own file because several runtimes share these options, and a default that moves a number must not hide in one.
Names with a dot are not options of ours: ONNX Runtime takes them as entries of its session's configuration.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, Optional

from vitprof.runner.backends import BACKENDS, BackendError
from vitprof.runner.wire import Plan

_DEVICES = ("cpu", "cuda", "mps")
_PROVIDERS = ("cuda", "tensorrt")


@dataclass(frozen=True)
class RunOptions:
    """`device` is written `cuda` or, for another than the first GPU, `cuda:1`."""

    device: str = "cpu"
    index: int = 0
    # One inference is recorded once and launched as a whole.
    cuda_graph: bool = False
    # How the end of a call is waited for: asking again and again, or asleep until the driver wakes the thread.
    spin: bool = True
    # fp32 is fp32: NVIDIA's libraries would round the factors of products to 10 bits by themselves.
    tf32: bool = False
    channels_last: bool = False
    # Shapes never change here, so the search for the fastest convolutions pays, as whoever writes for speed knows.
    cudnn_benchmark: bool = True
    # Of ONNX Runtime on a GPU.
    provider: str = "cuda"
    # An engine that was built before for the same file, GPU, driver and options is loaded and not built again.
    engine_cache: bool = True
    # What the host has locked the GPU's clocks to.
    locked_clock_mhz: Optional[int] = None
    # The cores that the process was confined to, as `4-7`.
    cores: Optional[str] = None

    def facts(self) -> Dict[str, Any]:
        """For the record of the environment, by the names that a Plan uses."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def run_options(plan: Plan) -> RunOptions:
    """The options of `plan`; `BackendError` for a name or a value that cannot be meant."""
    given = {name: value for name, value in plan.options.items() if "." not in name}
    entry = BACKENDS.get(plan.backend)
    device = str(given.pop("device", "cuda" if entry and entry.needs_nvidia else "cpu"))
    kind, _, index = device.partition(":")
    known = {field.name for field in dataclasses.fields(RunOptions)} - {"device", "index"}
    if kind not in _DEVICES or not (index.isdigit() or not index):
        raise _bad("device", device, "cpu, cuda, cuda:1, mps")
    for name, value in given.items():
        if name not in known:
            raise _bad(name, value, ", ".join(sorted({"device", *known})), is_name=True)
        wanted = {"provider": str, "cores": str, "locked_clock_mhz": int}.get(name, bool)
        if not isinstance(value, wanted):
            raise _bad(name, value, "a text" if wanted is str else "a number" if wanted is int else "true, false")
    if given.get("provider", "cuda") not in _PROVIDERS:
        raise _bad("provider", given["provider"], ", ".join(_PROVIDERS))
    return RunOptions(device=kind, index=int(index or 0), **given)  # type: ignore[arg-type]


def gpu_index(plan: Plan) -> Optional[int]:
    """Which NVIDIA GPU the plan's backend runs on; None where it runs on none."""
    entry = BACKENDS.get(plan.backend)
    is_asked = str(plan.options.get("device", "")).startswith("cuda")
    return run_options(plan).index if is_asked or (entry and entry.needs_nvidia) else None


def _bad(name: str, value: object, allowed: str, is_name: bool = False) -> BackendError:
    what = f"unknown option '{name}'" if is_name else f"option {name} = {value!r}"
    return BackendError("load", f"{what}; allowed: {allowed}", "mend [options] in the device's profile")
