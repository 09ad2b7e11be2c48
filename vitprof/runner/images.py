"""The images that a session is fed, out of the file that travels with the artifact.

Its own file because backends with numpy and those without it read the same bytes.
"""

from __future__ import annotations

import math
from typing import Any

from vitprof.runner.backends import BackendError
from vitprof.runner.wire import Plan

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "uint8": 1}


def bytes_of(plan: Plan, index: int) -> bytearray:
    """The little-endian values of input `index`, which has `plan.input_shape`."""
    size = math.prod(plan.input_shape) * _BYTES[plan.input_dtype]
    if size == 0:
        raise BackendError("load", f"the input shape {plan.input_shape} holds nothing", "check --batch and --size")
    with open(plan.inputs, "rb") as file:
        file.seek(index * size)
        data = bytearray(file.read(size))
    if len(data) < size:
        raise BackendError("load", f"{plan.inputs} ends before input {index}", "export the model again")
    return data


def array_of(plan: Plan, index: int) -> Any:
    """Input `index` as a numpy array; of bf16, which numpy does not have, its bits as uint16."""
    import numpy

    dtype = "uint16" if plan.input_dtype == "bfloat16" else plan.input_dtype
    return numpy.frombuffer(bytes_of(plan, index), dtype=dtype).reshape(plan.input_shape)
