"""Whether the file for every batch costs what a file for one batch costs, once ONNX Runtime has fixed its batch.

    python -m tests.benchmarks.any_batch [MODEL ...]

For each model, at batch 8 on one thread: time of the file for every batch ÷ time of a file exported for 8 images.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.artifacts import prepared, ratio_of
from vitprof.prepare import _from_module
from vitprof.records import ModelSpec, Source

_MODELS = (
    "mobilenetv3_small_100", "vit_tiny_patch16_224", "lowformer_b0", "swin_tiny_patch4_window7_224", "levit_256",
    "efficientvit_b1",
)  # fmt: skip
_BATCH = 8


def main(models: tuple[str, ...]) -> None:
    for name in models:
        like = ModelSpec("", Source.TIMM, batch=_BATCH)
        for_any = prepared(name, like=like)
        with tempfile.TemporaryDirectory() as folder:
            for_one = _from_module(dataclasses.replace(for_any.spec), "onnx", Path(folder), trust=False)
            ratio = ratio_of(for_one, for_any, "ort")
        note = "" if for_any.symbolic_batch else "  (no file for every batch)"
        if ratio and ratio.low is not None:
            print(f"{name:30s} any ÷ one {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]{note}", flush=True)


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or _MODELS)
