"""How far separate runs agree: `vitprof latency` against the loop that everybody writes, in the same hour.

    python -m tests.benchmarks.repeatability [RUNS]

Each run is a command of its own on one thread. The naive loop (10 warm-ups, 40 timed, mean) takes a fresh process a
model, over the very artifacts that vitprof timed. Spread: max ÷ min − 1 over the runs. Give it a machine of its own.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import time

from tests.benchmarks.artifacts import prepared

_MODELS = ("mobilenetv3_small_100", "vit_tiny_patch16_224", "lowformer_b1")
_NAIVE = """
import sys, time, numpy, onnxruntime
path, inputs = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
image = numpy.fromfile(inputs, "float32", 3 * 224 * 224).reshape(1, 3, 224, 224)
for _ in range(10):
    session.run(None, {"image": image})
start = time.perf_counter()
for _ in range(40):
    session.run(None, {"image": image})
print((time.perf_counter() - start) / 40)
"""


def main(runs: int) -> None:
    artifacts = {name: prepared(name) for name in _MODELS}
    ratio: dict[str, list[float]] = {name: [] for name in _MODELS}
    corrected: dict[str, list[float]] = {name: [] for name in _MODELS}
    naive: dict[str, list[float]] = {name: [] for name in _MODELS}
    wall_s = []
    for _ in range(runs):
        command = [sys.executable, "-m", "vitprof", "latency", *_MODELS, "--threads", "1", "--json", "-"]
        begin = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        wall_s.append(time.monotonic() - begin)
        for row in json.loads(done.stdout)["results"]:
            ratio[row["model"]].append(row["relative"]["ratio"])
            if row["drift_corrected_ns"]:
                corrected[row["model"]].append(row["drift_corrected_ns"])
        for name, artifact in artifacts.items():
            loop = [sys.executable, "-c", _NAIVE, str(artifact.path), str(artifact.folder / artifact.inputs)]
            naive[name].append(float(subprocess.run(loop, capture_output=True, text=True, check=True).stdout))
    print(f"{runs} runs, {statistics.median(wall_s):.1f} s each (longest {max(wall_s):.1f} s)")
    for one, other in itertools.combinations(_MODELS, 2):
        ours, theirs = (_spread(_divided(times[one], times[other])) for times in (ratio, naive))
        print(f"{one} ÷ {other}: spread {ours:.1%}; naive {theirs:.1%}")
    for name in _MODELS:
        # The first run's has no stored reference time yet.
        after_first = corrected[name][-(runs - 1) :]
        print(
            f"{name}: ratio to the reference {_spread(ratio[name]):.1%}, drift-corrected "
            f"{_spread(after_first):.1%} ({len(after_first)} runs); naive milliseconds {_spread(naive[name]):.1%}"
        )


def _divided(dividends: list[float], divisors: list[float]) -> list[float]:
    return [dividend / divisor for dividend, divisor in zip(dividends, divisors, strict=True)]


def _spread(values: list[float]) -> float:
    return max(values) / min(values) - 1 if values else float("nan")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
