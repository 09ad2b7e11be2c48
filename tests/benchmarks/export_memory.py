"""Peak memory and seconds of exporting large models, each in a process of its own as `vitprof` does it.

    python -m tests.benchmarks.export_memory [MODEL ...]

The peak is that of the preparing process: torch and timm imported, the module, its outputs, its count, the export.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from vitprof.prepare import prepare
from vitprof.records import Exporter, ModelSpec, Source

_MODELS = ("vit_base_patch16_224", "vit_large_patch16_224")


def main(models: tuple[str, ...]) -> None:
    for name in models:
        for exporter in (*Exporter, None):
            spec = ModelSpec(name, Source.TIMM, exporter=exporter)
            format = "onnx" if exporter else "pt2"
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                seconds, peak_bytes, artifact_bytes = pool.submit(_prepared, spec, format).result()
            told = exporter.value if exporter else "torch.export"
            print(
                f"{name} to {format} by {told}: {seconds:.1f} s, peak {peak_bytes / 1e6:,.0f} MB, "
                f"artifact {artifact_bytes / 1e6:,.0f} MB",
                flush=True,
            )


def _prepared(spec: ModelSpec, format: str) -> tuple[float, int, int]:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache_root:
        artifact = prepare(spec, format, Path(cache_root))
        seconds = time.perf_counter() - start
    # Linux counts in KiB.
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, artifact.bytes


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or _MODELS)
