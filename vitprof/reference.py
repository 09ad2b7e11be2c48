"""The reference cell as a Plan: the small fixed model beside which every cell of a CPU is measured.

It runs on ONNX Runtime and one thread whatever the cells use, so that ratios of two backends share their divisor.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

from vitprof.devices.profiles import reference_model
from vitprof.devices.transports import Transport
from vitprof.errors import VitprofError
from vitprof.export.inputs import seeded_inputs, write_tensors
from vitprof.measurements import Protocol
from vitprof.runner.wire import Plan

_INPUT_SHAPE = (1, 3, 224, 224)
_SEED = 1


def reference_plan(transport: Transport, cache_root: Path, name: str) -> Plan:
    """The Plan of reference `name`, its files placed on the device."""
    return Plan(
        backend="ort",
        artifact=transport.place(str(reference_model(name))),
        inputs=transport.place(str(_inputs(cache_root))),
        input_name="image",
        input_shape=_INPUT_SHAPE,
        threads=1,
    )


def timed_as(plan: Plan, protocol: Protocol, deadline_s: float) -> Plan:
    """`plan` with the block rule of `protocol`: the same for a cell and for its reference."""
    return dataclasses.replace(
        plan,
        block_ns=protocol.block_ns,
        rewarm_ns=protocol.rewarm_ns,
        min_calls=protocol.min_block_calls,
        slow_call_ns=protocol.slow_call_ns,
        deadline_s=deadline_s,
    )


def _inputs(cache_root: Path) -> Path:
    """The reference's image: always the same, made once."""
    path = cache_root / "reference" / f"image-{_SEED}.bin"
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        os.close(handle)
        write_tensors(Path(name), seeded_inputs(_INPUT_SHAPE, "float32", 1, _SEED))
        Path(name).replace(path)
    except OSError as error:
        raise VitprofError(
            f"cannot write the reference's image to {path}: {error.strerror}",
            remedy="set VITPROF_CACHE_DIR to a writable folder with free space",
            stage="export",
        ) from error
    return path
