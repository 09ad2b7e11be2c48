"""Four models on an NVIDIA GPU, as a report: latency in both regions, its precisions, throughput, where the time goes.

    python -m tests.benchmarks.gpu_four DEVICE > reports/gpu_DEVICE.md

DEVICE is a profile of kind `gpu` (`vitprof devices list`): one of this machine's GPUs, or one behind ssh. What a
backend cannot do is in the report with its reason.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

MODELS = ("lowformer_b1", "vit_tiny_patch16_224", "mobilenetv3_large_100", "efficientformer_l1")
_BACKENDS = ("torch", "compile", "ort")
# (heading, what is asked of `vitprof latency` beyond models, device and backends).
_LATENCIES = (
    ("fp32", ()),
    ("fp16", ("--precision", "fp16")),
    ("bf16", ("--precision", "bf16")),
    ("From host memory to host memory, fp32", ("--region", "e2e")),
)
# A backend at a time: every batch of every model is a process start, and for `compile` a compilation.
_THROUGHPUTS = (("fp32", ("--effort", "quick")), ("fp16", ("--effort", "quick", "--precision", "fp16")))
# Of those above that tell which operators take the time.
_PROFILED = ("torch", "ort")


def main(device: str) -> None:
    print(f"# Four models on {device}\n")
    for heading, options in _LATENCIES:
        print(f"## Latency, {heading}\n")
        _show("latency", *MODELS, "--device", device, "--backends", ",".join(_BACKENDS), *options)
    for heading, options in _THROUGHPUTS:
        print(f"## Throughput, {heading}\n")
        for backend in _BACKENDS:
            _show("throughput", *MODELS, "--device", device, "--backend", backend, *options)
    for model in MODELS:
        for backend in _PROFILED:
            print(f"## Layers of {model} on {backend}\n")
            _show("layers", model, "--device", device, "--backend", backend, "--by", "kind")


def _show(*words: str) -> None:
    """The markdown of one command, or in its place what it says is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part.md"
        done = subprocess.run(
            _command(words, file), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
        said = done.stderr.strip().splitlines()
        text = file.read_text(encoding="utf-8") if file.exists() else "\n".join(f"    {line}" for line in said[-2:])
    print(f"`vitprof {' '.join(words)}` (exit {done.returncode})\n\n{text}\n", flush=True)


def _command(words: Sequence[str], file: Path) -> list[str]:
    return [sys.executable, "-m", "vitprof", *words, "--md", str(file)]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"{__doc__}")
    main(sys.argv[1])
