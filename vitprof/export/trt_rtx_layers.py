"""What a build of TensorRT-RTX says of its kernels, read from its log.

Its own file because the log is text of somebody else's: everything that is known of its form stands here. No other way
tells of the kernels without a GPU, the library's engine inspector needs a loaded engine. The form, as recorded with
version 1.7.1 (profiling verbosity "detailed", severity "verbose"):

    Layers:
    Name: …, LayerType: gemm, Inputs: [ { Name: …, Dimensions: [1,3,224,224], …, Datatype: Half, … }], Constants: […],
      Outputs: […], TacticName: …, StreamId: 0, Metadata: [ONNX Layer: /a/MatMul]␟[ONNX Layer: /a/Softmax]
    Total Weights Memory: 11473920 bytes
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from vitprof.errors import VitprofError
from vitprof.kernels import Kernel, KernelList

# How the messages begin that are kept of a build.
LIST_HEAD = "Layers:"
_MEMORY = {
    "weight_bytes": "Total Weights Memory",
    "activation_bytes": "Total Activation Memory",
    "scratch_bytes": "Max Scratch Memory",
}
KEPT = (LIST_HEAD, *_MEMORY.values(), "[MemUsageStats]")
_KERNEL = re.compile(r"Name: (?P<name>.*?), LayerType: (?P<type>\w+)(?P<rest>.*)")
_TENSOR = re.compile(r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<dims>[\d,]*)\].*?Datatype: (?P<type>\w+)")
_TACTIC = re.compile(r"TacticName: (.*?), StreamId: ")
# A name may hold brackets of its own. Between two of them stands a control character, and behind one a suffix where
# the library made another operator of the node.
_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=\[ONNX Layer: |__|[\x1e\x1f]|\s*$)")
# Bits of one value, by the library's names.
_BITS = {
    **dict.fromkeys(("Int64",), 64),
    **dict.fromkeys(("Float", "Int32"), 32),
    **dict.fromkeys(("Half", "BFloat16", "BF16"), 16),
    **dict.fromkeys(("Int8", "UInt8", "FP8", "Bool", "E8M0"), 8),
    **dict.fromkeys(("Int4", "FP4"), 4),
}


def is_kept(message: str) -> bool:
    """Whether a message of a build tells of its kernels or its memory."""
    return message.lstrip().startswith(KEPT)


def kernel_list(text: str) -> KernelList:
    """What the kept messages of one build say; `VitprofError` where they list no kernel."""
    # Not by `splitlines`, which splits at the separators of the metadata too.
    kernels = tuple(_kernels(text.split("\n")))
    if not kernels:
        raise VitprofError(
            "the build listed no kernels",
            remedy="report this with the output of: vitprof doctor",
            stage="layers",
        )
    return KernelList(kernels, **{field: _bytes_after(title, text) for field, title in _MEMORY.items()})


def _kernels(lines: Iterable[str]) -> Iterable[Kernel]:
    for line in lines:
        found = _KERNEL.match(line)
        if found:
            yield _kernel(found["name"], found["type"], found["rest"])


def _kernel(name: str, type: str, rest: str) -> Kernel:
    before, _, metadata = rest.partition(", Metadata: ")
    read, _, written = before.partition(", Outputs: [")
    inputs, _, constants = read.partition(", Constants: [")
    tactic = _TACTIC.search(before)
    return Kernel(
        name=name,
        type=type,
        tactic=tactic[1] if tactic else "",
        nodes=tuple(dict.fromkeys(_NODE.findall(metadata))),
        reads=_names(inputs),
        writes=_names(written),
        bytes_moved=_bytes(inputs, constants, written),
    )


def _names(tensors: str) -> tuple[str, ...]:
    return tuple(found["name"] for found in _TENSOR.finditer(tensors))


def _bytes(*parts: str) -> int | None:
    """Of all tensors together; one that is read twice by a kernel is read once."""
    bits: dict[str, int] = {}
    for found in (found for part in parts for found in _TENSOR.finditer(part)):
        if found["type"] not in _BITS:
            return None
        values = math.prod(int(side) for side in found["dims"].split(",") if side)
        bits[found["name"]] = max(bits.get(found["name"], 0), values * _BITS[found["type"]])
    return sum(-(-one // 8) for one in bits.values())


def _bytes_after(title: str, text: str) -> int | None:
    found = re.search(rf"{re.escape(title)}:\s*([\d,]+)", text)
    return int(found[1].replace(",", "")) if found else None
