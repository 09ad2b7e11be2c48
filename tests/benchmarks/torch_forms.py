"""What form of a model the torch backend may run so that it costs what `model(x)` costs.

    python -m tests.benchmarks.torch_forms [ROUNDS] [MODEL ...]

On one thread, forms of one model alternate in blocks of at least 60 ms, in shuffled order; printed is the median over
rounds of each form's time ÷ that of `model(x)`, with the quartiles. `again`: the module a second time, so the noise.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable

import torch

from vitprof.models.load import load
from vitprof.records import ModelSpec, Source

_MODELS = (
    "mobilenetv3_small_100", "mobilenetv3_large_100", "efficientformer_l1", "vit_tiny_patch16_224", "lowformer_b1",
    "swin_tiny_patch4_window7_224", "resnet50", "mobilevit_s", "convnext_atto", "efficientvit_b1",
)  # fmt: skip
_BLOCK_S = 0.06


def main(rounds: int, models: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    for name in models:
        times = measured(forms(name), rounds)
        shown = [f"{name:30s} {statistics.median(times['module']) * 1e3:7.1f} ms"]
        for form, values in times.items():
            ratios = [one / own for one, own in zip(values, times["module"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            shown.append(f"{form} {middle:.3f} [{low:.3f}, {high:.3f}]" if form != "module" else "")
        print("  ".join(filter(None, shown)), flush=True)


def forms(name: str) -> dict[str, Callable[[], object]]:
    loaded = load(ModelSpec(name, Source.TIMM))
    image = torch.randn(loaded.input_shape)
    program = torch.export.export(loaded.module, (image,), strict=False)
    callables = {
        "module": loaded.module,
        "again": loaded.module,
        "program": program.module(),
        "script": torch.jit.trace(loaded.module, image, check_trace=False),
    }
    return {form: lambda one=one: one(image) for form, one in callables.items()}


def measured(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {form: [] for form in calls}
    for call in calls.values():
        for _ in range(3):
            call()
    for _ in range(rounds):
        for form in random.sample(list(calls), len(calls)):
            calls[form]()
            count, start = 0, time.perf_counter()
            while (now := time.perf_counter()) < start + _BLOCK_S or count < 2:
                calls[form]()
                count += 1
            times[form].append((now - start) / count)
    return times


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30, tuple(sys.argv[2:]) or _MODELS)
