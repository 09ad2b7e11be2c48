"""How fast and how light counting is, beside fvcore: `python -m tests.benchmarks.counters [ROUNDS]`, default 5.

vit_large_patch16_224 first, both counters in turn in each round; then the forty models of the survey in this one
process, each counted by both in turn. fvcore traces a module with its weights on the CPU; building one is shown apart.
Memory is the growth of this process's peak while vit_large is built and counted, before fvcore has run.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from tests.benchmarks.exporters import FORTY
from vitprof.cost.count import count
from vitprof.models.load import Loaded, load_shapes
from vitprof.records import ModelSpec, Source
from vitprof.runner.torchvision_compat import import_timm

LARGE = "vit_large_patch16_224"


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def shapes(name: str) -> Loaded:
    return load_shapes(ModelSpec(name, Source.TIMM, reparam=False))


def of_fvcore(module: torch.nn.Module, image: torch.Tensor) -> int:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, image)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return int(analysis.total())


def built(name: str) -> torch.nn.Module:
    return import_timm().create_model(name).eval()


def main(rounds: int) -> None:
    warnings.simplefilter("ignore")
    import_timm()
    before = peak_mb()
    build_s, loaded = timed(lambda: shapes(LARGE))
    count_s, cost = timed(lambda: count(loaded.module, loaded.input_shape))
    print(f"{LARGE}: {cost.macs:,} MACs, build {build_s:.2f} s, count {count_s:.2f} s, +{peak_mb() - before:.0f} MB")
    module, image = built(LARGE), torch.zeros(loaded.input_shape)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(timed(lambda: count(loaded.module, loaded.input_shape))[0])
        theirs.append(timed(lambda: of_fvcore(module, image))[0])
    print(f"{LARGE}, median of {rounds} rounds: vitprof {statistics.median(ours):.2f} s, ", end="")
    print(f"fvcore {statistics.median(theirs):.2f} s")
    seconds = {"vitprof": 0.0, "vitprof build": 0.0, "fvcore": 0.0, "fvcore build": 0.0}
    for name in FORTY:
        spent, loaded = timed(lambda name=name: shapes(name))
        seconds["vitprof build"] += spent
        seconds["vitprof"] += timed(lambda loaded=loaded: count(loaded.module, loaded.input_shape))[0]
        spent, module = timed(lambda name=name: built(name))
        seconds["fvcore build"] += spent
        image = torch.zeros(loaded.input_shape)
        seconds["fvcore"] += timed(lambda module=module, image=image: of_fvcore(module, image))[0]
    print(f"{len(FORTY)} models: " + ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
