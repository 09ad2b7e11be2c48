"""What a session on an NVIDIA GPU tells of it: the driver's facts, NVML's figures, and what the session was told.

Its own file because torch, ONNX Runtime and TensorRT differ in how they time and count and in nothing else of this.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional

from vitprof.runner import cuda, nvml
from vitprof.runner.options import RunOptions


class NvidiaAccelerator:
    """An `Accelerator`. `call_ns` times one call by CUDA events, `own_bytes` the count of the runtime's allocator."""

    def __init__(
        self,
        facts: Mapping[str, Any],
        meter: Optional[nvml.GpuMeter],
        call_ns: Callable[[], Optional[int]],
        own_bytes: Callable[[], Optional[int]],
    ) -> None:
        self._facts = facts
        self._meter = meter
        self._own_bytes = own_bytes
        self.call_ns = call_ns

    def environment(self) -> Dict[str, Any]:
        return {**self._facts, **(self._meter.facts() if self._meter else {"nvml": nvml.why_not()})}

    def sensors(self) -> Dict[str, Any]:
        return self._meter.sensors() if self._meter else {}

    def peak_bytes(self) -> Optional[int]:
        return self._own_bytes()

    def driver_peak_bytes(self) -> Optional[int]:
        return self._meter.peak_bytes() if self._meter else None


def nvidia(
    options: RunOptions,
    call_ns: Callable[[], Optional[int]],
    own_bytes: Callable[[], Optional[int]],
    stated: Mapping[str, Any],
) -> NvidiaAccelerator:
    """The accelerator of a session on GPU `options.index`; `stated`: what its runtime was told beside the options."""
    driver = cuda.driver_facts(options.index)
    clock_mhz = options.locked_clock_mhz
    facts = {
        **driver.facts(),
        "gpu_clocks": f"locked at {clock_mhz} MHz" if clock_mhz else "unlocked",
        "tf32": options.tf32,
        **stated,
    }
    return NvidiaAccelerator(facts, nvml.meter(driver.pci_bus_id), call_ns, own_bytes)
